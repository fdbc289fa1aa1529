"""Samples of a sensor or converter that Linux's IIO subsystem puts into a buffer."""

from __future__ import annotations

import contextlib
import os
import re
import select
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edge_vae.errors import SourceError
from edge_vae.source_config import IioConfig
from edge_vae.sources.decode import Rows
from edge_vae.sources.fed import TURN_S, Readings
from edge_vae.sources.iio_device import TIMESTAMP, IioDevice, refused
from edge_vae.sources.scan import ScanLayout, ScanType
from edge_vae.sources.stamp_clock import StampClock

__all__ = ["IioBuffer"]

BUFFER_S = 2.0
"""So long the kernel keeps samples for an agent that does not get to read them."""
WAKES_HZ = 50.0
"""So often the agent is woken: that is at most 20 ms more latency."""
READ_BYTES = 2**17
PICK = re.compile(r"([^\[]+)(?:\[(\d+)\])?")


class IioBuffer:
    """The buffer of one device, read from its character device.

    Readings are in the units of IIO: (raw + offset) * scale.

    Args:
        config: The table of the source.
        rate_hz: Samples a second that the bundle expects.
    """

    malformed = 0

    def __init__(self, config: IioConfig, *, rate_hz: float) -> None:
        self._config, self._rate_hz = config, config.rate_hz or rate_hz

    def check(self, channels: Sequence[str]) -> None:
        """Raise SourceError if the configuration names no scan element for a channel."""
        if missing := [name for name in channels if name not in self._config.channels]:
            what = f"IIO device {self._config.device}"
            raise SourceError(
                what,
                expected=f"a scan element for each of {', '.join(channels)}",
                received=f"none for {', '.join(missing)}",
                action="Add them to channels under [pipeline.source].",
            )

    def readings(self, channels: Sequence[str]) -> Readings:
        """What the buffer gets, from when it is enabled.

        Raises:
            SourceError, OSError: The device is not there, is used by another program, refuses a setting, or went away.
        """
        device = IioDevice.find(self._config.root, self._config.device)
        wanted = [_pick(self._config.channels[name]) for name in channels]
        with _opened(self._config.dev / device.node) as descriptor, self._running(device, [name for name, _ in wanted]):
            scans = _Scans(device, wanted, self._rate_hz)
            yield scans.rows(b"")
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            while True:
                # It is read whatever the poll says: scans that are fewer than the watermark do not end it.
                poll.poll(TURN_S * 1000)
                yield scans.rows(_read(descriptor, scans.size_bytes, device))

    @contextlib.contextmanager
    def _running(self, device: IioDevice, elements: Sequence[str]) -> Iterator[None]:
        """The buffer while it is filled."""
        if missing := sorted(set(elements).difference(device.elements)):
            there = ", ".join(name for name in device.elements if name != TIMESTAMP)
            expected = f"scan elements that it has: {there}"
            raise _wrong(device, expected, ", ".join(missing), "Correct channels under [pipeline.source].")
        if not self._config.setup:
            if not device.is_running:
                raise _wrong(device, "a buffer that is enabled", "a disabled one", "Enable it, or set setup = true.")
            yield
            return
        try:
            self._set_up(device, elements)
            yield
        finally:
            with contextlib.suppress(SourceError):  # the device is gone
                device.run(on=False)

    def _set_up(self, device: IioDevice, elements: Sequence[str]) -> None:
        """Nobody else reads the buffer, so one that is enabled was left behind by an agent that was killed."""
        config = self._config
        if device.is_running:
            device.run(on=False)
        trigger = device.set_trigger(config.root, config.trigger) if config.trigger else None
        device.set_rate(self._rate_hz, elements, trigger=trigger, needed=config.rate_hz is not None)
        device.enable_elements(elements)
        watermark = config.watermark or max(1, int(self._rate_hz / WAKES_HZ))
        device.set_length(config.length or max(2 * watermark, int(self._rate_hz * BUFFER_S)))
        device.set_watermark(watermark, needed=config.watermark is not None)
        device.run(on=True)


class _Scans:
    """Bytes of the enabled elements to rows.

    Args:
        device: What is read, as it is set up now.
        wanted: For each channel an element, and which of its repeated numbers.
        rate_hz: Samples a second.
    """

    def __init__(self, device: IioDevice, wanted: Sequence[tuple[str, int | None]], rate_hz: float) -> None:
        enabled = device.enabled
        if missing := [name for name, _ in wanted if name not in enabled]:
            raise _wrong(device, f"{', '.join(missing)} among the enabled scan elements", ", ".join(enabled) or "none")
        types = {name: device.type_of(name) for name in enabled}
        self._layout = ScanLayout(list(types.values()))
        self._picks = [(enabled.index(name), _repeat(device, name, repeat, types[name])) for name, repeat in wanted]
        self._stamp = enabled.index(TIMESTAMP) if TIMESTAMP in enabled else None
        self._offset = np.array([device.number(name, "offset", default=0.0) for name, _ in wanted])
        self._scale = np.array([device.number(name, "scale", default=1.0) for name, _ in wanted])
        self._stamped_by, self._clock = device.stamp_clock, StampClock(rate_hz)
        self._rest = b""
        self.size_bytes = self._layout.size_bytes

    def rows(self, data: bytes) -> Rows:
        """The rows that these bytes complete."""
        data = self._rest + data
        whole = len(data) - len(data) % self.size_bytes
        self._rest, data = data[whole:], data[:whole]
        values = self._layout.readings(data, self._picks)
        values += self._offset
        values *= self._scale
        times = self._clock.times(
            len(values),
            None if self._stamp is None else self._layout.numbers(data, self._stamp)[:, 0],
            clock_ns=None if self._stamped_by is None else time.clock_gettime_ns(self._stamped_by),
            wall_ns=time.time_ns(),
            monotonic_s=time.monotonic(),
        )
        return Rows(values, times)


def _pick(element: str) -> tuple[str, int | None]:
    """The element, and which of its repeated numbers: `rot_quaternion[2]`."""
    match = PICK.fullmatch(element)
    if match is None:
        msg = f"expected a name like accel_x or rot_quaternion[2], received {element!r}"
        raise ValueError(msg)
    return match[1], int(match[2]) if match[2] else None


def _repeat(device: IioDevice, element: str, repeat: int | None, kind: ScanType) -> int:
    if (repeat is None and kind.repeat == 1) or (repeat is not None and kind.repeat > max(repeat, 1)):
        return repeat or 0
    last = kind.repeat - 1
    expected = f"{element}[0] to {element}[{last}]" if last else element
    raise _wrong(device, expected, element if repeat is None else f"{element}[{repeat}]")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise refused(path, error, expected="a buffer that can be read") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int, scan_bytes: int, device: IioDevice) -> bytes:
    try:
        data = os.read(descriptor, max(READ_BYTES // scan_bytes, 1) * scan_bytes)
    except BlockingIOError:
        if device.is_running:
            return b""
        raise _wrong(device, "a buffer that stays enabled", "one that somebody disabled") from None
    if not data:
        raise _wrong(device, "scans", "the end of its buffer")
    return data


def _wrong(device: IioDevice, expected: str, received: str, action: str = "") -> SourceError:
    return SourceError(f"IIO device {device.node}", expected=expected, received=received, action=action)
