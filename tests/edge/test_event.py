import json
import math
import threading
from itertools import count
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vae import schema
from edge_vae.event import (
    Action,
    ActiveAlarm,
    AgentCounters,
    AssetCounters,
    Cause,
    Channel,
    Event,
    Model,
    Reply,
    State,
    Status,
    Window,
    as_replayed,
    corrected,
    encode,
    notice,
)
from edge_vae.stamp import Stamp, Stamper, UlidSource
from edge_vae.topics import Topics

STAMP = Stamp(
    event_id="01ARZ3NDEKTSV4RRFFQ69G5FAV",
    time="2020-03-01T00:00:00.000000Z",
    time_quality="synchronised",
    boot_id="b",
    monotonic_ns=5,
)
MODEL = Model(name="skab", version=3, sha256="0" * 64)
CAUSE = Cause(kind="model", channel=None, value=None, peak=None, limit=None)
LIMIT = Cause(kind="high", channel="Current", value=5.0, peak=6.0, limit=4.0)
STUCK = Cause(kind="stuck", channel="Current", value=5.0, peak=None, limit=None)
ACTION = Action(by="jo", note=None, at=STAMP.time, until=None, verdict="false")
SHELF = Action(by=None, note="cleaning", at=STAMP.time, until=STAMP.time, verdict=None)
STRUCTS = {"event": Event, "reply": Reply, "state": State, "status": Status}


def raised(**changes: Any) -> Event:
    facts: dict[str, Any] = {
        "event_id": STAMP.event_id, "alarm_id": STAMP.event_id, "seq": 1, "asset": "pump-3", "event": "raised",
        "severity": "warning", "time": STAMP.time, "time_quality": "synchronised", "boot_id": "b", "monotonic_ns": 5,
        "score": 12.5, "peak_score": 12.5, "threshold": 5.0, "ratio": 2.5,
        "channels": (Channel(name="Current", share=0.7, value=1.5, expected=1.0, quality="good"),),
        "window": Window(start=STAMP.time, end="2020-03-01T00:00:32.000000Z"),
        "model": MODEL, "quality": "good", "replayed": False, "dropped": None, "cause": CAUSE, "reason": None,
        "action": None, "collapsed": None, "phase": None,
    }  # fmt: skip
    return Event(**(facts | changes))


ACTIVE = ActiveAlarm(
    alarm_id=STAMP.event_id, severity="critical", cause=LIMIT, since=STAMP.time, peak_score=None, acknowledged=ACTION
)


def state(**changes: Any) -> State:
    facts: dict[str, Any] = {
        "asset": "pump-3", "state": "alarm", "since": STAMP.time, "time": STAMP.time, "score": 1.0, "threshold": 2.0,
        "model": MODEL, "alarms": (), "shelved": None, "flood": False,
    }  # fmt: skip
    return State(**(facts | changes))


COUNTERS = AgentCounters(
    uptime_s=60.5, cpu_s=0.5, rss_bytes=60_000_000, open_files=20, disk_written_bytes=None, outbox_messages=1,
    outbox_bytes=700, outbox_dropped=0, published=12, acknowledged=11, refused=0, connects=2, reconnects=1,
    assets=(
        AssetCounters(
            asset="pump-3", state="alarm", samples=6000, windows=1493, dropped=0, malformed=1, removed=2, raised=1,
            cleared=0, sensor_faults=1, failures=1, last_sample_age_s=0.01, score=1.5, threshold=math.nan,
        ),
    ),
)  # fmt: skip


def status(**changes: Any) -> Status:
    facts: dict[str, Any] = {
        "state": "online",
        "agent": "0.1.0",
        "boot_id": "b",
        "pipelines": ("pump-3",),
        "time": STAMP.time,
        "counters": COUNTERS,
    }
    return Status(**(facts | changes))


def check(name: str, payload: bytes) -> None:
    jsonschema.Draft202012Validator(json.loads(schema.text(name))).validate(json.loads(payload))


