from __future__ import annotations

from pathlib import Path

import pytest

from edge_vae.probe import Probe, probe


def use_runtime(folder: Path, monkeypatch: pytest.MonkeyPatch, *, package: str, interpreter: str) -> None:
    """Put another runtime in front of the installed one, for processes that start from now on."""
    (folder / "ai_edge_litert").mkdir()
    (folder / "ai_edge_litert" / "__init__.py").write_text(package)
    (folder / "ai_edge_litert" / "interpreter.py").write_text(interpreter)
    monkeypatch.setenv("PYTHONPATH", str(folder))


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
