"""One bundle on this machine and on emulated aarch64 boards, with one LiteRT: the same bits, scores and alarms."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vae.bundle import Bundle
from edge_vae.faults import stress
from edge_vae_train.run_folder import Run

pytestmark = pytest.mark.arm64

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / ".arm64"
GATEWAY = Path(__file__).with_name("gateway.py")
BOARDS = {"raspberry-pi-4": "cortex-a72", "raspberry-pi-5": "cortex-a76"}
"""The second multiplies int8 by instructions that the first has not, so other kernels run. The emulator's own choice is
no board's processor: it has matrix instructions (SME) with which LiteRT 2.1.6 computes wrongly there."""
CLOSE = 0.005
"""Part of a normal window's score by which it may differ."""
NEAR = 0.01
"""Windows whose score is within this part of the threshold may be judged either way."""

Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, rig: Path, run_folder: Path, bundle_path: Path) -> Path:
    """A folder with what both are asked: held-out normal windows and as many faulty ones, and what each model sees."""
    folder = tmp_path_factory.mktemp("asked")
    shutil.copy(rig / "faulty" / "leak.csv", folder)
    shutil.copy(bundle_path, folder / "rig.evb")
    bundle = Bundle.read(bundle_path)
    clip, generator = bundle.manifest.clip, np.random.default_rng(8)
    held_out = Run.read(run_folder).held_out
    normal = np.concatenate([block.windows for block in held_out])
    windows = np.concatenate([normal, stress(normal, severity=clip, clip=clip, generator=generator)])
    conditions = np.zeros((len(windows), bundle.manifest.conditions), np.float32)
    asked: Arrays = {"windows": windows, "conditions": conditions}
    for view in bundle.manifest.views:
        if (model := run_folder / f"{view.name}.int8.tflite").exists():  # `convert` writes it beside the bundle
            shutil.copy(model, folder)
            seen = np.clip(view.target(windows.astype(np.float64), conditions), -clip, clip)
            # As many again of noise over the whole range, to reach what no window does.
            noise = generator.uniform(-clip, clip, (len(normal), *seen.shape[1:]))
            asked[model.name] = np.concatenate([seen, noise]).astype(np.float32)
    np.savez(folder / "windows.npz", **asked)  # type: ignore[arg-type]  # numpy's types take no mapping
    return folder


def answer(asked: Path, name: str, python: str, environment: dict[str, str]) -> Arrays:
    """What the gateway's program says in an environment of its own."""
    path = asked / f"{name}.npz"
    command = [python, str(GATEWAY), str(asked), str(path)]
    ended = subprocess.run(command, env=environment, capture_output=True, timeout=240, check=False)
    assert ended.returncode == 0, f"{name}: status {ended.returncode}\n{ended.stderr.decode()}"
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(scope="module")
def answers(asked: Path) -> dict[str, Arrays]:
    """What this machine makes of it, and what the processors of the boards do; all at once, for two cores."""
    emulated, edge = BUILT / "python", str(ROOT / "edge")
    assert emulated.exists(), f"expected {emulated}, received none. Make it with: make test-arm64"
    with ThreadPoolExecutor() as pool:
        path = os.pathsep.join([str(BUILT / "here"), edge])
        found = {"here": pool.submit(answer, asked, "here", sys.executable, os.environ | {"PYTHONPATH": path})}
        path = os.pathsep.join([str(BUILT / "aarch64"), edge])
        for board, cpu in BOARDS.items():
            environment = {"PYTHONPATH": path, "QEMU_CPU": cpu}
            found[board] = pool.submit(answer, asked, board, str(emulated), environment)
        return {name: future.result() for name, future in found.items()}


@pytest.fixture
def here(answers: dict[str, Arrays]) -> Arrays:
    return answers["here"]


@pytest.fixture(params=BOARDS)
def there(answers: dict[str, Arrays], request: pytest.FixtureRequest) -> Arrays:
    return answers[request.param]


@pytest.fixture(scope="module")
def threshold(asked: Path) -> float:
    return Bundle.read(asked / "rig.evb").manifest.threshold.value


def test_runs_differ_in_their_processor_and_in_nothing_else(here: Arrays, there: Arrays) -> None:
    assert here["where"][0] != "aarch64"
    assert there["where"][0] == "aarch64"
    assert there["where"][1] == "ai_edge_litert"
    assert list(here["where"][1:]) == list(there["where"][1:])


def test_every_output_of_every_int8_model_is_the_same_to_the_bit(here: Arrays, there: Arrays) -> None:
    outputs = [name for name in there if ": " in name]
    models = [name.partition(": ")[0] for name in outputs]
    assert sorted(models) == ["features.int8.tflite"] * 3 + ["window.int8.tflite"] * 3
    for output in outputs:
        assert there[output].dtype == np.int8
        assert len(there[output]) > 1000
        assert len(np.unique(there[output])) > 50  # it is alive: most of the range is reached
        np.testing.assert_array_equal(there[output], here[output], strict=True)


def test_scores_of_normal_windows_are_the_same(here: Arrays, there: Arrays) -> None:
    normal = len(there["score"]) // 2
    assert normal >= 300
    np.testing.assert_allclose(there["score"][:normal], here["score"][:normal], rtol=CLOSE)


def test_faulty_windows_are_judged_alike(here: Arrays, there: Arrays, threshold: float) -> None:
    faulty = slice(len(there["score"]) // 2, None)
    expected, received = here["score"][faulty], there["score"][faulty]
    far = np.abs(expected - threshold) > NEAR * threshold
    assert 0.1 < np.mean(expected[far] > threshold) < 0.9
    np.testing.assert_array_equal(received[far] > threshold, expected[far] > threshold)


def test_a_recording_raises_and_clears_the_same_alarms(here: Arrays, there: Arrays) -> None:
    assert len(there["leak"]) > 500
    np.testing.assert_allclose(there["leak"], here["leak"], rtol=CLOSE)
    assert {bool(raised) for _, raised in there["turns"]} == {True, False}
    assert there["turns"].tolist() == here["turns"].tolist()
