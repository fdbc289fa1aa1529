"""Several sources of one machine, read as one."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence

import numpy as np

from edge_vae.errors import SourceError
from edge_vae.sample import Block
from edge_vae.source_config import Join
from edge_vae.sources import Source
from edge_vae.sources.decode import Rows
from edge_vae.sources.join import Joiner
from edge_vae.sources.member import Member

__all__ = ["JoinedSource"]

log = logging.getLogger(__name__)

TOLD_LATE_S = 60.0
"""A source whose readings all come too late is told of this often."""


class JoinedSource:
    """Sources at paces of their own, joined on time to one rate, see `Joiner`.

    Each member has a thread; one that breaks is opened again by itself, while the others go on and its channels are
    missing. A session starts when a member's does.

    Args:
        members: The sources.
        channels: Of each member, the channels that it has.
        rate_hz: Rows a second.
        late_s: How far a source may lag behind the one that is furthest ahead.
        max_age_s: How long a reading is held.
        join: How channels are joined; by default they are held.
        recorded: Which members are recordings, and waited for.
    """

    def __init__(
        self,
        members: Sequence[Source],
        channels: Sequence[Sequence[str]],
        *,
        rate_hz: float,
        late_s: float,
        max_age_s: float,
        join: Mapping[str, Join],
        recorded: Sequence[bool],
    ) -> None:
        self._late_s, self._recorded = late_s, tuple(recorded)
        self._joiner = Joiner(
            channels, rate_hz=rate_hz, late_s=late_s, max_age_s=max_age_s, join=join, recorded=recorded
        )
        self._names = [name for names in channels for name in names]
        self._arrived = threading.Event()
        self._members = [
            Member(source, names, recorded=finite, wake=self._arrived.set)
            for source, names, finite in zip(members, channels, recorded, strict=True)
        ]
        self._order = np.arange(len(self._names))
        self._starts, self._session_s, self._exhausted = True, math.inf, False
        self._told_late, self._tell_late_s = 0, 0.0
        self.samples = 0

    @property
    def members(self) -> tuple[Source, ...]:
        """The sources."""
        return tuple(member.source for member in self._members)

    @property
    def dropped(self) -> int:
        """How many readings the members dropped, and how many came after the rows of their moment were made."""
        return sum(member.source.dropped for member in self._members) + self._joiner.late

    @property
    def malformed(self) -> int:
        """How many readings and lines could not be read."""
        return sum(member.source.malformed for member in self._members)

    @property
    def progress_ns(self) -> int | None:
        """Monotonic time since when a member is asked for something, of the one that takes longest; now, if none is."""
        return min(member.progress_ns for member in self._members)

    @property
    def exhausted(self) -> bool:
        """Whether every member has ended, and all of its rows were given out."""
        return self._exhausted

    def check(self, channels: Sequence[str]) -> None:
        """Raise SourceError if no member has one of the channels, or a member lacks one that it is to give."""
        self._expect(channels)
        for member in self._members:
            member.source.check(member.channels)

    def open(self, channels: Sequence[str]) -> None:
        """Open every member.

        Raises:
            SourceError: No member has one of the channels.
        """
        self.close()
        self._expect(channels)
        self._order = np.array([self._names.index(name) for name in channels])
        self._joiner.open()
        self._starts, self._session_s, self._exhausted = True, math.inf, False
        for member in self._members:
            member.open()

    def read(self, timeout_s: float, *, at_least: int = 1) -> list[Block]:
        """The rows that can be made of what has come, waiting for that many at most this long.

        Raises:
            SourceError: A recording cannot be read.
        """
        deadline_s, blocks, wanted = time.monotonic() + timeout_s, [], self.samples + at_least
        while True:
            self._arrived.clear()
            blocks += self._joined()
            left_s = deadline_s - time.monotonic()
            if self.samples >= wanted or left_s <= 0 or self.exhausted:
                return blocks
            self._arrived.wait(left_s)

    def close(self) -> None:
        """Close every member."""
        for member in self._members:
            member.stop()
        for member in self._members:
            member.close()

    def _expect(self, channels: Sequence[str]) -> None:
        if missing := [name for name in channels if name not in self._names]:
            what = "several sources of a pipeline"
            raise SourceError(what, expected=f"channels {', '.join(channels)}", received=f"none with {missing[0]}")

    def _joined(self) -> list[Block]:
        """What can be made of what has come; a recording that is ahead of another one is left until that has come."""
        while sum(self._take_from(number, member) for number, member in enumerate(self._members)):
            pass
        self._exhausted = self._joiner.ended
        rows, arrived_ns = self._joiner.take(), max(member.arrived_ns for member in self._members)
        self._tell_late()
        self.samples += len(rows)
        uncertain = None if rows.uncertain is None else rows.uncertain[:, self._order]
        return self._blocks(Rows(rows.values[:, self._order], rows.times, uncertain), arrived_ns)

    def _take_from(self, number: int, member: Member) -> bool:
        if self._recorded[number] and self._joiner.lead_s(number) > self._late_s:
            return False
        ended, block = member.ended, member.next()
        if block is None:
            if ended:
                self._joiner.end(number)
            return False
        rows = self._timed(number, block)
        # A sensor that was opened again is the same machine; a recording that begins is another session of it.
        if block.starts_session and self._recorded[number] and len(rows):
            self._session_s = float(rows.times[0])
        self._joiner.push(number, rows)
        return True

    def _timed(self, number: int, block: Block) -> Rows:
        """The rows of a block; those of a sensor that tells no time were taken when they arrived."""
        untimed = np.isnan(block.times)
        if not untimed.any():
            return Rows(block.values, block.times, block.uncertain)
        if self._recorded[number]:
            what = f"recording with {self._members[number].channels[0]}"
            raise SourceError(what, expected="a time for each row, to join it by", received="rows without one")
        arrived_s = time.time() - (time.monotonic_ns() - block.arrived_ns) / 1e9
        return Rows(block.values, np.where(untimed, arrived_s, block.times), block.uncertain)

    def _blocks(self, rows: Rows, arrived_ns: int) -> list[Block]:
        """The rows as one block, or as two where a session starts among them."""
        at = int(np.searchsorted(rows.times, self._session_s))
        self._session_s = math.inf if at < len(rows) else self._session_s
        blocks = []
        for piece, starts in ((rows[:at], False), (rows[at:], True)):
            if len(piece):
                starts_session, self._starts = starts or self._starts, False
                block = Block(
                    piece.values, piece.times, arrived_ns, starts_session=starts_session, uncertain=piece.uncertain
                )
                blocks.append(block)
        return blocks

    def _tell_late(self) -> None:
        late, now_s = self._joiner.late, time.monotonic()
        if late > self._told_late and now_s >= self._tell_late_s:
            log.warning("readings came late, dropped channels=%s rows=%d", ",".join(self._names), late)
            self._told_late, self._tell_late_s = late, now_s + TOLD_LATE_S
