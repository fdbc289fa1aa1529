import json
import random
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from broker import DEADLINE_S, Mosquitto, Received, Subscriber, free_port, wait_until
from edge_vae.backoff import Backoff
from edge_vae.clock import parse_time
from edge_vae.errors import OutboxError
from edge_vae.event import Event, Status, encode, notice
from edge_vae.outbox import SET_ASIDE_AFTER, Outbox
from edge_vae.publish import Acknowledged, Connect, Link, LinkEvent, Lost, Wake, Will
from edge_vae.publish.delivery import WINDOW, Delivery
from edge_vae.publish.memory import MemoryBroker, Message
from edge_vae.publish.mqtt import MqttLink, MqttSettings
from edge_vae.stamp import Stamp, Stamper
from edge_vae.topics import Topics

TOPICS = Topics("edge-vae", "plant", "gateway")
ASSETS = {asset: TOPICS.event(asset) for asset in ("pump", "fan")}
STATUS = Status(state="online", agent="0.1.0", boot_id="b", pipelines=("pump", "fan"), time=None, counters=None)
SOON = Backoff(random.Random(1), first_s=0.01, cap_s=0.02)
stamper = Stamper("b")


def encode_notice(kind: Any, *, asset: str, seq: int, dropped: int | None, salvaged: int | None) -> bytes:
    return encode(notice(kind, asset=asset, seq=seq, dropped=dropped, salvaged=salvaged, stamp=stamper()))


def raised(asset: str, seq: int, stamp: Stamp) -> bytes:
    return encode(
        Event(
            event_id=stamp.event_id, alarm_id=stamp.event_id, seq=seq, asset=asset, event="raised", severity="warning",
            time=stamp.time, time_quality=stamp.time_quality, boot_id=stamp.boot_id, monotonic_ns=stamp.monotonic_ns,
            score=2.0, peak_score=2.0, threshold=1.0, ratio=2.0, channels=(), window=None, model=None, quality="good",
            replayed=False, dropped=None, cause=None, reason=None, action=None,
            collapsed=None, phase=None,
        )
    )  # fmt: skip


def put(outbox: Outbox, asset: str = "pump", *, count: int = 1) -> None:
    for _ in range(count):
        outbox.put(asset, ASSETS[asset], lambda seq: raised(asset, seq, stamper()))


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = opened(tmp_path / "state")
    yield outbox
    outbox.close()


def opened(folder: Path) -> Outbox:
    return Outbox(folder, assets=ASSETS, notice=encode_notice, max_bytes=1 << 24, on_full="drop_oldest")


def delivery(outbox: Outbox, connect: Connect, backoff: Backoff = SOON, **options: Any) -> Delivery:
    options = {"drain_per_s": 100_000.0} | options
    return Delivery(outbox, connect, topics=TOPICS, status=lambda: STATUS, backoff=backoff, **options)


@contextmanager
def running(outbox: Outbox, connect: Connect, **options: Any) -> Iterator[Delivery]:
    made = delivery(outbox, connect, **options)
    made.start()
    try:
        yield made
    finally:
        made.stop(0)


def events(messages: Iterable[Message | Received]) -> list[dict[str, Any]]:
    return [json.loads(message.payload) for message in messages if message.topic.endswith("/event")]


def wait_events(broker: MemoryBroker, count: int) -> list[dict[str, Any]]:
    assert broker.wait_for(lambda: len(events(broker.received)) >= count, DEADLINE_S), broker.received
    return events(broker.received)


def wait_turn(made: Delivery) -> None:
    """Return when the thread has turned without being woken."""
    before = made.progress_ns
    wait_until(lambda: made.progress_ns > before, "a turn of the delivery thread")


def settle(made: Delivery) -> None:
    """Return when the thread has certainly seen everything that was told before: after two whole turns."""
    for _ in range(2):
        made._bell.set()
        wait_turn(made)


def hush_after_birth(broker: MemoryBroker, made: Delivery) -> None:
    """Let the broker hang once it has taken the connection and the birth."""
    assert broker.wait_for(lambda: TOPICS.status in broker.retained, DEADLINE_S)
    settle(made)
    broker.silent = True


def wait_empty(outbox: Outbox) -> None:
    wait_until(lambda: outbox.count == 0, "an empty outbox")


