"""What a source does around its device: a thread, connecting again, counting."""

import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from broker import DEADLINE_S, wait_until
from collected import collect
from edge_vae.errors import SourceError
from edge_vae.sample import Block
from edge_vae.sources import fed
from edge_vae.sources.decode import Rows
from edge_vae.sources.fed import TURN_S, FedSource, Readings


class Counter:
    """A device that counts up from 0, and breaks after every third row as often as it is told to."""

    malformed = 0

    def __init__(self, *, breaks: int = 0, refuses: int = 0) -> None:
        self._breaks, self._refuses = breaks, refuses
        self._next = 0
        self.connections = 0
        self.let_go = threading.Event()

    def check(self, channels: Sequence[str]) -> None:
        if list(channels) != ["n"]:
            raise SourceError("counter", expected="channel n", received=", ".join(channels))

    def readings(self, channels: Sequence[str]) -> Readings:
        self.connections += 1
        if self.connections <= self._refuses:
            raise OSError(111, "Connection refused")
        self.let_go.clear()
        try:
            yield rows()
            while True:
                for _ in range(3):
                    yield rows(self._next)
                    self._next += 1
                if self._breaks:
                    self._breaks -= 1
                    raise SourceError("counter unplugged")
                time.sleep(TURN_S / 10)
        finally:
            self.let_go.set()


def rows(*numbers: int) -> Rows:
    return Rows(np.array(numbers, np.float64).reshape(-1, 1), np.full(len(numbers), np.nan))


def numbers(blocks: Sequence[Block]) -> list[float]:
    return [float(value) for block in blocks for value in block.values.ravel()]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fed, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(fed, "LAST_RETRY_S", 0.02)


@pytest.fixture
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[Counter, FedSource]]:
    device = Counter(**getattr(request, "param", {}))
    source = FedSource(device, name="counter", max_rows=1000)
    source.open(["n"])
    yield device, source
    source.close()


@pytest.mark.parametrize("opened", [{"breaks": 3}], indirect=True)
def test_a_device_that_breaks_is_connected_again_and_no_session_starts(opened: tuple[Counter, FedSource]) -> None:
    device, source = opened
    blocks = collect(source, 15)

    assert numbers(blocks)[:15] == list(range(15))
    assert [block.starts_session for block in blocks] == [True] + [False] * (len(blocks) - 1)
    assert device.connections == 4


@pytest.mark.parametrize("opened", [{"refuses": 2}], indirect=True)
def test_a_device_that_is_not_there_yet_is_tried_until_it_is(opened: tuple[Counter, FedSource]) -> None:
    device, source = opened

    assert source.wait_connected(DEADLINE_S)
    assert device.connections == 3
    assert source.failure == ""


def test_a_device_that_is_still_being_connected_is_not_yet_there() -> None:
    class Slow(Counter):
        answers = threading.Event()

        def readings(self, channels: Sequence[str]) -> Readings:
            while not self.answers.wait(TURN_S / 10):
                yield None
            yield from super().readings(channels)

    device = Slow()
    source = FedSource(device, name="counter", max_rows=1000)
    source.open(["n"])
    try:
        assert not source.wait_connected(TURN_S / 2)
        device.answers.set()
        assert numbers(collect(source, 3))[:3] == [0, 1, 2]
        assert source.wait_connected(0)
    finally:
        source.close()


def test_why_a_device_is_not_connected_can_be_told() -> None:
    source = FedSource(Counter(refuses=1000), name="counter", max_rows=10)
    source.open(["n"])
    try:
        wait_until(lambda: "Connection refused" in source.failure, "the failure is told")
        assert not source.wait_connected(0)
        assert source.read(0) == []
    finally:
        source.close()


def test_a_device_for_other_channels_is_refused() -> None:
    source = FedSource(Counter(), name="counter", max_rows=10)
    with pytest.raises(SourceError, match="expected channel n, received flow"):
        source.open(["flow"])


def test_closing_lets_the_device_go(opened: tuple[Counter, FedSource]) -> None:
    device, source = opened
    collect(source, 1)
    source.close()

    assert device.let_go.is_set()
    assert not any(thread.name == "counter" for thread in threading.enumerate())


def test_rows_that_nobody_reads_push_out_the_oldest_and_are_counted() -> None:
    source = FedSource(Counter(), name="counter", max_rows=10)
    source.open(["n"])
    try:
        wait_until(lambda: source.dropped > 5, "rows are dropped")
        kept = numbers(source.read(DEADLINE_S))
        assert kept[0] > 5
        assert kept == list(range(int(kept[0]), int(kept[-1]) + 1))
    finally:
        source.close()


def test_a_fault_of_the_program_is_logged_and_the_device_connected_again(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(Counter):
        def readings(self, channels: Sequence[str]) -> Readings:
            if not self.connections:
                self.connections += 1
                raise ZeroDivisionError
            yield from super().readings(channels)

    source = FedSource(Faulty(), name="counter", max_rows=1000)
    source.open(["n"])
    try:
        assert numbers(collect(source, 3))[:3] == [0, 1, 2]
        assert "unforeseen source=counter" in caplog.text
    finally:
        source.close()


class Driver:
    """A device whose driver hangs when it is told to, in whatever it is asked for next."""

    malformed = 0

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.goes_on.set()

    def check(self, channels: Sequence[str]) -> None:
        """All channels are right."""

    def readings(self, channels: Sequence[str]) -> Readings:
        while True:
            assert self.goes_on.wait(DEADLINE_S)
            yield rows()
            time.sleep(0.001)


def test_device_that_hangs_is_told_from_one_that_has_nothing_to_say() -> None:
    driver = Driver()
    source = FedSource(driver, name="driver", max_rows=10)
    before_ns = time.monotonic_ns()
    assert (source.progress_ns or 0) >= before_ns  # nothing is asked of it
    source.open(["n"])
    assert source.wait_connected(DEADLINE_S)
    for _ in range(3):
        seen_ns = source.progress_ns or 0
        wait_until(lambda seen_ns=seen_ns: (source.progress_ns or 0) > seen_ns, "progress")
    driver.goes_on.clear()
    seen_ns = time.monotonic_ns() + 10**8
    wait_until(lambda: time.monotonic_ns() > seen_ns, "a while")
    assert (source.progress_ns or 0) < seen_ns
    hangs_ns = source.progress_ns
    assert source.read(0.05) == []
    assert source.progress_ns == hangs_ns
    driver.goes_on.set()
    wait_until(lambda: (source.progress_ns or 0) > seen_ns, "progress again")
    source.close()


@pytest.mark.parametrize("opened", [{"refuses": 10**6}], indirect=True)
def test_device_that_is_tried_again_and_again_does_not_hang(opened: tuple[Counter, FedSource]) -> None:
    device, source = opened
    wait_until(lambda: device.connections > 3, "attempts")
    before_ns = time.monotonic_ns()
    wait_until(lambda: (source.progress_ns or 0) > before_ns, "progress")
