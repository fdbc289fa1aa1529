"""Import and load time, and memory at each step, of a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge_vae.errors import InferenceError
from edge_vae.footprint import footprint


def test_memory_grows_from_step_to_step(bundle_path: Path) -> None:
    found = footprint(bundle_path)
    # numpy and a runtime are 10 MiB and more on every processor; the smallest model is some.
    assert found.python_mib + 10 < found.imported_mib < found.loaded_mib <= found.peak_mib
    assert found.import_s > 0
    assert found.load_s > 0


def test_the_module_itself_brings_nothing_but_the_standard_library() -> None:
    program = "import json, sys, edge_vae.footprint; print(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    assert not {"numpy", "msgspec", "click", "ai_edge_litert"} & set(json.loads(ended.stdout))


def test_memory_is_that_of_this_process_and_counts_what_is_touched() -> None:
    # In a process of its own: one that has freed memory before may hand it out again without growing.
    program = (
        "import json, numpy as np\n"
        "from edge_vae.footprint import memory_mib\n"
        "before = memory_mib()\n"
        "held = np.ones(64 << 17)\n"
        "print(json.dumps([*before, *memory_mib(), held.nbytes / 2**20]))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    before, _, after, peak, held = json.loads(ended.stdout)
    assert after - before > 0.9 * held
    assert peak >= after


def test_a_bundle_that_cannot_be_loaded_is_told_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match=r"none\.evb: .*received status 1: .*cannot be read.*edge-vae doctor"):
        footprint(tmp_path / "none.evb")
