"""The tables of a source of type opcua: what they take, and what they answer to what they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_vae.config import effective, read_config
from edge_vae.errors import EX_CONFIG, ConfigError
from edge_vae.opcua_config import OpcUaConfig, OpcUaNode, OpcUaSecurity

FULL = """\
[node]
site = "plant-1"

[[pipeline]]
asset = "pump-3"
bundle = "pump.evb"
[pipeline.source]
type = "opcua"
url = "opc.tcp://plc-3/server"
read = "subscribe"
rate_hz = 10
sampling_interval_ms = 50
publishing_interval_ms = 200
queue_size = 8
username = "reader"
password_file = "opcua.pass"
[pipeline.source.security]
policy = "Aes256_Sha256_RsaPss"
mode = "Sign"
cert_file = "gateway.pem"
key_file = "gateway.key"
server_cert_file = "plc.der"
[[pipeline.source.node]]
channel = "Pressure"
node = "ns=2;s=Pump.Pressure"
[[pipeline.source.node]]
channel = "Current"
node = "nsu=urn:plant;i=5"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for name in ("opcua.pass", "gateway.pem", "gateway.key", "plc.der"):
        (tmp_path / name).write_text("x")
    return tmp_path / "agent.toml"


def problem_of(file: Path, text: str) -> tuple[int, str, str]:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(file)
    assert caught.value.exit_status == EX_CONFIG
    [problem] = caught.value.problems
    return problem.line, problem.key, problem.message


def test_everything_that_the_tables_say_is_in_the_configuration_and_what_is_in_force(file: Path) -> None:
    file.write_text(FULL)
    config = read_config(file)
    [source] = config.pipelines[0].sources

    assert source == OpcUaConfig(
        url="opc.tcp://plc-3/server",
        read="subscribe",
        rate_hz=10.0,
        sampling_interval_ms=50.0,
        publishing_interval_ms=200.0,
        queue_size=8,
        username="reader",
        password_file=file.parent / "opcua.pass",
        security=OpcUaSecurity(
            policy="Aes256_Sha256_RsaPss",
            mode="Sign",
            cert_file=file.parent / "gateway.pem",
            key_file=file.parent / "gateway.key",
            server_cert_file=file.parent / "plc.der",
        ),
        nodes=(
            OpcUaNode(channel="Pressure", node="ns=2;s=Pump.Pressure"),
            OpcUaNode(channel="Current", node="nsu=urn:plant;i=5"),
        ),
    )
    assert source.names() == ("Pressure", "Current")
    file.write_text(effective(config))
    assert read_config(file) == config


def test_it_polls_at_the_bundles_rate_without_login_unless_it_says_otherwise(file: Path) -> None:
    source = OpcUaConfig(url="opc.tcp://plc-3", nodes=(OpcUaNode(channel="a", node="i=2258"),))

    assert (source.read, source.rate_hz, source.security, source.username) == ("poll", None, None, None)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("opc.tcp://plc-3", "opc.tcp://plc-3:4840"),
        ("opc.tcp://plc-3/UA/Server", "opc.tcp://plc-3:4840/UA/Server"),
        ("opc.tcp://192.0.2.7:48010", "opc.tcp://192.0.2.7:48010"),
        ("opc.tcp://[2001:db8::7]", "opc.tcp://[2001:db8::7]:4840"),
        ("opc.tcp://[2001:db8::7]:48010/x", "opc.tcp://[2001:db8::7]:48010/x"),
    ],
)
def test_the_usual_port_is_taken_where_none_is_named(url: str, address: str) -> None:
    assert OpcUaConfig(url=url, nodes=(OpcUaNode(channel="a", node="i=1"),)).address == address


@pytest.mark.parametrize(
    "node",
    [
        "i=2258",
        "ns=65535;i=4294967295",
        "ns=2;s=a;b=c d/ä",
        "s=i=99999999999",
        "nsu=http://example.org/UA/;s=Pump.Pressure",
        "ns=1;g=72962B91-FA75-4AE6-8D28-B404DC7DAF63",
        "ns=1;b=M/RbKBsRVkePCePcx24oRA==",
    ],
)
def test_every_kind_of_node_id_is_taken(node: str) -> None:
    assert OpcUaNode(channel="a", node=node).node == node


