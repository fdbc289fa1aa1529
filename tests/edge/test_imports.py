from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"tensorflow", "keras", "scipy", "pandas", "sklearn", "matplotlib"}
OF_ONE_SOURCE = {"pymodbus", "serial", "asyncua"}


@pytest.mark.parametrize(
    "module", ["edge_vae.agent", "edge_vae.bench", "edge_vae.cli", "edge_vae.doctor", "edge_vae.watch"]
)
def test_device_loads_nothing_of_the_training_side_nor_of_a_source_that_is_not_configured(module: str) -> None:
    program = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr.decode()
    loaded = {name.split(".")[0] for name in json.loads(ended.stdout)}
    assert module in json.loads(ended.stdout)
    assert not loaded & (HEAVY | OF_ONE_SOURCE | {"edge_vae_train", "edge_vae_converters"})
