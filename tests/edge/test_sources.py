"""What every source must do, whatever it reads: one battery for all of them."""

from __future__ import annotations

import json
import math
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from asyncua import ua
from pymodbus.simulator import SimDevice

from broker import ADDRESS, DEADLINE_S, Mosquitto, program, wait_until
from collected import collect, values_of
from edge_vae.broker_config import MqttConfig
from edge_vae.errors import SourceError
from edge_vae.modbus_config import ModbusConfig, ModbusRegister
from edge_vae.opcua_config import OpcUaConfig, OpcUaNode
from edge_vae.publish.mqtt import MqttSettings, TlsFiles
from edge_vae.sample import Block
from edge_vae.source_config import JoinConfig, MqttSourceConfig, ReplayConfig, SerialConfig, StdinConfig
from edge_vae.sources import MemorySource, ReplaySource, Source, StdinSource, fed, open_source, open_sources
from edge_vae.sources.fed import FedSource
from edge_vae.sources.joined import JoinedSource
from edge_vae.sources.mqtt import MqttSource
from iio_tree import IioTree
from modbus_server import ModbusServer, SerialCable, device, told_rows
from opcua_server import OpcUaServer

TLS = Path(__file__).parent / "tls"
NAN = math.nan
STORED = ("a", "b", "c")
NODES = ("Pressure", "Current", "Level")
ASKED = ("c", "a")
VALUES = np.array([[1.5, 0, 10], [2.5, 0, 20], [3.5, 0, NAN], [4.5, 0, 40], [5.5, 0, 50]])
TIMES = 1_583_748_873.0 + np.arange(5)
EXPECTED = VALUES[:, [2, 0]]


@dataclass
class Rig:
    """A source, and how its five samples get into it once it is open."""

    source: Source
    give: Callable[[], None] = lambda: None
    times: np.ndarray | None = None
    live: bool = False
    clocked: bool = False
    """Whether samples have the time at which they were read."""
    expected: np.ndarray = field(default_factory=lambda: EXPECTED)


def csv_lines(*, header: bool, columns: Sequence[int] = (0, 1, 2)) -> str:
    cells = [
        [f"{at:.0f}", *("" if np.isnan(row[i]) else str(row[i]) for i in columns)]
        for at, row in zip(TIMES, VALUES, strict=True)
    ]
    return "".join(",".join(row) + "\n" for row in ([["time", *STORED]] if header else []) + cells)


