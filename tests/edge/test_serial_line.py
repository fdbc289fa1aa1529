"""Lines of a serial port, on pairs of pseudo-terminals."""

from __future__ import annotations

import importlib
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker import DEADLINE_S, wait_until
from collected import collect, readings
from edge_vae.broker_config import MqttConfig
from edge_vae.errors import MissingExtraError, SourceError
from edge_vae.source_config import SerialConfig
from edge_vae.sources import fed, lines, open_source, serial_line
from edge_vae.sources.fed import FedSource
from edge_vae.sources.serial_line import SerialLine
from serial_wire import Wire

CUT = b"cut\n"
"""The first line after opening, which is left out."""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fed, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(fed, "LAST_RETRY_S", 0.02)


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    with Wire(tmp_path) as made:
        yield made


@pytest.fixture
def opened() -> Iterator[Callable[..., FedSource]]:
    """Opens a source with channels a and b, once it is connected, and closes it in the end."""
    sources = []

    def open_with(config: SerialConfig, *, rate_hz: float = 100.0) -> FedSource:
        source = open_source(config, mqtt=MqttConfig(), rate_hz=rate_hz)
        assert isinstance(source, FedSource)
        sources.append(source)
        source.open(["a", "b"])
        assert source.wait_connected(DEADLINE_S)
        return source

    yield open_with
    for source in sources:
        source.close()


def failure(config: SerialConfig) -> str:
    """Why the port cannot be opened."""
    with pytest.raises(SourceError) as caught:
        next(SerialLine(config, rate_hz=1.0).readings(["a", "b"]))
    return str(caught.value)


@pytest.mark.parametrize(
    ("first", "then", "more"),
    [
        (b"3,4\n", b"1,2\n", {"format": "csv"}),
        (b"3;4\r\n", b"1;2\r\n", {"format": "csv"}),
        (b"3\t4\r", b"1\t2\r", {"format": "csv"}),
        (b'"b": 4}\n', b'{"a": 1, "b": 2}\n', {}),
        (b'{"a": 3, "b": 4}\n', b'{"a": 1, "b": 2}\n', {}),
        (b"9,4,3\n", b"9,2,1\n", {"format": "csv", "columns": ("status", "b", "a")}),
    ],
)
def test_the_first_line_is_left_out_and_is_no_error(
    wire: Wire, opened: Callable[..., FedSource], first: bytes, then: bytes, more: dict[str, Any]
) -> None:
    source = opened(wire.config(**more))
    wire.write(first)
    wire.write(then)

    assert readings(source, 1) == [[1.0, 2.0]]
    assert source.malformed == 0


@pytest.mark.parametrize(
    ("noise", "malformed"), [(b"\xff\x00\xfe\n", 1), (b";\x80\n", 1), (b"1,2,3\n", 1), (b"1\n", 1), (b"\n\r\n", 0)]
)
def test_noise_is_counted_and_what_follows_is_read(
    wire: Wire, opened: Callable[..., FedSource], noise: bytes, malformed: int
) -> None:
    source = opened(wire.config(format="csv", columns=("a", "b")))
    wire.write(CUT + b"1,2\n" + noise + b"3,4\n")

    assert readings(source, 2) == [[1.0, 2.0], [3.0, 4.0]]
    assert source.malformed == malformed


def test_noise_that_looks_like_another_delimiter_does_not_stay(wire: Wire, opened: Callable[..., FedSource]) -> None:
    source = opened(wire.config(format="csv"))
    wire.write(CUT + b";\xff\n1,2\n3,4\n5,6\n")

    assert readings(source, 3)[-1] == [5.0, 6.0]


