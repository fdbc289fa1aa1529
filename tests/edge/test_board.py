from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae.board import Board

NODE = "edge-vae/plant-1/gateway-1"
T1, T2 = "2026-03-01T12:00:00.000000Z", "2026-03-01T12:05:00.500000Z"


def status(board: Board, state: str, *pipelines: str, node: str = NODE) -> list[str]:
    return fed(board, f"{node}/status", {"state": state, "pipelines": pipelines})


def state(board: Board, word: str, asset: str = "pump-3", **more: Any) -> list[str]:
    return fed(board, f"{NODE}/{asset}/state", {"state": word, "since": T1, "score": 1.0, "threshold": 5.0} | more)


def event(board: Board, kind: str, asset: str = "pump-3", **more: Any) -> list[str]:
    facts = {"event": kind, "time": T2, "score": 12.34567, "threshold": 5.0, "channels": []}
    return fed(board, f"{NODE}/{asset}/event", facts | more)


def fed(board: Board, topic: str, message: Any) -> list[str]:
    """The assets whose rows changed."""
    return [row.asset for row in board.feed(topic, json.dumps(message).encode())]


def states(board: Board) -> dict[str, str]:
    return {row.asset: row.state for row in board.rows}


@pytest.fixture
def board() -> Board:
    return Board("edge-vae")


def test_state_fills_a_row(board: Board) -> None:
    assert state(board, "normal") == ["pump-3"]
    (row,) = board.rows
    assert (row.site, row.node, row.asset, row.state) == ("plant-1", "gateway-1", "pump-3", "normal")
    assert (row.score, row.threshold, row.since, row.last_event) == (1.0, 5.0, T1, "")


def test_same_state_again_changes_nothing(board: Board) -> None:
    state(board, "normal")
    assert state(board, "normal") == []


def test_listed_asset_is_shown_before_its_first_state(board: Board) -> None:
    assert status(board, "online", "pump-3", "fan-1") == ["fan-1", "pump-3"]
    assert states(board) == {"fan-1": "unknown", "pump-3": "unknown"}


def test_assets_of_an_agent_that_left_are_offline_until_it_is_back(board: Board) -> None:
    status(board, "online", "pump-3", "fan-1")
    state(board, "alarm")
    assert status(board, "offline", "pump-3", "fan-1") == ["fan-1", "pump-3"]
    assert states(board) == {"fan-1": "offline", "pump-3": "offline"}
    status(board, "online", "pump-3", "fan-1")
    assert states(board) == {"fan-1": "unknown", "pump-3": "alarm"}


def test_agent_that_left_takes_only_its_own_assets_with_it(board: Board) -> None:
    state(board, "normal")
    assert status(board, "offline", "fan-1", node="edge-vae/plant-1/gateway-2") == ["fan-1"]
    assert states(board) == {"pump-3": "normal", "fan-1": "offline"}


@pytest.mark.parametrize("status_first", [True, False])
def test_state_kept_of_an_asset_that_is_no_longer_configured_is_not_shown(board: Board, status_first: bool) -> None:
    if status_first:
        status(board, "online", "fan-1")
    state(board, "alarm", asset="pump-3")
    state(board, "normal", asset="fan-1")
    if not status_first:
        status(board, "online", "fan-1")
    assert states(board) == {"fan-1": "normal"}


def test_deleted_state_deletes_the_row(board: Board) -> None:
    state(board, "alarm")
    board.feed(f"{NODE}/pump-3/state", b"")
    assert board.rows == []


def test_deleted_status_leaves_what_the_states_say(board: Board) -> None:
    state(board, "alarm")
    status(board, "offline", "pump-3")
    board.feed(f"{NODE}/status", b"")
    assert states(board) == {"pump-3": "alarm"}


def test_event_tells_what_happened_and_to_which_channel_most(board: Board) -> None:
    channels = [{"name": "Flow", "share": 0.2}, {"name": "Current", "share": 0.62}, {"name": "Speed", "share": None}]
    assert event(board, "raised", channels=channels) == ["pump-3"]
    assert board.rows[0].last_event == "raised 2026-03-01 12:05:00Z Current 62%"


def test_events_tell_the_state_while_no_retained_one_was_seen(board: Board) -> None:
    event(board, "raised")
    (row,) = board.rows
    assert (row.state, row.score, row.since) == ("alarm", 12.34567, T2)
    event(board, "cleared")
    assert states(board) == {"pump-3": "normal"}


def test_event_that_waited_for_a_connection_does_not_undo_the_state(board: Board) -> None:
    state(board, "normal")
    event(board, "raised", replayed=True)
    (row,) = board.rows
    assert (row.state, row.score) == ("normal", 1.0)
    assert row.last_event.startswith("raised")


def test_drift_is_told_beside_a_state_that_it_leaves_alone(board: Board) -> None:
    state(board, "normal")
    assert event(
        board, "drift", score=3.2, channels=[{"name": "Flow", "share": 0.8, "value": 1.9, "expected": 2.6}]
    ) == ["pump-3"]
    (row,) = board.rows
    assert (row.state, row.score) == ("normal", 1.0)
    assert row.line.endswith("last event drift 2026-03-01 12:05:00Z Flow 80%")
    assert "drift 2026-03-01 12:05:00Z Flow 80%" in board.render()


