"""What is special about OPC UA, at a real server in a thread of its own."""

from __future__ import annotations

import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from agent_process import pipeline, write_config
from broker import ADDRESS, DEADLINE_S, Mosquitto, wait_until
from edge_vae import online
from edge_vae.broker_config import MqttConfig
from edge_vae.config import read_config
from edge_vae.errors import ConfigError, MissingExtraError, SourceError
from edge_vae.opcua_config import OpcUaConfig, OpcUaNode, OpcUaSecurity
from edge_vae.sample import Block
from edge_vae.sources import fed, opcua, opcua_subscription, open_source
from edge_vae.sources.fed import FedSource
from opcua_server import NAMESPACE, PASSWORD, USER, Network, OpcUaServer, make_certificate
from plain_bundle import write_plain_bundle

RATE_HZ = 20.0
UNKNOWN_NAMESPACE = (
    f"a namespace that this server has (http://opcfoundation.org/UA/, urn:freeopcua:python:server, {NAMESPACE}), "
    f"received nsu=urn:edge-vae:rig. Did you mean nsu={NAMESPACE}?"
)
READ = pytest.mark.parametrize("read", ["poll", "subscribe"])


@pytest.fixture(scope="module")
def server() -> Iterator[OpcUaServer]:
    with OpcUaServer() as started:
        yield started


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    key = make_certificate(folder, "client", uri="urn:gateway-1:edge-vae")
    make_certificate(folder, "server", uri="urn:freeopcua:python:server")
    make_certificate(folder, "other", uri="urn:other", key=key)
    make_certificate(folder, "nameless", key=key)
    (folder / "locked").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))
    )
    shutil.copy(Path(__file__).parent / "tls" / "client.key", folder / "elliptic")
    (folder / "right").write_text(f"{PASSWORD}\n")
    (folder / "wrong").write_text("guess\n")
    return folder


@pytest.fixture(scope="module")
def guarded(files: Path) -> Iterator[OpcUaServer]:
    with OpcUaServer(certificate=(files / "server.pem", files / "server.key.pem"), anonymous=False) as started:
        yield started


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fed, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(fed, "LAST_RETRY_S", 0.1)
    monkeypatch.setattr(opcua_subscription, "LEAST_PUBLISHING_MS", 50.0)


@pytest.fixture
def opened() -> Iterator[Callable[..., FedSource]]:
    """Opens sources of some nodes of the pump, and closes them in the end."""
    sources: list[FedSource] = []

    def open_(url: str, *names: str, rate_hz: float = RATE_HZ, **settings: Any) -> FedSource:
        source = made(url, *names, rate_hz=rate_hz, **settings)
        sources.append(source)
        source.open(names)
        return source

    yield open_
    for source in sources:
        source.close()


def made(url: str, *names: str, rate_hz: float = RATE_HZ, **settings: Any) -> FedSource:
    config = OpcUaConfig(
        url=url, nodes=tuple(OpcUaNode(channel=name, node=node_of(name)) for name in names), **settings
    )
    source = open_source(config, mqtt=MqttConfig(), rate_hz=rate_hz)
    assert isinstance(source, FedSource)
    return source


def node_of(name: str) -> str:
    """The node of the pump with this name; a whole node id is one."""
    return name if "=" in name else f"ns=2;s=Pump.{name}"


def rows_until(source: FedSource, done: Callable[[np.ndarray], bool]) -> list[Block]:
    """All blocks up to the first row (channels,) that the caller waits for."""
    blocks: list[Block] = []

    def came() -> bool:
        blocks.extend(source.read(0.1))
        return any(done(row) for block in blocks[-1:] for row in block.values)

    wait_until(came, "the row comes")
    return blocks


def last(blocks: Sequence[Block]) -> list[float]:
    values: list[float] = blocks[-1].values[-1].tolist()
    return values


def failure_of(source: FedSource) -> str:
    wait_until(lambda: bool(source.failure), "the source says why it is not connected")
    return source.failure


