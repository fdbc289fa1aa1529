import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest

from broker import DEADLINE_S, Mosquitto, Subscriber, program
from edge_vae.publish import Acknowledged, Connect, LinkEvent, Lost, Opened, Refused, Will
from edge_vae.publish.memory import MemoryBroker
from edge_vae.publish.mqtt import MqttLink, MqttSettings, TlsFiles

TLS = Path(__file__).parent / "tls"
WILL = Will("t/status", b"offline")


class Probe:
    """A link, and everything that it told."""

    def __init__(self, connect: Connect) -> None:
        self._bell = threading.Event()
        self.link: Any = connect(will=WILL, wake=self._bell.set)
        self.events: list[LinkEvent] = []

    def open(self) -> "Probe":
        self.link.open()
        return self

    def until(self, predicate: Callable[[list[LinkEvent]], bool]) -> list[LinkEvent]:
        """Everything told, as soon as the predicate holds for it."""
        deadline_s = time.monotonic() + DEADLINE_S
        while True:
            self._bell.clear()
            self.events += self.link.events()
            if predicate(self.events):
                return self.events
            assert self._bell.wait(deadline_s - time.monotonic()), f"told so far: {self.events}"

    def opened(self) -> "Probe":
        assert isinstance(self.open().until(bool)[0], Opened)
        return self

    def lost(self) -> Lost:
        last = self.until(lambda events: any(isinstance(event, Lost) for event in events))[-1]
        assert isinstance(last, Lost)
        return last

    def answers(self, count: int) -> list[LinkEvent]:
        return self.until(lambda events: len(events) > count)[1:]

    def publish(self, key: int, topic: str, *, payload: bytes = b"x", qos: int = 1, retain: bool = False) -> None:
        self.link.publish(key, topic, payload, qos=qos, retain=retain)


class Rig(Protocol):
    """A broker to run the contract on."""

    connect: Connect

    def received(self, count: int) -> list[tuple[str, bytes]]: ...
    def retained(self, topic: str) -> bytes: ...
    def kill(self) -> None: ...
    def cut(self, link: Any) -> None: ...
    def close(self) -> None: ...


class MemoryRig:
    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.broker.refused_topics.add("forbidden/a")
        self.connect: Connect = self.broker.link

    def received(self, count: int) -> list[tuple[str, bytes]]:
        assert self.broker.wait_for(lambda: len(self.broker.received) >= count, DEADLINE_S)
        return [(message.topic, message.payload) for message in self.broker.received]

    def retained(self, topic: str) -> bytes:
        return self.broker.retained[topic]

    def kill(self) -> None:
        self.broker.stop()

    def cut(self, link: Any) -> None:
        self.broker.cut()

    def close(self) -> None:
        pass


class MqttRig:
    def __init__(self, folder: Path, protocol: int) -> None:
        acl = folder / "acl"
        acl.write_text("topic readwrite #\ntopic deny forbidden/#\n")
        acl.chmod(0o700)
        self.broker = Mosquitto(folder, extra=f"acl_file {acl}\nmax_inflight_messages 7")
        self.broker.start()
        self.subscriber = Subscriber(self.broker, "#")
        settings = MqttSettings(self.broker.host, self.broker.port, "test", protocol=protocol)  # type: ignore[arg-type]  # 5 or 311
        self.connect: Connect = partial(MqttLink, settings)

    def received(self, count: int) -> list[tuple[str, bytes]]:
        return [(message.topic, message.payload) for message in self.subscriber.wait_for_count(count)]

    def retained(self, topic: str) -> bytes:
        with Subscriber(self.broker, topic) as later:
            (message,) = later.wait_for_count(1)
            assert message.retained
            return message.payload

    def kill(self) -> None:
        self.broker.kill()

    def cut(self, link: Any) -> None:
        link._client.socket().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.subscriber.close()
        self.broker.kill()


@pytest.fixture(
    params=["memory", pytest.param(5, marks=pytest.mark.broker), pytest.param(311, marks=pytest.mark.broker)]
)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    made: Rig = MemoryRig() if request.param == "memory" else MqttRig(tmp_path, request.param)
    yield made
    made.close()


# The contract, for every link.


def test_messages_arrive_in_order_and_each_is_acknowledged_by_its_key(rig: Rig) -> None:
    probe = Probe(rig.connect).opened()
    for key in range(1, 301):
        probe.publish(key, "t/a", payload=str(key).encode())
    assert probe.answers(300) == [Acknowledged(key) for key in range(1, 301)]
    assert rig.received(300) == [("t/a", str(key).encode()) for key in range(1, 301)]
    probe.link.close()


