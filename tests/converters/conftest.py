"""Models that were made elsewhere: trained for seconds on windows of the simulated rig, once for the test run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

from conftest import Once
from edge_vae.sample import FloatArray
from edge_vae_train import data as recorded
from edge_vae_train.prepare import WindowSet, prepare
from foreign_code import Sampling, SubclassedVae

LENGTH, STRIDE = 32, 4


@pytest.fixture(scope="session")
def rig_windows(rig: Path) -> tuple[NDArray[np.float32], FloatArray]:
    """Standardised windows (windows, length, channels) of the rig's healthy data, and the same in sensor units."""
    prepared = prepare(recorded.read([rig / "healthy"]), length=LENGTH, stride=STRIDE, baseline=0)
    windows = WindowSet.joined([prepared.training, *prepared.held_out]).windows
    return windows, prepared.scaler.inverse(windows.astype(np.float64))


def _fitted(model: Any, given: FloatArray, *, epochs: int = 30) -> Any:
    keras.utils.set_random_seed(1)
    model.compile("adam", "mse")
    model.fit(given, given, epochs=epochs, batch_size=64, verbose=0)
    return model


def _dense(length: int, channels: int, **last: Any) -> Any:
    cells = length * channels
    widths = (64, 12, 64)
    hidden = [layers.Dense(width, activation="relu") for width in widths]
    return keras.Sequential([layers.Input((cells,)), *hidden, layers.Dense(cells, **last)])


def _conv(length: int, channels: int) -> Any:
    window = layers.Input((length, channels))
    hidden = layers.MaxPooling1D(2)(layers.Conv1D(16, 5, padding="same", activation="relu")(window))
    hidden = layers.Conv1D(8, 5, padding="same", activation="relu")(hidden)
    hidden = layers.UpSampling1D(2)(hidden)
    return keras.Model(window, layers.Conv1D(channels, 5, padding="same")(hidden))


def _vae(length: int, channels: int) -> tuple[Any, dict[str, Any]]:
    window = layers.Input((length, channels))
    hidden = layers.Flatten()(layers.Conv1D(8, 5, strides=2, padding="same", activation="relu")(window))
    mean, log_variance = layers.Dense(6, name="z_mean")(hidden), layers.Dense(6, name="z_log_var")(hidden)
    z = Sampling(name="sampling")([mean, log_variance])
    hidden = layers.Dense(48, activation="relu")(z)
    out = layers.Reshape((length, channels), name="decoded")(layers.Dense(length * channels)(hidden))
    return keras.Model(window, out), {"z_log_var": log_variance, "decoded": out, "z_mean": mean, "z": z}


@pytest.fixture(scope="session")
def theirs(made_once: Once, rig_windows: tuple[NDArray[np.float32], FloatArray]) -> Callable[[str], Path]:
    """The `.keras` file of a model by name, made when first asked for."""
    windows, raw = rig_windows
    length, channels = windows.shape[1:]
    flat = windows.reshape(len(windows), -1)
    low, high = raw.min(axis=(0, 1)), raw.max(axis=(0, 1))
    between = ((raw - low) / (high - low)).reshape(len(raw), -1).astype(np.float32)

    def dictionary() -> Any:
        model, outputs = _vae(length, channels)
        _fitted(model, windows)
        return keras.Model(model.inputs[0], outputs)

    def subclassed() -> Any:
        model = SubclassedVae(length, channels)
        wrapped = keras.Model(given := layers.Input((length, channels)), model(given)[0])
        _fitted(wrapped, windows)
        return model

    makers: dict[str, Callable[[], Any]] = {
        "flat": lambda: _fitted(_dense(length, channels), flat),
        "minmax": lambda: _fitted(_dense(length, channels, activation="sigmoid"), between, epochs=60),
        "conv": lambda: _fitted(_conv(length, channels), windows),
        "dictionary": dictionary,
        "subclassed": subclassed,
        "recurrent": lambda: keras.Sequential(
            [layers.Input((length, channels)), layers.GRU(4, return_sequences=True, name="loop"),
             layers.Dense(channels)]
        ),
        "elu": lambda: _fitted(
            keras.Sequential(
                [layers.Input((length, channels)), layers.Conv1D(8, 5, padding="same", activation="elu", name="bend"),
                 layers.Conv1D(channels, 5, padding="same")]
            ),
            windows, epochs=5,
        ),
    }  # fmt: skip

    def save(file: Path) -> None:
        keras.utils.set_random_seed(1)
        makers[file.stem]().save(file)

    return lambda name: made_once(f"theirs/{name}.keras", save)
