"""Commands to assets: from a message to the pipeline that carries it out, and to the answer. No socket, no thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

from edge_vae.clock import format_time
from edge_vae.event import Reply, RequestId, encode
from edge_vae.topics import Topics

__all__ = ["COMMANDS", "Desk", "Mailbox", "Order", "Outcome", "Request", "Send"]

log = logging.getLogger(__name__)

COMMANDS = ("rebaseline",)
"""What an asset can be told."""
MAX_REQUEST_BYTES = 4096
_SHOWN_BYTES = 60
"""Enough of a wrong request to see which one it was."""
MAX_WAITING = 16
"""Orders that may wait for one pipeline, which takes what there is twice a second."""
MAX_REMEMBERED = 64
"""Outcomes that a pipeline remembers, so that a command that comes twice is done once."""

NO_COMMANDS: Mapping[str, Any] = MappingProxyType({})

Send = Callable[[str, bytes], object]
"""Publishes a payload on a topic, if that can still be done; called from any thread."""


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command, as whoever gives it writes it; the id is any text, one for each wish."""

    id: RequestId


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether a command was done, and a few words for a person."""

    ok: bool
    message: str


@dataclass(frozen=True, slots=True)
class Order:
    """A command on its way to a pipeline; `answer` is called once."""

    id: str
    answer: Callable[[Outcome], None]


class Mailbox:
    """The orders of one pipeline: put from any thread, carried out in the pipeline's own.

    An order whose id was carried out before is answered as it was then, and not carried out again.
    """

    def __init__(self) -> None:
        self._waiting: deque[Order] = deque()
        self._closed = ""
        self._lock = threading.Lock()
        self._done: OrderedDict[str, Outcome] = OrderedDict()

    def put(self, order: Order) -> None:
        """Have an order carried out; it is answered at once when it cannot be."""
        with self._lock:
            refusal = self._closed or ("too many commands are waiting" if len(self._waiting) >= MAX_WAITING else "")
            if not refusal:
                self._waiting.append(order)
        if refusal:
            order.answer(Outcome(ok=False, message=refusal))

    def serve(self, do: Callable[[], Outcome]) -> None:
        """Carry out and answer what waits."""
        for order in self._take():
            if order.id not in self._done:
                self._done[order.id] = do()
                while len(self._done) > MAX_REMEMBERED:
                    self._done.popitem(last=False)
            order.answer(self._done[order.id])

    def close(self, reason: str) -> None:
        """Refuse what waits and whatever comes."""
        with self._lock:
            self._closed = reason
        for order in self._take():
            order.answer(Outcome(ok=False, message=reason))

    def _take(self) -> list[Order]:
        with self._lock:
            taken = list(self._waiting)
            self._waiting.clear()
        return taken


class Desk:
    """Reads the commands of one agent, hands each to its asset, and has the answer sent.

    A command that cannot be read, and has no readable id to answer to, is logged.

    Args:
        topics: Of the agent.
        mailboxes: Of the assets.
        of_agent: What the agent can be told through any asset, by command; is given what to answer by.
        wall: Seconds since 1970-01-01 UTC.
    """

    def __init__(
        self,
        topics: Topics,
        mailboxes: Mapping[str, Mailbox],
        *,
        of_agent: Mapping[str, Callable[[Callable[[Outcome], None]], object]] = NO_COMMANDS,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._topics, self._mailboxes, self._of_agent, self._wall = topics, mailboxes, of_agent, wall

    def take(self, topic: str, payload: bytes, *, retained: bool, send: Send) -> None:
        """Take in a message on one of the agent's command topics; raises nothing, whatever it is."""
        if (commanded := self._topics.commanded(topic)) is None:
            return
        asset, command = commanded
        request_id, refusal = _read(payload)
        if request_id is None:
            log.warning("command not understood asset=%r command=%r reason=%s", asset, command, refusal)
            return
        refusal = refusal or self._refusal(asset, command, retained=retained)

        def answer(outcome: Outcome) -> None:
            self._answer(asset, command, request_id, outcome, send)

        if refusal:
            answer(Outcome(ok=False, message=refusal))
        elif command in self._of_agent:
            self._of_agent[command](answer)
        else:
            self._mailboxes[asset].put(Order(request_id, answer))

    def _refusal(self, asset: str, command: str, *, retained: bool) -> str:
        if retained:
            return "expected a command that is not retained: it would be given again at every connection"
        if asset not in self._mailboxes:
            return f"expected one of the assets {', '.join(self._mailboxes)}"
        if command not in (known := (*COMMANDS, *self._of_agent)):
            return f"expected one of the commands {', '.join(known)}"
        return ""

    def _answer(self, asset: str, command: str, request_id: str, outcome: Outcome, send: Send) -> None:
        now = format_time(self._wall())
        reply = Reply(id=request_id, asset=asset, command=command, ok=outcome.ok, message=outcome.message, time=now)
        log.info(
            "command answered asset=%r command=%r id=%r ok=%s message=%s",
            asset, command, request_id, outcome.ok, outcome.message,
        )  # fmt: skip
        send(self._topics.reply(asset, command), encode(reply))


def _read(payload: bytes) -> tuple[str | None, str]:
    """The request's id, None where there is none that can be read, and what is wrong with it."""
    if len(payload) > MAX_REQUEST_BYTES:
        return None, f"expected at most {MAX_REQUEST_BYTES} bytes, received {len(payload)}"
    try:
        return msgspec.json.decode(payload, type=Request).id, ""
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return _only_id(payload), f'expected {{"id": "..."}}, received {_shown(payload)}: {error}'


def _shown(payload: bytes) -> str:
    """The beginning of a payload, in quotes and without control characters."""
    return repr(payload[:_SHOWN_BYTES].decode(errors="replace")) if payload else "nothing"


class _AnyRequest(msgspec.Struct, frozen=True):
    """A request with whatever else; so much of it is needed to say what is wrong with the rest."""

    id: RequestId


def _only_id(payload: bytes) -> str | None:
    try:
        return msgspec.json.decode(payload, type=_AnyRequest).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
