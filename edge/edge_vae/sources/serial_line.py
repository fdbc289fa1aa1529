"""Samples that a device writes as lines to a serial port."""

from __future__ import annotations

import errno
import os
import termios
import time
from collections.abc import Sequence

import numpy as np

from edge_vae.errors import MissingExtraError, SourceError
from edge_vae.source_config import SerialConfig
from edge_vae.sources.csv_rows import CsvRows, sniff_delimiter, split_cells
from edge_vae.sources.decode import Rows
from edge_vae.sources.fed import TURN_S, Readings
from edge_vae.sources.json_rows import JsonRows
from edge_vae.sources.lines import Lines, Malformed
from edge_vae.sources.sample_clock import SampleClock

try:
    import serial
except ImportError as error:
    raise MissingExtraError("a source of type serial", module="serial", extra="serial") from error

__all__ = ["SerialLine"]

PARITIES = {"none": "N", "even": "E", "odd": "O", "mark": "M", "space": "S"}


class SerialLine:
    """Rows of a serial port; its lines end with CR, LF or both.

    The first line after opening may have lost its beginning, and what is left of a number is a number: it is left out.

    Args:
        config: The table of the source.
        rate_hz: Samples a second that the bundle expects.
    """

    def __init__(self, config: SerialConfig, *, rate_hz: float) -> None:
        self._config, self._rate_hz = config, config.rate_hz or rate_hz
        self._name = f"serial port {config.port}"
        self._noise = Malformed(self._name)
        self._decoder: CsvRows | JsonRows | None = None
        self._channels: tuple[str, ...] = ()
        self._malformed = 0

    @property
    def malformed(self) -> int:
        """How many readings and lines could not be read."""
        return self._noise.count + self._malformed + (self._decoder.malformed if self._decoder else 0)

    def check(self, channels: Sequence[str]) -> None:
        """Raise SourceError if the configuration names columns, and not all of the channels."""
        columns = self._config.columns or channels
        if missing := [name for name in channels if name not in columns]:
            action = "Correct columns under [pipeline.source]."
            expected = f"columns with {', '.join(missing)}"
            raise SourceError(self._name, expected=expected, received=", ".join(columns), action=action)

    def readings(self, channels: Sequence[str]) -> Readings:
        """The rows of the lines that come.

        Raises:
            SourceError: The port is not there, is used by another program, cannot be set so, or went away.
        """
        decoder = self._decoder_of(channels)
        lines, clock, first, has_times = Lines(self._noise), SampleClock(self._rate_hz), True, False
        with self._opened() as port:
            yield decoder.messages([])
            while True:
                whole = lines.feed(_read(port).replace(b"\r", b"\n"))
                rows = decoder.messages(self._after(whole, decoder, first=first))
                first = first and not whole
                has_times = has_times or bool(np.isfinite(rows.times).any())
                yield rows if has_times else _timed(rows, clock)

    def _decoder_of(self, channels: Sequence[str]) -> CsvRows | JsonRows:
        """A header that was read before the port went away still holds."""
        config = self._config
        if self._decoder is None or self._channels != tuple(channels):
            self._malformed, self._channels = self.malformed - self._noise.count, tuple(channels)
            if config.format == "jsonl":
                self._decoder = JsonRows(channels, time=config.time, source=self._name)
            else:
                columns = None if config.header else config.columns or channels
                self._decoder = CsvRows(
                    channels, time=config.time, header=config.header, columns=columns, source=self._name
                )
        return self._decoder

    def _after(self, lines: list[bytes], decoder: CsvRows | JsonRows, *, first: bool) -> list[bytes]:
        """The lines that can be understood: without the first one, and from a header on where one is waited for."""
        if isinstance(decoder, JsonRows) or not self._config.header or decoder.has_header:
            return lines[1:] if first else lines
        at = next((at for at, line in enumerate(lines) if self._is_header(line)), len(lines))
        for line in lines[1 if first else 0 : at]:
            self._noise.add(f"expected=a header with {', '.join(self._channels)}", line)
        return lines[at:]

    def _is_header(self, line: bytes) -> bool:
        text = line.decode("utf-8", "replace")
        wanted = {*self._channels, *([self._config.time] if self._config.time else [])}
        return wanted <= {name.strip() for name in split_cells(text, sniff_delimiter(text, wanted=wanted))}

    def _opened(self) -> serial.Serial:
        config = self._config
        try:
            return serial.Serial(
                str(config.port),
                config.baudrate,
                bytesize=config.bytesize,
                parity=PARITIES[config.parity],
                stopbits=config.stopbits,
                rtscts=config.flow_control == "rts/cts",
                xonxoff=config.flow_control == "xon/xoff",
                timeout=TURN_S,
                exclusive=True,
            )
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            expected, action = "a port that can be opened", _action(error.errno)
            raise SourceError(self._name, expected=expected, received=reason, action=action) from error
        except (ValueError, termios.error) as error:
            expected = f"a port that can do {config.baudrate} baud, {config.bytesize} bits, parity {config.parity}"
            raise SourceError(self._name, expected=expected, received=str(error)) from error


def _action(number: int | None) -> str:
    if number == errno.EACCES:
        return "The group of the port may, dialout; edge-vae install-service --source serial gives it to the agent."
    if number in (errno.EAGAIN, errno.EBUSY):
        return "End the other program that uses it."
    from serial.tools import list_ports

    there = ", ".join(sorted(port.device for port in list_ports.comports())) or "none"
    return f"Plug it in, or correct port; serial ports that are there: {there}."


def _read(port: serial.Serial) -> bytes:
    """What has come, waiting at most a turn for the first byte of it."""
    data: bytes = port.read(1)
    return data + port.read(port.in_waiting) if data else data


def _timed(rows: Rows, clock: SampleClock) -> Rows:
    times = clock.times(len(rows), monotonic_s=time.monotonic(), wall_s=time.time())
    return Rows(rows.values, times)
