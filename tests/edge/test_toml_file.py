"""TOML files into tables: every problem, at its line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, field

from edge_vae.errors import EX_CONFIG, ConfigError
from edge_vae.toml_file import problems_at, read
from edge_vae.toml_lines import Key, Lines, dotted
from edge_vae.toml_table import CREDENTIAL, Mistake, Table
from edge_vae.toml_text import document, literal, parse
from edge_vae.toml_words import expectation, nearest


class Dog(Table, frozen=True, kw_only=True, tag_field="type", tag="dog"):
    name: Annotated[str, Meta(min_length=2, extra={"expected": "a name of two letters"})]
    legs: Annotated[int, Meta(ge=0, le=4)] = 4


class Fish(Table, frozen=True, kw_only=True, tag_field="type", tag="fish"):
    depth_m: Annotated[float, Meta(gt=0)] = 1.5


class House(Table, frozen=True, kw_only=True):
    pets: Annotated[tuple[Dog | Fish, ...], Meta(min_length=1)] = field(name="pet")
    colour: Literal["red", "green"] = "red"
    size: tuple[int, int] | None = None
    rooms: tuple[Literal["hall", "attic"], ...] = ("hall",)
    deed: Path | None = None
    secret: Annotated[Path, CREDENTIAL] | None = None
    cat: Dog | None = None

    def mistakes(self) -> Iterator[Mistake]:
        if self.colour == "green" and len(self.pets) > 1:
            yield ("pet", 1), "expected one pet in a green house, received more"


def write(folder: Path, text: str) -> Path:
    file = folder / "house.toml"
    file.write_text(text, encoding="utf-8")
    return file


def problems(folder: Path, text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigError) as caught:
        read(write(folder, text), House)
    return [(problem.line, problem.key, problem.message) for problem in caught.value.problems]


def test_a_right_file_becomes_the_table_with_its_defaults(tmp_path: Path) -> None:
    house = read(write(tmp_path, '[[pet]]\ntype = "dog"\nname = "Rex"\n[[pet]]\ntype = "fish"\ndepth_m = 2\n'), House)

    assert house == House(pets=(Dog(name="Rex", legs=4), Fish(depth_m=2.0)))


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    file = tmp_path / "house.toml"
    file.write_bytes(b'\xef\xbb\xbf[[pet]]\r\ntype = "fish"\r\ndepth_m = 0\r\n')

    with pytest.raises(ConfigError) as caught:
        read(file, House)
    assert [(problem.line, problem.key) for problem in caught.value.problems] == [(3, "pet[0].depth_m")]


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        (
            'colour = "geen"\npet = [{ type = "fish" }]',
            1,
            "colour",
            'expected one of "green", "red", received "geen"; did you mean \'green\'?',
        ),
        (
            '[[pet]]\ntype = "dog"\nname = "Rex"\nlags = 3',
            4,
            "pet[0].lags",
            "unknown key, expected one of legs, name, type; did you mean 'legs'?",
        ),
        (
            '[[pet]]\ntype = "fish"\nhorn = 3',
            3,
            "pet[0].horn",
            "unknown key, expected one of depth_m, type",
        ),
        (
            '[[pet]]\ntype = "dog"\nname = "Rex"\nlegs = 5',
            4,
            "pet[0].legs",
            "expected a whole number from 0 to 4, received 5",
        ),
        (
            '[[pet]]\ntype = "dog"\nname = "Rex"\nlegs = true',
            4,
            "pet[0].legs",
            "expected a whole number from 0 to 4, received true",
        ),
        (
            '[[pet]]\ntype = "dog"\nname = "R"',
            3,
            "pet[0].name",
            'expected a name of two letters, received "R"',
        ),
        (
            '\n[[pet]]\ntype = "dog"',
            2,
            "pet[0].name",
            "expected a name of two letters, received nothing: the key is missing",
        ),
        (
            '[[pet]]\ntype = "fish"\ndepth_m = inf',
            3,
            "pet[0].depth_m",
            "expected a number above 0, received inf",
        ),
        (
            '[[pet]]\ntype = "fisch"',
            2,
            "pet[0].type",
            'expected one of "dog", "fish", received "fisch"; did you mean \'fish\'?',
        ),
        (
            "[[pet]]\nlegs = 1",
            1,
            "pet[0].type",
            'expected one of "dog", "fish", received nothing: the key is missing',
        ),
        (
            '[[pet]]\ntyp = "fish"',
            2,
            "pet[0].typ",
            'unknown key, expected type = one of "dog", "fish"; did you mean \'type\'?',
        ),
        ("pet = [3]", 1, "pet[0]", "expected a table, received 3"),
        ("pet = []", 1, "pet", "expected a list, each item a table, received []"),
        (
            'pet = [{ type = "fish" }]\nsize = [1, 2, 3]',
            2,
            "size",
            "expected [a whole number, a whole number], received [1, 2, 3]",
        ),
        (
            'pet = [{ type = "fish" }]\nrooms = [\n  "hall",\n  "atic",\n]',
            4,
            "rooms[1]",
            'expected one of "attic", "hall", received "atic"; did you mean \'attic\'?',
        ),
        ('pet = [{ type = "fish" }]\ndeed = 7', 2, "deed", "expected a path, received 7"),
        ('pet = [{ type = "fish" }]\ncat = "Tom"', 2, "cat", 'expected a table, received "Tom"'),
        (
            'colour = "green"\n[[pet]]\ntype = "fish"\n[[pet]]\ntype = "fish"',
            4,
            "pet[1]",
            "expected one pet in a green house, received more",
        ),
    ],
)
def test_a_mistake_is_told_with_line_key_and_what_was_expected(
    tmp_path: Path, text: str, line: int, key: str, message: str
) -> None:
    assert problems(tmp_path, text) == [(line, key, message)]


def test_all_problems_are_told_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        'colour = "green"\nsize = "big"\n[[pet]]\ntype = "dog"\nlegs = 9\n[[pet]]\ntype = "fish"\ndepth = 1\n[roof]\n',
    )

    assert [(line, key) for line, key, _ in found] == [
        (2, "size"),
        (3, "pet[0].name"),
        (5, "pet[0].legs"),
        (6, "pet[1]"),  # the rule is checked on what is right, although other values are wrong
        (8, "pet[1].depth"),
        (9, "roof"),
    ]


def test_a_rule_over_a_wrong_value_waits_until_the_value_is_right(tmp_path: Path) -> None:
    found = problems(tmp_path, 'colour = 3\npet = [{ type = "fish" }, { type = "fish" }]')

    assert [key for _, key, _ in found] == ["colour"]


def test_the_error_names_the_file_and_counts_the_rest_in_one_line(tmp_path: Path) -> None:
    file = write(tmp_path, '[[pet]]\ntype = "dog"\nnmae = "Rex"\nlegs = 9\n')

    with pytest.raises(ConfigError) as caught:
        read(file, House)
    assert str(caught.value) == (
        f"{file}:3: pet[0].nmae: unknown key, expected one of legs, name, type; did you mean 'name'?"
        f"; 1 more, see: edge-vae check-config {file}"
    )
    assert caught.value.exit_status == EX_CONFIG


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('colour = "red"\nsize = = 3\n', 2, "column 8"),
        ("colour = [1,\n", 1, "expected TOML"),
        ("a = 1\na = 2\n", 2, "Cannot overwrite a value"),
    ],
)
def test_text_that_is_no_toml_is_told_with_its_line(tmp_path: Path, text: str, line: int, what: str) -> None:
    [(found_line, key, message)] = problems(tmp_path, text)

    assert (found_line, key) == (line, "syntax")
    assert what in message


def test_brackets_without_end_are_a_problem_and_no_crash(tmp_path: Path) -> None:
    [(_, key, _)] = problems(tmp_path, f"size = {'[' * 100_000}")

    assert key == "syntax"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"none\.toml:1: file: expected a TOML file that can be read, received: No such"
    ):
        read(tmp_path / "none.toml", House)
    with pytest.raises(ConfigError, match="Is a directory"):
        read(tmp_path, House)


def test_bytes_that_are_no_text_are_told_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "house.toml"
    file.write_bytes(b'colour = "red"\n# caf\xe9\n')

    with pytest.raises(ConfigError, match=r"house\.toml:2: encoding: expected UTF-8 text, received the byte 0xe9"):
        read(file, House)


def test_relative_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    write(tmp_path, 'pet = [{ type = "fish" }]\ndeed = "deeds/1.pdf"\n')
    monkeypatch.chdir(tmp_path)

    assert read("house.toml", House).deed == tmp_path / "deeds" / "1.pdf"

    write(tmp_path, 'pet = [{ type = "fish" }]\ndeed = "~/1.pdf"\n')
    assert read("house.toml", House).deed == Path("/home/someone/1.pdf")


def test_a_secret_is_looked_for_among_the_credentials_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tmp_path / "credentials"
    given.mkdir()
    (given / "key").write_text("from the service manager")
    (tmp_path / "key").write_text("beside the file")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(given))

    file = write(tmp_path, 'pet = [{ type = "fish" }]\nsecret = "key"\n')
    assert read(file, House).secret == given / "key"

    file = write(tmp_path, 'pet = [{ type = "fish" }]\nsecret = "./key"\n')
    assert read(file, House).secret == tmp_path / "key"


def test_a_secret_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    [(line, key, message)] = problems(tmp_path, 'pet = [{ type = "fish" }]\nsecret = "key"\n')

    assert (line, key) == (2, "secret")
    assert message == f"expected a file that can be read, received {tmp_path / 'key'}, which is none"


def test_rules_hold_for_tables_made_in_python_too() -> None:
    with pytest.raises(ValueError, match=r"pet\[1\]: expected one pet"):
        House(pets=(Fish(), Fish()), colour="green")


def test_problems_found_later_get_the_lines_of_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, 'colour = "red"\n[[pet]]\ntype = "fish"\n')

    found = problems_at(file, [(("pet", 0, "depth_m"), "too deep"), (("colour",), "too bright")])
    assert [(problem.line, problem.key) for problem in found] == [(1, "colour"), (2, "pet[0].depth_m")]


DOCUMENT = '''\
# a comment with [brackets] and = signs
title = "a # b"
dotted.key.here = 1
"quoted \\u00e9".'and more' = 2
list = [ # comment, with ] and ,
  1,
  [2, "]"], { x = 1,
  y = [3] },
]
text = """
[not.a.table]
"quoted" = 1 \\""" still"""
raw = \'\'\'it's
[neither]\'\'\'
when = 1979-05-27 07:32:00
[plain]
a = 1
[plain.inner]
b = 2
[[many]]
c = 1
[many.sub]
d = 1
[[many.deep]]
e = 1
[[many]]
[many.sub]
d = 2
[[many.deep]]
[[many.deep]]
e = 2
[ spaced . "out" ]
f = {}
'''


def test_every_key_of_a_document_has_its_line() -> None:
    lines = Lines(DOCUMENT)
    expected: dict[Key, int] = {
        ("title",): 2,
        ("dotted", "key", "here"): 3,
        ("quoted é", "and more"): 4,
        ("list",): 5,
        ("list", 0): 6,
        ("list", 1, 1): 7,
        ("list", 2, "x"): 7,
        ("list", 2, "y", 0): 8,
        ("text",): 10,
        ("raw",): 13,
        ("when",): 15,
        ("plain",): 16,
        ("plain", "a"): 17,
        ("plain", "inner", "b"): 19,
        ("many", 0): 20,
        ("many", 0, "sub", "d"): 23,
        ("many", 0, "deep", 0, "e"): 25,
        ("many", 1): 26,
        ("many", 1, "sub", "d"): 28,
        ("many", 1, "deep", 0): 29,
        ("many", 1, "deep", 1, "e"): 31,
        ("spaced", "out", "f"): 33,
    }

    assert {key: lines.of(key) for key in expected} == expected


def test_a_key_that_is_not_there_has_the_line_of_the_table_around_it() -> None:
    lines = Lines(DOCUMENT)

    assert lines.of(("many", 1, "sub", "missing")) == 27
    assert lines.of(("nowhere", "at", "all")) == 1


names = st.text(max_size=6)
values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


def paths(value: object, key: Key = ()) -> Iterator[Key]:
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, item in inner:
        yield (*key, name)
        yield from paths(item, (*key, name))


@given(st.dictionaries(names, values, max_size=4))
def test_values_survive_writing_and_reading_and_stand_where_they_were_written(table: dict[str, Any]) -> None:
    rows = [f"{literal(name)} = {literal(value)}" for name, value in table.items()]
    text = "\n".join(rows)

    assert parse(text) == table
    lines = Lines(text)
    for line, (name, value) in enumerate(table.items(), start=1):
        assert {lines.of((name, *path)) for path in [(), *paths(value)]} == {line}


def test_a_document_says_all_that_is_in_force_and_can_be_read_again(tmp_path: Path) -> None:
    house = House(pets=(Dog(name="Rex"), Fish()), size=(1, 2), cat=Dog(name='"Tom"'), deed=tmp_path / "deed")
    text = document(house)

    assert "# secret is not set\n" in text
    assert '[[pet]]\ntype = "dog"\nname = "Rex"\nlegs = 4\n' in text
    assert read(write(tmp_path, text), House) == house


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (bool, "true or false"),
        (Annotated[float, Meta(ge=0, lt=1)], "a number of at least 0 and below 1"),
        (str | None, "text"),
        (Path | None, "a path"),
        (tuple[int, ...], "a list, each item a whole number"),
        (Literal["start"], '"start"'),
        (Dog, "a table"),
    ],
)
def test_expectations_are_words(hint: Any, words: str) -> None:
    assert expectation(hint) == words


def test_the_nearest_word_is_found_whatever_its_case_and_dashes() -> None:
    assert nearest("Base-Topic", ["base_topic", "port"]) == "base_topic"
    assert nearest("pth", ["path", "port"]) == "path"
    assert nearest("colour", ["path", "port"]) is None


def test_dotted_keys_count_from_zero() -> None:
    assert dotted(("pipeline", 1, "source", "path")) == "pipeline[1].source.path"
    assert dotted(()) == ""
