"""The device in the two environments that gateways have, with nothing of the training side in either."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from damage import DAMAGES, with_model
from edge_vae.bundle import Bundle
from edge_vae.detector import GOLDEN_TOLERANCE

ROOT = Path(__file__).parents[1]
FOLDERS = {"ai_edge_litert": ".venv-device", "tflite_runtime": ".venv-tflite"}
SCORE = """
import json, sys
from pathlib import Path
from edge_vae.bundle import Bundle
from edge_vae.detector import load
from edge_vae.runtime import runtime_name

bundle = Bundle.read(Path(sys.argv[1]))
golden = bundle.golden
scores = load(bundle, path=sys.argv[1])(golden["windows"].astype("float64"), golden["conditions"])[0].score
print(json.dumps({"runtime": runtime_name(), "scores": scores.tolist(), "loaded": sorted(sys.modules)}))
"""
EXAMINE = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from edge_vae.doctor import examine

print(json.dumps({check.name: asdict(check) for check in examine(state_dir=Path(sys.argv[1]))}))
"""
TRY = """
import json, sys
from pathlib import Path
from edge_vae.bundle import Bundle
from edge_vae.detector import load
from edge_vae.errors import BundleError
from edge_vae.probe import expect_sound

def became(path):
    bundle = Bundle.read(path)
    try:
        expect_sound(bundle, path)
    except BundleError as error:
        return str(error)
    load(bundle, path=str(path))
    return "accepted"

print(json.dumps({path.stem: became(path) for path in sorted(Path(sys.argv[1]).glob("*.evb"))}))
"""


def interpreter(runtime: str) -> Path:
    """The Python of the environment with this runtime and no other."""
    if runtime == "tflite_runtime" and sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime has no wheel for Python 3.12 and later")
    python = ROOT / FOLDERS[runtime] / "bin" / "python"
    assert python.exists(), f"expected {python}, received none. Make it with: make runtimes"
    return python


def run(python: Path, program: str, argument: Path, **environment: str) -> Any:
    """What a program prints as JSON, in a process that sees nothing of this checkout."""
    command = [str(python), "-c", program, str(argument)]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        command, cwd=argument.parent, env=kept | environment, capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return json.loads(ended.stdout)


@pytest.mark.parametrize("runtime", FOLDERS)
def test_gateway_scores_the_golden_windows_as_the_workstation_did(runtime: str, bundle_path: Path) -> None:
    answer = run(interpreter(runtime), SCORE, bundle_path)
    bundle = Bundle.read(bundle_path)
    assert answer["runtime"] == runtime
    assert answer["scores"] == pytest.approx(
        bundle.golden["score"].tolist(), abs=GOLDEN_TOLERANCE * bundle.manifest.threshold.value
    )
    assert len(answer["scores"]) == len(bundle.golden["windows"]) > 0


@pytest.mark.parametrize("runtime", FOLDERS)
def test_no_damaged_model_with_the_right_hash_ends_the_process_that_asks_for_it(
    runtime: str, bundle_path: Path, tmp_path: Path
) -> None:
    bundle, chance = Bundle.read(bundle_path), random.Random(5)
    name = next(iter(bundle.models))
    for (damage, damaged), number in itertools.product(DAMAGES.items(), range(2)):
        model = damaged(bundle.models[name], chance)
        with_model(bundle, name, model).write(tmp_path / f"{damage}-{number}.evb")
    became = run(interpreter(runtime), TRY, tmp_path)
    assert len(became) == 2 * len(DAMAGES)
    refused = [line for line in became.values() if line != "accepted"]
    assert len(refused) >= 2
    assert all(": expected " in line for line in refused)
    if runtime == "tflite_runtime":  # it looks at no offset before it follows it
        assert any("died of SIGSEGV" in line for line in refused)


@pytest.mark.parametrize("runtime", FOLDERS)
def test_doctor_finds_a_gateway_well(runtime: str, tmp_path: Path) -> None:
    found = run(interpreter(runtime), EXAMINE, tmp_path)
    assert found["runtime"]["ok"], found["runtime"]
    assert found["runtime"]["found"].startswith(runtime)
    assert [name for name, check in found.items() if check["ok"] is False] == []


@pytest.mark.parametrize("runtime", FOLDERS)
def test_a_gateway_has_nothing_of_the_training_side_and_doctor_says_how_to_get_it(runtime: str, tmp_path: Path) -> None:
    check = run(interpreter(runtime), EXAMINE, tmp_path)["extra train"]
    assert check["ok"] is None
    assert "tensorflow" in check["found"]
    assert check["advice"].endswith("pip install 'edge-vae[train]'")


def test_tflite_runtime_beside_numpy_2_is_found_out_and_survived(tmp_path: Path) -> None:
    python, other = interpreter("tflite_runtime"), interpreter("ai_edge_litert")
    site = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    for source in (other.parents[1] / site).glob("numpy*"):
        (tmp_path / source.name).symlink_to(source)
    found = run(python, EXAMINE, tmp_path, PYTHONPATH=str(tmp_path))
    assert found["numpy"]["ok"] is False
    assert found["numpy"]["found"].startswith("2.")
    assert found["numpy"]["advice"].endswith("pip install 'numpy<2'")
    assert found["runtime"]["ok"] is False


def files_in(folder: Path) -> dict[Path, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder): path.read_bytes() for path in found}


def test_what_a_gateway_installs_brings_the_files_for_its_system() -> None:
    shipped = interpreter("ai_edge_litert").parents[1] / "share" / "edge-vae"
    assert files_in(shipped) == files_in(ROOT / "firmware_config") != {}


def test_wheel_brings_the_rules_in_c() -> None:
    (site,) = interpreter("ai_edge_litert").parents[1].glob("lib/python*/site-packages")
    rules = Path("edge_vae_converters") / "c"
    assert files_in(site / rules) == files_in(ROOT / "converters" / rules) != {}
