from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_vae import probe as module
from edge_vae.bundle import Bundle
from edge_vae.errors import EX_CONFIG, BundleError, InferenceError
from edge_vae.probe import Probe, expect_sound, probe
from plain_bundle import write_plain_bundle


def use_runtime(folder: Path, monkeypatch: pytest.MonkeyPatch, *, package: str, interpreter: str) -> None:
    """Put another runtime in front of the installed one, for processes that start from now on."""
    (folder / "ai_edge_litert").mkdir()
    (folder / "ai_edge_litert" / "__init__.py").write_text(package)
    (folder / "ai_edge_litert" / "interpreter.py").write_text(interpreter)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)


def test_installed_runtime_runs_a_model() -> None:
    tried = probe()
    assert tried.works
    assert tried.found.startswith("ai_edge_litert ")
    assert tried.found.endswith(", ran a model")


def test_bundle_gives_its_golden_scores(bundle_path: Path) -> None:
    tried = probe(bundle_path)
    assert tried.works
    assert tried.found.endswith(f"gave the golden scores of {bundle_path}")


def test_truncated_bundle_is_refused_in_one_line(bundle_path: Path, tmp_path: Path) -> None:
    truncated = tmp_path / "half.evb"
    truncated.write_bytes(bundle_path.read_bytes()[:5000])
    tried = probe(truncated)
    assert not tried.works
    assert f"{truncated}: not a whole bundle: expected" in tried.found
    assert "\n" not in tried.found


def test_runtime_that_kills_its_process_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dies = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"
    use_runtime(tmp_path, monkeypatch, package="", interpreter=dies)
    assert probe() == Probe(works=False, found="died of SIGSEGV")


def test_runtime_that_fails_in_its_own_way_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = "class Interpreter:\n    def __init__(self, **_):\n        raise SystemError('built for another numpy')"
    use_runtime(tmp_path, monkeypatch, package="", interpreter=fails)
    assert probe() == Probe(works=False, found="ended with status 1: SystemError: built for another numpy")


def test_machine_without_a_runtime_is_told_which_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = "raise ModuleNotFoundError(__name__)"
    use_runtime(tmp_path, monkeypatch, package=absent, interpreter="")
    tried = probe()
    assert not tried.works
    assert "no TFLite interpreter" in tried.found
    assert "pip install ai-edge-litert" in tried.found


# a bundle that is about to be loaded


@pytest.fixture(autouse=True)
def nothing_tried_before() -> None:
    module.tried.cache_clear()


def test_a_bundle_is_tried_once_in_a_process_and_again_when_it_is_another(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_sound(Bundle.read(bundle_path), bundle_path)
    dies = "import os\nclass Interpreter:\n    def __init__(self, **_):\n        os.kill(os.getpid(), 11)"
    use_runtime(tmp_path, monkeypatch, package="", interpreter=dies)
    expect_sound(Bundle.read(bundle_path), bundle_path)
    another = tmp_path / "another.evb"
    another.write_bytes(bundle_path.read_bytes())
    assert "died of SIGSEGV" in refusal(another)


def test_sound_bundle_passes(bundle_path: Path) -> None:
    expect_sound(Bundle.read(bundle_path), bundle_path)


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        expect_sound(Bundle.read(path), path)
    assert caught.value.exit_status == EX_CONFIG
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert ": expected " in line
    return line


def test_bundle_whose_model_kills_its_process_is_refused(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies = "import os\nclass Interpreter:\n    def __init__(self, **_):\n        os.kill(os.getpid(), 11)"
    use_runtime(tmp_path, monkeypatch, package="", interpreter=dies)
    assert "received from that process: died of SIGSEGV" in refusal(bundle_path)


def test_bundle_whose_model_never_answers_is_refused_in_time(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = "class Interpreter:\n    def __init__(self, **_):\n        while True:\n            pass"
    use_runtime(tmp_path, monkeypatch, package="", interpreter=hangs)
    monkeypatch.setattr(module, "TIMEOUT_S", 2)
    assert "received from that process: no answer within 2 s" in refusal(bundle_path)


def test_bundle_whose_model_takes_all_memory_is_refused(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grows = "class Interpreter:\n    def __init__(self, **_):\n        self.taken = bytearray(1 << 30)"
    use_runtime(tmp_path, monkeypatch, package="", interpreter=grows)
    assert "received from that process: ended with status 1: MemoryError" in refusal(bundle_path)


def test_bundle_that_is_refused_by_a_known_error_is_refused_in_its_words(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses = "class Interpreter:\n    def __init__(self, **_):\n        raise ValueError('no model')"
    use_runtime(tmp_path, monkeypatch, package="", interpreter=refuses)
    line = refusal(bundle_path)
    assert "ai_edge_litert refuses the model: expected a TFLite flatbuffer it can run, received no model. " in line


def test_machine_without_a_runtime_is_no_fault_of_the_bundle(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.read(bundle_path)
    monkeypatch.setattr("edge_vae.runtime._RUNTIMES", ())
    with pytest.raises(InferenceError, match="no TFLite interpreter"):
        expect_sound(bundle, bundle_path)


def test_bundle_without_a_model_needs_no_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_plain_bundle(tmp_path / "plain.evb")
    monkeypatch.setattr("edge_vae.runtime._RUNTIMES", ())
    expect_sound(Bundle.read(path), path)