def check_complete_and_in_order(received: list[dict[str, Any]], expected: dict[str, int]) -> None:
    """Every message arrived; without the repetitions each asset's come in order, and repetitions are equal."""
    first: dict[str, dict[str, Any]] = {}
    for event in received:
        known = first.setdefault(event["event_id"], event)
        assert known | {"replayed": True} == event | {"replayed": True}
    seqs = defaultdict(list)
    for event in first.values():
        seqs[event["asset"]].append(event["seq"])
    assert seqs == {asset: list(range(1, last + 1)) for asset, last in expected.items()}


# Against the broker in memory.


def test_a_message_that_was_put_twice_because_of_a_full_disk_does_not_wait_for_the_next_one(outbox: Outbox) -> None:
    outbox._file.db.execute(f"PRAGMA max_page_count = {outbox._file.db.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(OutboxError, match="full"):
        outbox.put("pump", ASSETS["pump"], lambda seq: raised("pump", seq, stamper()), kept={"alarms": bytes(100_000)})
    outbox._file.db.execute("PRAGMA max_page_count = 100000")
    broker = MemoryBroker()
    with running(outbox, broker.link) as made:
        assert broker.wait_for(lambda: TOPICS.status in broker.retained, DEADLINE_S)
        settle(made)
        put(outbox)
        assert [event["seq"] for event in wait_events(broker, 1)] == [1]


def test_birth_comes_first_then_the_states_then_the_stored_messages(outbox: Outbox) -> None:
    broker = MemoryBroker(up=False)
    put(outbox, "pump")
    put(outbox, "fan")
    with running(outbox, broker.link, wall=lambda: 0.0) as made:
        made.set_state("pump", b"old")
        made.set_state("fan", b"fan")
        made.set_state("pump", b"new")
        broker.start()
        wait_events(broker, 2)
    assert [message.topic.removeprefix("edge-vae/plant/gateway/") for message in broker.received[:5]] == [
        "status", "pump/state", "fan/state", "pump/event", "fan/event",
    ]  # fmt: skip
    birth, *states = broker.received[:3]
    assert json.loads(birth.payload) == {
        "schema": "edge-vae/status/1", "state": "online", "agent": "0.1.0", "boot_id": "b",
        "pipelines": ["pump", "fan"], "time": "1970-01-01T00:00:00.000000Z", "counters": None,
    }  # fmt: skip
    assert [message.payload for message in states] == [b"new", b"fan"]
    assert all(message.retain and message.qos == 1 for message in (birth, *states))
    assert all(not message.retain and message.qos == 1 for message in broker.received[3:5])


def test_stored_messages_are_marked_as_replayed_and_new_ones_are_not(outbox: Outbox) -> None:
    broker = MemoryBroker()
    put(outbox, count=2)
    with running(outbox, broker.link):
        wait_events(broker, 2)
        put(outbox)
        received = wait_events(broker, 3)
        wait_empty(outbox)
    assert [event["replayed"] for event in received] == [True, True, False]
    assert [event["seq"] for event in received] == [1, 2, 3]


def test_a_state_that_changes_while_connected_is_published_at_once(outbox: Outbox) -> None:
    broker = MemoryBroker()
    with running(outbox, broker.link) as made:
        made.set_state("pump", b"1")
        assert broker.wait_for(lambda: broker.retained.get(TOPICS.state("pump")) == b"1", DEADLINE_S)
        made.set_state("pump", b"2")
        assert broker.wait_for(lambda: broker.retained.get(TOPICS.state("pump")) == b"2", DEADLINE_S)


def test_states_are_published_again_on_the_next_connection(outbox: Outbox) -> None:
    broker = MemoryBroker()
    with running(outbox, broker.link) as made:
        made.set_state("pump", b"1")
        assert broker.wait_for(lambda: TOPICS.state("pump") in broker.retained, DEADLINE_S)
        broker.stop()
        broker.retained.clear()
        broker.start()
        assert broker.wait_for(lambda: set(broker.retained) == {TOPICS.status, TOPICS.state("pump")}, DEADLINE_S)


@pytest.mark.parametrize(("receive_maximum", "expected"), [(65535, WINDOW), (3, 3)])
def test_no_more_than_the_window_is_unacknowledged(outbox: Outbox, receive_maximum: int, expected: int) -> None:
    broker = MemoryBroker(receive_maximum=receive_maximum)
    put(outbox, count=2 * WINDOW)
    with running(outbox, broker.link) as made:
        wait_empty(outbox)
        broker.silent = True
        before = len(broker.received)
        put(outbox, count=30)
        assert broker.wait_for(lambda: len(broker.received) >= before + expected, DEADLINE_S)
        put(outbox)
        made.set_state("pump", b"1")
        settle(made)
        assert len(broker.received) == before + expected
        assert outbox.count == 31
        broker.stop()


def test_a_connection_starts_with_one_message_at_a_time(outbox: Outbox) -> None:
    broker = MemoryBroker()
    broker.silent = True
    put(outbox, count=30)
    with running(outbox, broker.link) as made:
        made.set_state("pump", b"1")
        assert broker.wait_for(lambda: len(broker.received) >= 1, DEADLINE_S)
        settle(made)
        assert [message.topic for message in broker.received] == [TOPICS.status]
        broker.stop()


def test_only_an_acknowledged_message_leaves_the_outbox(outbox: Outbox) -> None:
    broker = MemoryBroker()
    with running(outbox, broker.link) as made:
        hush_after_birth(broker, made)
        put(outbox)
        (first,) = wait_events(broker, 1)
        settle(made)
        assert outbox.count == 1
        broker.silent = False
        broker.cut()
        _, second = wait_events(broker, 2)
        wait_empty(outbox)
        assert second == first | {"replayed": True}
        assert made.counters.lost == 1
        assert made.counters.connects == 2


def test_a_broker_that_is_absent_at_the_start_gets_everything_later(outbox: Outbox) -> None:
    broker = MemoryBroker(up=False)
    with running(outbox, broker.link) as made:
        put(outbox, count=20)
        settle(made)
        assert not made.connected
        broker.start()
        received = wait_events(broker, 20)
        wait_empty(outbox)
        assert made.connected
    check_complete_and_in_order(received, {"pump": 20})
    assert all(event["replayed"] for event in received)


def test_a_connection_that_is_cut_again_and_again_loses_nothing(outbox: Outbox) -> None:
    broker = MemoryBroker()
    dice = random.Random(7)

    def produce(asset: str) -> None:
        put(outbox, asset, count=150)

    with running(outbox, broker.link):
        producers = [threading.Thread(target=produce, args=(asset,)) for asset in ASSETS]
        for thread in producers:
            thread.start()
        for count in range(20, 300, 20):
            broker.silent = dice.random() < 0.5
            if not broker.silent:
                wait_events(broker, count)
            broker.cut()
        broker.silent = False
        broker.cut()
        for thread in producers:
            thread.join()
        wait_empty(outbox)
    check_complete_and_in_order(events(broker.received), {"pump": 150, "fan": 150})


def test_a_refused_topic_does_not_hold_up_the_others_and_is_tried_again_in_order(outbox: Outbox) -> None:
    broker = MemoryBroker()
    broker.refused_topics |= {ASSETS["pump"], TOPICS.state("pump")}
    put(outbox, "pump", count=2 * WINDOW)
    put(outbox, "fan", count=2 * WINDOW)
    with running(outbox, broker.link) as made:
        made.set_state("pump", b"1")
        wait_events(broker, 2 * WINDOW)
        wait_until(lambda: outbox.count == 2 * WINDOW, "only refused messages left")
        wait_until(lambda: made.counters.refused > 3 * WINDOW, "repeated attempts")
        broker.refused_topics.clear()
        received = wait_events(broker, 4 * WINDOW)
        wait_empty(outbox)
        assert broker.wait_for(lambda: broker.retained.get(TOPICS.state("pump")) == b"1", DEADLINE_S)
    check_complete_and_in_order(received, {"pump": 2 * WINDOW, "fan": 2 * WINDOW})


def test_stop_drains_says_offline_and_parts_without_a_will(outbox: Outbox) -> None:
    broker = MemoryBroker()
    made = delivery(outbox, broker.link, wall=lambda: 0.0)
    made.start()
    put(outbox, count=50)
    made.set_state("pump", b"last")
    assert made.stop(DEADLINE_S)
    check_complete_and_in_order(events(broker.received), {"pump": 50})
    assert broker.retained[TOPICS.state("pump")] == b"last"
    farewell = json.loads(broker.received[-1].payload)
    assert (farewell["state"], farewell["time"]) == ("offline", "1970-01-01T00:00:00.000000Z")
    assert [message.topic for message in broker.received].count(TOPICS.status) == 2
    assert not made.connected


def test_stop_gives_up_when_its_time_is_over(outbox: Outbox) -> None:
    broker = MemoryBroker(up=False)
    made = delivery(outbox, broker.link)
    made.start()
    put(outbox)
    assert not made.stop(0.05)
    assert outbox.count == 1
    broker.start()
    assert broker.received == []


def test_stop_with_nothing_to_deliver_does_not_wait_for_a_broker(outbox: Outbox) -> None:
    made = delivery(outbox, MemoryBroker(up=False).link)
    made.start()
    assert made.stop(10 * DEADLINE_S)


def test_stop_before_start_tells_whether_the_outbox_is_empty(outbox: Outbox) -> None:
    assert delivery(outbox, MemoryBroker().link).stop(0)
    put(outbox)
    assert not delivery(outbox, MemoryBroker().link).stop(0)


def test_stop_says_offline_though_messages_are_left(outbox: Outbox) -> None:
    broker = MemoryBroker()
    broker.refused_topics.add(ASSETS["pump"])
    put(outbox)
    made = delivery(outbox, broker.link)
    made.start()
    wait_until(lambda: made.counters.refused > 0, "a refusal")
    assert not made.stop(0.05)
    assert json.loads(broker.retained[TOPICS.status])["state"] == "offline"


class DeafLink:
    """A link that never gets an answer: a name server that hangs, a network that swallows packets."""

    def __init__(self, *, will: Will, wake: Wake) -> None:
        self._events: list[LinkEvent] = []

    def open(self) -> None:
        pass

    def publish(self, key: int, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        raise AssertionError

    def events(self) -> list[LinkEvent]:
        return self._events

    def close(self) -> None:
        self._events = [Lost("closed")]


@pytest.mark.parametrize("connect", [MemoryBroker(up=False).link, DeafLink], ids=["down", "deaf"])
def test_the_thread_shows_progress_without_a_broker(outbox: Outbox, connect: Callable[..., Link]) -> None:
    made = Delivery(
        outbox, connect, topics=TOPICS, status=lambda: STATUS, backoff=Backoff(random.Random(1), first_s=60.0)
    )
    made.start()
    put(outbox)
    settle(made)
    wait_turn(made)
    made.stop(0)


# The pace of a backlog.


def test_a_backlog_leaves_at_its_pace_and_a_new_message_of_another_asset_is_not_held_up(outbox: Outbox) -> None:
    broker = MemoryBroker()
    put(outbox, "pump", count=100)
    with running(outbox, broker.link, drain_per_s=0.001) as made:
        wait_events(broker, 1)
        put(outbox, "fan", count=40)
        broker.wait_for(lambda: sum(e["asset"] == "fan" for e in events(broker.received)) == 40, DEADLINE_S)
        put(outbox, "pump")
        settle(made)
        received = events(broker.received)
    assert [event["seq"] for event in received if event["asset"] == "pump"] == [1]
    assert [event["seq"] for event in received if event["asset"] == "fan"] == list(range(1, 41))
    assert [event["replayed"] for event in received] == [True] + [False] * 40


def test_a_new_message_comes_behind_the_backlog_of_its_own_asset(outbox: Outbox) -> None:
    broker = MemoryBroker(up=False)
    put(outbox, "pump", count=30)
    with running(outbox, broker.link, drain_per_s=200.0):
        broker.start()
        wait_events(broker, 1)
        put(outbox, "pump")
        received = wait_events(broker, 31)
    assert [event["seq"] for event in received] == list(range(1, 32))
    assert [event["replayed"] for event in received] == [True] * 30 + [False]


def test_assets_with_a_backlog_take_turns(outbox: Outbox) -> None:
    broker = MemoryBroker(up=False)
    put(outbox, "pump", count=400)
    put(outbox, "fan", count=5)
    with running(outbox, broker.link):
        broker.start()
        wait_events(broker, 100)
        wait_empty(outbox)
    assert [event["seq"] for event in events(broker.received)[:60] if event["asset"] == "fan"] == [1, 2, 3, 4, 5]


# Messages over which a broker parts from us.


def is_poison(message: Message) -> bool:
    return message.topic == ASSETS["pump"] and json.loads(message.payload)["seq"] == 4


def test_a_message_that_ends_every_connection_is_set_aside_and_the_others_go_on(outbox: Outbox) -> None:
    broker = MemoryBroker()
    broker.fatal = is_poison
    put(outbox, "pump", count=30)
    put(outbox, "fan", count=30)
    with running(outbox, broker.link) as made:
        wait_empty(outbox)
        assert made.counters.lost == SET_ASIDE_AFTER
    received = events(broker.received)
    assert [event["seq"] for event in received if event["asset"] == "pump"] == [seq for seq in range(1, 32) if seq != 4]
    check_complete_and_in_order([event for event in received if event["asset"] == "fan"], {"fan": 30})
    told = [(event["asset"], event["seq"], event["dropped"]) for event in received if event["event"] == "set_aside"]
    assert told == [("pump", 31, 1)]
    kept = outbox._file.db.execute("SELECT asset, seq, reason FROM set_aside").fetchall()
    assert kept == [("pump", 4, "Packet too large")]


def test_what_a_message_did_is_known_after_a_restart(tmp_path: Path) -> None:
    broker = MemoryBroker()
    broker.fatal = is_poison
    connections = 0
    for _ in range(SET_ASIDE_AFTER):
        outbox = opened(tmp_path / "state")
        if not outbox.last_key:
            put(outbox, "pump", count=6)
        with running(outbox, broker.link, backoff=Backoff(random.Random(1), first_s=600.0, cap_s=600.0)) as made:
            wait_until(lambda made=made: made.counters.lost == 1, "the end of the connection")
        connections += made.counters.connects
        outbox.close()
    outbox = opened(tmp_path / "state")
    assert [stored.seq for stored in outbox.pending(0, 10)] == [5, 6, 7]
    assert connections == SET_ASIDE_AFTER
    outbox.close()


def test_nothing_is_blamed_for_a_broker_that_goes_down_or_a_cable_that_is_pulled(outbox: Outbox) -> None:
    broker = MemoryBroker()
    with running(outbox, broker.link) as made:
        hush_after_birth(broker, made)
        put(outbox)
        for lost in range(1, SET_ASIDE_AFTER + 3):
            wait_until(lambda: made.connected, "a connection")
            broker.silent = True
            settle(made)
            broker.cut()
            wait_until(lambda lost=lost: made.counters.lost == lost, "the loss")
        assert [stored.parted for stored in outbox.pending(0, 10)] == [0]
        broker.stop()


# Times of a clock that is set late, or jumps.


def test_a_clock_that_jumps_hours_both_ways_changes_no_order_and_loses_nothing(outbox: Outbox) -> None:
    chance = random.Random(5)
    jumping = Stamper("b", wall=lambda: 1_583_020_800.0 + chance.uniform(-1e5, 1e5))
    broker = MemoryBroker()
    with running(outbox, broker.link, wall=lambda: chance.uniform(0, 2e9)):
        for _ in range(100):
            outbox.put("pump", ASSETS["pump"], lambda seq: raised("pump", seq, jumping()))
        wait_empty(outbox)
    received = events(broker.received)
    check_complete_and_in_order(received, {"pump": 100})
    ids = [event["event_id"] for event in received]
    assert ids == sorted(set(ids))


def test_waiting_messages_get_their_times_when_the_clock_is_set(outbox: Outbox) -> None:
    early = Stamper("b", wall=lambda: 60.0, time_quality=lambda: "unsynchronised")
    other_boot = Stamper("before", wall=lambda: 60.0, time_quality=lambda: "unsynchronised")
    quality = ["unsynchronised"]
    now_s = 1_583_020_800.0
    for made_by, own_clock in ((early, True), (other_boot, True), (early, False)):
        outbox.put("pump", ASSETS["pump"], lambda seq, by=made_by: raised("pump", seq, by()), own_clock=own_clock)
    before = outbox.size_bytes
    broker = MemoryBroker(up=False)
    with running(outbox, broker.link, wall=lambda: now_s, time_quality=lambda: quality[0]) as made:
        settle(made)
        assert outbox.size_bytes == before
        quality[0] = "synchronised"
        wait_until(lambda: outbox.size_bytes < before, "the correction")
        broker.start()
        first, *others = wait_events(broker, 3)
        wait_empty(outbox)
    assert first["time_quality"] == "corrected"
    assert 0 <= now_s - parse_time(first["time"]) < DEADLINE_S
    assert [event["time_quality"] for event in others] == ["unsynchronised"] * 2
    assert {event["time"] for event in others} == {"1970-01-01T00:01:00.000000Z"}


def test_a_failing_disk_delays_the_deletion_and_repeats_nothing(outbox: Outbox) -> None:
    broker = MemoryBroker()
    with running(outbox, broker.link) as made:
        hush_after_birth(broker, made)
        put(outbox)
        wait_events(broker, 1)
        outbox._file.db.execute("PRAGMA query_only = ON")  # SQLite's own way to refuse every write
        broker.silent = False
        (link,) = broker._links
        link._tell(Acknowledged(outbox.last_key))
        settle(made)
        assert outbox.count == 1
        outbox._file.db.execute("PRAGMA query_only = OFF")
        put(outbox)
        wait_empty(outbox)
        broker.stop()
    assert [event["seq"] for event in events(broker.received)] == [1, 2]


def test_waits_grow_up_to_the_cap_and_never_all_at_once() -> None:
    backoff = Backoff(random.Random(3), first_s=1.0, cap_s=60.0)
    for attempt, bound in [(0, 1.0), (3, 8.0), (6, 60.0), (1000, 60.0)]:
        delays = [backoff.delay_s(attempt) for _ in range(500)]
        assert 0.0 <= min(delays) < bound / 10
        assert bound * 0.9 < max(delays) <= bound


# Against a real mosquitto.


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as broker:
        yield broker


def link_to(broker: Mosquitto, **changes: Any) -> Connect:
    return partial(MqttLink, MqttSettings(broker.host, broker.port, "gateway", **changes))


class Gate:
    """The way to a broker, which a test can close: then the broker's port is one that nobody listens on."""

    def __init__(self, broker: Mosquitto) -> None:
        self._through = link_to(broker)
        self._nowhere = partial(MqttLink, MqttSettings(broker.host, free_port(), "gateway"))
        self.is_open = True

    def __call__(self, *, will: Will, wake: Wake) -> Link:
        return (self._through if self.is_open else self._nowhere)(will=will, wake=wake)


@pytest.mark.broker
@pytest.mark.parametrize("protocol", [5, 311])
def test_a_plain_subscriber_sees_the_whole_life_of_an_agent(outbox: Outbox, broker: Mosquitto, protocol: int) -> None:
    put(outbox)
    with Subscriber(broker, "#") as subscriber:
        made = delivery(outbox, link_to(broker, protocol=protocol))
        made.start()
        made.set_state("pump", b"{}")
        subscriber.wait_for(lambda messages: len(events(messages)) == 1, "the stored message")
        put(outbox)
        subscriber.wait_for(lambda messages: len(events(messages)) == 2, "the new message")
        assert made.stop(DEADLINE_S)
        subscriber.wait_for(lambda messages: b"offline" in messages[-1].payload, "the farewell")
    topics = [message.topic.rpartition("/")[2] for message in subscriber.messages]
    assert topics.count("status") == 2
    assert topics[0] == topics[-1] == "status"
    assert sorted(topics[1:-1]) == ["event", "event", "state"]
    with Subscriber(broker, "#") as later:
        kept = later.wait_for_count(2)
    assert {message.topic for message in kept} == {TOPICS.status, TOPICS.state("pump")}
    assert all(message.retained for message in kept)


@pytest.mark.broker
def test_a_broker_killed_in_the_middle_of_a_drain_costs_no_message(outbox: Outbox, broker: Mosquitto) -> None:
    put(outbox, "pump", count=200)
    put(outbox, "fan", count=200)
    gate = Gate(broker)
    with Subscriber(broker, "#") as before, running(outbox, gate) as made:
        before.wait_for(lambda messages: len(messages) > 50, "the beginning of the drain")
        gate.is_open = False
        broker.kill()
        put(outbox, "pump", count=50)
        put(outbox, "fan", count=50)
        wait_until(lambda: made.counters.lost == 1, "the loss to be noticed")
        broker.start()
        with Subscriber(broker, "#") as after:
            gate.is_open = True
            wait_empty(outbox)
            received = events(before.drain())
            at_the_kill = len(received)
            received += events(after.drain())
    check_complete_and_in_order(received, {"pump": 250, "fan": 250})
    assert 0 < at_the_kill < 400
    assert all(event["replayed"] for event in received)


AGENT = """
import random, sys, threading
from functools import partial
from pathlib import Path
sys.path += sys.argv[3:]
import test_delivery as test
from edge_vae.publish.mqtt import MqttLink, MqttSettings

outbox = test.opened(Path(sys.argv[1]))
test.put(outbox, count=300)
test.delivery(outbox, partial(MqttLink, MqttSettings("127.0.0.1", int(sys.argv[2]), "gateway"))).start()
threading.Event().wait()
"""


@pytest.mark.broker
def test_an_agent_killed_in_the_middle_of_a_drain_goes_on_where_it_was(tmp_path: Path, broker: Mosquitto) -> None:
    here = Path(__file__).parent
    command = [sys.executable, "-c", AGENT, str(tmp_path / "state"), str(broker.port), str(here), str(here.parent)]
    with Subscriber(broker, "#") as subscriber:
        with subprocess.Popen(command) as agent:
            try:
                subscriber.wait_for(lambda messages: len(messages) > 50, "the beginning of the drain")
            finally:
                agent.kill()
        messages = subscriber.wait_for(lambda messages: b"offline" in messages[-1].payload, "the last will")
        assert json.loads(messages[-1].payload)["time"] is None
        outbox = opened(tmp_path / "state")
        put(outbox, count=10)
        made = delivery(outbox, link_to(broker))
        made.start()
        assert made.stop(DEADLINE_S)
        outbox.close()
        received = events(subscriber.drain())
    check_complete_and_in_order(received, {"pump": 310})


@pytest.mark.broker
def test_an_asset_that_the_broker_forbids_does_not_stop_the_others(tmp_path: Path, outbox: Outbox) -> None:
    acl = tmp_path / "acl"
    acl.write_text(f"topic readwrite #\ntopic deny {ASSETS['pump']}\n")
    acl.chmod(0o700)
    put(outbox, "pump", count=2 * WINDOW)
    put(outbox, "fan", count=2 * WINDOW)
    slow = Backoff(random.Random(1), first_s=0.1, cap_s=0.2)
    with (
        Mosquitto(tmp_path, extra=f"acl_file {acl}") as broker,
        Subscriber(broker, "#") as subscriber,
        running(outbox, link_to(broker), backoff=slow),
    ):
        subscriber.wait_for(
            lambda messages: len({e["event_id"] for e in events(messages)}) == 2 * WINDOW, "the fan's events"
        )
        wait_until(lambda: outbox.count == 2 * WINDOW, "only the pump's events left")
    check_complete_and_in_order(events(subscriber.messages), {"fan": 2 * WINDOW})


def fat(seq: int) -> bytes:
    """An event of more than 4 KiB."""
    message = json.loads(raised("pump", seq, stamper()))
    return json.dumps(message | {"model": {"name": "x" * 4096, "version": 1, "sha256": "0" * 64}}).encode()


@pytest.mark.broker
@pytest.mark.parametrize(
    ("protocol", "extra", "reason"),
    [(5, "max_packet_size 2000", "Packet too large"), (311, "max_packet_size 2000", "connection lost"),
     (5, "message_size_limit 2000", "Protocol error")],
)  # fmt: skip
def test_a_message_that_a_real_broker_never_takes_is_set_aside_and_told(
    tmp_path: Path, outbox: Outbox, protocol: int, extra: str, reason: str
) -> None:
    put(outbox, "pump", count=3)
    outbox.put("pump", ASSETS["pump"], fat)
    put(outbox, "pump", count=30)
    put(outbox, "fan", count=30)
    with (
        Mosquitto(tmp_path, extra=extra) as broker,
        Subscriber(broker, "#") as subscriber,
        running(outbox, link_to(broker, protocol=protocol)) as made,
    ):
        wait_empty(outbox)
        assert made.counters.connects <= SET_ASIDE_AFTER + 1
        received = events(subscriber.drain())
    seqs = list(dict.fromkeys(event["seq"] for event in received if event["asset"] == "pump"))
    assert seqs == [1, 2, 3, *range(5, 36)]
    assert {e["event"] for e in received if e["seq"] == 35} == {"set_aside"}
    check_complete_and_in_order([event for event in received if event["asset"] == "fan"], {"fan": 30})
    assert outbox._file.db.execute("SELECT seq, reason FROM set_aside").fetchall() == [(4, reason)]
