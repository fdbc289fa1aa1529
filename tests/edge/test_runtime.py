"""Models that run: one battery for the float model in Keras, float32 TFLite and int8 TFLite of the same training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_vae.bundle import Bundle
from edge_vae.errors import InferenceError
from edge_vae.probe import ANSWER, MODEL, OUTPUT, QUESTION
from edge_vae.runtime import Runtime, TFLiteRuntime, _Tensor, runtime_name
from edge_vae.view import OUTPUTS
from edge_vae_converters.tflite import convert
from edge_vae_train.keras_runtime import KerasRuntime
from edge_vae_train.models import Architecture, build, scoring_graph
from edge_vae_train.prepare import WindowSet
from edge_vae_train.run_folder import Run

Windows = NDArray[np.float32]
NO_CONDITIONS = np.zeros((5, 0), np.float32)


@dataclass(frozen=True)
class Trained:
    """The model of the test run in its three forms, and clipped held-out windows."""

    runtimes: dict[str, Runtime]
    windows: Windows
    conditions: NDArray[np.float32]


@pytest.fixture(scope="module", params=["window", "features"])
def trained(run_folder: Path, parts_path: Path, request: pytest.FixtureRequest) -> Trained:
    run, bundle = Run.read(run_folder), Bundle.read(parts_path)
    view = next(view for view in bundle.manifest.views if view.name == request.param)
    assert view.model is not None
    float32 = (run_folder / f"{view.name}.float32.tflite").read_bytes()
    runtimes: dict[str, Runtime] = {
        "keras": KerasRuntime(run.graph(view.name)),
        "float32": TFLiteRuntime(float32, outputs=output_names(float32)),
        "int8": TFLiteRuntime(bundle.models[view.name], outputs=view.model.outputs),
    }
    clip, held_out = run.record.clip, WindowSet.joined(run.held_out)
    target = view.target(held_out.windows.astype(np.float64), held_out.conditions)
    return Trained(runtimes, np.clip(target, -clip, clip).astype(np.float32), held_out.conditions)


@pytest.fixture(scope="module")
def of_modes() -> Trained:
    """An untrained model that is told one of three modes, in its three forms."""
    keras.utils.set_random_seed(0)
    windows = np.clip(np.random.default_rng(0).normal(0, 2, (150, 12, 2)), -8, 8).astype(np.float32)
    conditions = np.eye(3, dtype=np.float32)[np.arange(150) % 3]
    graph = scoring_graph(build(Architecture(12, 2, family="dense", latent=3, width=8, modes=3)))
    runtimes: dict[str, Runtime] = {"keras": KerasRuntime(graph)}
    for precision in ("float32", "int8"):
        converted = convert(graph, precision=precision, representative=[windows, conditions])
        runtimes[precision] = TFLiteRuntime(converted.model, outputs=converted.outputs)
    return Trained(runtimes, windows, conditions)


def output_names(model: bytes) -> dict[str, str]:
    """Output name to tensor name, as the model's own signature has them."""
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(model_content=model).get_signature_runner().get_output_details()
    return {name: str(detail["name"]) for name, detail in details.items()}


def check_runtime(runtime: Runtime, windows: Windows, conditions: NDArray[np.float32], *, latent: int) -> None:
    """What every runtime must do."""
    given_windows, given_conditions = windows.copy(), conditions.copy()
    outputs = runtime(windows, conditions)
    assert sorted(outputs) == sorted(OUTPUTS)
    found = outputs["reconstruction"]
    np.testing.assert_array_equal(windows, given_windows)
    np.testing.assert_array_equal(conditions, given_conditions)
    assert found.shape == windows.shape
    assert outputs["posterior_mean"].shape == outputs["posterior_log_variance"].shape == (len(windows), latent)
    assert all(output.dtype == np.float32 and np.isfinite(output).all() for output in outputs.values())
    for name, output in runtime(windows, conditions).items():
        np.testing.assert_array_equal(output, outputs[name])
    for name, output in runtime(windows[:0], conditions[:0]).items():
        assert output.shape == (0, *outputs[name].shape[1:])
    assert (found[0] != found[1]).any()
    extremes = np.stack([np.full(windows.shape[1:], edge, np.float32) for edge in (-8.0, 0.0, 8.0)])
    assert np.isfinite(runtime(extremes, conditions[:3])["reconstruction"]).all()


@pytest.mark.keras
@pytest.mark.parametrize("kind", ["keras", "float32", "int8"])
def test_every_runtime_passes_the_battery(trained: Trained, kind: str) -> None:
    check_runtime(trained.runtimes[kind], trained.windows[:40], trained.conditions[:40], latent=8)


@pytest.mark.keras
@pytest.mark.parametrize("kind", ["keras", "float32", "int8"])
def test_every_runtime_with_a_condition_passes_the_battery(of_modes: Trained, kind: str) -> None:
    check_runtime(of_modes.runtimes[kind], of_modes.windows[:40], of_modes.conditions[:40], latent=3)


@pytest.mark.keras
@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_a_window_is_scored_the_same_alone_and_among_others(trained: Trained, of_modes: Trained, kind: str) -> None:
    for model in (trained, of_modes):
        runtime, windows, conditions = model.runtimes[kind], model.windows[:9], model.conditions[:9]
        together = runtime(windows, conditions)
        alone = [runtime(windows[i : i + 1], conditions[i : i + 1]) for i in range(9)]
        for name in OUTPUTS:
            np.testing.assert_array_equal(together[name], np.concatenate([outputs[name] for outputs in alone]))