@READ
def test_readings_come_in_the_order_asked_for_with_even_times_of_now(
    server: OpcUaServer, opened: Callable[..., FedSource], read: str
) -> None:
    began_s = time.time()
    source = opened(server.url, "Running", "Pressure", "Speed", "Current", read=read)
    blocks = rows_until(source, lambda _: source.samples >= 8)

    np.testing.assert_array_equal(np.concatenate([block.values for block in blocks])[:8], [[1, 0.5, 1480, 1.25]] * 8)
    times = np.concatenate([block.times for block in blocks])
    assert began_s - 1 < times[0] < times[-1] < time.time() + 1
    assert np.median(np.diff(times)) == pytest.approx(1 / RATE_HZ, rel=0.2)
    assert (np.diff(times) > 0).all()


@READ
def test_a_bad_reading_is_missing_and_an_uncertain_one_is_kept_and_counted(
    server: OpcUaServer, opened: Callable[..., FedSource], read: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.write("Pressure", 0.5)
    source = opened(server.url, "Pressure", "Speed", read=read)
    rows_until(source, lambda row: row[0] == 0.5)
    server.write("Pressure", None, status=ua.StatusCodes.BadSensorFailure)
    assert last(rows_until(source, lambda row: bool(np.isnan(row[0]))))[1] == 1480
    server.write("Pressure", 0.75, status=ua.StatusCodes.UncertainLastUsableValue)
    doubted = rows_until(source, lambda row: row[0] == 0.75)[-1]
    server.write("Pressure", 0.5)
    good = rows_until(source, lambda row: row[0] == 0.5)[-1]

    assert doubted.uncertain is not None
    np.testing.assert_array_equal(doubted.uncertain, [[row[0] == 0.75, False] for row in doubted.values])
    assert good.uncertain is None or not good.uncertain[-1].any()
    assert source._device.uncertain > 0
    assert source.malformed == 0
    told = [record.getMessage() for record in caplog.records if "is not good" in record.getMessage()]
    assert told == [
        f"reading is not good channel=Pressure node=ns=2;s=Pump.Pressure received={status}"
        for status in ("BadSensorFailure", "UncertainLastUsableValue")
    ]


def test_a_value_that_becomes_a_text_is_missing_and_malformed(
    server: OpcUaServer, opened: Callable[..., FedSource]
) -> None:
    source = opened(server.url, "Level")
    rows_until(source, lambda row: row[0] == 3)
    server.serve("Level", ua.DataValue("empty"))
    rows_until(source, lambda row: bool(np.isnan(row[0])))
    server.serve("Level", ua.DataValue(3.0))

    rows_until(source, lambda row: row[0] == 3)
    assert source.malformed > 0


def test_polls_that_a_slow_server_has_no_time_for_are_left_out_counted_and_told_once(
    server: OpcUaServer,
    opened: Callable[..., FedSource],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(server, "on_read", lambda _: time.sleep(0.03))
    source = opened(server.url, "Speed", rate_hz=100.0)
    blocks = rows_until(source, lambda _: source.samples >= 12)

    times = np.concatenate([block.times for block in blocks])
    assert source.dropped >= 11
    assert np.diff(times).min() > 0.02
    assert caplog.text.count("polls take longer than the rate allows") == 1


@pytest.mark.parametrize(
    ("node", "problem"),
    [
        ("ns=2;s=Pump.Presure", "a node of this server, received BadNodeIdUnknown. Did you mean ns=2;s=Pump.Pressure?"),
        ("ns=2;i=77", "a node of this server, received BadNodeIdUnknown"),
        ("ns=9;s=Pump.Pressure", "a node of this server, received BadNodeIdUnknown"),
        ("ns=2;s=Pump", "a variable, received BadAttributeIdInvalid"),
        ("ns=2;s=Pump.Name", "a number, received String"),
        ("ns=2;s=Pump.Spectrum", "a number, received an array of Double"),
        ("ns=2;s=Pump.Secret", "leave to read it, received BadUserAccessDenied"),
        ("nsu=urn:edge-vae:rig;s=Pump.Pressure", UNKNOWN_NAMESPACE),
    ],
)
def test_a_node_that_cannot_be_read_is_named_with_its_channel(
    server: OpcUaServer, opened: Callable[..., FedSource], node: str, problem: str
) -> None:
    source = opened(server.url, node)

    assert failure_of(source) == f"{server.url}: channel {node}, node {node}: expected {problem}"


def test_a_namespace_is_found_by_its_name(server: OpcUaServer, opened: Callable[..., FedSource]) -> None:
    name = f"nsu={NAMESPACE};s=Pump.Speed"

    assert last(rows_until(opened(server.url, name), lambda _: True)) == [1480]


def test_channels_without_a_node_are_refused(server: OpcUaServer) -> None:
    with pytest.raises(
        SourceError, match=r"expected a node for each channel of the bundle \(Speed, Flow\), received none"
    ):
        made(server.url, "Speed").open(["Speed", "Flow"])


def test_the_last_value_before_each_tick_counts_by_the_time_of_its_source(
    server: OpcUaServer, opened: Callable[..., FedSource]
) -> None:
    source = opened(server.url, "Pressure", rate_hz=10.0, read="subscribe", publishing_interval_ms=1000)
    rows_until(source, lambda row: row[0] == 0.5)
    tick_s = np.floor(time.time() * 10) / 10 - 0.1  # the server samples as often as it publishes: not due for a second
    for at_s, value in ((-0.02, 1.0), (0.0, 2.0), (0.02, 3.0)):
        server.write("Pressure", value, source=tick_s + at_s)
    blocks = rows_until(source, lambda row: row[0] == 3.0)
    server.write("Pressure", 0.5)

    told = {round(at, 3): row[0] for block in blocks for at, row in zip(block.times, block.values, strict=True)}
    assert [told[round(tick_s + after_s, 3)] for after_s in (-0.1, 0.0, 0.1)] == [0.5, 2.0, 3.0]


def test_the_extra_that_it_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "edge_vae.sources.opcua")
    monkeypatch.setitem(sys.modules, "asyncua", None)

    with pytest.raises(MissingExtraError, match=r"'asyncua', received none installed\. .*edge-vae\[opcua\]"):
        made("opc.tcp://192.0.2.7", "Speed")


@READ
def test_a_server_that_was_away_is_connected_again_and_no_session_starts(
    server: OpcUaServer, opened: Callable[..., FedSource], read: str
) -> None:
    source = opened(server.url, "Speed", read=read)
    first, *_ = rows_until(source, lambda _: True)
    server.stop()
    failure_of(source)
    wait_until(lambda: not source.wait_connected(0), "the source notices")
    source.read(0)
    server.start()
    assert source.wait_connected(DEADLINE_S)

    assert first.starts_session
    assert not any(block.starts_session for block in rows_until(source, lambda _: True))


@READ
def test_a_network_that_stands_still_is_noticed(
    server: OpcUaServer, opened: Callable[..., FedSource], read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opcua, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(opcua, "LEAVE_S", 0.1)
    with Network(server.port) as network:
        source = opened(f"opc.tcp://{ADDRESS}:{network.port}", "Speed", read=read)
        rows_until(source, lambda _: True)
        network.freeze()
        wait_until(lambda: "no answer in time" in source.failure, "the silence is noticed")
        source.read(0)
        network.thaw()

        assert not any(block.starts_session for block in rows_until(source, lambda _: True))
        source.close()


@pytest.mark.parametrize("connected", [True, False])
def test_closing_waits_for_no_server(
    server: OpcUaServer, opened: Callable[..., FedSource], connected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fed, "STOP_S", 0.2)
    monkeypatch.setattr(opcua, "LEAVE_S", 0.1)
    with Network(server.port) as network:
        url = f"opc.tcp://{ADDRESS}:{network.port}"
        if not connected:
            network.freeze()
        source = opened(url, "Speed")
        if connected:
            rows_until(source, lambda _: True)
            network.freeze()
        monkeypatch.setattr(opcua, "TIMEOUT_S", DEADLINE_S)
        source.close()
        network.thaw()
        wait_until(lambda: not any(thread.name == url for thread in threading.enumerate()), "the thread ends by itself")


def test_a_closed_source_leaves_no_session_behind(server: OpcUaServer, opened: Callable[..., FedSource]) -> None:
    for _ in range(3):
        source = opened(server.url, "Speed")
        assert source.wait_connected(DEADLINE_S)
        source.close()

    wait_until(lambda: server.sessions() == 0, "the server has no client left")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"ACKF" + b"\xff" * 40, b"", bytes(100)])
