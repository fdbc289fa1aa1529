"""What an online check of a configuration finds that a look at the file alone does not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from agent_process import pipeline, replay, write_config
from broker import Mosquitto
from edge_vae import online
from edge_vae.bundle import Modes
from edge_vae.config import read_config
from edge_vae.errors import BundleError, SourceError
from edge_vae.online import try_online
from iio_tree import IioTree
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


def opened(broker: Mosquitto, folder: Path, source: dict[str, Any]) -> str:
    """The last line of an online check of a pump with this source."""
    tables = pipeline("pump", write_plain_bundle(folder / "plain.evb"), source)
    return list(try_online(read_config(write_config(folder, broker.port, tables))))[-1]


def test_serial_port_is_tried(broker: Mosquitto, tmp_path: Path) -> None:
    device, port = os.openpty()
    source = {"type": "serial", "port": os.ttyname(port), "baudrate": 9600}
    assert opened(broker, tmp_path, source) == "pump: source opened"
    with pytest.raises(SourceError, match="expected columns with level, received flow"):
        opened(broker, tmp_path, {**source, "format": "csv", "columns": ["flow"]})
    for descriptor in (device, port):
        os.close(descriptor)


def test_serial_port_that_is_not_there_is_found(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "TIMEOUT_S", 0.5)
    with pytest.raises(SourceError, match=r"expected a device that answers, received serial port .* No such file"):
        opened(broker, tmp_path, {"type": "serial", "port": str(tmp_path / "ttyUSB0"), "baudrate": 9600})


def test_iio_buffer_is_tried(broker: Mosquitto, tmp_path: Path) -> None:
    tree = IioTree(tmp_path, {"accel_x": "le:s16/16>>0"}, attributes={"sampling_frequency": "1"})
    places = {"device": "adxl355", "root": str(tree.root), "dev": str(tree.dev)}
    source = {"type": "iio", **places, "channels": {"level": "accel_x"}}
    assert opened(broker, tmp_path, source) == "pump: source opened"
    assert tree.get("sampling_frequency") == "10"
    with pytest.raises(SourceError, match="received none for level"):
        opened(broker, tmp_path, {**source, "channels": {"other": "accel_x"}})
    tree.close()


def test_nothing_is_written_to_the_state_directory(broker: Mosquitto, tmp_path: Path) -> None:
    tried(broker, tmp_path, more="[pipeline.threshold]\nadapt = true\n")
    assert not (tmp_path / "state").exists()