@pytest.mark.parametrize(
    ("said", "instead", "line", "key", "message"),
    [
        ('url = "opc.tcp://plc-3/server"', "", 7, "url", "the address of a server"),
        ("opc.tcp://plc-3/server", "http://plc-3", 9, "url", 'such as "opc.tcp://192.0.2.7:4840"'),
        ("opc.tcp://plc-3/server", "opc.tcp://", 9, "url", "the address of a server"),
        ("opc.tcp://plc-3/server", "opc.tcp://plc-3:0", 9, "url", "the address of a server"),
        ("opc.tcp://plc-3/server", "opc.tcp://plc-3:65536", 9, "url", "expected a port from 1 to 65535"),
        ("opc.tcp://plc-3/server", "opc.tcp://me:secret@plc-3", 9, "url", "without user or password"),
        ('read = "subscribe"', 'read = "push"', 10, "read", 'one of "poll", "subscribe"'),
        ("rate_hz = 10", "rate_hz = 0", 11, "rate_hz", "above 0 and of at most 1000"),
        ("sampling_interval_ms = 50", "sampling_interval_ms = -1", 12, "sampling_interval_ms", "from 0 to"),
        ("publishing_interval_ms = 200", "publishing_interval_ms = 0", 13, "publishing_interval_ms", "above 0"),
        ("publishing_interval_ms = 200", "publishing_ms = 200", 13, "publishing_ms", "unknown key"),
        ("queue_size = 8", "queue_size = 0", 14, "queue_size", "a whole number from 1 to 100000"),
        ('username = "reader"', "", 7, "username", "expected a username beside password_file"),
        ('"opcua.pass"', '"other.pass"', 16, "password_file", "expected a file that can be read"),
        ("Aes256_Sha256_RsaPss", "Basic256", 18, "security.policy", '"Basic256Sha256"'),
        ('mode = "Sign"', 'mode = "None"', 19, "security.mode", 'one of "Sign", "SignAndEncrypt"'),
        ('cert_file = "gateway.pem"', "", 17, "security.cert_file", "the key is missing"),
        ('"gateway.key"', '"none.key"', 21, "security.key_file", "expected a file that can be read"),
        ('"plc.der"', "4", 22, "security.server_cert_file", "expected a path, received 4"),
        ('channel = "Pressure"', "", 23, "node[0].channel", "the name of a channel"),
        ('channel = "Current"', 'channel = "Pressure"', 27, "node[1].channel", "received that of node[0]"),
        ("nsu=urn:plant;i=5", "ns=2;s=Pump.Pressure", 28, "node[1].node", "received that of node[0]"),
        ("nsu=urn:plant;i=5", "Pump.Current", 28, "node[1].node", 'a node id, such as "ns=2;s=Pump.Pressure"'),
        ("nsu=urn:plant;i=5", "ns=2;s=", 28, "node[1].node", "a node id"),
        ("nsu=urn:plant;i=5", "ns=2", 28, "node[1].node", "a node id"),
        ("nsu=urn:plant;i=5", "ns=2;i=5x", 28, "node[1].node", "a node id"),
        ("nsu=urn:plant;i=5", "ns=2;g=1234", 28, "node[1].node", "a node id"),
        ("nsu=urn:plant;i=5", "ns=65536;i=5", 28, "node[1].node", "expected ns of at most 65535, received 65536"),
        ("nsu=urn:plant;i=5", "i=4294967296", 28, "node[1].node", "expected i of at most 4294967295"),
    ],
)
def test_a_wrong_value_is_told_at_its_line(
    file: Path, said: str, instead: str, line: int, key: str, message: str
) -> None:
    assert said in FULL
    found_line, found_key, found_message = problem_of(file, FULL.replace(said, instead, 1))

    assert (found_line, found_key) == (line, f"pipeline[0].source.{key}")
    assert message in found_message


@pytest.mark.parametrize("name", ["sampling_interval_ms", "publishing_interval_ms", "queue_size"])
def test_what_is_for_subscriptions_is_refused_where_nodes_are_polled(file: Path, name: str) -> None:
    text = (
        FULL.split("rate_hz")[0].replace("subscribe", "poll")
        + f"{name} = 5\n{FULL[FULL.index('[[pipeline.source.node') :]}"
    )

    assert problem_of(file, text) == (
        11,
        f"pipeline[0].source.{name}",
        'expected read = "subscribe" beside it, received read = "poll"',
    )


def test_at_least_one_node_is_needed(file: Path) -> None:
    text = FULL[: FULL.index("[[pipeline.source.node")]

    line, key, message = problem_of(file, text)
    assert (line, key) == (7, "pipeline[0].source.node")
    assert "one or more tables, each headed [[pipeline.source.node]]" in message