def test_another_server_than_one_of_opc_ua_is_an_ordinary_failure(
    opened: Callable[..., FedSource], answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server((ADDRESS, 0)) as listener:
        threading.Thread(target=answer_once, args=(listener, answer), daemon=True).start()
        url = f"opc.tcp://{ADDRESS}:{listener.getsockname()[1]}"

        assert failure_of(opened(url, "Speed")) == f"{url}: expected a connection, received connection lost"
    assert "unforeseen" not in caplog.text


def answer_once(listener: socket.socket, answer: bytes) -> None:
    client, _ = listener.accept()
    with client:
        client.recv(4096)
        client.sendall(answer)


def test_the_server_says_what_it_refuses(opened: Callable[..., FedSource]) -> None:
    with socket.create_server((ADDRESS, 0)) as listener:
        refusal = b"ERRF" + (16).to_bytes(4, "little") + ua.StatusCodes.BadTcpServerTooBusy.to_bytes(4, "little")
        threading.Thread(target=answer_once, args=(listener, refusal + b"\xff" * 4), daemon=True).start()

        assert "received BadTcpServerTooBusy (" in failure_of(
            opened(f"opc.tcp://{ADDRESS}:{listener.getsockname()[1]}", "A")
        )


class TestLogin:
    def security(self, files: Path, **settings: Any) -> OpcUaSecurity:
        return OpcUaSecurity(cert_file=files / "client.pem", key_file=files / "client.key.pem", **settings)

    @pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
    @pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"])
    def test_every_policy_secures_the_channel(
        self, guarded: OpcUaServer, files: Path, opened: Callable[..., FedSource], policy: str, mode: str
    ) -> None:
        security = self.security(files, policy=policy, mode=mode, server_cert_file=files / "server.pem")
        login = {"username": USER, "password_file": files / "right", "security": security}

        assert last(rows_until(opened(guarded.url, "Speed", **login), lambda _: True)) == [1480]

    def test_the_servers_certificate_is_asked_for_where_it_is_not_known(
        self, guarded: OpcUaServer, files: Path, opened: Callable[..., FedSource]
    ) -> None:
        login = {"username": USER, "password_file": files / "right", "security": self.security(files)}

        assert opened(guarded.url, "Speed", **login).wait_connected(DEADLINE_S)

    @pytest.mark.parametrize(
        "login", [{}, {"username": USER}, {"username": USER, "password_file": "wrong"}, {"username": "nobody"}]
    )
    def test_who_may_not_log_in_is_told_so(
        self, guarded: OpcUaServer, files: Path, opened: Callable[..., FedSource], login: dict[str, Any]
    ) -> None:
        if "password_file" in login:
            login = login | {"password_file": files / login["password_file"]}

        failure = failure_of(opened(guarded.url, "Speed", **login))
        assert "expected leave to log in, received BadUserAccessDenied" in failure
        assert failure.endswith("Correct username and password_file under [pipeline.source].")

    def test_a_server_with_a_certificate_gets_the_password_encrypted(
        self, guarded: OpcUaServer, files: Path, opened: Callable[..., FedSource], caplog: pytest.LogCaptureFixture
    ) -> None:
        source = opened(guarded.url, "Speed", username=USER, password_file=files / "right")

        assert source.wait_connected(DEADLINE_S)
        assert "unencrypted" not in caplog.text

    def test_a_password_that_had_to_be_sent_as_it_is_is_told(
        self, server: OpcUaServer, files: Path, opened: Callable[..., FedSource], caplog: pytest.LogCaptureFixture
    ) -> None:
        source = opened(server.url, "Speed", username=USER, password_file=files / "right")

        assert source.wait_connected(DEADLINE_S)
        assert f"the password was sent unencrypted, add [pipeline.source.security] source={server.url}" in caplog.text

    def test_a_server_that_does_not_trust_the_gateway_is_told(
        self, guarded: OpcUaServer, files: Path, opened: Callable[..., FedSource], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(guarded, "trusted", False)
        source = opened(guarded.url, "Speed", security=self.security(files, server_cert_file=files / "server.pem"))

        assert "expected a server that trusts cert_file, received BadCertificateUntrusted" in failure_of(source)

    def test_another_server_than_that_of_the_certificate_is_refused(
        self, guarded: OpcUaServer, files: Path, opened: Callable[..., FedSource], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(opcua, "TIMEOUT_S", 0.3)
        source = opened(guarded.url, "Speed", security=self.security(files, server_cert_file=files / "other.pem"))

        assert failure_of(source).endswith("A server may also be silent where server_cert_file is not its certificate.")

    def test_a_server_without_security_is_told(
        self, server: OpcUaServer, files: Path, opened: Callable[..., FedSource]
    ) -> None:
        failure = failure_of(opened(server.url, "Speed", security=self.security(files)))

        assert "expected an endpoint with policy Basic256Sha256 and mode SignAndEncrypt, received none" in failure

    def test_keys_of_the_channel_are_renewed(
        self, guarded: OpcUaServer, files: Path, opened: Callable[..., FedSource], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(opcua, "CHANNEL_S", 0.4)
        login = {"username": USER, "password_file": files / "right", "security": self.security(files)}
        source = opened(guarded.url, "Speed", **login)
        blocks = rows_until(source, lambda _: source.samples >= 1.5 * RATE_HZ)

        assert source.failure == ""
        assert [block.starts_session for block in blocks].count(True) == 1

    @pytest.mark.parametrize(
        ("name", "content", "problem"),
        [
            ("cert_file", "client.key.pem", "expected an X.509 certificate in PEM or DER, received"),
            ("cert_file", "nameless.pem", "expected a certificate that names an application URI"),
            (
                "key_file",
                "client.pem",
                "expected the RSA key of cert_file in PEM or DER, without a passphrase, received",
            ),
            ("key_file", "server.key.pem", "received another key"),
            ("key_file", "elliptic", "received a key of another kind, ECPrivateKey"),
            ("key_file", "locked", "received one with a passphrase"),
            ("server_cert_file", "right", "expected an X.509 certificate in PEM or DER, received"),
        ],
    )
    def test_files_that_are_no_use_are_a_wrong_configuration(
        self, files: Path, name: str, content: str, problem: str
    ) -> None:
        settings = {"cert_file": files / "client.pem", "key_file": files / "client.key.pem", name: files / content}

        with pytest.raises(ConfigError) as caught:
            made("opc.tcp://192.0.2.7", "Speed", security=OpcUaSecurity(**settings))
        assert str(caught.value).startswith(f"{files / content}:1: {name}: expected")
        assert problem in str(caught.value)


@pytest.mark.broker
def test_check_config_online_tries_the_nodes(
    server: OpcUaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "TIMEOUT_S", 0.5)
    bundle = write_plain_bundle(tmp_path / "plain.evb")
    with Mosquitto(tmp_path) as broker:
        node = '[[pipeline.source.node]]\nchannel = "level"\nnode = "ns=2;s=Pump.{}"'
        source = {"type": "opcua", "url": server.url}
        for name in ("Level", "Levle"):
            tables = f"{pipeline('pump', bundle, source)}\n{node.format(name)}"
            tries = online.try_online(read_config(write_config(tmp_path, broker.port, tables)))
            if name == "Level":
                assert list(tries)[-1] == "pump: source opened"
            else:
                with pytest.raises(SourceError, match=r"Did you mean ns=2;s=Pump\.Level\?"):
                    list(tries)