def test_a_message_without_subscribers_is_acknowledged(rig: Rig) -> None:
    probe = Probe(rig.connect).opened()
    probe.publish(-1, "t/nobody/listens", payload=b"")
    assert probe.answers(1) == [Acknowledged(-1)]
    probe.link.close()


def test_a_message_of_qos_0_arrives_and_is_never_acknowledged(rig: Rig) -> None:
    probe = Probe(rig.connect).opened()
    probe.publish(1, "t/a", qos=0)
    probe.publish(2, "t/b", qos=1)
    assert probe.answers(1) == [Acknowledged(2)]
    assert rig.received(2) == [("t/a", b"x"), ("t/b", b"x")]
    probe.link.close()


def test_a_retained_message_is_kept_by_the_broker(rig: Rig) -> None:
    probe = Probe(rig.connect).opened()
    probe.publish(1, "t/a", payload=b"old", retain=True)
    probe.publish(2, "t/a", payload=b"new", retain=True)
    probe.answers(2)
    assert rig.retained("t/a") == b"new"
    probe.link.close()


def test_closing_ends_with_lost_and_publishes_no_will(rig: Rig) -> None:
    probe = Probe(rig.connect).opened()
    probe.link.close()
    assert probe.lost() == Lost("closed")
    other = Probe(rig.connect).opened()
    other.publish(1, "t/last")
    assert rig.received(1) == [("t/last", b"x")]
    other.link.close()


def test_a_connection_that_is_cut_tells_lost_and_the_broker_publishes_the_will(rig: Rig) -> None:
    probe = Probe(rig.connect).opened()
    rig.cut(probe.link)
    assert probe.lost().reason
    assert rig.received(1) == [("t/status", b"offline")]
    assert rig.retained("t/status") == b"offline"


def test_a_killed_broker_gives_one_lost_and_then_silence(rig: Rig) -> None:
    probe = Probe(rig.connect).opened()
    rig.kill()
    probe.lost()
    probe.publish(1, "t/a")
    probe.link.close()
    # The next life shows that nothing is left over from this one.
    after = Probe(rig.connect)
    after.open().lost()
    assert sum(isinstance(event, Lost) for event in probe.events + probe.link.events()) == 1
    assert not any(isinstance(event, Acknowledged) for event in probe.events)


def test_without_a_broker_a_link_is_lost_and_never_opened(rig: Rig) -> None:
    rig.kill()
    probe = Probe(rig.connect).open()
    assert probe.lost().reason
    assert probe.events == [probe.lost()]


def test_a_refused_message_is_told_with_the_reason(rig: Rig, request: pytest.FixtureRequest) -> None:
    probe = Probe(rig.connect).opened()
    probe.publish(1, "forbidden/a")
    # MQTT 3.1.1 has no word for a refusal: the broker acknowledges and throws the message away.
    refusal = Acknowledged(1) if request.node.callspec.params["rig"] == 311 else Refused(1, "Not authorized")
    assert probe.answers(1)[0] == refusal
    probe.link.close()
    after = Probe(rig.connect).opened()
    after.publish(1, "t/last")
    after.answers(1)
    received = rig.received(2 if ("t/status", b"offline") in rig.received(1) else 1)
    assert ("t/last", b"x") in received
    assert "forbidden/a" not in dict(received)
    after.link.close()


# What only MQTT has.


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path, extra="max_inflight_messages 7") as broker:
        yield broker


def link_to(broker: Mosquitto, **changes: Any) -> Connect:
    return partial(MqttLink, MqttSettings(broker.host, broker.port, "test", **changes))


@pytest.mark.broker
def test_the_brokers_limit_on_unacknowledged_messages_is_told(broker: Mosquitto) -> None:
    assert Probe(link_to(broker)).open().until(bool) == [Opened(receive_maximum=7)]
    assert Probe(link_to(broker, protocol=311)).open().until(bool) == [Opened(receive_maximum=65535)]


@pytest.mark.broker
def test_a_topic_that_mqtt_forbids_is_a_refusal_and_not_an_exception(broker: Mosquitto) -> None:
    probe = Probe(link_to(broker)).opened()
    probe.publish(1, "t/#")
    (refusal,) = probe.answers(1)
    assert isinstance(refusal, Refused)
    probe.link.close()


@pytest.mark.broker
def test_a_broker_that_accepts_and_does_not_answer_is_given_up(broker: Mosquitto) -> None:
    broker.freeze()
    probe = Probe(link_to(broker, connect_timeout_s=0.2)).open()
    assert probe.lost() == Lost("no answer from the broker")
    assert probe.events == [probe.lost()]


@pytest.mark.broker
def test_a_broker_that_hangs_is_noticed_by_the_keepalive(broker: Mosquitto) -> None:
    probe = Probe(link_to(broker, keepalive_s=1)).opened()
    broker.freeze()
    probe.publish(1, "t/a")
    assert "Keep alive" in probe.lost().reason
    assert not any(isinstance(event, Acknowledged) for event in probe.events)


