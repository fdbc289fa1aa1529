"""Commands from message to answer: each is done once, whatever comes is answered or logged, and nothing breaks."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae import schema
from edge_vae.command import MAX_REMEMBERED, MAX_REQUEST_BYTES, MAX_WAITING, Desk, Mailbox, Outcome, Request
from edge_vae.topics import Topics

TOPICS = Topics("edge-vae", "plant-1", "gateway-1")
REBASELINE = TOPICS.command("pump-3", "rebaseline")


@dataclass
class Counter:
    """Numbers the times that something is done."""

    times: int = 0

    def rebaseline(self) -> Outcome:
        self.times += 1
        return Outcome(ok=True, message=f"done {self.times}")

    def __getattr__(self, name: str) -> Callable[[Request], Outcome]:
        return lambda request: Outcome(ok=True, message=f"{name} {request}")


@dataclass
class Asked:
    """A desk with one asset, and what it answered."""

    mailbox: Mailbox = field(default_factory=Mailbox)
    do: Counter = field(default_factory=Counter)
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.desk = Desk(TOPICS, {"pump-3": self.mailbox}, wall=lambda: 0.0)

    def take(self, payload: bytes, *, topic: str = REBASELINE, retained: bool = False) -> None:
        self.desk.take(topic, payload, retained=retained, send=self._send)

    def request(self, request_id: str, **more: Any) -> None:
        self.take(json.dumps({"id": request_id}).encode(), **more)

    def serve(self) -> None:
        self.mailbox.serve(self.do)

    @property
    def replies(self) -> list[tuple[str, bool, str]]:
        return [(reply["id"], reply["ok"], reply["message"]) for _, reply in self.sent]

    def _send(self, topic: str, payload: bytes) -> None:
        self.sent.append((topic, json.loads(payload)))


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_command_is_carried_out_by_its_pipeline_and_answered_on_its_topic(asked: Asked) -> None:
    asked.request("a")
    assert (asked.do.times, asked.sent) == (0, [])
    asked.serve()
    ((topic, reply),) = asked.sent
    assert topic == "edge-vae/plant-1/gateway-1/pump-3/cmd/rebaseline/reply"
    assert reply == {
        "schema": "edge-vae/reply/1", "id": "a", "asset": "pump-3", "command": "rebaseline", "ok": True,
        "message": "done 1", "time": "1970-01-01T00:00:00.000000Z",
    }  # fmt: skip
    jsonschema.Draft202012Validator(json.loads(schema.text("reply"))).validate(reply)


@pytest.mark.parametrize(
    ("command", "more", "asked_for"),
    [
        ("shelve", {"minutes": 5, "by": "jo"}, "shelve Shelve(id='a', minutes=5.0, by='jo', note=None)"),
        ("unshelve", {"note": "done"}, "unshelve Unshelve(id='a', by=None, note='done')"),
        ("ack", {"verdict": "true"}, "acknowledge Ack(id='a', alarm_id=None, by=None, note=None, verdict='true')"),
    ],
)
def test_each_command_has_its_own_request(asked: Asked, command: str, more: dict[str, Any], asked_for: str) -> None:
    asked.take(json.dumps({"id": "a", **more}).encode(), topic=TOPICS.command("pump-3", command))
    asked.serve()
    assert asked.replies == [("a", True, asked_for)]


def test_command_that_comes_again_is_answered_the_same_and_not_done_again(asked: Asked) -> None:
    asked.request("a")
    asked.request("a")
    asked.serve()
    asked.request("a")
    asked.request("b")
    asked.serve()
    assert asked.replies == [("a", True, "done 1")] * 3 + [("b", True, "done 2")]


def test_many_commands_later_an_id_is_a_new_one_and_memory_is_bounded(asked: Asked) -> None:
    for number in range(MAX_REMEMBERED + 1):
        asked.request(str(number))
        asked.serve()
    assert len(asked.mailbox._done) == MAX_REMEMBERED
    asked.request("0")
    asked.serve()
    assert asked.replies[-1] == ("0", True, f"done {MAX_REMEMBERED + 2}")


def test_flood_of_commands_is_refused_beyond_what_may_wait(asked: Asked) -> None:
    for number in range(MAX_WAITING + 2):
        asked.request(str(number))
    assert asked.replies == [(str(MAX_WAITING + extra), False, "too many commands are waiting") for extra in (0, 1)]
    asked.serve()
    assert asked.do.times == MAX_WAITING


def test_pipeline_that_has_ended_refuses_what_waits_and_whatever_comes(asked: Asked) -> None:
    asked.request("a")
    asked.mailbox.close("over")
    asked.request("b")
    asked.serve()
    assert asked.replies == [("a", False, "over"), ("b", False, "over")]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"id": "a", "samples": 5}', "unknown field `samples`"),
        (b'{"id": "a", "id2": [[[[]]]]}', "unknown field `id2`"),
    ],
)
def test_request_with_more_than_an_id_is_answered_with_what_is_wrong(asked: Asked, payload: bytes, reason: str) -> None:
    asked.take(payload)
    ((request_id, ok, message),) = asked.replies
    assert (request_id, ok) == ("a", False)
    assert 'expected {"id": "..."}' in message
    assert reason in message


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"rebaseline", b"{}", b"[]", b"\xff\xfe", b'{"id": 5}', b'{"id": ""}', b'{"id": null}',
        json.dumps({"id": "x" * 129}).encode(), json.dumps({"id": "a", "more": "x" * MAX_REQUEST_BYTES}).encode(),
        b"[" * MAX_REQUEST_BYTES, b'{"id": "a', b'{"id": "\\ud800"}',
    ],
)  # fmt: skip
def test_request_without_an_id_that_can_be_read_is_logged(
    asked: Asked, payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    asked.take(payload)
    asked.serve()
    assert (asked.sent, asked.do.times) == ([], 0)
    assert "command not understood asset='pump-3' command='rebaseline'" in caplog.text
    assert len(caplog.text) < 600  # whatever came, the line stays one that can be read
    assert caplog.text.count("\n") == 1


def test_log_of_a_request_that_cannot_be_read_shows_its_beginning(
    asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    asked.take(b"now\x1b[2J\n" + b"x" * 200)
    assert "received 'now\\x1b[2J\\nxxx" in caplog.text
    assert "x" * 61 not in caplog.text


@pytest.mark.parametrize(
    ("asset", "command", "retained", "message"),
    [
        ("pump-4", "rebaseline", False, "expected one of the assets pump-3"),
        ("pump-3", "explode", False, "expected one of the commands ack, rebaseline, shelve, unshelve"),
        ("pump-3", "rebaseline", True, "expected a command that is not retained"),
    ],
)
def test_command_that_cannot_be_done_is_answered_with_the_reason(
    asked: Asked, asset: str, command: str, retained: bool, message: str
) -> None:
    asked.request("a", topic=TOPICS.command(asset, command), retained=retained)
    asked.serve()
    ((topic, reply),) = asked.sent
    assert topic == TOPICS.reply(asset, command)
    assert (reply["id"], reply["ok"], reply["asset"], reply["command"]) == ("a", False, asset, command)
    assert reply["message"].startswith(message)
    assert asked.do.times == 0


def test_every_answer_is_logged_without_control_characters(asked: Asked, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    asked.request("a\nforged line \x1b[2J")
    asked.serve()
    (line,) = caplog.messages
    assert line.startswith("command answered asset='pump-3' command='rebaseline' id='a\\nforged line")
    assert line.isprintable()


@given(st.binary(max_size=60), st.text(max_size=20), st.booleans())
def test_nothing_that_anybody_publishes_breaks_the_desk(payload: bytes, name: str, retained: bool) -> None:
    asked = Asked()
    for topic in (REBASELINE, f"edge-vae/plant-1/gateway-1/{name}/cmd/rebaseline", name):
        asked.take(payload, topic=topic, retained=retained)
        asked.request("a", topic=topic, retained=retained)
    asked.serve()
    assert all(reply["id"] for _, reply in asked.sent)
