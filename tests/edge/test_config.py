"""The agent's configuration: what may stand in it, and what is told when it is wrong."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import jsonschema
import pytest

from edge_vae.alarm_config import AlarmConfig, LimitConfig
from edge_vae.broker_config import MqttConfig, TlsConfig, read_password
from edge_vae.bundle import Channel
from edge_vae.config import (
    AgentConfig,
    BaselineConfig,
    DriftConfig,
    ThresholdConfig,
    effective,
    missing_files,
    read_config,
    schema,
)
from edge_vae.errors import EX_CONFIG, ConfigError
from edge_vae.source_config import (
    IioConfig,
    JoinConfig,
    MqttSourceConfig,
    ReplayConfig,
    SerialConfig,
    StdinConfig,
)
from edge_vae.toml_text import parse
from plain_bundle import write_plain_bundle

FULL = """\
[node]
site = "plant-1"
name = "gateway-1"
state_dir = "/var/lib/edge-vae"

[mqtt]
host = "192.0.2.1"
port = 8883
base_topic = "edge-vae"
protocol = 311
username = "gateway-1"
password_file = "mqtt.pass"
keepalive_s = 20
[mqtt.tls]
ca_file = "ca.pem"
cert_file = "cert.pem"
key_file = "key.pem"

[outbox]
max_bytes = 1048576
on_full = "drop_newest"

[[pipeline]]
asset = "pump-3"
bundle = "pump.evb"
[pipeline.source]
type = "replay"
path = "pump.csv"
speed = 0
[pipeline.baseline]
samples = 400
on = ["start"]
[pipeline.alarm]
on_delay = [2, 3]
off_delay = [3, 3]
deadband = 0.1
severity = "warning"
critical_ratio = 3.0
min_severity = "warning"
realarm_s = 3600
update_s = 30
flood_raises = 10
flood_s = 300
[[pipeline.limit]]
channel = "Current"
low = 1
high = 9.5
deadband = 0.5
severity = "critical"
[[pipeline.limit]]
channel = "Current"
rate = 3.0
span = 5
on_delay = 2
off_delay = 3

[[pipeline]]
asset = "pump-4"
bundle = "/bundles/pump.evb"
[pipeline.source]
type = "mqtt"
topic = "sensors/+/pump-4/#"