@pytest.mark.broker
def test_a_second_agent_with_the_same_client_id_takes_the_connection_over(broker: Mosquitto) -> None:
    first = Probe(link_to(broker)).opened()
    second = Probe(link_to(broker)).opened()
    assert first.lost().reason
    second.link.close()


@pytest.mark.broker
def test_connections_leave_no_file_descriptors_behind(broker: Mosquitto) -> None:
    def once(connect: Connect) -> int:
        probe = Probe(connect).open()
        probe.until(bool)
        probe.link.close()
        probe.lost()
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (Path.iterdir would hold one open itself)

    counts = {once(link_to(broker)) for _ in range(10)}
    broker.kill()
    assert counts | {once(link_to(broker)) for _ in range(10)} == counts
    assert len(counts) == 1


@pytest.mark.broker
@pytest.mark.parametrize("protocol", [5, 311])
def test_user_and_password_open_the_door_and_wrong_ones_are_refused(tmp_path: Path, protocol: int) -> None:
    passwords = tmp_path / "passwords"
    make = [program("mosquitto_passwd", package="mosquitto"), "-c", "-b", str(passwords), "pump", "säcret"]
    subprocess.run(make, check=True, capture_output=True)
    with Mosquitto(tmp_path, extra=f"password_file {passwords}", anonymous=False) as broker:
        right = Probe(link_to(broker, protocol=protocol, username="pump", password="säcret")).opened()
        right.link.close()
        for wrong in ({"username": "pump", "password": "guess"}, {"username": "pump"}, {}):
            refused = Probe(link_to(broker, protocol=protocol, **wrong)).open().lost().reason
            assert refused.startswith("refused: ")
            assert "authorized" in refused


def test_the_password_does_not_show() -> None:
    assert "hidden" not in repr(MqttSettings("h", 1, "c", username="u", password="hidden"))


@pytest.fixture
def tls_broker(tmp_path: Path) -> Iterator[Mosquitto]:
    files = f"cafile {TLS / 'ca.pem'}\ncertfile {TLS / 'server.pem'}\nkeyfile {TLS / 'server.key'}"
    with Mosquitto(tmp_path, extra=f"{files}\nrequire_certificate true") as broker:
        yield broker


CLIENT = {"cert_file": TLS / "client.pem", "key_file": TLS / "client.key"}


@pytest.mark.broker
def test_mutual_tls(tls_broker: Mosquitto) -> None:
    probe = Probe(link_to(tls_broker, tls=TlsFiles(ca_file=TLS / "ca.pem", **CLIENT))).opened()
    for key in range(1, 51):
        probe.publish(key, "t/a", payload=bytes(2000))
    assert probe.answers(50) == [Acknowledged(key) for key in range(1, 51)]
    probe.link.close()
    assert probe.lost() == Lost("closed")


@pytest.mark.broker
@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        (TlsFiles(ca_file=TLS / "stranger.pem", **CLIENT), "CERTIFICATE_VERIFY_FAILED"),
        (TlsFiles(**CLIENT), "CERTIFICATE_VERIFY_FAILED"),
        (TlsFiles(ca_file=TLS / "absent.pem"), "FileNotFoundError"),
        (TlsFiles(ca_file=TLS / "make.sh"), "SSLError"),
    ],
    ids=["signed by another", "not by the system's", "no such file", "no certificate"],
)
def test_a_broker_that_cannot_be_trusted_gets_nothing(tls_broker: Mosquitto, tls: TlsFiles, reason: str) -> None:
    assert reason in Probe(link_to(tls_broker, tls=tls)).open().lost().reason


@pytest.mark.broker
@pytest.mark.parametrize("tls", [TlsFiles(ca_file=TLS / "ca.pem"), None], ids=["no certificate", "no TLS"])
def test_a_client_without_its_certificate_is_not_let_in(tls_broker: Mosquitto, tls: TlsFiles | None) -> None:
    probe = Probe(link_to(tls_broker, tls=tls)).open()
    probe.lost()
    assert not any(isinstance(event, Opened) for event in probe.events)


def test_a_host_name_that_is_none_is_told_as_lost() -> None:
    assert Probe(partial(MqttLink, MqttSettings("a" * 70 + ".invalid", 1883, "c"))).open().lost().reason


@pytest.mark.broker
def test_closing_while_connecting_never_greets_the_broker(broker: Mosquitto) -> None:
    probe = Probe(link_to(broker))
    probe.link.close()
    assert probe.open().lost() == Lost("closed")
    assert "as test" not in broker.log.read_text()
