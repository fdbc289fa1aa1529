"""Commands to assets: from a message to the pipeline that carries it out, and to the answer. No socket, no thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Protocol

import msgspec
from msgspec import Meta

from edge_vae.clock import format_time
from edge_vae.event import Reply, RequestId, Ulid, Verdict, encode
from edge_vae.topics import Topics

__all__ = [
    "COMMANDS", "Ack", "Asset", "Desk", "Mailbox", "Order", "Outcome", "Rebaseline", "Request", "Send", "Shelve",
    "Unshelve",
]  # fmt: skip

log = logging.getLogger(__name__)

MAX_SHELVED_MINUTES = 7 * 24 * 60.0
"""A week; what shall be silent for longer wants another threshold."""
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


Said = Annotated[str, Meta(min_length=1, max_length=256)]
"""A person's name or a few words."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether a command was done, and a few words for a person."""

    ok: bool
    message: str


class Asset(Protocol):
    """Who carries commands out."""

    def rebaseline(self) -> Outcome:
        """Learn the baseline anew."""
        ...

    def shelve(self, request: Shelve) -> Outcome:
        """Publish no alarm for a while."""
        ...

    def unshelve(self, request: Unshelve) -> Outcome:
        """Publish alarms again."""
        ...

    def acknowledge(self, request: Ack) -> Outcome:
        """Somebody has taken note of an alarm."""
        ...


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A command, as whoever gives it writes it; the id is any text, one for each wish.

    A kind of request is one class and one entry of `COMMANDS`.
    """

    EXAMPLE: ClassVar[str] = '{"id": "..."}'
    id: RequestId

    def carry_out(self, asset: Asset) -> Outcome:
        """Have the asset carry it out; called in the thread of its pipeline."""
        raise NotImplementedError


class Rebaseline(Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Learn the baseline anew."""

    def carry_out(self, asset: Asset) -> Outcome:
        """Have the asset do so."""
        return asset.rebaseline()


class Shelve(Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Publish no alarm of this asset for so many minutes."""

    EXAMPLE: ClassVar[str] = '{"id": "...", "minutes": 60, "by": "...", "note": "..."}, by and note as you like'
    minutes: Annotated[float, Meta(gt=0, le=MAX_SHELVED_MINUTES)]
    by: Said | None = None
    note: Said | None = None

    def carry_out(self, asset: Asset) -> Outcome:
        """Have the asset do so."""
        return asset.shelve(self)


class Unshelve(Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Publish alarms again, beginning with those that are active."""

    EXAMPLE: ClassVar[str] = '{"id": "...", "by": "...", "note": "..."}, by and note as you like'
    by: Said | None = None
    note: Said | None = None

    def carry_out(self, asset: Asset) -> Outcome:
        """Have the asset do so."""
        return asset.unshelve(self)


class Ack(Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Somebody has taken note of the alarm of this id; without one of all that are active, or else of the latest."""

    EXAMPLE: ClassVar[str] = (
        '{"id": "...", "alarm_id": "...", "by": "...", "note": "...", "verdict": "true" or "false" or "unknown"}, '
        "all but id as you like"
    )
    alarm_id: Ulid | None = None
    by: Said | None = None
    note: Said | None = None
    verdict: Verdict | None = None

    def carry_out(self, asset: Asset) -> Outcome:
        """Have the asset do so."""
        return asset.acknowledge(self)


COMMANDS: Mapping[str, type[Request]] = {
    "ack": Ack,
    "rebaseline": Rebaseline,
    "shelve": Shelve,
    "unshelve": Unshelve,
}
"""What an asset can be told: the last level of the topic, and what the request is read as."""


@dataclass(frozen=True, slots=True)
class Order:
    """A command on its way to a pipeline; `answer` is called once."""

    request: Request
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

    def serve(self, asset: Asset) -> None:
        """Have the asset carry out what waits, and answer it."""
        for order in self._take():
            request = order.request
            if request.id not in self._done:
                self._done[request.id] = request.carry_out(asset)
                while len(self._done) > MAX_REMEMBERED:
                    self._done.popitem(last=False)
            order.answer(self._done[request.id])

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
        kind = COMMANDS.get(command, Request if command in self._of_agent else _AnyRequest)
        request, wrong = _read(payload, kind)
        if request is None:
            log.warning("command not understood asset=%r command=%r reason=%s", asset, command, wrong)
            return
        request_id = request.id

        def answer(outcome: Outcome) -> None:
            self._answer(asset, command, request_id, outcome, send)

        if refusal := wrong or self._refusal(asset, command, retained=retained):
            answer(Outcome(ok=False, message=refusal))
        elif command in self._of_agent:
            self._of_agent[command](answer)
        else:
            self._mailboxes[asset].put(Order(request, answer))

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


class _AnyRequest(Request, frozen=True, forbid_unknown_fields=False):
    """A request with whatever else; so much of it is needed to say what is wrong with the rest."""


def _read(payload: bytes, kind: type[Request]) -> tuple[Request | None, str]:
    """The request, or as much of it as can be answered (None: nothing), and what is wrong with it."""
    if len(payload) > MAX_REQUEST_BYTES:
        return None, f"expected at most {MAX_REQUEST_BYTES} bytes, received {len(payload)}"
    try:
        return msgspec.json.decode(payload, type=kind), ""
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return _only_id(payload), f"expected {kind.EXAMPLE}, received {_shown(payload)}: {error}"


def _shown(payload: bytes) -> str:
    """The beginning of a payload, in quotes and without control characters."""
    return repr(payload[:_SHOWN_BYTES].decode(errors="replace")) if payload else "nothing"


def _only_id(payload: bytes) -> Request | None:
    try:
        return msgspec.json.decode(payload, type=_AnyRequest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