def json_lines() -> str:
    rows = [
        {"time": at, **{name: None if np.isnan(value) else value for name, value in zip(STORED, row, strict=True)}}
        for at, row in zip(TIMES, VALUES.tolist(), strict=True)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def replay_csv(folder: Path, stack: ExitStack, broker: Mosquitto) -> Rig:
    (folder / "rows.csv").write_text(csv_lines(header=True))
    return Rig(ReplaySource(folder / "rows.csv", speed=0), times=TIMES)


def replay_npz(folder: Path, stack: ExitStack, broker: Mosquitto) -> Rig:
    np.savez(folder / "rows.npz", X=VALUES, channels=np.array(STORED))
    return Rig(ReplaySource(folder / "rows.npz", speed=0))


def replay_parquet(folder: Path, stack: ExitStack, broker: Mosquitto) -> Rig:
    columns = {name: pa.array([None if np.isnan(v) else v for v in VALUES[:, i]]) for i, name in enumerate(STORED)}
    pq.write_table(
        pa.table({"time": pa.array((TIMES * 1e6).astype("datetime64[us]")), **columns}), folder / "rows.parquet"
    )
    return Rig(ReplaySource(folder / "rows.parquet", speed=0), times=TIMES)


def piped(text: str, form: str, stack: ExitStack) -> Rig:
    reading, writing = os.pipe()
    stack.callback(os.close, reading)
    written = os.fdopen(writing, "w")
    stack.callback(written.close)

    def give() -> None:
        written.write(text.rstrip("\n"))
        written.close()

    return Rig(StdinSource(format="csv" if form == "csv" else "jsonl", fd=reading), give, times=TIMES)


def stdin_csv(folder: Path, stack: ExitStack, broker: Mosquitto) -> Rig:
    return piped(csv_lines(header=True), "csv", stack)


def stdin_jsonl(folder: Path, stack: ExitStack, broker: Mosquitto) -> Rig:
    return piped(json_lines(), "jsonl", stack)


def subscribed(text: str, form: str, folder: Path, stack: ExitStack, broker: Mosquitto) -> Rig:
    topic = f"sensors/{folder.name}"
    config = MqttSourceConfig(topic=topic, format="csv" if form == "csv" else "jsonl")
    source = open_source(config, mqtt=MqttConfig(host=broker.host, port=broker.port), rate_hz=1.0)
    assert isinstance(source, MqttSource)
    stack.callback(source.close)

    def give() -> None:
        assert source.wait_subscribed(DEADLINE_S)
        publish(broker, topic, text)

    return Rig(source, give, times=TIMES, live=True)


def mqtt_csv(folder: Path, stack: ExitStack, broker: Mosquitto) -> Rig:
    return subscribed(csv_lines(header=False, columns=(2, 0)), "csv", folder, stack, broker)


def mqtt_jsonl(folder: Path, stack: ExitStack, broker: Mosquitto) -> Rig:
    return subscribed(json_lines(), "jsonl", folder, stack, broker)


def wired(form: str, stack: ExitStack, text: str, **more: Any) -> Rig:
    """A serial line, whose first line is lost: it may have been cut."""
    writing, port = os.openpty()
    for descriptor in (writing, port):
        stack.callback(os.close, descriptor)
    config = SerialConfig(port=Path(os.ttyname(port)), baudrate=115_200, format=form, **more)
    source = open_source(config, mqtt=MqttConfig(), rate_hz=1.0)
    assert isinstance(source, FedSource)

    def give() -> None:
        assert source.wait_connected(DEADLINE_S)
        os.write(writing, f"5,6\n{text}".encode())

    return Rig(source, give, times=TIMES, live=True)


def serial_csv(folder: Path, stack: ExitStack, broker: Mosquitto) -> Rig:
    return wired("csv", stack, csv_lines(header=False), columns=("time", *STORED))


def serial_csv_header(folder: Path, stack: ExitStack, broker: Mosquitto) -> Rig:
    return wired("csv", stack, csv_lines(header=True), header=True)


def serial_jsonl(folder: Path, stack: ExitStack, broker: Mosquitto) -> Rig:
    return wired("jsonl", stack, json_lines())


def iio(folder: Path, stack: ExitStack, broker: Mosquitto) -> Rig:
    """No scan lacks a reading, so that there is a number in place of the missing one; stamps are of today."""
    tree = IioTree(folder, dict.fromkeys(STORED, "be:s12/16>>4"), attributes={"scale": "0.5"})
    stack.callback(tree.close)
    source = open_source(tree.config({name: name for name in STORED}), mqtt=MqttConfig(), rate_hz=1.0)
    assert isinstance(source, FedSource)
    values = np.where(np.isnan(VALUES), 30.0, VALUES)[:, [2, 0]]
    times = np.floor(time.time()) + np.arange(5)

    def give() -> None:
        assert source.wait_connected(DEADLINE_S)
        for (c, a), at in zip(values, times, strict=True):
            tree.write(struct.pack(">hhxxxx", int(a * 2) << 4, int(c * 2) << 4) + struct.pack("<q", int(at) * 10**9))

    return Rig(source, give, times=times, live=True, expected=values)


def memory(folder: Path, stack: ExitStack, broker: Mosquitto) -> Rig:
    blocks = [Block(EXPECTED[:2], TIMES[:2], 0), Block(EXPECTED[2:], TIMES[2:], 0)]
    return Rig(MemorySource(blocks), times=TIMES)


def two_recordings(folder: Path, stack: ExitStack, broker: Mosquitto) -> Rig:
    for name, column in (("a", 0), ("c", 2)):
        lines = csv_lines(header=False, columns=[column])
        (folder / f"{name}.csv").write_text(f"time,{name}\n{lines}")
    configs = [ReplayConfig(path=folder / f"{name}.csv", speed=0, channels=(name,)) for name in ("a", "c")]
    return Rig(one_of_two(configs, broker), times=TIMES)


def two_topics(folder: Path, stack: ExitStack, broker: Mosquitto) -> Rig:
    topic = f"sensors/{folder.name}"
    configs = [MqttSourceConfig(topic=f"{topic}/{name}", channels=(name,)) for name in ("a", "c")]
    source = one_of_two(configs, broker)
    stack.callback(source.close)

    def give() -> None:
        assert isinstance(source, JoinedSource)
        for member in source.members:
            assert isinstance(member, MqttSource)
            assert member.wait_subscribed(DEADLINE_S)
        for config in configs:
            publish(broker, config.topic, json_lines())

    return Rig(source, give, times=TIMES, live=True)


def opcua_poll(folder: Path, stack: ExitStack, server: OpcUaServer) -> Rig:
    """Each Read after the first one of a session, which only looks at the nodes, gets the next of the five samples."""
    waiting: list[tuple[float, ...]] = []

    def serve(first: bool) -> None:
        if not first and not waiting:
            raise ua.uaerrors.BadShutdown
        for name, value in zip(NODES, VALUES[0] if first else waiting.pop(0), strict=True):
            status = ua.StatusCodes.BadNoCommunication if np.isnan(value) else ua.StatusCodes.Good
            server.serve(name, ua.DataValue(float(value), ua.StatusCode(status)))

    server.on_read = serve
    nodes = tuple(OpcUaNode(channel=name, node=f"ns=2;s=Pump.{node}") for name, node in zip(STORED, NODES, strict=True))
    source = open_source(OpcUaConfig(url=server.url, nodes=nodes), mqtt=MqttConfig(), rate_hz=20.0)
    return Rig(source, lambda: waiting.extend(map(tuple, VALUES)), live=True, clocked=True)


def one_of_two(configs: Sequence[ReplayConfig | MqttSourceConfig], broker: Mosquitto) -> Source:
    join = JoinConfig(max_age_s=0.5)
    mqtt = MqttConfig(host=broker.host, port=broker.port)
    return open_sources(configs, join, mqtt=mqtt, rate_hz=1.0, columns=ASKED)


def polled(server: ModbusServer, stack: ExitStack, switch_on: Callable[[], None], **line: object) -> Rig:
    """Channel a in halves, c with 65535 for no reading; the device is switched on when it is to give its rows."""
    registers = (
        ModbusRegister(channel="a", address=0, type="int16", scale=0.5),
        ModbusRegister(channel="b", address=1, type="int16"),
        ModbusRegister(channel="c", address=2, type="uint16", invalid=65535),
    )
    config = ModbusConfig(registers=registers, rate_hz=20.0, timeout_s=DEADLINE_S, max_gap=1, **line)
    stack.callback(server.stop)

    def give() -> None:
        server.start()
        switch_on()

    return Rig(open_source(config, mqtt=MqttConfig(), rate_hz=1.0), give, live=True, clocked=True)


def modbus_device() -> SimDevice:
    rows = [[int(2 * a), int(b), 65535 if math.isnan(c) else int(c)] for a, b, c in VALUES.tolist()]
    return device([0, 0, 0], action=told_rows(rows))


def modbus_tcp(folder: Path, stack: ExitStack, broker: Mosquitto) -> Rig:
    server = ModbusServer(modbus_device())
    return polled(server, stack, lambda: None, host=ADDRESS, port=server.port)


def modbus_rtu(folder: Path, stack: ExitStack, broker: Mosquitto) -> Rig:
    cable, plug = stack.enter_context(SerialCable()), folder / "ttyUSB0"
    server = ModbusServer(modbus_device(), serial_port=cable.far)
    return polled(server, stack, lambda: plug.symlink_to(cable.near), serial_port=str(plug), parity="none")


FILES = [replay_csv, replay_npz, replay_parquet, two_recordings]
POLLED = [modbus_tcp, modbus_rtu, opcua_poll]
NAMED = [replay_csv, replay_npz, replay_parquet, stdin_csv, serial_csv, iio, opcua_poll]
WIRED = [serial_csv, serial_csv_header, serial_jsonl, iio, modbus_tcp, modbus_rtu, opcua_poll]
FED = [stdin_csv, stdin_jsonl, mqtt_csv, mqtt_jsonl, two_topics, *WIRED]
RIGS = [replay_csv, replay_npz, replay_parquet, two_recordings, *FED, memory]


def publish(broker: Mosquitto, topic: str, text: str, *options: str) -> None:
    """One message a line."""
    command = [program("mosquitto_pub", package="mosquitto-clients"), "-h", broker.host, "-p", str(broker.port)]
    subprocess.run(
        [*command, "-t", topic, "-q", "1", "-l", *options], input=text.encode(), check=True, timeout=DEADLINE_S
    )


def settings(broker: Mosquitto, **more: str) -> MqttSettings:
    return MqttSettings(host=broker.host, port=broker.port, client_id="sources-test", **more)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as started:
        yield started


def named(make: Callable[..., Rig]) -> str:
    return make.__name__


@pytest.fixture(scope="module")
def opcua_server() -> Iterator[OpcUaServer]:
    with OpcUaServer() as started:
        yield started


@pytest.fixture(params=RIGS, ids=named)
def rig(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(fed, "LAST_RETRY_S", 0.02)
    server = request.getfixturevalue("opcua_server" if request.param is opcua_poll else "broker")
    with ExitStack() as stack:
        made: Rig = request.param(tmp_path, stack, server)
        yield made
        made.source.close()


@pytest.mark.broker
class TestContract:
    def test_every_sample_arrives_in_order_with_the_channels_in_the_order_asked_for(self, rig: Rig) -> None:
        rig.source.open(ASKED)
        rig.give()

        np.testing.assert_array_equal(values_of(collect(rig.source, 5)), rig.expected)

    def test_samples_have_their_recorded_time_or_that_of_their_reading_or_none(self, rig: Rig) -> None:
        before = time.time()
        rig.source.open(ASKED)
        rig.give()

        times = np.concatenate([block.times for block in collect(rig.source, 5)])
        if rig.clocked:
            assert np.all(np.diff([before, *times, time.time()]) > 0)
        else:
            np.testing.assert_array_equal(times, np.full(5, NAN) if rig.times is None else rig.times)

    def test_only_the_first_block_starts_a_session(self, rig: Rig) -> None:
        rig.source.open(ASKED)
        rig.give()

        first, *rest = collect(rig.source, 5)
        assert first.starts_session
        assert not any(block.starts_session for block in rest)

    def test_blocks_say_when_they_arrived(self, rig: Rig) -> None:
        before = time.monotonic_ns()
        rig.source.open(ASKED)
        rig.give()

        arrived = [block.arrived_ns for block in collect(rig.source, 5)]
        assert before <= arrived[0]
        assert arrived == sorted(arrived)
        assert arrived[-1] <= time.monotonic_ns()

    def test_samples_are_counted_and_nothing_is_lost_or_malformed(self, rig: Rig) -> None:
        rig.source.open(ASKED)
        rig.give()
        collect(rig.source, 5)

        assert (rig.source.samples, rig.source.dropped, rig.source.malformed) == (5, 0, 0)

    def test_a_source_that_ends_is_exhausted_and_one_that_does_not_is_silent(self, rig: Rig) -> None:
        rig.source.open(ASKED)
        rig.give()
        assert not rig.source.exhausted
        collect(rig.source, 5)

        assert rig.source.read(0) == []
        assert rig.source.exhausted is not rig.live

    @pytest.mark.parametrize("rig", FED, ids=named, indirect=True)
    def test_reading_before_anything_came_returns_nothing(self, rig: Rig) -> None:
        rig.source.open(ASKED)

        assert rig.source.read(0) == []
        assert rig.source.read(0.01) == []
        assert not rig.source.exhausted

    def test_closing_twice_is_no_error_and_opening_again_starts_a_session(self, rig: Rig) -> None:
        rig.source.open(ASKED)
        rig.source.close()
        rig.source.close()
        rig.source.open(ASKED)
        rig.give()

        blocks = collect(rig.source, 5)
        assert blocks[0].starts_session
        np.testing.assert_array_equal(values_of(blocks), rig.expected)

    @pytest.mark.parametrize("rig", NAMED, ids=named, indirect=True)
    def test_a_channel_that_named_columns_lack_is_an_error(self, rig: Rig) -> None:
        with pytest.raises(SourceError, match=r"flow"):
            open_and_read(rig)

    def test_channels_that_it_has_pass_before_it_is_opened(self, rig: Rig) -> None:
        rig.source.check(ASKED)

    @pytest.mark.parametrize("rig", [*FILES, serial_csv, iio, *POLLED], ids=named, indirect=True)
    def test_a_channel_that_it_cannot_have_is_found_before_it_is_opened(self, rig: Rig) -> None:
        with pytest.raises(SourceError, match=r"flow"):
            rig.source.check(["a", "flow"])


def open_and_read(rig: Rig) -> None:
    rig.source.open(["a", "flow"])
    rig.give()
    collect(rig.source, 1)


def test_memory_begins_again_when_it_is_endless() -> None:
    source = MemorySource([Block(EXPECTED, TIMES, 0)], endless=True)
    source.open(ASKED)
    blocks = collect(source, 15)

    assert [block.starts_session for block in blocks] == [True, True, True]
    assert not source.exhausted


def test_memory_without_blocks_is_silent_when_it_is_endless() -> None:
    source = MemorySource([], endless=True)
    source.open(ASKED)

    assert source.read(0.01) == []
    assert not source.exhausted
    source.close()
    assert source.read(DEADLINE_S) == []


def test_memory_refuses_blocks_of_other_channels() -> None:
    with pytest.raises(ValueError, match="expected blocks of 3 channels, received one of 2"):
        MemorySource([Block(EXPECTED, TIMES, 0)]).open(STORED)


def test_stdin_gives_rows_as_their_lines_end() -> None:
    reading, writing = os.pipe()
    try:
        source = StdinSource(format="csv", fd=reading)
        source.open(["a"])
        os.write(writing, b"a\n1\n2")
        assert values_of(collect(source, 1)).tolist() == [[1.0]]
        assert source.read(0) == []

        os.write(writing, b"5\n")
        assert values_of(collect(source, 1)).tolist() == [[25.0]]
    finally:
        os.close(writing)
        os.close(reading)


def test_stdin_keeps_its_header_when_it_is_opened_again() -> None:
    reading, writing = os.pipe()
    try:
        source = StdinSource(format="csv", fd=reading)
        source.open(["a"])
        os.write(writing, b"a\n1\n")
        collect(source, 1)
        source.close()

        source.open(["a"])
        os.write(writing, b"2\n")
        [block] = collect(source, 1)
        assert block.values.tolist() == [[2.0]]
        assert block.starts_session
    finally:
        os.close(writing)
        os.close(reading)


def test_stdin_that_ends_before_a_header_is_an_error() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    try:
        source = StdinSource(format="csv", fd=reading)
        source.open(["a"])
        with pytest.raises(SourceError, match="standard input is empty"):
            source.read(DEADLINE_S)
        assert source.exhausted
    finally:
        os.close(reading)


def test_a_flood_that_holds_no_row_does_not_hold_the_reader() -> None:
    with open("/dev/zero", "rb") as zeros:  # noqa: PTH123 (a file descriptor is wanted)
        source = StdinSource(fd=zeros.fileno())
        source.open(["a"])

        assert source.read(0.05) == []


def test_the_configuration_chooses_the_source(tmp_path: Path) -> None:
    assert isinstance(open_source(ReplayConfig(path=tmp_path), mqtt=MqttConfig(), rate_hz=1.0), ReplaySource)
    assert isinstance(open_source(StdinConfig(), mqtt=MqttConfig(), rate_hz=1.0), StdinSource)


def refuse(server: socket.socket) -> None:
    """Take one MQTT 3.1.1 connection, and refuse its subscription; mosquitto's access rules grant them all."""
    connection, _ = server.accept()
    with connection:
        connection.recv(1024)
        connection.sendall(b"\x20\x02\x00\x00")
        subscribe = connection.recv(1024)
        connection.sendall(b"\x90\x03" + subscribe[2:4] + b"\x80")
        connection.recv(1024)


@pytest.mark.broker
class TestMqtt:
    def test_rows_that_nobody_reads_push_out_the_oldest_and_are_counted(self, broker: Mosquitto) -> None:
        source = MqttSource("flood", settings(broker), format="csv", max_rows=10)
        source.open(["a"])
        try:
            assert source.wait_subscribed(DEADLINE_S)
            publish(broker, "flood", "".join(f"{i}\n" for i in range(25)))
            publish(broker, "flood", "99\n")
            wait_until(lambda: source.dropped >= 16, "the excess is dropped")

            assert values_of(collect(source, 10)).ravel().tolist() == [*range(16, 25), 99]
            assert (source.dropped, source.samples) == (16, 10)
        finally:
            source.close()

    def test_it_opens_without_a_broker_and_reads_once_there_is_one(self, tmp_path: Path) -> None:
        late = Mosquitto(tmp_path)
        source = MqttSource("t", settings(late), format="csv", max_rows=10)
        source.open(["a"])
        try:
            assert source.read(0) == []
            with late:
                assert source.wait_subscribed(DEADLINE_S)
                publish(late, "t", "1\n")
                assert values_of(collect(source, 1)).tolist() == [[1.0]]
        finally:
            source.close()

    def test_it_subscribes_again_when_the_broker_comes_back(self, tmp_path: Path) -> None:
        with Mosquitto(tmp_path) as broker:
            source = MqttSource("t", settings(broker), format="csv", max_rows=10)
            source.open(["a"])
            try:
                assert source.wait_subscribed(DEADLINE_S)
                publish(broker, "t", "1\n")
                assert collect(source, 1)[0].starts_session
                broker.kill()
                wait_until(lambda: not source.wait_subscribed(0), "the source notices")
                broker.start()
                assert source.wait_subscribed(DEADLINE_S)
                publish(broker, "t", "2\n")
                [block] = collect(source, 1)
                assert block.values.tolist() == [[2.0]]
                assert not block.starts_session, "the machine did not start anew, only the network"
            finally:
                source.close()

    def test_a_retained_message_is_no_new_reading(self, broker: Mosquitto) -> None:
        publish(broker, "kept", "1\n", "-r")
        source = MqttSource("kept", settings(broker), format="csv", max_rows=10)
        source.open(["a"])
        try:
            assert source.wait_subscribed(DEADLINE_S)
            publish(broker, "kept", "2\n", "-r")

            assert values_of(collect(source, 1)).tolist() == [[2.0]]
            assert source.dropped == 1
        finally:
            source.close()

    def test_a_refused_subscription_is_an_error(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=refuse, args=(server,), daemon=True).start()
            refusing = MqttSettings(
                host="127.0.0.1",
                port=server.getsockname()[1],
                client_id="t",
                protocol=311,
                connect_timeout_s=DEADLINE_S,
            )
            source = MqttSource("t", refusing, max_rows=10)
            source.open(["a"])
            try:
                with pytest.raises(SourceError, match="subscribing: expected leave to subscribe, received Unspecified"):
                    source.read(DEADLINE_S)
            finally:
                source.close()

    def test_a_password_is_sent(self, tmp_path: Path) -> None:
        passwords = tmp_path / "passwords"
        tool = program("mosquitto_passwd", package="mosquitto")
        subprocess.run([tool, "-b", "-c", str(passwords), "reader", "s3cret"], check=True, timeout=DEADLINE_S)
        with Mosquitto(tmp_path, extra=f"allow_anonymous false\npassword_file {passwords}") as broker:
            for password, granted in (("s3cret", True), ("wrong", False)):
                source = MqttSource("t", settings(broker, username="reader", password=password), max_rows=10)
                source.open(["a"])
                try:
                    assert source.wait_subscribed(DEADLINE_S if granted else 0.2) is granted
                finally:
                    source.close()

    def test_messages_come_over_tls_too(self, tmp_path: Path) -> None:
        files = f"cafile {TLS / 'ca.pem'}\ncertfile {TLS / 'server.pem'}\nkeyfile {TLS / 'server.key'}"
        with Mosquitto(tmp_path, extra=files) as broker:
            secure = replace(settings(broker), tls=TlsFiles(ca_file=TLS / "ca.pem"))
            source = MqttSource("t", secure, format="csv", max_rows=100_000)
            source.open(["a"])
            try:
                assert source.wait_subscribed(DEADLINE_S)
                publish(broker, "t", "".join(f"{i}\n" for i in range(1000)), "--cafile", str(TLS / "ca.pem"))
                assert values_of(collect(source, 1000)).ravel().tolist() == list(range(1000))
            finally:
                source.close()

    def test_files_that_are_no_certificates_are_an_error(self, tmp_path: Path) -> None:
        ca_file = tmp_path / "ca.pem"
        ca_file.write_text("not a certificate")
        broken = MqttSettings(host="127.0.0.1", port=8883, client_id="t", tls=TlsFiles(ca_file=ca_file))

        with pytest.raises(SourceError, match=r"topic t at 127\.0\.0\.1: TLS: expected a CA"):
            MqttSource("t", broken, max_rows=10).open(["a"])

    def test_a_broker_that_stops_answering_is_left_and_connected_again(self, tmp_path: Path) -> None:
        with Mosquitto(tmp_path) as broker:
            source = MqttSource("t", replace(settings(broker), keepalive_s=1), format="csv", max_rows=10)
            source.open(["a"])
            try:
                assert source.wait_subscribed(DEADLINE_S)
                broker.freeze()
                wait_until(lambda: not source.wait_subscribed(0), "the source notices")
                broker.thaw()
                assert source.wait_subscribed(DEADLINE_S)
                publish(broker, "t", "1\n")
                assert values_of(collect(source, 1)).tolist() == [[1.0]]
            finally:
                source.close()

    @pytest.mark.parametrize("protocol", [5, 311])
    def test_a_connection_that_only_listens_is_kept(self, tmp_path: Path, protocol: Literal[5, 311]) -> None:
        with Mosquitto(tmp_path) as broker:
            source = MqttSource(
                "t", replace(settings(broker), keepalive_s=1, protocol=protocol), format="csv", max_rows=10
            )
            source.open(["a"])
            try:
                assert source.wait_subscribed(DEADLINE_S)
                pinged = "Received PINGREQ from sources-test"
                wait_until(lambda: broker.log.read_text().count(pinged) >= 2, "the source asks twice")
                assert source.wait_subscribed(0)
                assert broker.log.read_text().count("New client connected") == 1
            finally:
                source.close()

    def test_thousands_of_messages_of_one_row_come_whole_and_in_order(self, broker: Mosquitto) -> None:
        source = MqttSource("many", settings(broker), format="csv", max_rows=100_000)
        source.open(["a"])
        try:
            assert source.wait_subscribed(DEADLINE_S)
            publish(broker, "many", "".join(f"{i}\n" for i in range(5000)))

            assert values_of(collect(source, 5000)).ravel().tolist() == list(range(5000))
            assert (source.dropped, source.malformed) == (0, 0)
        finally:
            source.close()

    def test_a_broker_that_hangs_is_given_up_and_tried_again(self, tmp_path: Path) -> None:
        with Mosquitto(tmp_path) as broker:
            broker.freeze()
            source = MqttSource("t", replace(settings(broker), connect_timeout_s=0.1), max_rows=10)
            source.open(["a"])
            try:
                assert not source.wait_subscribed(0.3)
                broker.thaw()
                assert source.wait_subscribed(DEADLINE_S)
            finally:
                source.close()
