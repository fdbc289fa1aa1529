"""Every command as a user types it: its help, its documents, and one clear line with the right status when it fails."""

from __future__ import annotations

import json
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import jsonschema
import msgspec
import pytest

from agent_process import EDGE_VAE, AgentProcess, pipeline, replay, write_config
from broker import DEADLINE_S, Mosquitto, Subscriber, free_port
from edge_vae import __version__, toml_file
from edge_vae.cli import commands
from edge_vae.config import AgentConfig, read_config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
OK, FAILED, USAGE, CONFIG = 0, 1, 2, 78

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def leaves(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by the words one types."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, f"{name} is listed and cannot be loaded"
        if isinstance(command, click.Group):
            yield from leaves(command, *path, name)
        else:
            yield " ".join([*path, name]), command


COMMANDS = dict(leaves(commands))


# help


def test_help_lists_every_command(edge_vae: Run) -> None:
    listed = re.findall(r"^  ([a-z-]+)  ", edge_vae("--help").stdout.partition("Commands:")[2], flags=re.MULTILINE)
    assert set(listed) == {path.split()[0] for path in COMMANDS}
    assert {"run", "train", "convert", "score", "evaluate", "inspect", "check-config", "watch", "doctor"} <= set(listed)


@pytest.mark.parametrize("path", COMMANDS)
def test_help_says_what_a_command_does_with_an_example(path: str) -> None:
    described = COMMANDS[path].help or ""
    assert re.search(rf"Example: (\S+ \| )?edge-vae {path}\b", " ".join(described.split())), described
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"edge-vae {path} {parameter.opts[0]}"


@pytest.mark.parametrize("path", COMMANDS)
def test_readme_shows_every_command(path: str) -> None:
    assert re.search(rf"edge-vae {path}\b", (ROOT / "README.md").read_text())


def test_version_is_that_of_the_package(edge_vae: Run) -> None:
    assert __version__ in edge_vae("--version").stdout


# one JSON document

PRINTED_IN_OTHER_TESTS = {
    "convert": "test_real_data",
    "data get": "test_datasets",
    "data list": "test_datasets",
    "demo": "test_demo",
    "outbox check": "test_cli_outbox",
    "outbox ls": "test_cli_outbox",
    "outbox repair": "test_cli_outbox",
    "pack": "test_pack",
}
DOCUMENTS: dict[str, tuple[str, ...]] = {
    "bench": ("{bundle}", "--windows", "10", "--seconds", "0.1"),
    "doctor": (),
    "evaluate": ("{bundle}", "{faulty}/leak.csv", "--label", "anomaly", "-o", "{folder}/pictures"),
    "feedback export": ("-o", "{folder}/judged"),
    "inspect": ("{bundle}",),
    "score": ("{bundle}", "{faulty}/leak.csv", "--label", "anomaly", "-o", "{folder}/s.csv"),
    "simulate": ("-o", "{folder}/rig", "--minutes", "1", "--healthy", "1", "--faulty", "0"),
    "train": ("{healthy}/run-1.csv", "--window", "8", "--stride", "8", "--epochs", "1", "-o", "{folder}/run"),
}


def test_every_command_that_can_print_json_is_tried() -> None:
    able = {path for path, command in COMMANDS.items() if any("--json" in option.opts for option in command.params)}
    assert able == set(DOCUMENTS) | set(PRINTED_IN_OTHER_TESTS)


@pytest.mark.parametrize("path", DOCUMENTS)
def test_json_is_one_document_and_nothing_else(
    path: str, edge_vae: Run, rig: Path, bundle_path: Path, tmp_path: Path
) -> None:
    places = {"bundle": bundle_path, "faulty": rig / "faulty", "healthy": rig / "healthy", "folder": tmp_path}
    words = [word.format(**places) for word in DOCUMENTS[path]]
    assert json.loads(edge_vae(*path.split(), *words, "--json").stdout)


# wrong usage


@pytest.mark.parametrize(
    "words",
    [["nonsense"], ["run"], ["run", "--confg", "x"], ["watch", "--port", "0"], ["train", "x", "--window", "many"]],
    ids=" ".join,
)
def test_wrong_usage_is_told_with_status_2(words: list[str], edge_vae: Run) -> None:
    told = edge_vae(*words, status=USAGE)
    assert told.stdout == ""
    assert told.stderr.startswith("Usage: edge-vae")
    assert "Error: " in told.stderr.splitlines()[-1]


def test_misspelt_option_is_answered_with_the_right_one(edge_vae: Run) -> None:
    assert "--config" in edge_vae("run", "--confg", "x", status=USAGE).stderr.splitlines()[-1]


# data and bundles that are wrong


def check_one_clear_line(told: subprocess.CompletedProcess[str]) -> str:
    """The last line: what was expected, what was received, and then a sentence on what to do."""
    line = told.stderr.splitlines()[-1]
    assert line.startswith("edge-vae: ")
    assert re.search(r"expected .+, received.+\. [A-Z].+", line), line
    assert told.stderr.count("edge-vae: ") == 1
    assert "Traceback" not in told.stderr
    assert "np." not in line  # numbers as people write them
    assert told.stdout == ""
    return line


def lines_of(recording: Path) -> list[str]:
    return recording.read_text().splitlines()


WRONG_DATA: dict[str, tuple[Callable[[list[str]], list[str]], list[str], str]] = {
    "empty": (lambda _: [], ["train", "{file}", "-o", "{folder}/run"], "empty"),
    "header only": (lambda rows: rows[:1], ["train", "{file}", "-o", "{folder}/run"], "header"),
    "text in a numeric column": (
        lambda rows: [*rows[:4], re.sub(r"^([^,]*,)[^,]*", r"\1broken", rows[4]), *rows[5:]],
        ["train", "{file}", "--label", "anomaly", "-o", "{folder}/run"],
        "row 5",
    ),
    "missing channel": (
        lambda rows: [re.sub(r"^([^,]*),[^,]*", r"\1", row) for row in rows],
        ["score", "{bundle}", "{file}", "--label", "anomaly", "-o", "{folder}/s.csv"],
        "current_a",
    ),
    "label of one half": (
        lambda rows: [*rows[:6], rows[6][:-1] + "0.5", *rows[7:]],
        ["evaluate", "{bundle}", "{file}", "--label", "anomaly"],
        "row 7",
    ),
    "ten rows for a window of 64": (
        lambda rows: rows[:11],
        ["train", "{file}", "--label", "anomaly", "--window", "64", "-o", "{folder}/run"],
        "10 rows",
    ),
}


@pytest.mark.parametrize("case", WRONG_DATA)
def test_wrong_data_gets_one_clear_line(case: str, edge_vae: Run, rig: Path, bundle_path: Path, tmp_path: Path) -> None:
    change, words, named = WRONG_DATA[case]
    file = tmp_path / "recording.csv"
    file.write_text("".join(row + "\n" for row in change(lines_of(rig / "faulty" / "leak.csv"))))
    places = {"file": file, "bundle": bundle_path, "folder": tmp_path}
    line = check_one_clear_line(edge_vae(*(word.format(**places) for word in words), status=FAILED))
    assert str(file) in line or "10 rows" in line
    assert named in line


def test_scores_that_cannot_be_written_get_one_line(
    edge_vae: Run, rig: Path, bundle_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    nowhere = tmp_path / "file" / "s.csv"
    told = edge_vae("score", bundle_path, rig / "faulty", "--label", "anomaly", "-o", nowhere, status=FAILED)
    assert told.stderr.splitlines()[-1].startswith("edge-vae: ")
    assert str(tmp_path / "file") in told.stderr.splitlines()[-1]
    assert "Traceback" not in told.stderr


def flipped(packed: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(packed))
    return packed[:at] + bytes([packed[at] ^ 1 << chance.randrange(8)]) + packed[at + 1 :]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "truncated": lambda packed, chance: packed[: chance.randrange(len(packed))],
    "flipped bit": flipped,
    "empty": lambda packed, chance: b"",
}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_bundle_is_refused_with_status_78(
    damage: str, seed: int, edge_vae: Run, bundle_path: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.evb"
    damaged.write_bytes(DAMAGES[damage](bundle_path.read_bytes(), random.Random(seed)))
    config = write_config(tmp_path, free_port(), pipeline("pump", damaged, {"type": "mqtt", "topic": "x"}))
    for words in (["run", "--config", config], ["inspect", damaged]):
        line = check_one_clear_line(edge_vae(*words, status=CONFIG))
        assert str(damaged) in line


# configuration


@pytest.fixture
def config(rig: Path, bundle_path: Path, tmp_path: Path) -> Path:
    """A sound configuration whose broker's port nobody listens on."""
    source = replay(rig / "faulty" / "leak.csv")
    return write_config(tmp_path, free_port(), pipeline("pump", bundle_path, source))


def test_sound_configuration_passes(config: Path, edge_vae: Run) -> None:
    assert str(config) in edge_vae("check-config", config).stdout


def misspell(config: Path) -> int:
    """Put `prot` where `port` stood; the line."""
    text = config.read_text()
    config.write_text(text.replace("\nport = ", "\nprot = "))
    return text[: text.index("\nport = ")].count("\n") + 2


def test_misspelt_key_is_told_with_its_line_and_the_right_key(config: Path, edge_vae: Run) -> None:
    number = misspell(config)
    told = edge_vae("check-config", config, status=CONFIG)
    (line,) = told.stdout.splitlines()
    assert line.startswith(f"{config}:{number}: mqtt.prot: ")
    assert '"port"' in line or "'port'" in line or "port?" in line
    assert told.stderr == ""


def test_agent_refuses_a_misspelt_key_in_one_line(config: Path, edge_vae: Run) -> None:
    number = misspell(config)
    told = edge_vae("run", "--config", config, status=CONFIG)
    (line,) = told.stderr.splitlines()
    assert line.startswith(f"edge-vae: {config}:{number}: mqtt.prot: ")


def test_every_problem_is_told_at_once(config: Path, edge_vae: Run) -> None:
    misspell(config)
    config.write_text(config.read_text().replace("speed = 0", "speed = -1"))
    told = edge_vae("check-config", config, status=CONFIG).stdout.splitlines()
    assert [line.split(": ")[1] for line in told] == ["mqtt.prot", "pipeline[0].source.speed"]


@pytest.mark.parametrize("name", ["bundle", "path"])
def test_file_that_is_not_there_is_told_with_its_line(name: str, config: Path, edge_vae: Run) -> None:
    config.write_text(re.sub(rf'^{name} = ".*"', f'{name} = "none"', config.read_text(), flags=re.MULTILINE))
    (line,) = edge_vae("check-config", config, status=CONFIG).stdout.splitlines()
    assert f"{config.parent / 'none'}, where there is" in line
    assert str(config) in edge_vae("run", "--config", config, status=CONFIG).stderr


def test_configuration_that_is_not_there_is_refused(edge_vae: Run, tmp_path: Path) -> None:
    told = edge_vae("run", "--config", tmp_path / "none.toml", status=CONFIG)
    (line,) = told.stderr.splitlines()
    assert f"{tmp_path / 'none.toml'}:1: " in line


@pytest.mark.broker
def test_online_check_tries_broker_bundle_and_source(config: Path, edge_vae: Run, tmp_path: Path) -> None:
    port = read_config(config).mqtt.port
    with Mosquitto(tmp_path) as broker:
        config.write_text(config.read_text().replace(f"port = {port}", f"port = {broker.port}"))
        told = edge_vae("check-config", config, "--online").stdout
    for works in ("reached", "golden windows", "source opened"):
        assert works in told


def test_online_check_without_a_broker_says_so_in_one_line(config: Path, edge_vae: Run) -> None:
    told = edge_vae("check-config", config, "--online", status=FAILED)
    line = check_one_clear_line(told)
    assert f":{read_config(config).mqtt.port}" in line


@pytest.mark.broker
def test_online_check_finds_a_source_without_the_channels(config: Path, edge_vae: Run, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("time,other\n2026-01-01,1\n")
    with Mosquitto(tmp_path) as broker:
        text = config.read_text().replace(str(read_config(config).mqtt.port), str(broker.port))
        config.write_text(re.sub(r'^path = ".*"', 'path = "other.csv"', text, flags=re.MULTILINE))
        told = edge_vae("check-config", config, "--online", status=FAILED)
    assert "other.csv has no column current_a" in told.stderr


def test_effective_configuration_is_a_configuration_with_all_defaults(config: Path, edge_vae: Run) -> None:
    shown = edge_vae("config", "show", "--effective", config).stdout
    again = config.with_name("effective.toml")
    again.write_text(shown)
    assert toml_file.read(again, AgentConfig) == read_config(config)
    assert "keepalive_s = " in shown
    assert "keepalive_s = " not in config.read_text()


def test_configuration_is_shown_as_it_is_without_more_words(config: Path, edge_vae: Run) -> None:
    assert edge_vae("config", "show", config).stdout == config.read_text()


def test_schema_takes_a_sound_configuration_and_refuses_a_misspelt_key(config: Path, edge_vae: Run) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(edge_vae("config", "schema").stdout))
    validator.validate(tomllib.loads(config.read_text()))
    misspell(config)
    assert not validator.is_valid(tomllib.loads(config.read_text()))


# looking


def test_inspect_tells_what_the_bundle_is(bundle_path: Path, edge_vae: Run) -> None:
    told, document = (
        edge_vae("inspect", bundle_path).stdout,
        json.loads(edge_vae("inspect", bundle_path, "--json").stdout),
    )
    assert document["bytes"] == bundle_path.stat().st_size
    assert document["sha256"] in told
    for channel in document["channels"]:
        assert channel["name"] in told
    for word in ("window ", "threshold ", "int8", "parity"):
        assert word in told


def test_doctor_examines_what_a_configuration_names(config: Path, edge_vae: Run) -> None:
    told = edge_vae("doctor", "--config", config, status=FAILED).stdout
    (failed,) = [line for line in told.splitlines() if line.startswith("FAILED")]
    assert failed.split()[1] == "broker"  # which is away
    assert str(read_config(config).node.state_dir) in told
    assert str(read_config(config).pipelines[0].bundle) in told


def test_doctor_fails_where_something_does(config: Path, edge_vae: Run, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    told = edge_vae("doctor", "--config", config, status=FAILED).stdout
    assert re.search(r"^FAILED +state_dir", told, flags=re.MULTILINE)


@pytest.mark.broker
def test_watch_once_prints_the_state_of_every_asset(config: Path, edge_vae: Run, tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        config.write_text(config.read_text().replace(str(read_config(config).mqtt.port), str(broker.port)))
        with Subscriber(broker, "edge-vae/+/+/pump/state") as subscriber, AgentProcess(config) as agent:
            subscriber.wait_for_count(1)
            while_it_runs = edge_vae("watch", "--config", config, "--once").stdout
            assert agent.stop() == OK
        afterwards = edge_vae("watch", "--config", config, "--once").stdout
    assert re.search(r"plant-1 +gateway-1 +pump +(normal|alarm) +\d", while_it_runs)
    assert re.search(r"plant-1 +gateway-1 +pump +offline", afterwards)


def test_watch_without_a_broker_says_so_in_one_line(edge_vae: Run) -> None:
    port = free_port()
    assert f":{port}" in check_one_clear_line(edge_vae("watch", "--once", "--port", port, status=FAILED))


@pytest.mark.broker
def test_ctrl_c_ends_watch_quietly(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        command = [*EDGE_VAE, "watch", "--port", str(broker.port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                publish_state(broker)
                assert process.stdout is not None
                assert "pump normal" in process.stdout.readline()
                process.send_signal(signal.SIGINT)
                assert process.communicate(timeout=DEADLINE_S)[1] == ""
                assert process.returncode == OK
            finally:
                process.kill()


def publish_state(broker: Mosquitto) -> None:
    from paho.mqtt.publish import single

    state = {"state": "normal", "since": "2026-03-01T12:00:00.000000Z", "score": 1.0, "threshold": 5.0}
    topic = "edge-vae/plant-1/gateway-1/pump/state"
    single(topic, msgspec.json.encode(state), qos=1, retain=True, hostname=broker.host, port=broker.port)


# a port that is taken


def test_demo_refuses_a_port_that_is_taken_before_it_trains(edge_vae: Run, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = edge_vae("demo", "--simulated", "--port", port, "-o", tmp_path / "demo", status=FAILED)
    assert str(port) in check_one_clear_line(told)