MESSAGES = {
    "raised": ("event", raised()),
    "cleared": ("event", raised(event="cleared", seq=2, peak_score=20.0)),
    "updated": ("event", raised(event="updated", reason="severity", action=ACTION, seq=2)),
    "limit": ("event", raised(cause=LIMIT, score=None, peak_score=None, threshold=None, ratio=None)),
    "shelved": ("event", raised(event="shelved", alarm_id=None, action=SHELF, cause=None, channels=(), quality=None)),
    "flood": ("event", raised(event="flood_ended", alarm_id=None, collapsed=5, cause=None, channels=())),
    "sensor fault": (
        "event",
        raised(event="sensor_fault", phase="cleared", cause=STUCK, score=None, ratio=None, quality="bad"),
    ),
    "drift": ("event", raised(event="drift", cause=None, alarm_id=None, seq=2, peak_score=None, severity="info")),
    "dropped": ("event", notice("dropped", asset="pump-3", seq=3, dropped=17, stamp=STAMP)),
    "set_aside": ("event", notice("set_aside", asset="pump-3", seq=4, dropped=1, stamp=STAMP)),
    "store_reset": ("event", notice("store_reset", asset="pump-3", seq=1, dropped=None, salvaged=0, stamp=STAMP)),
    "alarm": ("state", state()),
    "in alarm and shelved": ("state", state(state="shelved", shelved=SHELF, alarms=(ACTIVE,), flood=True)),
    "learning": ("state", state(state="learning", score=None, threshold=None, model=None)),
    "done": ("reply", Reply(id="1", asset="pump-3", command="rebaseline", ok=True, message="m", time=STAMP.time)),
    "birth": ("status", status()),
    "will": ("status", status(state="offline", time=None, pipelines=(), counters=None)),
}


@pytest.mark.parametrize(("name", "message"), MESSAGES.values(), ids=list(MESSAGES))
def test_a_real_message_validates_and_comes_back_the_same(name: str, message: Event | State | Status) -> None:
    payload = encode(message)
    check(name, payload)
    assert msgspec.json.decode(payload, type=STRUCTS[name]) == message


@pytest.mark.parametrize(("name", "message"), MESSAGES.values(), ids=list(MESSAGES))
def test_every_field_is_always_there(name: str, message: Event | State | Status) -> None:
    assert list(json.loads(encode(message))) == list(STRUCTS[name].__struct_fields__)


def test_event_carries_the_fields_of_the_contract() -> None:
    contract = (
        "schema event_id seq asset event severity time time_quality boot_id monotonic_ns score threshold ratio channels"
        " window model quality replayed alarm_id peak_score dropped cause reason action collapsed salvaged phase"
    )
    assert set(Event.__struct_fields__) == set(contract.split())
    assert Channel.__struct_fields__ == ("name", "share", "value", "expected", "quality")
    assert Window.__struct_fields__ == ("start", "end")
    assert Model.__struct_fields__ == ("name", "version", "sha256")


@pytest.mark.parametrize("name", schema.NAMES)
def test_schema_file_is_itself_a_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(schema.text(name)))


@pytest.mark.parametrize("name", schema.NAMES)
def test_schema_file_says_what_the_struct_says(name: str) -> None:
    shipped, made = json.loads(schema.text(name)), msgspec.json.schema(STRUCTS[name])
    assert resolved(shipped, shipped.get("$defs", {})) == resolved(made, made["$defs"])


def resolved(part: Any, definitions: dict[str, Any]) -> Any:
    """The schema with references followed and only what constrains a message left, in one order."""
    if isinstance(part, list):
        return sorted((resolved(item, definitions) for item in part), key=repr)
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return resolved(definitions[part["$ref"].removeprefix("#/$defs/")], definitions)
    words = {"title", "description", "default", "$schema", "$id", "$defs", "required"}
    rules = {key: resolved(value, definitions) for key, value in part.items() if key not in words}
    if "properties" in part:
        rules["properties"] = {key: resolved(value, definitions) for key, value in part["properties"].items()}
        # The encoder writes a field with a default too, so a subscriber can rely on it.
        made_by_msgspec = set(part["properties"]) - set(part["required"]) <= {"schema", "salvaged"}
        assert made_by_msgspec, part
    return rules


@pytest.mark.parametrize("name", schema.NAMES)
def test_shipped_schema_demands_every_field(name: str) -> None:
    def objects(part: Any) -> list[dict[str, Any]]:
        inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        here = [part] if isinstance(part, dict) and part.get("type") == "object" else []
        return here + [found for item in inner for found in objects(item)]

    for part in objects(json.loads(schema.text(name))):
        assert part["required"] == list(part["properties"])
        assert part["additionalProperties"] is False


