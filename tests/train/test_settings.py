"""edge-vae.toml: what it may say, and that the command line overrides it."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
import pytest

from edge_vae import toml_file
from edge_vae.cli import run
from edge_vae.errors import EX_CONFIG, ConfigError
from edge_vae.score import TERMS
from edge_vae_train.cli import _PLACES, _settings, columns_of, train
from edge_vae_train.settings import Settings

WHOLE = """
[data]
rate_hz = 12.5
time = "t"
channels = ["a", "b"]
label = "fault"
ignore = ["note"]
modes = ["recipe", "load"]
scaling = "robust"
[window]
length = 33
stride = 3
[baseline]
samples = 100
[model]
family = "conv"
latent = 4
beta = 2.0
[training]
epochs = 7
batch_size = 32
seed = 11
clean = 0.05
clean_by = "model"
masked = 0.1
[calibration]
false_alarms_per_day = 2.0
score = ["window.mse"]
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "edge-vae.toml"
    file.write_text(text)
    return file


def problem(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        toml_file.read(written(folder, text), Settings)
    return str(caught.value)


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    settings = toml_file.read(written(tmp_path, WHOLE), Settings)
    assert (settings.window.length, settings.window.stride) == (33, 3)
    assert settings.data.channels == ("a", "b")
    assert settings.calibration.score == ("window.mse",)
    assert (settings.model.beta, settings.training.seed, settings.baseline.samples) == (2.0, 11, 100)
    columns = columns_of(settings)
    assert (columns.time, columns.label, columns.channels, columns.ignore, columns.modes, columns.rate_hz) == (
        "t", "fault", ("a", "b"), ("note",), ("recipe", "load"), 12.5,
    )  # fmt: skip


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert toml_file.read(written(tmp_path, ""), Settings) == Settings()
    assert Settings().data.modes == ()


FEW, MANY = ("window.nll", "features.nll"), ("window.max", "features.nll", "features.level", "pca")


@pytest.mark.parametrize(
    ("document", "channels", "terms"),
    [
        ({}, 1, (*FEW, "pca", "features.mahalanobis")),
        ({}, 2, (*FEW, "features.level")),
        ({}, 3, (*FEW, "features.level")),
        ({}, 4, (*MANY, "features.mahalanobis")),
        ({}, 30, (*MANY, "features.mahalanobis")),
        ({"data": {"modes": ["recipe"]}}, 1, (*FEW, "pca", "features.student")),
        ({"data": {"modes": ["recipe"]}}, 3, (*FEW, "features.level")),
        ({"data": {"modes": ["recipe"]}}, 4, (*MANY, "features.student")),
        ({"baseline": {"samples": 1}}, 3, ("window.nll",)),
        ({"baseline": {"samples": 400}}, 30, ("window.nll",)),
        ({"baseline": {"samples": 400}, "data": {"modes": ["recipe"]}}, 30, ("window.nll",)),
    ],
)
def test_without_a_score_its_terms_follow_from_channels_modes_and_baseline(
    document: dict[str, object], channels: int, terms: tuple[str, ...]
) -> None:
    assert msgspec.convert(document, Settings).terms(channels) == terms
    assert set(terms) <= set(TERMS)


@pytest.mark.parametrize("channels", [2, 30])
@pytest.mark.parametrize("rest", [{}, {"baseline": {"samples": 9}}, {"data": {"modes": ["recipe"]}}])
def test_a_score_that_is_given_holds_for_any_data(rest: dict[str, object], channels: int) -> None:
    given = msgspec.convert({"calibration": {"score": ["pca", "window.t2"]}, **rest}, Settings)
    assert given.terms(channels) == ("pca", "window.t2")


def test_a_term_that_is_named_twice_counts_once() -> None:
    given = msgspec.convert({"calibration": {"score": ["z", "pca", "z"]}}, Settings)
    assert given.terms(8) == ("z", "pca")


@pytest.mark.parametrize("term", TERMS)
def test_every_term_can_be_named_and_no_part_of_its_name(term: str) -> None:
    assert msgspec.convert({"calibration": {"score": [term]}}, Settings).terms(4) == (term,)
    for wrong in (f"{term}x", f"x{term}", term.replace(".", "-") if "." in term else f"{term}.mse"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"calibration": {"score": [wrong]}}, Settings)


@pytest.mark.parametrize(
    ("document", "beta"),
    [
        ({}, 1.0),
        ({"data": {"modes": ["recipe"]}}, 4.0),
        ({"model": {"beta": 0.5}}, 0.5),
        ({"data": {"modes": ["recipe"]}, "model": {"beta": 0.5}}, 0.5),
    ],
)
def test_beta_is_1_and_4_with_modes_unless_it_is_given(document: dict[str, object], beta: float) -> None:
    assert msgspec.convert(document, Settings).beta == beta


