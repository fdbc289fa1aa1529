"""What an online check of a configuration finds that a look at the file alone does not."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from agent_process import AgentProcess, pipeline, replay, write_config
from broker import ADDRESS, Mosquitto, free_port
from edge_vae import online
from edge_vae.bundle import Modes
from edge_vae.config import read_config
from edge_vae.doctor import Check, examine_configured
from edge_vae.errors import BundleError, SetupError, SourceError
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


def test_port_that_another_program_has_is_found(broker: Mosquitto, tmp_path: Path) -> None:
    with socket.create_server((ADDRESS, 0)) as other:
        health = f'[health]\nprometheus = "{ADDRESS}:{other.getsockname()[1]}"\n'
        with pytest.raises(
            SetupError, match="expected an address of this machine, and a port that no other program has"
        ):
            tried(broker, tmp_path, more=health)
    assert tried(broker, tmp_path, more=health)[1].endswith(" free")


# doctor


def names(checks: list[Check]) -> list[str]:
    """What was examined beyond the machine itself."""
    found = [check.name for check in checks]
    return found[found.index("agent") :]


def test_doctor_tries_all_that_a_configuration_names_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    health = f'[health]\nprometheus = "{ADDRESS}:{free_port()}"\n'
    bundle, recording = write_plain_bundle(tmp_path / "plain.evb"), tmp_path / "pump.csv"
    recording.write_text("time,pressure\n1,1\n")
    (tmp_path / "torn.evb").write_bytes(bundle.read_bytes()[:-9])
    tables = [pipeline("pump", bundle, replay(recording)), pipeline("fan", tmp_path / "torn.evb", replay(recording))]
    checks = examine_configured(read_config(write_config(tmp_path, free_port(), *tables, health)))
    assert names(checks) == ["agent", "broker", "health port", "pump bundle", "pump source", "fan bundle"]
    found = {check.name: check for check in checks}
    assert (found["agent"].found, found["health port"].ok, found["pump bundle"].ok) == ("does not run", True, True)
    for name, what, advice in (
        ("broker", "expected a connection, received", "Start the broker"),
        ("pump source", "has no column level", ""),
        ("fan bundle", "torn.evb", ""),
    ):
        assert found[name].ok is False
        assert what in found[name].found
        assert advice in found[name].advice != ""


def test_doctor_leaves_port_and_sources_to_the_agent_that_runs(broker: Mosquitto, tmp_path: Path) -> None:
    health = f'[health]\nprometheus = "{ADDRESS}:{free_port()}"\n'
    pump = pipeline("pump", write_plain_bundle(tmp_path / "plain.evb"), {"type": "mqtt", "topic": "rig/pump"})
    config = write_config(tmp_path, broker.port, pump, health)
    with AgentProcess(config) as agent:
        agent.wait_for_log("health port open")
        checks = examine_configured(read_config(config))
    assert names(checks) == ["agent", "broker", "pump bundle"]
    assert all(check.ok for check in checks if check.name in names(checks))
    assert "runs" in next(check.found for check in checks if check.name == "agent")