[[pipeline]]
asset = "pump-5"
bundle = "pump.evb"
[pipeline.source]
type = "stdin"
format = "csv"
[pipeline.threshold]
adapt = true
limit = 0.3
[pipeline.drift]
detect = true
hours = 8
"""
WIRED = """\
[node]
site = "plant-1"
[[pipeline]]
asset = "pump-3"
bundle = "pump.evb"
[pipeline.source]
type = "serial"
port = "/dev/ttyUSB0"
baudrate = 115200
format = "csv"
columns = ["time", "flow", "bar"]
time = "time"
parity = "even"
bytesize = 7
stopbits = 2
flow_control = "rts/cts"
rate_hz = 10
[[pipeline]]
asset = "pump-4"
bundle = "pump.evb"
[pipeline.source]
type = "iio"
device = "adxl355"
trigger = "timer"
rate_hz = 1600
length = 4096
watermark = 64
[pipeline.source.channels]
along = "accel_x"
turn = "rot_quaternion[2]"
"""
MINIMAL = """\
[node]
site = "plant-1"
[[pipeline]]
asset = "pump-3"
bundle = "pump.evb"
[pipeline.source]
type = "stdin"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The path of a configuration with the secrets it names beside it."""
    for name in ("mqtt.pass", "ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).write_text("s3cret\n")
    return tmp_path / "agent.toml"


def config_of(file: Path, text: str) -> AgentConfig:
    file.write_text(text)
    return read_config(file)


def problem_of(file: Path, text: str) -> tuple[int, str, str]:
    with pytest.raises(ConfigError) as caught:
        config_of(file, text)
    [problem] = caught.value.problems
    return problem.line, problem.key, problem.message


def test_everything_that_a_file_says_is_in_the_configuration(file: Path) -> None:
    config = config_of(file, FULL)
    folder = file.parent

    assert (config.node.site, config.node.name, config.node.state_dir) == (
        "plant-1",
        "gateway-1",
        Path("/var/lib/edge-vae"),
    )
    assert config.mqtt == MqttConfig(
        host="192.0.2.1",
        port=8883,
        base_topic="edge-vae",
        protocol=311,
        username="gateway-1",
        password_file=folder / "mqtt.pass",
        keepalive_s=20,
        tls=TlsConfig(ca_file=folder / "ca.pem", cert_file=folder / "cert.pem", key_file=folder / "key.pem"),
    )
    assert (config.outbox.max_bytes, config.outbox.on_full) == (1048576, "drop_newest")
    first, second, third = config.pipelines
    assert (first.asset, first.bundle) == ("pump-3", folder / "pump.evb")
    assert first.source == ReplayConfig(path=folder / "pump.csv", speed=0.0)
    assert first.baseline == BaselineConfig(samples=400, on=("start",))
    assert first.alarm == AlarmConfig(
        on_delay=(2, 3), off_delay=(3, 3), deadband=0.1, severity="warning", critical_ratio=3.0,
        min_severity="warning", realarm_s=3600.0, update_s=30.0, flood_raises=10, flood_s=300.0,
    )  # fmt: skip
    assert first.limits == (
        LimitConfig(channel="Current", low=1.0, high=9.5, deadband=0.5, severity="critical"),
        LimitConfig(channel="Current", rate=3.0, span=5, on_delay=2, off_delay=3),
    )
    assert second.bundle == Path("/bundles/pump.evb")
    assert second.source == MqttSourceConfig(topic="sensors/+/pump-4/#")
    assert third.source == StdinConfig(format="csv")
    assert third.threshold == ThresholdConfig(adapt=True, limit=0.3)
    assert third.drift == DriftConfig(detect=True, hours=8.0)


def test_what_a_file_does_not_say_has_a_default_or_is_left_to_the_bundle(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    config = config_of(file, MINIMAL)

    assert config.node.name == socket.gethostname()
    assert config.node.state_dir == Path("/home/someone/.local/state/edge-vae")
    assert config.mqtt == MqttConfig(
        host="127.0.0.1", port=1883, base_topic="edge-vae", protocol=5, username=None, tls=None, keepalive_s=30
    )
    assert (config.outbox.max_bytes, config.outbox.on_full) == (64 * 2**20, "drop_oldest")
    assert config.feedback.max_bytes == 16 * 2**20
    assert config.pipelines[0].baseline == BaselineConfig(samples=None, on=("start", "command"))
    assert config.pipelines[0].threshold == ThresholdConfig(adapt=False, limit=0.5)
    assert config.pipelines[0].drift == DriftConfig(detect=True, hours=24.0)
    assert config.pipelines[0].alarm == AlarmConfig(on_delay=None, off_delay=None, deadband=None, severity=None)


def test_state_is_kept_where_the_service_manager_says(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/edge-vae:/var/lib/other")

    assert config_of(file, MINIMAL).node.state_dir == Path("/var/lib/edge-vae")


def test_a_misspelt_key_gives_one_line_with_file_line_key_and_the_word_that_was_meant(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(file, FULL.replace('path = "pump.csv"', 'pth = "pump.csv"'))

    assert str(caught.value) == (
        f"{file}:28: pipeline[0].source.pth: "
        "unknown key, expected one of channels, path, rate_hz, speed, time, type; did you mean 'path'?"
    )
    assert caught.value.exit_status == EX_CONFIG == 78


@pytest.mark.parametrize(
    ("said", "instead", "line", "key", "message"),
    [
        ('site = "plant-1"', 'site = "plant/1"', 2, "node.site", "without / + # $ and blanks"),
        ('site = "plant-1"', "", 1, "node.site", "received nothing"),
        ('name = "gateway-1"', f'name = "{"x" * 256}"', 3, "node.name", "1 to 255 bytes"),
        ('name = "gateway-1"', 'name = "gate\\u0001way"', 3, "node.name", "control characters"),
        ('base_topic = "edge-vae"', 'base_topic = "$SYS"', 9, "mqtt.base_topic", "without / + # $ and blanks"),
        ('host = "192.0.2.1"', 'host = ""', 7, "mqtt.host", "a host name or address"),
        ("port = 8883", "port = 0", 8, "mqtt.port", "from 1 to 65535"),
        ("port = 8883", "port = 65536", 8, "mqtt.port", "from 1 to 65535"),
        ("protocol = 311", "protocol = 4", 10, "mqtt.protocol", "one of 5, 311, received 4"),
        ("protocol = 311", 'protocol = "311"', 10, "mqtt.protocol", 'one of 5, 311, received "311"'),
        ('username = "gateway-1"', "", 6, "mqtt.username", "expected a username beside password_file"),
        ('"mqtt.pass"', '"other.pass"', 12, "mqtt.password_file", "expected a file that can be read"),
        ('key_file = "key.pem"', "", 14, "mqtt.tls.key_file", "expected a key_file beside cert_file"),
        ('cert_file = "cert.pem"', "", 14, "mqtt.tls.cert_file", "expected a cert_file beside key_file"),
        ("max_bytes = 1048576", "max_bytes = 1000", 20, "outbox.max_bytes", "of at least 65536"),
        ('"drop_newest"', '"drop"', 21, "outbox.on_full", 'one of "drop_newest", "drop_oldest", "thin"'),
        ('on_full = "drop_newest"', "drain_per_s = 0", 21, "outbox.drain_per_s", "above 0"),
        ('asset = "pump-4"', 'asset = "pump-3"', 58, "pipeline[1].asset", "received that of pipeline[0]"),
        ('asset = "pump-4"', 'asset = "pump#4"', 58, "pipeline[1].asset", "without / + # $ and blanks"),
        ('bundle = "pump.evb"', "", 23, "pipeline[0].bundle", "a path"),
        ("speed = 0", "speed = -1", 29, "pipeline[0].source.speed", "of at least 0"),
        ("speed = 0", "rate_hz = 0", 29, "pipeline[0].source.rate_hz", "above 0"),
        ("speed = 0", 'time = ""', 29, "pipeline[0].source.time", "the name of a column"),
        ("samples = 400", "samples = 1", 31, "pipeline[0].baseline.samples", "of at least 2"),
        ('on = ["start"]', 'on = ["start", "mode"]', 32, "pipeline[0].baseline.on[1]", 'one of "command", "start"'),
        ('on = ["start"]', 'on = ["command"]', 32, "pipeline[0].baseline.on", 'expected "start" among them'),
        ('on = ["start"]', 'on = ["start", "start"]', 32, "pipeline[0].baseline.on", "each of them once"),
        ('on = ["start"]', 'on = "start"', 32, "pipeline[0].baseline.on", 'a list, each item one of "command"'),
        ('on = ["start"]', "on = []", 32, "pipeline[0].baseline.on", 'each item one of "command", "start"'),
        ("on_delay = [2, 3]", "on_delay = [4, 3]", 34, "pipeline[0].alarm.on_delay", "1 <= k <= n <= 1000"),
        ("on_delay = [2, 3]", "on_delay = [0, 3]", 34, "pipeline[0].alarm.on_delay", "1 <= k <= n <= 1000"),
        ("off_delay = [3, 3]", "off_delay = [3, 1001]", 35, "pipeline[0].alarm.off_delay", "1 <= k <= n <= 1000"),
        ("off_delay = [3, 3]", "off_delay = 3", 35, "pipeline[0].alarm.off_delay", "[k, n]"),
        ("deadband = 0.1", "deadband = 1.0", 36, "pipeline[0].alarm.deadband", "of at least 0 and below 1"),
        ('severity = "warning"', 'severity = "high"', 37, "pipeline[0].alarm.severity", '"info", "warning"'),
        ('severity = "warning"', 'severity = "critical"', 38, "pipeline[0].alarm.critical_ratio", '"critical"'),
        ("critical_ratio = 3.0", "critical_ratio = 1.0", 38, "pipeline[0].alarm.critical_ratio", "above 1"),
        ("critical_ratio = 3.0", "warning_ratio = 3.0", 38, "pipeline[0].alarm.warning_ratio", 'severity = "info"'),
        ('min_severity = "warning"', 'min_severity = "none"', 39, "pipeline[0].alarm.min_severity", '"info", "war'),
        ("realarm_s = 3600", "realarm_s = 0", 40, "pipeline[0].alarm.realarm_s", "from 1 to"),
        ("update_s = 30", "update_s = 0", 41, "pipeline[0].alarm.update_s", "from 1 to"),
        ("flood_raises = 10", "flood_raises = 1.5", 42, "pipeline[0].alarm.flood_raises", "received 1.5"),
        ("flood_raises = 10", "", 43, "pipeline[0].alarm.flood_s", "expected flood_raises beside flood_s"),
        ('"sensors/+/pump-4/#"', '"sensors/#/pump"', 62, "pipeline[1].source.topic", "an MQTT topic or filter"),
        ('"sensors/+/pump-4/#"', '"sensors/pump+"', 62, "pipeline[1].source.topic", "an MQTT topic or filter"),
        ('"sensors/+/pump-4/#"', '""', 62, "pipeline[1].source.topic", "an MQTT topic or filter"),
        ('format = "csv"', 'format = "xml"', 69, "pipeline[2].source.format", '"csv", "jsonl"'),
        ("adapt = true", "adapt = 1", 71, "pipeline[2].threshold.adapt", "true or false"),
        ("limit = 0.3", "limit = 0", 72, "pipeline[2].threshold.limit", "above 0 and below 1"),
        ("limit = 0.3", "limit = 1.0", 72, "pipeline[2].threshold.limit", "above 0 and below 1"),
        ("adapt = true", "adapt = false", 72, "pipeline[2].threshold.limit", "adapt = true beside a limit"),
        ("adapt = true", "", 72, "pipeline[2].threshold.limit", "adapt = true beside a limit"),
        ("limit = 0.3", "limit = nan", 72, "pipeline[2].threshold.limit", "above 0 and below 1, received nan"),
        ("limit = 0.3", 'limit = "half"', 72, "pipeline[2].threshold.limit", 'received "half"'),
        ("limit = 0.3", "limits = 0.3", 72, "pipeline[2].threshold.limits", "did you mean 'limit'?"),
        ("detect = true", 'detect = "on"', 74, "pipeline[2].drift.detect", "true or false"),
        ("detect = true", "detect = false", 75, "pipeline[2].drift.hours", "detect = true beside hours"),
        ("hours = 8", "hours = 0", 75, "pipeline[2].drift.hours", "above 0"),
        ("hours = 8", "hours = 8761", 75, "pipeline[2].drift.hours", "of at most 8760"),
        ("hours = 8", "hours = inf", 75, "pipeline[2].drift.hours", "received inf"),
        ("hours = 8", "hour = 8", 75, "pipeline[2].drift.hour", "did you mean 'hours'?"),
        (
            'type = "mqtt"\ntopic = "sensors/+/pump-4/#"',
            'type = "stdin"',
            67,
            "pipeline[2].source.type",
            "expected one reader of standard input, received another beside pipeline[1]",
        ),
        ('channel = "Current"', 'channel = ""', 45, "pipeline[0].limit[0].channel", "the name of a channel"),
        ("low = 1\nhigh = 9.5", "\n", 45, "pipeline[0].limit[0].channel", "expected low, high or rate"),
        ("high = 9.5", "high = 1.5", 47, "pipeline[0].limit[0].high", "low + 2 * deadband = 2"),
        ("high = 9.5", "high = inf", 47, "pipeline[0].limit[0].high", "received inf"),
        ("deadband = 0.5", "deadband = -1", 48, "pipeline[0].limit[0].deadband", "of at least 0"),
        ('severity = "critical"', 'severity = "info"', 49, "pipeline[0].limit[0].severity", 'min_severity = "warning"'),
        ("rate = 3.0", "rate = 0", 52, "pipeline[0].limit[1].rate", "above 0"),
        ("rate = 3.0", "low = 3.0", 53, "pipeline[0].limit[1].span", "expected a rate beside span"),
        ("rate = 3.0\nspan = 5", "high = 9.5", 52, "pipeline[0].limit[1].high", "is not set in another table"),
        ("on_delay = 2\n", "on_delay = 0\n", 54, "pipeline[0].limit[1].on_delay", "from 1 to"),
    ],
)  # fmt: skip
def test_an_impossible_value_is_told_at_its_line(
    file: Path, said: str, instead: str, line: int, key: str, message: str
) -> None:
    assert said in FULL
    found_line, found_key, found_message = problem_of(file, FULL.replace(said, instead, 1))

    assert (found_line, found_key) == (line, key)
    assert message in found_message


def test_a_serial_line_and_an_iio_buffer_are_described(file: Path) -> None:
    config = config_of(file, WIRED)
    line, buffer = (pipeline.source for pipeline in config.pipelines)

    assert line == SerialConfig(
        port=Path("/dev/ttyUSB0"), baudrate=115200, format="csv", columns=("time", "flow", "bar"), time="time",
        parity="even", bytesize=7, stopbits=2, flow_control="rts/cts", rate_hz=10.0,
    )  # fmt: skip
    assert buffer == IioConfig(
        device="adxl355", channels={"along": "accel_x", "turn": "rot_quaternion[2]"}, trigger="timer", rate_hz=1600.0,
        length=4096, watermark=64, setup=True, root=Path("/sys"), dev=Path("/dev"),
    )  # fmt: skip
    assert config_of(file, effective(config)) == config


@pytest.mark.parametrize(
    ("said", "instead", "line", "key", "message"),
    [
        ('port = "/dev/ttyUSB0"', "", 6, "port", "expected a path, received nothing"),
        ("baudrate = 115200", "", 6, "baudrate", "from 50 to 4000000, received nothing"),
        ("baudrate = 115200", "baudrate = 49", 9, "baudrate", "from 50 to 4000000, received 49"),
        ("baudrate = 115200", 'baudrate = "fast"', 9, "baudrate", 'received "fast"'),
        ("baudrate = 115200", "baud = 115200", 9, "baud", "did you mean 'baudrate'?"),
        ('parity = "even"', 'parity = "E"', 13, "parity", 'one of "even", "mark", "none", "odd", "space"'),
        ("bytesize = 7", "bytesize = 9", 14, "bytesize", "one of 5, 6, 7, 8"),
        ("stopbits = 2", "stopbits = 1.5", 15, "stopbits", "one of 1, 2, received 1.5"),
        ('"rts/cts"', '"hardware"', 16, "flow_control", 'one of "none", "rts/cts", "xon/xoff"'),
        ("rate_hz = 10", "rate_hz = 0", 17, "rate_hz", "above 0"),
        ('format = "csv"', 'format = "jsonl"', 11, "columns", 'expected none with format = "jsonl"'),
        ('format = "csv"', 'format = "csv"\nheader = true', 12, "columns", "expected none beside header = true"),
        ('time = "time"', 'time = "clock"', 12, "time", "expected one of columns, or header = true"),
        ('"flow", "bar"', '"flow", "flow"', 11, "columns", "expected each name once"),
        ('["time", "flow", "bar"]', "[]", 11, "columns", "a list, each item the name of a column"),
    ],
)  # fmt: skip
def test_a_wrong_serial_line_is_told_at_its_line(
    file: Path, said: str, instead: str, line: int, key: str, message: str
) -> None:
    assert said in WIRED
    found_line, found_key, found_message = problem_of(file, WIRED.replace(said, instead, 1))

    assert (found_line, found_key) == (line, f"pipeline[0].source.{key}")
    assert message in found_message


@pytest.mark.parametrize(
    ("said", "instead", "line", "key", "message"),
    [
        ('device = "adxl355"', "", 21, "device", "a device, such as adxl355 or iio:device0"),
        ('device = "adxl355"', 'device = ""', 23, "device", "a device, such as adxl355 or iio:device0"),
        ("rate_hz = 1600", "rate_hz = 1e9", 25, "rate_hz", "above 0 and of at most 10000000"),
        ("length = 4096", "length = 1", 26, "length", "from 2 to"),
        ("watermark = 64", "watermark = 4096", 27, "watermark", "expected less than length = 4096, received 4096"),
        ('trigger = "timer"', "setup = false", 26, "length", "setup = true beside it"),
        ('along = "accel_x"', 'along = "in_accel_x"', 29, "channels.along", "expected a scan element, such"),
        ('along = "accel_x"', "along = 1", 28, "channels", "a scan element for each channel, as"),
        ('along = "accel_x"', 'along = "rot_quaternion[2]"', 30, "channels.turn", "received that of along"),
    ],
)  # fmt: skip
def test_a_wrong_iio_buffer_is_told_at_its_line(
    file: Path, said: str, instead: str, line: int, key: str, message: str
) -> None:
    assert said in WIRED
    with pytest.raises(ConfigError) as caught:
        config_of(file, WIRED.replace(said, instead))
    problem = caught.value.problems[0]

    assert (problem.line, problem.key) == (line, f"pipeline[1].source.{key}")
    assert message in problem.message


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("[::1]:9464", ("::1", 9464)),
        ("localhost:65535", ("localhost", 65535)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
    ],
)
def test_health_port_is_an_address_and_a_port(file: Path, listen: str, address: tuple[str, int]) -> None:
    assert config_of(file, f'{MINIMAL}[health]\nprometheus = "{listen}"\n').health.address == address
    assert config_of(file, MINIMAL).health.address is None


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        ('"9464"', 'an address and a port, such as "127.0.0.1:9464"'),
        ('":9464"', "an address and a port"),
        ('"::1:9464"', "an address and a port"),
        ('"127.0.0.1:"', "an address and a port"),
        ('"127.0.0.1:9464\\n"', "an address and a port"),
        ("9464", "an address and a port"),
        ('"127.0.0.1:0"', "a port from 1 to 65535, received 0"),
        ('"127.0.0.1:65536"', "a port from 1 to 65535, received 65536"),
    ],
)
def test_what_is_no_address_and_port_is_told_at_its_line(file: Path, listen: str, message: str) -> None:
    line, key, found = problem_of(file, f"{MINIMAL}[health]\nprometheus = {listen}\n")
    assert (line, key) == (9, "health.prometheus")
    assert message in found


@pytest.mark.parametrize(
    ("alarm", "key"),
    [
        ('severity = "info"\nwarning_ratio = 3\ncritical_ratio = 2', "critical_ratio"),
        ('severity = "info"\nwarning_ratio = 3\nmin_severity = "critical"', "min_severity"),
        ('min_severity = "critical"', "min_severity"),
    ],
)
def test_severities_that_no_alarm_can_have_are_told(file: Path, alarm: str, key: str) -> None:
    _, found, _ = problem_of(file, f"{MINIMAL}[pipeline.alarm]\n{alarm}\n")

    assert found == f"pipeline[0].alarm.{key}"


def test_limit_of_a_channel_that_the_bundle_does_not_have_is_told_with_those_it_has(file: Path) -> None:
    write_plain_bundle(file.parent / "pump.evb")
    limit = '[[pipeline.limit]]\nchannel = "levle"\nhigh = 1\n'
    (problem,) = missing_files(config_of(file, MINIMAL + limit), file)

    assert (problem.line, problem.key) == (MINIMAL.count("\n") + 2, "pipeline[0].limit[0].channel")
    assert problem.message.endswith('pump.evb, "level", received "levle"')
    assert missing_files(config_of(file, MINIMAL + limit.replace("levle", "level")), file) == []


@pytest.mark.parametrize("table", ["[pipeline.threshold]\nadapt = false", "[pipeline.drift]\ndetect = false"])
def test_what_is_switched_off_may_be_so_and_its_effective_configuration_too(file: Path, table: str) -> None:
    config = config_of(file, f"{MINIMAL}{table}\n")

    assert config_of(file, effective(config)) == config


@pytest.mark.parametrize(
    "topic", ["#", "+", "plant", "/plant", "+/+", "plant/#", "plant//a b/+/#", "$share/group/plant"]
)
def test_every_topic_filter_of_mqtt_is_taken(file: Path, topic: str) -> None:
    config = config_of(file, FULL.replace("sensors/+/pump-4/#", topic))

    assert config.pipelines[1].source == MqttSourceConfig(topic=topic)


@pytest.mark.parametrize(
    "text",
    ['[node]\nsite = "a"\n', '[node]\nsite = "a"\n[pipeline]\nasset = "b"\n', 'pipeline = []\n[node]\nsite = "a"\n'],
)
def test_at_least_one_pipeline_is_needed(file: Path, text: str) -> None:
    _, key, message = problem_of(file, text)

    assert key == "pipeline"
    assert message.startswith("expected one or more tables, each headed [[pipeline]], received")


def test_rows_without_header_have_no_time_column_to_name(file: Path) -> None:
    _, key, _ = problem_of(file, FULL.replace('type = "mqtt"', 'type = "mqtt"\nformat = "csv"\ntime = "t"'))

    assert key == "pipeline[1].source.time"


def test_files_that_are_named_and_not_there_are_told_apart_from_the_rest(file: Path) -> None:
    config = config_of(file, FULL)
    write_plain_bundle(file.parent / "pump.evb", channels=(Channel("Current", 0.0, 1.0),))

    found = missing_files(config, file)
    assert [(problem.line, problem.key) for problem in found] == [
        (28, "pipeline[0].source.path"),
        (59, "pipeline[1].bundle"),
    ]
    assert str(file.parent / "pump.csv") in found[0].message


def test_the_password_comes_from_its_file_without_the_line_end(file: Path) -> None:
    assert read_password(config_of(file, FULL).mqtt.password_file) == "s3cret"
    assert read_password(None) is None


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", None])
def test_a_password_file_without_password_is_a_wrong_configuration(file: Path, content: bytes | None) -> None:
    mqtt = config_of(file, FULL).mqtt
    password_file = file.parent / "mqtt.pass"
    password_file.unlink()
    if content is not None:
        password_file.write_bytes(content)

    with pytest.raises(ConfigError, match=r"mqtt\.pass:1: password_file: expected one line of UTF-8 text"):
        read_password(mqtt.password_file)


def test_a_source_uses_the_agents_own_broker_unless_it_names_another(file: Path) -> None:
    own = config_of(file, FULL).mqtt

    assert MqttSourceConfig(topic="t").broker(own) == own
    other_user = MqttSourceConfig(topic="t", username="reader").broker(own)
    assert (other_user.host, other_user.username, other_user.password_file) == (own.host, "reader", None)
    assert other_user.tls == own.tls


def test_another_broker_never_gets_the_login_of_the_agents_own(file: Path) -> None:
    own = config_of(file, FULL).mqtt

    other = MqttSourceConfig(topic="t", host="192.0.2.9").broker(own)
    assert other == MqttConfig(host="192.0.2.9", protocol=own.protocol, keepalive_s=own.keepalive_s)


def test_what_is_in_force_can_be_read_again_and_holds_no_secret(file: Path) -> None:
    config = config_of(file, FULL)
    text = effective(config)

    assert "s3cret" not in text
    assert f'password_file = "{file.parent / "mqtt.pass"}"' in text
    assert "# rate_hz is not set" in text
    assert config_of(file, text) == config


def test_the_schema_takes_what_the_agent_takes_and_refuses_a_misspelt_key() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    json.dumps(schema())

    validator.validate(parse(FULL))
    validator.validate(parse(MINIMAL))
    for wrong in (FULL.replace("path =", "pth ="), FULL.replace("8883", "0"), FULL.replace("plant-1", "plant 1")):
        assert not validator.is_valid(parse(wrong))


SEVERAL = """\
[node]
site = "plant-1"
[[pipeline]]
asset = "pump-3"
bundle = "pump.evb"
[[pipeline.source]]
type = "replay"
path = "fast.csv"
channels = ["a", "b"]
[[pipeline.source]]
type = "mqtt"
topic = "slow"
channels = ["c"]
[pipeline.join]
linear = ["c"]
late_s = 0.5
"""


def test_several_sources_are_one_list_however_they_are_written(file: Path) -> None:
    pipeline = config_of(file, SEVERAL).pipelines[0]

    fast, slow = (
        ReplayConfig(path=file.parent / "fast.csv", channels=("a", "b")),
        MqttSourceConfig(topic="slow", channels=("c",)),
    )
    assert pipeline.sources == (fast, slow)
    assert pipeline.join == JoinConfig(linear=("c",), late_s=0.5)
    assert pipeline.join.by_channel() == {"c": "linear"}


def test_what_is_in_force_of_several_sources_can_be_read_again(file: Path) -> None:
    config = config_of(file, SEVERAL)

    assert config_of(file, effective(config)) == config


@pytest.mark.parametrize(
    ("said", "instead", "line", "key", "message"),
    [
        ('channels = ["c"]', "", 10, "pipeline[0].source[1].channels", "the channels of each of several sources"),
        ('channels = ["c"]', 'channels = ["c", "b"]', 10, "pipeline[0].source[1]", 'channels of its own, received "b"'),
        ('channels = ["c"]', "channels = []", 13, "pipeline[0].source[1].channels", "a list"),
        ('linear = ["c"]', 'linear = ["d"]', 15, "pipeline[0].join.linear", 'channels of the sources, received "d"'),
        ('linear = ["c"]', 'linear = ["c"]\nmean = ["c"]', 16, "pipeline[0].join.mean", "expected each channel once"),
        ("late_s = 0.5", "late_s = -1", 16, "pipeline[0].join.late_s", "a number from 0"),
        ("late_s = 0.5", "max_age_s = 0", 16, "pipeline[0].join.max_age_s", "above 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_between_several_sources_is_told_at_its_line(
    file: Path, said: str, instead: str, line: int, key: str, message: str
) -> None:
    assert said in SEVERAL
    found_line, found_key, found_message = problem_of(file, SEVERAL.replace(said, instead, 1))

    assert (found_line, found_key) == (line, key)
    assert message in found_message


def test_a_missing_recording_of_several_sources_is_told_at_its_line(file: Path) -> None:
    (file.parent / "pump.evb").touch()
    [problem] = missing_files(config_of(file, SEVERAL), file)

    assert (problem.line, problem.key) == (8, "pipeline[0].source[0].path")