@pytest.mark.parametrize(
    ("field", "value"),
    [("seq", 0), ("seq", 1.5), ("event", "exploded"), ("severity", None), ("event_id", "ILOU"), ("time", "2020-03-01"),
     ("score", "high"), ("channels", None), ("dropped", -1), ("extra", 1)],
)  # fmt: skip
def test_a_wrong_message_is_refused_by_the_schema_and_by_the_struct(field: str, value: object) -> None:
    wrong = json.dumps(json.loads(encode(raised())) | {field: value}).encode()
    with pytest.raises(jsonschema.ValidationError):
        check("event", wrong)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(wrong, type=Event)


def test_no_schema_of_an_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"expected one of event, reply, state, status, received '\.\./event'"):
        schema.text("../event")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_a_number_that_is_not_finite_becomes_null(number: float) -> None:
    event = raised(
        score=number, channels=(Channel(name="a", share=number, value=number, expected=1.0, quality="good"),)
    )
    assert event.score is None
    assert json.loads(encode(event))["channels"] == [
        {"name": "a", "share": None, "value": None, "expected": 1.0, "quality": "good"}
    ]
    check("event", encode(event))
    assert state(threshold=number).threshold is None


def test_numbers_of_numpy_and_whole_numbers_become_floats() -> None:
    message = json.loads(
        encode(raised(score=np.float32(0.5), threshold=np.float64(2), ratio=3, peak_score=np.int64(4)))
    )
    assert [message[name] for name in ("score", "threshold", "ratio", "peak_score")] == [0.5, 2.0, 3.0, 4.0]


@settings(deadline=None)
@given(st.floats(), st.floats(), st.text(min_size=1).filter(lambda name: name.isprintable()))
def test_any_numbers_and_names_give_a_valid_message(score: float, value: float, name: str) -> None:
    channel = Channel(name=name, share=score, value=value, expected=score, quality="good")
    check("event", encode(raised(score=score, ratio=value, asset=name, channels=(channel,))))


def test_messages_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        raised().seq = 2  # type: ignore[misc]  # the very thing that must fail


def test_marking_as_replayed_changes_nothing_else() -> None:
    before = raised(score=0.1 + 0.2, monotonic_ns=2**62)
    after = msgspec.json.decode(as_replayed(encode(before)), type=Event)
    assert after == msgspec.structs.replace(before, replayed=True)
    assert list(json.loads(as_replayed(encode(before)))) == list(Event.__struct_fields__)


@pytest.mark.parametrize("payload", [b"", b"\x00\x00", b"[1]", b'"\xff"', b'{"other":1}'])
def test_what_is_no_event_is_not_touched(payload: bytes) -> None:
    assert as_replayed(payload) == payload


def test_times_of_a_clock_that_is_set_later_are_corrected_with_the_window_and_nothing_else() -> None:
    before = raised(
        time="1970-01-01T00:01:00.000000Z", time_quality="unsynchronised", monotonic_ns=90_000_000_000,
        window=Window(start="1970-01-01T00:00:50.000000Z", end="1970-01-01T00:01:00.000000Z"),
    )  # fmt: skip
    after = corrected(encode(before), "b", 1_583_020_800.0)
    assert after is not None
    check("event", after)
    assert msgspec.json.decode(after, type=Event) == raised(
        time="2020-03-01T00:01:30.000000Z", time_quality="corrected", monotonic_ns=90_000_000_000,
        window=Window(start="2020-03-01T00:01:20.000000Z", end="2020-03-01T00:01:30.000000Z"),
    )  # fmt: skip
    assert corrected(after, "b", 0.0) is None


@pytest.mark.parametrize(
    "payload",
    [encode(raised()), encode(raised(time_quality="unsynchronised", boot_id="before")), b"", b"{}", b"\xff"],
    ids=["synchronised", "another boot", "empty", "no event", "no text"],
)
def test_times_that_nobody_knows_better_stay(payload: bytes) -> None:
    assert corrected(payload, "b", 1.0) is None


def test_ulid_of_a_known_time_and_known_bytes() -> None:
    # The id that the ULID specification shows, and the time in it as other implementations decode it.
    random = bytes.fromhex("d6764c61efb99302bd5b")
    assert UlidSource(lambda size: random).new(1469922850259) == "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    assert UlidSource(lambda size: b"\xff" * size).new(2**48 - 1) == "7" + "Z" * 25


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**48 - 1), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_text_order_of_ulids_is_time_order(times: list[int], random: Any) -> None:
    source = UlidSource(random.randbytes)
    ids = [source.new(at_ms) for at_ms in sorted(times)]
    assert ids == sorted(set(ids))


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**48 - 1), min_size=1, max_size=20))
def test_ulids_rise_whatever_the_clock_does(times: list[int]) -> None:
    source = UlidSource()
    ids = [source.new(at_ms) for at_ms in times]
    assert ids == sorted(set(ids))