@pytest.mark.keras
@pytest.mark.parametrize("name", OUTPUTS)
def test_float_runtimes_give_the_trained_outputs(trained: Trained, of_modes: Trained, name: str) -> None:
    for model in (trained, of_modes):
        windows, conditions = model.windows[:60], model.conditions[:60]
        exact, float32 = (model.runtimes[kind](windows, conditions)[name] for kind in ("keras", "float32"))
        # Sums of up to some thousand float32 products in another order: a few units of 1e-6 on numbers of up to 8.
        np.testing.assert_allclose(float32, exact, atol=1e-4)


@pytest.mark.keras
@pytest.mark.parametrize("kind", ["keras", "float32", "int8"])
def test_the_condition_moves_every_output(of_modes: Trained, kind: str) -> None:
    runtime, windows = of_modes.runtimes[kind], np.repeat(of_modes.windows[:1], 3, axis=0)
    outputs = runtime(windows, np.eye(3, dtype=np.float32))
    for name in OUTPUTS:
        assert len({output.tobytes() for output in outputs[name]}) == 3, name


@pytest.mark.keras
def test_a_model_says_what_it_must_be_given(trained: Trained, of_modes: Trained) -> None:
    for kind in ("float32", "int8"):
        plain, told = trained.runtimes[kind], of_modes.runtimes[kind]
        assert isinstance(plain, TFLiteRuntime)
        assert isinstance(told, TFLiteRuntime)
        assert (plain.input_shape, plain.conditions) == (trained.windows.shape[1:], 0)
        assert (told.input_shape, told.conditions) == ((12, 2), 3)


@pytest.mark.keras
def test_a_model_without_modes_takes_no_notice_of_conditions(trained: Trained) -> None:
    windows = trained.windows[:3]
    for kind in ("keras", "float32", "int8"):
        runtime = trained.runtimes[kind]
        told = runtime(windows, np.eye(3, dtype=np.float32))["reconstruction"]
        np.testing.assert_array_equal(runtime(windows, trained.conditions[:3])["reconstruction"], told)


@pytest.mark.keras
def test_int8_reconstructions_are_off_by_little_of_the_normal_error(trained: Trained) -> None:
    windows = trained.windows
    exact, int8 = (trained.runtimes[kind](windows, trained.conditions)["reconstruction"] for kind in ("keras", "int8"))
    assert (int8 != exact).any()
    noise, error = np.square(int8 - exact).mean(), np.square(windows - exact).mean()
    assert noise <= 0.02 * error  # the gate's own limit
    # 255 steps over the range that stress windows reach, and the noise of eight layers before: some steps for one cell.
    assert np.abs(int8 - exact).max() < 1.0


@pytest.mark.keras
def test_int8_outputs_of_a_model_with_a_condition_are_off_by_steps_of_their_range(of_modes: Trained) -> None:
    exact, int8 = (of_modes.runtimes[kind](of_modes.windows, of_modes.conditions) for kind in ("keras", "int8"))
    for name in OUTPUTS:
        assert (int8[name] != exact[name]).any()
        # Some steps of 255 over the range of each output, which the representative windows are themselves.
        assert np.abs(int8[name] - exact[name]).max() < 0.05 * np.ptp(exact[name])


@given(
    step=st.floats(1e-4, 1.0),
    zero_point=st.integers(-128, 127),
    numbers=st.lists(st.floats(-200, 200, width=32), min_size=1, max_size=30),
)
def test_int8_numbers_equal_their_slow_twin(step: float, zero_point: int, numbers: list[float]) -> None:
    tensor = _Tensor(0, (), np.dtype(np.int8), float(np.float32(step)), zero_point)
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
    tensor = _Tensor(0, (), np.dtype(np.int8), 0.1, 10)
    assert tensor.stored(np.float32([-1e9, 1e9, 0.0])).tolist() == [-128, 127, 10]


def test_a_float_tensor_is_taken_as_it_is() -> None:
    tensor = _Tensor(0, (), np.dtype(np.float32), 0.0, 0)
    numbers = np.float32([-1e9, 0.1, 3.0])
    np.testing.assert_array_equal(tensor.real(tensor.stored(numbers)), numbers)


def test_a_model_gives_the_outputs_that_were_asked_for() -> None:
    runtime = TFLiteRuntime(MODEL.read_bytes(), outputs={"answer": OUTPUT})
    assert runtime.input_shape == (3,)
    assert runtime.conditions == 0
    outputs = runtime(np.repeat(QUESTION, 5, axis=0), NO_CONDITIONS)
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
    TFLiteRuntime(MODEL.read_bytes(), outputs={"answer": OUTPUT})(QUESTION, NO_CONDITIONS[:1])
    assert capfd.readouterr() == ("", "")


def test_without_an_interpreter_it_is_said_which_one_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    missing: Any = None  # the import system's own sign for a module that cannot be imported
    for module in ("ai_edge_litert", "ai_edge_litert.interpreter", "tflite_runtime", "tflite_runtime.interpreter"):
        monkeypatch.setitem(__import__("sys").modules, module, missing)
    with pytest.raises(InferenceError, match="pip install ai-edge-litert"):
        runtime_name()
