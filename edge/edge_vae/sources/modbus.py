"""Samples of a Modbus device, which is asked for its registers at an even rate."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Sequence
from contextlib import closing

import numpy as np

from edge_vae.errors import SourceError
from edge_vae.modbus_config import ModbusConfig
from edge_vae.sample import FloatArray
from edge_vae.sources.decode import Rows
from edge_vae.sources.fed import TURN_S, Readings
from edge_vae.sources.lines import Malformed
from edge_vae.sources.modbus_line import Line, RefusedError, connected
from edge_vae.sources.poll_clock import PollClock
from edge_vae.sources.registers import Request, grouped

__all__ = ["ModbusDevice"]

log = logging.getLogger(__name__)


class ModbusDevice:
    """Registers that are polled: a sample a poll, at the time by the system clock when the poll began.

    A device that does not answer is a broken connection. One that refuses a request is not: the channels of that
    request are NaN, and counted.

    Args:
        config: The table `[pipeline.source]`.
        rate_hz: Polls a second, where the configuration does not say.
    """

    def __init__(self, config: ModbusConfig, *, rate_hz: float) -> None:
        self._config, self._rate_hz = config, config.rate_hz or rate_hz
        self.name = f"modbus {config.line}"
        self._malformed = Malformed(self.name)
        self._refused: dict[Request, int] = {}
        self._unread = 0
        self.skipped = 0
        """Polls that were left out because the one before took too long."""

    @property
    def malformed(self) -> int:
        """How many readings the device refused, or gave as infinite."""
        return self._unread + self._malformed.count

    def check(self, channels: Sequence[str]) -> None:
        """Raise SourceError if there are channels that no register is named for."""
        known = self._config.names()
        if missing := [name for name in channels if name not in known]:
            raise SourceError(
                self.name,
                expected=f"a register for each of {', '.join(channels)}",
                received=f"none for {', '.join(missing)}",
                action="Add [[pipeline.source.register]] with that channel, or correct its name.",
            )

    def readings(self, channels: Sequence[str]) -> Readings:
        """Connect, then yield a row at each poll; None until the first poll is answered.

        Raises:
            SourceError, OSError: It cannot be connected, or does not answer.
        """
        requests = grouped(self._config, channels)
        nothing = Rows(np.empty((0, len(channels))), np.empty(0))
        first = True
        with closing(connected(self._config)) as line:
            clock = PollClock(1.0 / self._rate_hz, time.monotonic())
            slow = False
            while True:
                began_s, at = time.monotonic(), np.array([time.time()])
                values = np.full((1, len(channels)), np.nan)
                for _ in self._poll(line, requests, values[0]):
                    yield None if first else nothing
                first = False
                slow = self._polled(clock, began_s, len(requests), told=slow)
                yield Rows(values, at)
                while (left_s := clock.next_s - time.monotonic()) > 0:
                    time.sleep(min(left_s, TURN_S))
                    yield nothing

    def _poll(self, line: Line, requests: Sequence[Request], row: FloatArray) -> Generator[None, None, None]:
        for request in requests:
            try:
                answer = yield from line.ask(request)
            except RefusedError as refused:
                self._tell(request, refused)
                self._unread += len(request.values)
                continue
            request.read(answer, row, self._malformed)
            if self._refused.pop(request, None) is not None:
                log.info("answered again: source=%s request=%s", self.name, request)

    def _tell(self, request: Request, refused: RefusedError) -> None:
        if self._refused.get(request) != refused.code:
            channels = ", ".join(request.channels)
            log.warning("refused, no readings: source=%s channels=%s reason=%s", self.name, channels, refused)
        self._refused[request] = refused.code

    def _polled(self, clock: PollClock, began_s: float, requests: int, *, told: bool) -> bool:
        before = clock.skipped
        clock.polled(began_s, time.monotonic())
        self.skipped += clock.skipped - before
        if told or not clock.usual_s * self._rate_hz > 1.0:
            return told
        log.warning(
            "polls take longer than the rate allows, some are left out: source=%s rate_hz=%g poll_s=%.3g requests=%d%s",
            self.name, self._rate_hz, clock.usual_s, requests, "; a larger max_gap takes fewer" if requests > 1 else "",
        )  # fmt: skip
        return True