def test_ulids_of_one_millisecond_rise_by_one() -> None:
    random = count(1)
    source = UlidSource(lambda size: next(random).to_bytes(size, "big"))
    assert [source.new(7)[-2:], source.new(7)[-2:], source.new(8)[-2:]] == ["01", "02", "02"]


def test_threads_that_share_a_source_never_get_the_same_ulid() -> None:
    source = UlidSource()
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.extend(source.new(1) for _ in range(500))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 2000


@pytest.mark.parametrize("at_ms", [-1, 2**48])
def test_a_time_outside_48_bits_is_refused(at_ms: int) -> None:
    with pytest.raises(ValueError, match="48 bits"):
        UlidSource().new(at_ms)


def test_stamps_carry_the_clocks_they_were_given() -> None:
    stamper = Stamper(
        "boot", wall=lambda: 1.5, monotonic_ns=lambda: 42, time_quality=lambda: "unsynchronised", random_bytes=bytes
    )
    first, second = stamper(), stamper()
    assert first == Stamp(
        "000000001EW0000000000000000"[1:], "1970-01-01T00:00:01.500000Z", "unsynchronised", "boot", 42
    )
    assert second.event_id > first.event_id


def test_a_clock_before_1970_still_gives_stamps() -> None:
    assert Stamper("boot", wall=lambda: -10.0, time_quality=lambda: "unsynchronised")().time.startswith("1969-12-31")


def test_topics() -> None:
    topics = Topics("edge-vae", "plant 1", "gateway-1")
    assert topics.status == "edge-vae/plant 1/gateway-1/status"
    assert topics.state("pump-3") == "edge-vae/plant 1/gateway-1/pump-3/state"
    assert topics.event("Pumpe-ü") == "edge-vae/plant 1/gateway-1/Pumpe-ü/event"
    assert topics.commands == "edge-vae/plant 1/gateway-1/+/cmd/+"
    assert topics.command("pump-3", "rebaseline") == "edge-vae/plant 1/gateway-1/pump-3/cmd/rebaseline"
    assert topics.reply("pump-3", "rebaseline") == "edge-vae/plant 1/gateway-1/pump-3/cmd/rebaseline/reply"


@pytest.mark.parametrize("asset", ["pump-3", "Pumpe-ü", "cmd"])
def test_command_topic_says_whom_it_is_for(asset: str) -> None:
    topics = Topics("edge-vae", "plant-1", "gateway-1")
    assert topics.commanded(topics.command(asset, "rebaseline")) == (asset, "rebaseline")


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "edge-vae/plant-1/gateway-1/pump-3/event",
        "edge-vae/plant-1/gateway-1/pump-3/cmd",
        "edge-vae/plant-1/gateway-1/pump-3/cmd/",
        "edge-vae/plant-1/gateway-1//cmd/rebaseline",
        "edge-vae/plant-1/gateway-1/a\x01b/cmd/rebaseline",
        "edge-vae/plant-1/gateway-1/$a/cmd/rebaseline",
        "edge-vae/plant-1/gateway-2/pump-3/cmd/rebaseline",
        "edge-vae/plant-1/gateway-1/pump-3/cmd/rebaseline/reply",
    ],
)
def test_topic_that_names_no_command_is_none(topic: str) -> None:
    assert Topics("edge-vae", "plant-1", "gateway-1").commanded(topic) is None


@pytest.mark.parametrize("name", ["", "a/b", "+", "a#", "$SYS", "a\x00", "a\nb", "\ud800", "ü" * 128])
@pytest.mark.parametrize("place", ["base", "site", "node", "asset"])
def test_a_name_that_is_no_level_of_a_topic_is_refused(place: str, name: str) -> None:
    names = {"base": "b", "site": "s", "node": "n", "asset": "a"} | {place: name}
    with pytest.raises(ValueError, match=f"expected {place} of 1 to 255 bytes"):
        Topics(names["base"], names["site"], names["node"]).event(names["asset"])
