"""Whatever stands in `agent.toml`: a configuration, or every problem with its line, its key and what was expected."""

from __future__ import annotations

import copy
import datetime as dt
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vae.cli import run
from edge_vae.config import AgentConfig, effective, read_config
from edge_vae.errors import EX_CONFIG, ConfigError
from edge_vae.toml_text import literal, parse

EXAMPLE = Path(__file__).parents[2] / "firmware_config" / "edge-vae" / "agent.toml"
WHOLE = parse(re.sub(r"^#(?=\S)", "", EXAMPLE.read_text(), flags=re.MULTILINE))
"""The shipped example with everything that is commented out in it."""

SECRETS = ("mqtt.pass", "ca.pem", "opcua.pass", "opcua.pem", "opcua.key", "plc.der")
NUMBERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(), st.sampled_from([0, 1, -1, 0.5, 65536]))
WORDS = st.one_of(st.text(max_size=20), st.sampled_from(["", "#", "a/b", "/dev/ttyUSB0", "none", "drop_oldest"]))
SCALARS = st.one_of(NUMBERS, WORDS, st.booleans(), st.just(dt.date(2026, 3, 1)))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=5,
)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every key and item of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for name, item in items for found in [(*way, name), *places(item, (*way, name))]]


PLACES = places(WHOLE)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """The example with one to three things in it changed, taken away, renamed or added."""
    document = copy.deepcopy(WHOLE)
    for way in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3)):
        parent: Any = document
        try:
            for name in way[:-1]:
                parent = parent[name]
            parent[way[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # gone with what was changed before
        match draw(st.sampled_from(["replace", "replace", "remove", "rename", "add"])):
            case "replace":
                parent[way[-1]] = draw(VALUES)
            case "remove":
                del parent[way[-1]]
            case "rename" if isinstance(parent, dict):
                parent[draw(st.one_of(WORDS, st.just(f"{way[-1]}s")))] = parent.pop(way[-1])
            case _ if isinstance(parent, dict):
                parent[draw(WORDS)] = draw(VALUES)
    return document


def written(document: dict[str, Any]) -> str:
    """A TOML document: a table as such where it can be, and everything else as a value."""
    lines: list[str] = []
    for name, value in document.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            lines += [line for item in value for line in [f"[[{literal(name)}]]", *pairs(item, (name,))]]
        elif isinstance(value, dict):
            lines += [f"[{literal(name)}]", *pairs(value, (name,))]
        else:
            lines.insert(0, f"{literal(name)} = {literal(value)}")
    return "\n".join(lines) + "\n"


def pairs(table: dict[str, Any], way: tuple[str, ...]) -> list[str]:
    plain = {name: value for name, value in table.items() if not isinstance(value, dict)}
    lines = [f"{literal(name)} = {literal(value)}" for name, value in plain.items()]
    for name, value in table.items():
        if isinstance(value, dict):
            header = ".".join(literal(part) for part in (*way, name))
            lines += [f"[{header}]", *pairs(value, (*way, name))]
    return lines


def read(text: str, folder: Path) -> AgentConfig:
    """What the text says, with the secrets beside it that the example names."""
    for name in SECRETS:
        (folder / name).write_text("s3cret\n")
    file = folder / "agent.toml"
    file.write_text(text)
    return read_config(file)


def test_the_whole_example_is_right(tmp_path: Path) -> None:
    config = read(written(WHOLE), tmp_path)

    assert read(effective(config), tmp_path) == config


@settings(max_examples=100, deadline=None)
@given(documents())
def test_what_is_wrong_is_told_with_line_key_and_expectation(document: dict[str, Any]) -> None:
    text = written(document)
    with tempfile.TemporaryDirectory() as folder:
        config, error = outcome(text, Path(folder))
        if config is not None:
            assert read(effective(config), Path(folder)) == config
        if error is not None:
            check_problems(error, text)


def outcome(text: str, folder: Path) -> tuple[AgentConfig | None, ConfigError | None]:
    try:
        return read(text, folder), None
    except ConfigError as error:
        return None, error


def check_problems(error: ConfigError, text: str) -> None:
    lines = text.split("\n")
    for problem in error.problems:
        assert 1 <= problem.line <= len(lines)
        assert "expected" in problem.message, problem
        assert "\n" not in str(problem.message)
        assert problem.key
        line, names = lines[problem.line - 1], [part for part in re.split(r"[.\[\]]", problem.key) if part]
        assert any(name in line for name in names) or problem.line == 1 or '"' in problem.key, (problem, line)


@settings(max_examples=8, deadline=None)
@given(documents())
def test_a_wrong_file_ends_the_commands_with_status_78_and_one_line_for_each_problem(document: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _, error = outcome(written(document), Path(folder))
        if error is not None:
            file = str(Path(folder) / "agent.toml")
            assert run(["run", "--config", file]) == error.exit_status == EX_CONFIG
            assert run(["check-config", file]) == EX_CONFIG
            assert len(list(Path(folder).iterdir())) == len(SECRETS) + 1  # no state was begun


@pytest.mark.parametrize("text", ["[node", "a = ", "\x00", "[node]\nsite = 'p'\nsite = 'q'", "é = 1", ""])
def test_a_file_that_is_no_toml_is_told_with_its_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text, tmp_path)

    assert all(problem.line >= 1 for problem in caught.value.problems)
