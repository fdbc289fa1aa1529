"""Lines out of a stream of bytes that arrives in pieces."""

from __future__ import annotations

import logging

__all__ = ["Lines", "Malformed"]

MAX_LINE_BYTES = 2**20
"""A longer line is no row of readings; it is left out, so that a line that never ends cannot fill the memory."""

log = logging.getLogger(__name__)


class Malformed:
    """Counts what could not be read, and logs the first of it.

    Args:
        source: How to call the source in the log.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self.count = 0

    def add(self, what: str, received: object) -> None:
        """Count one reading or line.

        Args:
            what: What it is and where it stands.
            received: What stood there; its beginning is logged.
        """
        if not self.count:
            log.warning(
                "malformed reading: source=%s %s received=%.80r; more are counted, not logged",
                self._source,
                what,
                received,
            )
        self.count += 1


class Lines:
    """Splits pieces of bytes into lines without their ends; a line that is too long is counted and left out.

    Args:
        malformed: Where lines that are too long are counted.
    """

    def __init__(self, malformed: Malformed) -> None:
        self._malformed = malformed
        self._rest = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that end in this piece."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        if self._skipping and lines:
            del lines[0]
            self._skipping = False
        self._rest += rest  # in place: a slow line that never ends comes in many small pieces
        if len(self._rest) > MAX_LINE_BYTES:
            if not self._skipping:
                self._malformed.add("line without an end", bytes(self._rest[:80]))
            self._rest.clear()
            self._skipping = True
        return [line.rstrip(b"\r") for line in lines]

    def flush(self) -> list[bytes]:
        """The last line, where the stream ended without a line end."""
        line, skipped = bytes(self._rest), self._skipping
        self._rest.clear()
        self._skipping = False
        return [line.rstrip(b"\r")] if line and not skipped else []
