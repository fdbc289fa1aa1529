"""What an online check of a configuration finds that a look at the file alone does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_process import pipeline, replay, write_config
from broker import Mosquitto
from edge_vae.bundle import Modes
from edge_vae.config import read_config
from edge_vae.errors import BundleError, SourceError
from edge_vae.online import try_online
from plain_bundle import plain_threshold, write_plain_bundle

pytestmark = pytest.mark.broker


def tried(broker: Mosquitto, folder: Path, *, columns: str = "time,level", more: str = "", **bundle: Any) -> list[str]:
    """The lines of an online check of a pump with this bundle, whose recording has these columns."""
    (folder / "pump.csv").write_text(f"{columns}\n{','.join('1' for _ in columns.split(','))}\n")
    tables = pipeline("pump", write_plain_bundle(folder / "plain.evb", **bundle), replay(folder / "pump.csv"))
    return list(try_online(read_config(write_config(folder, broker.port, f"{tables}\n{more}"))))


def test_each_thing_that_works_is_a_line(broker: Mosquitto, tmp_path: Path) -> None:
    reached, bundle, source = tried(broker, tmp_path)
    assert reached == f"broker 127.0.0.1:{broker.port} reached"
    assert bundle == f"pump: bundle {tmp_path / 'plain.evb'} scores its golden windows"
    assert source == "pump: source opened"


def test_source_that_lacks_a_column_of_the_mode_is_found(broker: Mosquitto, tmp_path: Path) -> None:
    modes = Modes(("recipe",), ((1.0,),), ((0.0,),), ((1.0,),))
    with pytest.raises(SourceError, match="has no column recipe"):
        tried(broker, tmp_path, modes=modes)
    assert len(tried(broker, tmp_path, modes=modes, columns="time,level,recipe")) == 3


def test_threshold_that_is_to_adapt_and_cannot_is_found(broker: Mosquitto, tmp_path: Path) -> None:
    rank = plain_threshold(value=2.0, kind="rank")
    assert len(tried(broker, tmp_path, threshold=rank)) == 3
    with pytest.raises(BundleError, match="a threshold that cannot adapt"):
        tried(broker, tmp_path, threshold=rank, more="[pipeline.threshold]\nadapt = true\n")


def test_nothing_is_written_to_the_state_directory(broker: Mosquitto, tmp_path: Path) -> None:
    tried(broker, tmp_path, more="[pipeline.threshold]\nadapt = true\n")
    assert not (tmp_path / "state").exists()