@pytest.mark.parametrize("kind", ["drift", "dropped", "store_reset", "a kind of a later version"])
def test_event_that_is_no_alarm_leaves_the_state(board: Board, kind: str) -> None:
    event(board, kind, score=None, threshold=None)
    assert (board.rows[0].state, board.rows[0].score) == ("unknown", None)


def test_message_of_a_newer_agent_with_more_fields_is_understood(board: Board) -> None:
    assert state(board, "shelved", until=T2, schema="edge-vae/state/9") == ["pump-3"]


@pytest.mark.parametrize(
    "topic",
    [
        "other/plant-1/gateway-1/pump-3/state",
        "edge-vae/plant-1",
        "edge-vae/plant-1/gateway-1",
        f"{NODE}/state",
        f"{NODE}/pump-3/score",
        f"{NODE}/pump-3/status",
        f"{NODE}/pump-3/cmd/ack",
        f"{NODE}/pump-3/cmd/rebaseline/reply",
        "edge-vae",
        "",
    ],
)
def test_other_topics_are_not_ours(board: Board, topic: str) -> None:
    assert fed(board, topic, {"state": "alarm", "event": "raised", "time": T1}) == []
    assert (board.rows, board.malformed) == ([], 0)


@pytest.mark.parametrize(
    "payload", [b"{", b"[]", b"\xff", b'{"state": 5}', b'{"state": "alarm", "score": "high"}', b"{}"]
)
def test_unreadable_message_is_counted_and_changes_nothing(board: Board, payload: bytes) -> None:
    state(board, "normal")
    before = board.rows
    assert board.feed(f"{NODE}/pump-3/state", payload) == []
    assert (board.rows, board.malformed) == (before, 1)
    assert "1 message could not be read" in board.render(80)


@given(st.lists(st.tuples(st.sampled_from(["status", "a/state", "a/event", "b/event"]), st.binary(max_size=40))))
def test_nothing_that_anybody_publishes_breaks_the_board(messages: list[tuple[str, bytes]]) -> None:
    board = Board("edge-vae")
    for leaf, payload in messages:
        board.feed(f"{NODE}/{leaf}", payload)
    assert board.render(40).count("\n") >= 1


def test_table_lines_up_and_ends_with_the_counts(board: Board) -> None:
    state(board, "alarm", score=123.456)
    state(board, "normal", asset="fan-1", score=0.5)
    event(board, "raised")
    assert board.render().split("\n") == [
        "SITE     NODE       ASSET   STATE   SCORE  THRESHOLD  SINCE                 LAST EVENT",
        "plant-1  gateway-1  fan-1   normal    0.5          5  2026-03-01 12:00:00Z  -",
        "plant-1  gateway-1  pump-3  alarm     123          5  2026-03-01 12:00:00Z  raised 2026-03-01 12:05:00Z",
        "2 assets, 1 in alarm",
    ]


def test_empty_board_says_so(board: Board) -> None:
    assert board.render(200).split("\n")[1:] == ["0 assets, 0 in alarm"]


@pytest.mark.parametrize("width", [1, 20, 80])
def test_no_line_is_wider_than_the_terminal(board: Board, width: int) -> None:
    state(board, "alarm")
    event(board, "raised", channels=[{"name": "x" * 300, "share": 1.0}])
    assert max(map(len, board.render(width).split("\n"))) == width


def test_colour_marks_what_wants_attention_and_nothing_else(board: Board) -> None:
    state(board, "alarm")
    state(board, "normal", asset="fan-1")
    _, normal, alarm, _ = board.render(60, colour=True).split("\n")
    assert "\x1b" not in normal
    assert alarm.startswith("\x1b[31mplant-1")
    assert alarm.endswith("\x1b[0m")


def test_control_characters_from_the_network_never_reach_the_terminal(board: Board) -> None:
    fed(board, "edge-vae/plant\x1b[2J/gate\r/pump\x07/state", {"state": "\x1b]0;x", "since": "\x1b" * 30})
    assert not set(board.render() + board.rows[0].line) & set("\x1b\r\x07")


def test_line_of_a_row_says_all_of_it(board: Board) -> None:
    state(board, "alarm")
    assert board.rows[0].line == "plant-1/gateway-1/pump-3 alarm, score 1 of 5, since 2026-03-01 12:00:00Z"
    event(board, "raised")
    assert board.rows[0].line.endswith("12:00:00Z, last event raised 2026-03-01 12:05:00Z")


def test_sensor_fault_is_told_in_its_own_words_and_is_no_alarm(board: Board) -> None:
    cause = {"kind": "stuck", "channel": "Pressure"}
    event(board, "sensor_fault", phase="raised", cause=cause, channels=[{"name": "Pressure", "share": None}])
    (row,) = board.rows
    assert (row.state, row.last_event) == ("unknown", "sensor stuck raised 2026-03-01 12:05:00Z Pressure")
