"""Models that run: one battery for the float model in Keras, float32 TFLite and int8 TFLite of the same training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_vae.bundle import Bundle
from edge_vae.errors import InferenceError
from edge_vae.probe import ANSWER, MODEL, OUTPUT, QUESTION
from edge_vae.runtime import Runtime, TFLiteRuntime, _Tensor, runtime_name
from edge_vae_train.judge import KerasRuntime
from edge_vae_train.run_folder import Run

Windows = NDArray[np.float32]


@dataclass(frozen=True)
class Trained:
    """The model of the test run in its three forms, and clipped held-out windows."""

    runtimes: dict[str, Runtime]
    windows: Windows
    variance: NDArray[np.float64]


@pytest.fixture(scope="module")
def trained(run_folder: Path, bundle_path: Path) -> Trained:
    run, bundle = Run.read(run_folder), Bundle.read(bundle_path)
    outputs = bundle.manifest.models[0].outputs
    float32 = (run_folder / "window.float32.tflite").read_bytes()
    runtimes: dict[str, Runtime] = {
        "keras": KerasRuntime(run.graph()),
        "float32": TFLiteRuntime(float32, outputs=output_names(float32)),
        "int8": TFLiteRuntime(bundle.model, outputs=outputs),
    }
    clip = run.record.clip
    return Trained(runtimes, np.clip(np.concatenate(run.held_out), -clip, clip), np.array(run.record.variance))


def output_names(model: bytes) -> dict[str, str]:
    """Output name to tensor name, as the model's own signature has them."""
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(model_content=model).get_signature_runner().get_output_details()
    return {name: str(detail["name"]) for name, detail in details.items()}


def check_runtime(runtime: Runtime, windows: Windows) -> Windows:
    """What every runtime must do; the reconstructions of the windows."""
    given_windows = windows.copy()
    outputs = runtime(windows)
    found = outputs["reconstruction"]
    np.testing.assert_array_equal(windows, given_windows)
    assert found.shape == windows.shape
    assert all(output.dtype == np.float32 and np.isfinite(output).all() for output in outputs.values())
    np.testing.assert_array_equal(runtime(windows)["reconstruction"], found)
    assert runtime(windows[:0])["reconstruction"].shape == (0, *windows.shape[1:])
    assert (found[0] != found[1]).any()
    extremes = np.stack([np.full(windows.shape[1:], edge, np.float32) for edge in (-8.0, 0.0, 8.0)])
    assert np.isfinite(runtime(extremes)["reconstruction"]).all()
    return found


@pytest.mark.keras
@pytest.mark.parametrize("kind", ["keras", "float32", "int8"])
def test_every_runtime_passes_the_battery(trained: Trained, kind: str) -> None:
    check_runtime(trained.runtimes[kind], trained.windows[:40])


@pytest.mark.keras
@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_a_window_is_scored_the_same_alone_and_among_others(trained: Trained, kind: str) -> None:
    runtime, windows = trained.runtimes[kind], trained.windows[:9]
    alone = np.concatenate([runtime(window[None])["reconstruction"] for window in windows])
    np.testing.assert_array_equal(runtime(windows)["reconstruction"], alone)


@pytest.mark.keras
def test_float_runtimes_give_the_trained_reconstructions(trained: Trained) -> None:
    windows = trained.windows[:60]
    keras, float32 = (trained.runtimes[kind](windows)["reconstruction"] for kind in ("keras", "float32"))
    # Sums of up to some thousand float32 products in another order: a few units of 1e-6 on numbers of up to 8.
    np.testing.assert_allclose(float32, keras, atol=1e-4)


@pytest.mark.keras
def test_int8_reconstructions_are_off_by_little_of_the_normal_error(trained: Trained) -> None:
    windows = trained.windows
    keras, int8 = (trained.runtimes[kind](windows)["reconstruction"] for kind in ("keras", "int8"))
    assert (int8 != keras).any()
    noise, error = np.square(int8 - keras).mean(), np.square(windows - keras).mean()
    assert noise <= 0.02 * error  # the gate's own limit
    # 255 steps over the range that stress windows reach, and the noise of eight layers before: some steps for one cell.
    assert np.abs(int8 - keras).max() < 1.0


@given(
    step=st.floats(1e-4, 1.0),
    zero_point=st.integers(-128, 127),
    numbers=st.lists(st.floats(-200, 200, width=32), min_size=1, max_size=30),
)
def test_int8_numbers_equal_their_slow_twin(step: float, zero_point: int, numbers: list[float]) -> None:
    tensor = _Tensor(0, np.dtype(np.int8), float(np.float32(step)), zero_point)
    real = np.array(numbers, np.float32)
    stored = tensor.stored(real)
    assert stored.dtype == np.int8
    for number, found in zip(real, stored.tolist(), strict=True):
        # A quotient that lies between two steps to the last bit may be rounded either way in float32.
        exact = float(number) / tensor.step + zero_point
        assert abs(found - min(max(exact, -128.0), 127.0)) <= 0.5 + 1e-4
    back = tensor.real(stored)
    assert back.dtype == np.float32
    expected = [(found - zero_point) * tensor.step for found in stored.tolist()]
    np.testing.assert_allclose(back, expected, rtol=1e-6)


def test_numbers_beyond_the_range_of_int8_saturate() -> None:
    tensor = _Tensor(0, np.dtype(np.int8), 0.1, 10)
    assert tensor.stored(np.float32([-1e9, 1e9, 0.0])).tolist() == [-128, 127, 10]


def test_a_float_tensor_is_taken_as_it_is() -> None:
    tensor = _Tensor(0, np.dtype(np.float32), 0.0, 0)
    numbers = np.float32([-1e9, 0.1, 3.0])
    np.testing.assert_array_equal(tensor.real(tensor.stored(numbers)), numbers)


def test_a_model_gives_the_outputs_that_were_asked_for() -> None:
    runtime = TFLiteRuntime(MODEL.read_bytes(), outputs={"answer": OUTPUT})
    assert runtime.input_shape == (3,)
    outputs = runtime(np.repeat(QUESTION, 5, axis=0))
    assert outputs.keys() == {"answer"}
    np.testing.assert_array_equal(outputs["answer"], np.repeat(ANSWER, 5, axis=0))
    assert runtime.name == runtime_name() == "ai_edge_litert"


@pytest.mark.parametrize("model", [b"", b"no model", b"\x00" * 500, MODEL.read_bytes()[:200]])
def test_bytes_that_are_no_model_are_refused(model: bytes) -> None:
    with pytest.raises(InferenceError, match="refuses the model: expected a TFLite flatbuffer it can run, received"):
        TFLiteRuntime(model, outputs={"answer": OUTPUT})


def test_a_model_without_the_wanted_output_is_refused_with_those_it_has() -> None:
    with pytest.raises(InferenceError, match=rf"the outputs latent, received 1 inputs and the outputs {OUTPUT}"):
        TFLiteRuntime(MODEL.read_bytes(), outputs={"latent": "latent"})


def test_the_interpreter_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    TFLiteRuntime(MODEL.read_bytes(), outputs={"answer": OUTPUT})(QUESTION)
    assert capfd.readouterr() == ("", "")


def test_without_an_interpreter_it_is_said_which_one_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    missing: Any = None  # the import system's own sign for a module that cannot be imported
    for module in ("ai_edge_litert", "ai_edge_litert.interpreter", "tflite_runtime", "tflite_runtime.interpreter"):
        monkeypatch.setitem(__import__("sys").modules, module, missing)
    with pytest.raises(InferenceError, match="pip install ai-edge-litert"):
        runtime_name()