def test_a_line_that_never_ends_is_one_error_and_fills_no_memory(
    wire: Wire, opened: Callable[..., FedSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 1000)
    source = opened(wire.config(format="csv"))
    wire.write(CUT)
    for _ in range(10):
        wire.write(b"7" * 1000)
    wire.write(b"\n1,2\n")

    assert readings(source, 1) == [[1.0, 2.0]]
    assert source.malformed == 1


def test_an_adapter_that_is_pulled_out_is_read_again_when_it_is_back(
    wire: Wire, opened: Callable[..., FedSource]
) -> None:
    source = opened(wire.config(format="csv", header=True))
    wire.write(b"time,a,b\n2026-03-01,1,2\n")
    [before] = collect(source, 1)
    wire.pull()
    wait_until(lambda: not source.wait_connected(0) and "No such file" in source.failure, "the source notices")
    wire.plug()
    assert source.wait_connected(DEADLINE_S)
    wire.write(b"-01,0,0\n2026-03-02,3,4\n")
    [after] = collect(source, 1)

    assert (before.values.tolist(), after.values.tolist()) == ([[1.0, 2.0]], [[3.0, 4.0]])
    assert after.times[0] - before.times[0] == 86400.0
    assert (before.starts_session, after.starts_session) == (True, False)
    assert source.malformed == 0


def test_a_header_is_waited_for_and_may_come_again(wire: Wire, opened: Callable[..., FedSource]) -> None:
    source = opened(wire.config(format="csv", header=True))
    wire.write(b"ready\n0,0\na;b\n1;2\nb,t,a\n4,0,3\n")

    assert readings(source, 2) == [[1.0, 2.0], [3.0, 4.0]]
    assert source.malformed == 1, "the line in front of the header that was whole"


@pytest.mark.parametrize(
    ("more", "row"),
    [
        ({}, b'{"a": 1, "b": 2, "t": 1583748873.5}\n'),
        ({"format": "csv", "columns": ("t", "a", "b")}, b"1583748873.5,1,2\n"),
    ],
)
def test_a_time_of_any_name_is_read(
    wire: Wire, opened: Callable[..., FedSource], more: dict[str, Any], row: bytes
) -> None:
    source = opened(wire.config(time="t", **more))
    wire.write(CUT + row)

    assert collect(source, 1)[0].times.tolist() == [1583748873.5]


def test_rows_without_time_have_times_by_the_rate(wire: Wire, opened: Callable[..., FedSource]) -> None:
    source = opened(wire.config(format="csv", rate_hz=50.0), rate_hz=1.0)
    wire.write(CUT + b"1,2\n" * 10)

    times = np.concatenate([block.times for block in collect(source, 10)])
    assert 0.01 < (times[-1] - times[0]) / 9 < 0.03
    assert times[-1] == pytest.approx(time.time(), abs=DEADLINE_S)


def test_a_time_that_is_none_stays_none_where_others_have_one(wire: Wire, opened: Callable[..., FedSource]) -> None:
    source = opened(wire.config())
    wire.write(CUT + b'{"time": 1583748873, "a": 1, "b": 2}\n{"a": 3, "b": 4}\n')

    times = np.concatenate([block.times for block in collect(source, 2)])
    assert times[0] == 1583748873.0
    assert np.isnan(times[1])


def test_the_port_is_set_as_the_configuration_says(wire: Wire, opened: Callable[..., FedSource]) -> None:
    opened(wire.config(stopbits=2, flow_control="rts/cts"))
    iflag, _, cflag, lflag, ispeed, ospeed, _ = termios.tcgetattr(wire.terminal)

    assert (ispeed, ospeed) == (termios.B9600, termios.B9600)
    assert cflag & termios.CSTOPB
    assert cflag & termios.CRTSCTS
    assert not iflag & termios.IXON
    assert not lflag & (termios.ICANON | termios.ECHO)


def test_a_port_that_is_not_there_is_told(tmp_path: Path) -> None:
    told = failure(SerialConfig(port=tmp_path / "ttyUSB7", baudrate=9600))

    assert f"serial port {tmp_path / 'ttyUSB7'}: expected a port that can be opened, received No such file" in told
    assert "Plug it in, or correct port; serial ports that are there: " in told


def test_a_port_that_may_not_be_opened_is_told(tmp_path: Path) -> None:
    port = tmp_path / "ttyUSB0"
    port.symlink_to("/proc/sys/kernel/ostype")  # which nobody may write, root neither

    assert "received Permission denied. The group of the port may" in failure(SerialConfig(port=port, baudrate=9600))


def test_a_port_that_another_program_reads_is_told(wire: Wire, opened: Callable[..., FedSource]) -> None:
    opened(wire.config())

    assert "End the other program that uses it." in failure(wire.config())


def test_a_file_that_is_no_serial_port_is_told(tmp_path: Path) -> None:
    (tmp_path / "port").write_text("1,2\n")

    told = failure(SerialConfig(port=tmp_path / "port", baudrate=9600))
    assert "expected a port that can be opened, received Could not configure port" in told


def test_columns_that_lack_a_channel_are_refused_at_once(wire: Wire) -> None:
    source = open_source(wire.config(format="csv", columns=("a", "c")), mqtt=MqttConfig(), rate_hz=1.0)
    with pytest.raises(SourceError, match="expected columns with b, received a, c"):
        source.open(["a", "b"])


def test_closing_ends_the_thread_of_a_silent_line(wire: Wire, opened: Callable[..., FedSource]) -> None:
    source = opened(wire.config())
    source.close()

    assert not any(thread.name.startswith("serial ") for thread in threading.enumerate())


def test_without_its_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edge-vae\[serial\]'"):
        importlib.reload(serial_line)
