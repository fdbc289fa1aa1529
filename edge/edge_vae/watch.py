"""Watching all assets over MQTT: a table on a terminal that follows, or lines for a log."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from typing import Protocol, TextIO

from edge_vae.backoff import Backoff, Retries
from edge_vae.board import Board, Row
from edge_vae.errors import BrokerError
from edge_vae.publish.mqtt import MqttSettings
from edge_vae.subscription import Subscription

__all__ = ["snapshot", "watch"]

TURN_S = 0.2
"""The table is drawn once a turn at most, however many messages come."""
LONGEST_WAIT_S = 10.0
"""Between two attempts to connect: somebody is looking at the screen."""


def snapshot(settings: MqttSettings, *, base_topic: str, timeout_s: float = 10.0) -> Board:
    """The board after everything that the broker had retained has arrived.

    Args:
        settings: The broker, and a client id that no other client of it has.
        base_topic: First level of every topic.
        timeout_s: For all of it.

    Raises:
        BrokerError: The broker cannot be reached, refuses, or does not answer in time.
    """
    board = Board(base_topic)
    subscription = Subscription(settings, f"{base_topic}/#", take=board.feed)
    deadline_s = time.monotonic() + timeout_s
    try:
        subscription.open()
        while not subscription.complete:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise _unreachable(settings, f"no answer within {timeout_s:g} s")
            subscription.turn(min(TURN_S, left_s))
    except OSError as error:
        raise _unreachable(settings, str(error)) from error
    finally:
        subscription.close()
    return board


def watch(settings: MqttSettings, *, base_topic: str, out: TextIO) -> None:
    """Show every asset and every change of it until Ctrl-C: as a table on a terminal, else as one line for each change.

    A lost connection is made again.

    Args:
        settings: The broker, and a client id that no other client of it has.
        base_topic: First level of every topic.
        out: Written to.

    Raises:
        BrokerError: The broker refuses the login or the subscription.
    """
    board = Board(base_topic)
    view: _View = _Table(out, board) if out.isatty() else _Lines(out)
    retries = Retries(Backoff(cap_s=LONGEST_WAIT_S))
    with suppress(KeyboardInterrupt):
        while True:
            subscription = Subscription(
                settings, f"{base_topic}/#", take=lambda topic, payload: view.changed(board.feed(topic, payload))
            )
            began_s = time.monotonic()
            try:
                subscription.open()
                while True:
                    subscription.turn(TURN_S)
                    view.draw()
            except OSError as error:
                wait_s = retries.delay_s(time.monotonic() - began_s if subscription.granted else 0.0)
                view.trouble(
                    f"no connection to {settings.host}:{settings.port} ({error}), next attempt in {wait_s:.0f} s"
                )
                time.sleep(wait_s)
            finally:
                subscription.close()


class _View(Protocol):
    """How changes are shown."""

    def changed(self, rows: list[Row]) -> None:
        """Some rows have changed."""
        ...

    def draw(self) -> None:
        """A turn is over."""
        ...

    def trouble(self, text: str) -> None:
        """There is no connection."""
        ...


class _Lines:
    """A line for every change."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def changed(self, rows: list[Row]) -> None:
        self._out.writelines(row.line + "\n" for row in rows)

    def draw(self) -> None:
        self._out.flush()

    def trouble(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()


class _Table:
    """The whole table, drawn over the one before."""

    def __init__(self, out: TextIO, board: Board) -> None:
        self._out, self._board = out, board
        self._shown = ""
        out.write("\x1b[2J")

    def changed(self, rows: list[Row]) -> None:
        pass  # the board has them

    def draw(self) -> None:
        self._draw(note="")

    def trouble(self, text: str) -> None:
        self._draw(note=text)

    def _draw(self, *, note: str) -> None:
        columns, height = shutil.get_terminal_size()
        lines = [*self._board.render(columns, colour=True).split("\n"), *([note[:columns]] if note else [])]
        if len(lines) >= height:  # the header, what fits, and the counts; a longer table would scroll away
            lines = [*lines[: height - 3], f"... {len(lines) - height + 2} more", lines[-1]]
        shown = "".join(f"{line}\x1b[K\n" for line in lines)
        if shown != self._shown:
            self._shown = shown
            self._out.write(f"\x1b[H{shown}\x1b[J")
            self._out.flush()


def _unreachable(settings: MqttSettings, received: str) -> BrokerError:
    return BrokerError(
        f"broker {settings.host}:{settings.port}",
        expected="an MQTT broker that answers",
        received=received,
        action="Check host and port, and that the broker runs.",
    )