@pytest.mark.parametrize("family", ["conv", "dense", "linear", "tcn"])
def test_every_family_can_be_named(family: str) -> None:
    assert msgspec.convert({"model": {"family": family}}, Settings).model.family == family


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[window]\nlenght = 3\n", ":2: window.lenght: "),
        ("[windows]\n", ":1: windows: "),
        ("\n[window]\nlength = 3\n", ":3: window.length: "),
        ("[window]\nlength = 32.5\n", ":2: window.length: "),
        ("[model]\nfamily = 'gru'\n", ":2: model.family: "),
        ("[calibration]\nscore = []\n", ":2: calibration.score"),
        ("[calibration]\nscore = ['z', 'entropy']\n", "calibration.score"),
        ("[calibration]\nscore = ['window.z']\n", "calibration.score"),
        ("[calibration]\nscore = ['window_nll']\n", "calibration.score"),
        ("[model]\nbeta = 0\n", ":2: model.beta: "),
        ("[data]\nmodes = 'recipe'\n", ":2: data.modes: "),
        ("[data]\nmodes = ['']\n", ":2: data.modes"),
        ("[calibration]\nfalse_alarms_per_day = 0\n", ":2: calibration.false_alarms_per_day: "),
        ("[training]\nseed = -1\n", ":2: training.seed: "),
        ("[data]\nrate_hz = 0\n", ":2: data.rate_hz: "),
        ("[data]\nlabel = ''\n", ":2: data.label: "),
        ("[data]\nscaling = 'minmax'\n", ":2: data.scaling: "),
        ("[training]\nclean = 0.31\n", ":2: training.clean: "),
        ("[training]\nclean_by = 'hand'\n", ":2: training.clean_by: "),
        ("[training]\nmasked = 1.0\n", ":2: training.masked: "),
        ("[training]\nmasked = 0.1\n[model]\nfamily = 'linear'\n", ":2: training.masked: expected 0 for family linear"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line_and_key(tmp_path: Path, text: str, says: str) -> None:
    line = problem(tmp_path, text)
    assert says in line
    assert str(tmp_path / "edge-vae.toml") in line


def test_a_misspelt_key_is_answered_with_the_right_one(tmp_path: Path) -> None:
    assert "did you mean 'length'" in problem(tmp_path, "[window]\nlenght = 3\n")


def test_a_misspelt_key_ends_training_with_status_78_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, "[training]\nepoch = 3\n")
    arguments = ["train", str(tmp_path), "--config", str(file), "-o", str(tmp_path / "run")]
    assert run(arguments) == EX_CONFIG == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"edge-vae: {file}:2: training.epoch: ")
    assert len(err.splitlines()) == 1
    assert "epochs" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("file", ["none.toml", "."])
def test_a_configuration_that_cannot_be_read_ends_with_status_78(tmp_path: Path, file: str) -> None:
    assert run(["train", str(tmp_path), "--config", str(tmp_path / file), "-o", str(tmp_path / "run")]) == EX_CONFIG


def test_options_override_the_file_and_leave_the_rest(tmp_path: Path) -> None:
    options = dict.fromkeys(_PLACES) | {
        "length": 48, "seed": 0, "label": "other", "baseline": 0, "family": "tcn", "modes": ("load",),
    }  # fmt: skip
    settings = _settings(written(tmp_path, WHOLE), options)
    assert (settings.window.length, settings.window.stride) == (48, 3)
    assert (settings.training.seed, settings.training.epochs) == (0, 7)
    assert (settings.data.label, settings.data.time) == ("other", "t")
    assert settings.baseline.samples == 0
    assert (settings.model.family, settings.model.latent, settings.data.modes) == ("tcn", 4, ("load",))
    assert _settings(None, dict.fromkeys(_PLACES)) == Settings()


def test_options_that_exclude_each_other_are_wrong_usage_whichever_comes_first(tmp_path: Path) -> None:
    linear = written(tmp_path, "[model]\nfamily = 'linear'\n")
    none = dict.fromkeys(_PLACES)
    with pytest.raises(click.UsageError, match=r"training\.masked: expected 0 for family linear, received 0\.2"):
        _settings(linear, none | {"masked": 0.2})
    assert _settings(linear, none | {"masked": 0.2, "family": "conv"}).training.masked == 0.2


def test_every_option_that_sets_something_has_its_place() -> None:
    others = {"data", "folder", "config", "origin", "as_json"}
    assert {str(parameter.name) for parameter in train.params} - others == set(_PLACES)
    for table, key in _PLACES.values():
        assert key in getattr(Settings(), table).__struct_fields__


def test_settings_survive_the_way_through_json() -> None:
    changed = msgspec.convert({"window": {"length": 12}, "data": {"label": "x"}}, Settings)
    assert msgspec.json.decode(msgspec.json.encode(changed), type=Settings) == changed
