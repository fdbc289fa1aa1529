from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from broker import DEADLINE_S
from conftest import Command
from edge_vae.clock import format_time
from edge_vae.config import read_config
from edge_vae.errors import BrokerError, DataError, EdgeVaeError
from edge_vae.event import Channel, Event, Window
from edge_vae.stamp import Stamper
from edge_vae_converters.demo import broker as brokers
from edge_vae_converters.demo.folder import MARK, claim
from edge_vae_converters.demo.plan import own
from edge_vae_converters.demo.subscriber import Received
from edge_vae_converters.demo.verdict import Watched, judge
from edge_vae_train.data import Columns

Demonstrated = tuple[Path, dict[str, Any], str]
LABELLED = Columns(label="anomaly")
PNG = b"\x89PNG\r\n\x1a\n"


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


# the whole way


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory, edge_vae: Command, rig: Path) -> Demonstrated:
    """Folder, document and stderr of one demo, in the folder of an earlier one that was cut off."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "outbox.db").write_bytes(b"left behind, and torn")
    (folder / "events.jsonl").write_text("of the demo before\n")
    (folder / MARK).write_text("{}")
    data = ("--data", rig / "healthy", "--data", rig / "faulty" / "leak.csv", "--label", "anomaly")
    settings = ("--window", 32, "--stride", 4, "--epochs", 12)
    done = edge_vae("demo", *data, *settings, "-o", folder, "--json")
    return folder, json.loads(done.stdout), done.stderr


@pytest.mark.keras
@pytest.mark.broker
def test_the_subscriber_receives_an_alarm_for_the_fault(demonstrated: Demonstrated) -> None:
    _, document, told = demonstrated
    assert document["labelled_events"] == 1
    assert document["alarms_received"] >= 1
    assert document["lost_events"] == 0
    assert document["schema_checked"] is True
    assert [asset["asset"] for asset in document["assets"]] == ["leak"]
    assert "leak  RAISED  score" in told


@pytest.mark.keras
@pytest.mark.broker
def test_every_fault_of_the_simulated_rig_is_found_and_nothing_else(edge_vae: Command, tmp_path: Path) -> None:
    """What is shown where no recorded data is on the machine."""
    document = json.loads(edge_vae("demo", "--simulated", "-o", tmp_path / "demo", "--json").stdout)
    assert document["labelled_events"] == 7
    assert document["missed_events"] == 0
    assert document["false_alarms"] == 0


@pytest.mark.keras
@pytest.mark.broker
def test_the_figures_agree_with_the_evaluation_of_the_same_windows(demonstrated: Demonstrated) -> None:
    _, document, _ = demonstrated
    assert document["windows"] == document["evaluation"]["windows"] > 0
    assert document["labelled_events"] == document["evaluation"]["events"]
    assert document["false_alarms"] == document["evaluation"]["false_alarms"]
    assert document["bundle_bytes"] == document["evaluation"]["bytes"]
    assert 0 < document["latency_ms"]["median"] <= document["latency_ms"]["max"]
    assert document["microseconds_per_window"] > 0


@pytest.mark.keras
@pytest.mark.broker
def test_the_events_are_those_of_this_demo_and_no_other(demonstrated: Demonstrated) -> None:
    folder, document, _ = demonstrated
    lines = (folder / "events.jsonl").read_bytes().splitlines()
    events = [msgspec.json.decode(line, type=Event) for line in lines]
    assert len(events) == document["alarms_received"] + document["cleared_received"]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert {event.event for event in events} <= {"raised", "cleared"}


@pytest.mark.keras
@pytest.mark.broker
def test_every_file_that_the_document_names_is_there(demonstrated: Demonstrated) -> None:
    folder, document, _ = demonstrated
    files = {what: Path(path) for what, path in document["files"].items()}
    assert {"bundle", "run", "config", "events", "demo", "loss", "curves", "scores"} == set(files)
    assert all(path.exists() for path in files.values())
    assert all(files[name].read_bytes().startswith(PNG) for name in ("demo", "loss", "curves", "scores"))
    assert json.loads((folder / MARK).read_text()) == document


@pytest.mark.keras
@pytest.mark.broker
def test_the_configuration_it_leaves_is_one_that_the_agent_takes(demonstrated: Demonstrated, edge_vae: Command) -> None:
    folder, document, _ = demonstrated
    edge_vae("check-config", folder / "agent.toml")
    config = read_config(folder / "agent.toml")
    assert [pipeline.asset for pipeline in config.pipelines] == ["leak"]
    assert str(config.pipelines[0].bundle) == document["files"]["bundle"]


@pytest.mark.keras
@pytest.mark.broker
def test_no_broker_is_left_behind(demonstrated: Demonstrated) -> None:
    folder, _, _ = demonstrated
    assert not accepts(read_config(folder / "agent.toml").mqtt.port)


@pytest.mark.keras
def test_an_interruption_ends_it_with_one_line(tmp_path: Path, rig: Path) -> None:
    data = ["--data", rig / "healthy", "--data", rig / "faulty" / "leak.csv", "--label", "anomaly", "--stride", "32"]
    command = [sys.executable, "-c", "from edge_vae.cli import main; main()", "demo", *map(str, data)]
    command += ["-o", str(tmp_path / "demo")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = next(line for line in process.stderr if line.startswith("window: epoch 1/"))
        process.send_signal(signal.SIGINT)
        rest = [line for line in process.stderr.read().splitlines() if line and ": epoch " not in line]
        assert process.wait(DEADLINE_S) == 130, [told, *rest]
    assert rest == ["interrupted"]


# wrong use


def test_a_taken_port_is_told_in_one_line_before_any_work(edge_vae: Command, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = edge_vae("demo", "--port", port, "-o", tmp_path / "demo", status=1)
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in (f"port {port}", "expected", "received", "--port"))
    assert not done.stdout
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--data", "x.csv"], "--label"),
        (["--data", "x.csv", "--label", "anomaly", "--simulated"], "--simulated"),
        (["--label", "anomaly"], "--data"),
        (["--simulated", "--baseline", "100"], "--data"),
    ],
)
def test_options_that_do_not_fit_each_other_are_wrong_usage(edge_vae: Command, words: list[str], told: str) -> None:
    done = edge_vae("demo", *words, status=2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("somebody's")
    with pytest.raises(EdgeVaeError, match="expected a new or empty one, or that of an earlier demo"):
        claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["agent.toml"]


def test_the_folder_of_an_earlier_demo_is_taken_again(tmp_path: Path) -> None:
    claim(tmp_path / "new")
    (tmp_path / "new" / "agent.toml").write_text("of the demo")
    claim(tmp_path / "new")


# what is trained on and what is watched


def files(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("time,a,anomaly\n2024-01-01T00:00:00Z,1,0\n")
    return [folder / name for name in names]


@pytest.mark.parametrize(("count", "watched"), [(2, 1), (4, 1), (8, 2), (11, 2)])
def test_the_last_quarter_of_own_files_is_watched_and_not_trained_on(tmp_path: Path, count: int, watched: int) -> None:
    all_files = files(tmp_path, *(f"run-{number:02}.csv" for number in range(count)))
    plan = own([tmp_path], LABELLED)
    assert list(plan.train) == all_files[:-watched]
    assert list(plan.watched_paths) == all_files[-watched:]


def test_a_file_that_is_named_twice_is_not_both_trained_on_and_watched(tmp_path: Path) -> None:
    first, second = files(tmp_path, "a.csv", "b.csv")
    plan = own([tmp_path, first], LABELLED)
    assert {*plan.train, *plan.watched_paths} == {first, second}
    assert len(plan.train) + len(plan.watch) == 2


def test_a_single_file_is_refused(tmp_path: Path) -> None:
    (only,) = files(tmp_path, "only.csv")
    with pytest.raises(DataError, match=r"only.csv.*expected at least two files.*received one"):
        own([only], LABELLED)


def test_assets_have_names_of_their_own_that_topics_can_hold(tmp_path: Path) -> None:
    for part in ("x", "y", "z"):
        files(tmp_path / part, "0.csv", "pump + fan.csv")
    plan = own([tmp_path], LABELLED)  # six files, of which one is watched
    assert [file.asset for file in plan.watch] == ["pump-fan"]
    names = [own([tmp_path / part, tmp_path / "z"], LABELLED).watch[0].asset for part in ("x", "y")]
    assert names == ["pump-fan", "pump-fan"]
    numbers = own(files(tmp_path, *(f"valve2/{number}.csv" for number in range(8))), LABELLED)
    assert [file.asset for file in numbers.watch] == ["valve2-6", "valve2-7"]


# the verdict


START_S = 1_700_000_000.0


def recorded(labels: list[int], *, timed: bool = True) -> Watched:
    """A recording of one row a second, with a window of 4 rows every 2."""
    rows = np.arange(3, len(labels), 2)
    return Watched(
        asset="pump",
        rows=rows,
        score=np.arange(len(rows), dtype=float),
        labels=np.array(labels, dtype=bool),
        times=START_S + np.arange(len(labels)) if timed else np.full(len(labels), np.nan),
        values=np.zeros((len(labels), 1)),
        length=4,
        period_s=1.0,
    )


def event(kind: Any, watched: Watched, window: int) -> Received:
    """The event that this window of the recording would bring."""
    stamp, row = Stamper("boot")(), int(watched.rows[window])
    timed = bool(np.isfinite(watched.times).all())
    told = Event(
        event_id=stamp.event_id, alarm_id=None, seq=1, asset="pump", event=kind, severity="warning", time=stamp.time,
        time_quality=stamp.time_quality, boot_id="boot", monotonic_ns=1_000_000, score=float(watched.score[window]),
        peak_score=None, threshold=1.0, ratio=None,
        channels=(Channel(name="a", share=1.0, value=2.0, expected=1.0, quality="good"),),
        window=Window(start=format_time(START_S + row - 3), end=format_time(START_S + row)) if timed else None,
        model=None, quality="good", replayed=False, dropped=None, cause=None, reason=None, action=None,
        collapsed=None, phase=None,
    )  # fmt: skip
    return Received(told, b"", received_ns=3_500_000)


LABELS = [0] * 10 + [1] * 6 + [0] * 10 + [1] * 4 + [0] * 2


@pytest.mark.parametrize("timed", [True, False], ids=["by time", "by score"])
def test_a_labelled_event_without_an_alarm_raised_in_it_is_missed(timed: bool) -> None:
    watched = recorded(LABELS, timed=timed)
    inside = int(np.searchsorted(watched.rows, 13))
    verdict = judge(watched, [event("raised", watched, inside), event("cleared", watched, inside + 4)])
    assert (verdict.labelled, verdict.missed, verdict.false_alarms) == (2, 1, 0)
    assert verdict.delays_s == (3.0,)  # from row 10 to row 13
    assert [window for window, _ in verdict.raised] == [inside]
    assert [window for window, _ in verdict.cleared] == [inside + 4]


def test_an_alarm_whose_window_holds_no_labelled_row_is_false() -> None:
    watched = recorded(LABELS)
    assert judge(watched, [event("raised", watched, 0)]).false_alarms == 1


def test_an_alarm_whose_window_ends_behind_the_label_still_found_it() -> None:
    watched = recorded(LABELS)
    verdict = judge(watched, [event("raised", watched, int(np.searchsorted(watched.rows, 17)))])
    assert (verdict.missed, verdict.false_alarms) == (1, 0)


def test_a_labelled_event_before_the_first_window_does_not_count() -> None:
    watched = recorded([0] * 20)
    early = Watched(
        asset="pump", rows=watched.rows[5:], score=watched.score[5:], labels=np.arange(20) < 2, times=watched.times,
        values=watched.values, length=4, period_s=1.0,
    )  # fmt: skip
    assert judge(early, []).labelled == 0


def test_the_latency_is_from_the_last_sample_to_the_receipt() -> None:
    watched = recorded(LABELS)
    assert event("raised", watched, 0).latency_ms == 2.5


# the brokers


KINDS = [pytest.param("mosquitto", marks=pytest.mark.broker), "amqtt"]


def kind_of(name: str) -> brokers.Mosquitto | brokers.Amqtt:
    if name == "amqtt":
        return brokers.Amqtt()
    found = brokers.installed()
    assert isinstance(found, brokers.Mosquitto), "mosquitto is not installed: sudo apt-get install mosquitto"
    return found


@pytest.mark.parametrize("name", KINDS)
def test_the_broker_carries_a_message(tmp_path: Path, name: str) -> None:
    got: list[tuple[str, bytes]] = []
    subscribed, arrived = threading.Event(), threading.Event()
    with brokers.broker(kind_of(name), tmp_path) as running:
        version = MQTTProtocolVersion.MQTTv5 if running.mqtt.protocol == 5 else MQTTProtocolVersion.MQTTv311
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="both ends", protocol=version)
        client.on_connect = lambda *_: client.subscribe("edge-vae/#", qos=1)
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = lambda _client, _data, message: (
            got.append((message.topic, message.payload)),
            arrived.set(),
        )
        client.connect(running.mqtt.host, running.mqtt.port)
        client.loop_start()
        assert subscribed.wait(DEADLINE_S)
        client.publish("edge-vae/demo/gateway/pump/event", b"raised", qos=1).wait_for_publish(DEADLINE_S)
        assert arrived.wait(DEADLINE_S)
        client.disconnect()
        client.loop_stop()
    assert running.name == name
    assert got == [("edge-vae/demo/gateway/pump/event", b"raised")]
    assert not accepts(running.mqtt.port)


@pytest.mark.parametrize("name", KINDS)
def test_the_broker_ends_with_an_interruption(tmp_path: Path, name: str) -> None:
    ports = []

    def interrupted() -> None:
        with brokers.broker(kind_of(name), tmp_path) as running:
            ports.append(running.mqtt.port)
            assert accepts(running.mqtt.port)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not accepts(ports[0])


def test_a_taken_port_is_refused_by_the_broker_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(BrokerError, match=f"port {port}: expected .* received"),
            brokers.broker(brokers.Amqtt(), tmp_path, port=port),
        ):
            pass


@pytest.mark.broker
def test_a_broker_that_cannot_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    broken = brokers.Mosquitto(program=sys.executable)  # which takes -c for a program, and knows none in that path
    with pytest.raises(BrokerError, match=r"its end with status 1: .*Error"), brokers.broker(broken, tmp_path):
        pass
