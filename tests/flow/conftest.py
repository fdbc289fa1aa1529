"""What the tests of the whole way share: a broker, and the model of real data that the README tells how to make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker import Mosquitto

SKAB_COLUMNS = ("--label", "anomaly", "--ignore", "changepoint")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A mosquitto of this test's own."""
    with Mosquitto(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def skab_run(tmp_path_factory: pytest.TempPathFactory, edge_vae: Callable[..., Any], skab: Path) -> Path:
    """A run folder, trained on normal rows of the SKAB pump rig."""
    folder = tmp_path_factory.mktemp("skab") / "run"
    shape = ("--window", 32, "--stride", 4, "--baseline", 400)
    edge_vae("train", skab / "anomaly-free", skab / "valve1", *SKAB_COLUMNS, *shape, "-o", folder)
    return folder


@pytest.fixture(scope="session")
def skab_wish() -> tuple[str, ...]:
    """The wish of the bundle, as `convert` takes it: one false alarm in each experiment of 20 minutes."""
    return "--false-alarms", "72"


@pytest.fixture(scope="session")
def skab_bundle(edge_vae: Callable[..., Any], skab_run: Path, skab_wish: tuple[str, ...]) -> Path:
    """Its int8 bundle."""
    path = skab_run.with_name("skab.evb")
    edge_vae("convert", skab_run, "-o", path, *skab_wish)
    return path
