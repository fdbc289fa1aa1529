"""Fine-tuning: it starts from what was learned, keeps what the encoder sees, and is refused when it does not help."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

import damage
from edge_vae.bundle import Bundle, Modes
from edge_vae.cli import run
from edge_vae.errors import BundleError, DataError, TrainingError
from edge_vae.explain import Explanation
from edge_vae.score import Tail, Term
from edge_vae_train.finetune import EPOCHS, MAX_FOUND_LESS, Gain, Origin, expect_gain
from edge_vae_train.run_folder import Run
from edge_vae_train.tflite_weights import read_weights

pytestmark = pytest.mark.keras

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def other_machine(tmp_path_factory: pytest.TempPathFactory, rig: Path) -> Path:
    """Three minutes of a rig of the same kind, whose sensors stand elsewhere and whose flow follows otherwise."""
    file = tmp_path_factory.mktemp("other") / "other.csv"
    table = pd.read_csv(rig / "healthy" / "run-2.csv").iloc[:1800]
    table["pressure_bar"] = 3.0 + 0.5 * table["pressure_bar"]
    table["flow_l_min"] = 200.0 - table["flow_l_min"].rolling(5, min_periods=1).mean()
    table.to_csv(file, index=False)
    return file


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, run_folder: Path, other_machine: Path) -> Run:
    folder = tmp_path_factory.mktemp("tuned") / "run"
    assert run(["train", str(other_machine), "--from", str(run_folder), "--epochs", "8", "-o", str(folder)]) == 0
    return Run.read(folder)


def weights(folder: Run, view: str) -> dict[tuple[str, str], list[np.ndarray[Any, Any]]]:
    graph = folder.graph(view)
    return {
        (part, layer.name): layer.get_weights()
        for part in ("encoder", "decoder")
        for layer in graph.get_layer(part).layers
        if layer.weights
    }


def equal(one: list[np.ndarray[Any, Any]], other: list[np.ndarray[Any, Any]]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("view", "frozen"), [("window", {"down1", "down2", "narrow"}), ("features", {"wide", "narrow"})]
)
def test_what_the_encoder_sees_stays_and_the_rest_follows_the_new_machine(
    tuned: Run, run_folder: Path, view: str, frozen: set[str]
) -> None:
    before, after = weights(Run.read(run_folder), view), weights(tuned, view)
    assert before.keys() == after.keys()
    same = {key for key in before if equal(before[key], after[key])}
    kept_old = "so the old weights are kept" in next(n for n in tuned.record.notes if f"view {view}: fine-tun" in n)
    assert same == (set(before) if kept_old else {("encoder", name) for name in frozen})
    assert view == "features" or not kept_old


def test_scaler_variance_and_terms_are_those_of_the_new_machine(
    tuned: Run, run_folder: Path, other_machine: Path
) -> None:
    old, new = Run.read(run_folder).record, tuned.record
    table = pd.read_csv(other_machine)
    for channel in new.channels:
        assert channel.centre == pytest.approx(table[channel.name].mean(), rel=1e-6)
    assert [c.name for c in new.channels] == [c.name for c in old.channels]
    assert [term.name for term in new.terms] == [term.name for term in old.terms]
    assert {view.name for view in new.views} == {view.name for view in old.views}
    for one, other in zip(old.views, new.views, strict=True):
        assert one.name == "pca" or one.variance != other.variance
    assert (new.settings.window, new.settings.model) == (old.settings.window, old.settings.model)


def test_the_run_says_what_it_was_made_of_and_what_was_compared(tuned: Run, run_folder: Path) -> None:
    notes = " ".join(tuned.record.notes)
    assert f"fine-tuned from run {run_folder.name}, made {Run.read(run_folder).record.created}" in notes
    for view in ("window", "features"):
        assert f"view {view}: fine-tuning took the held-out loss from " in notes
        assert tuned.record.training.fits[view].epochs == 9  # the old weights are the first
    assert "and the ROC-AUC on synthetic faults from 0." in notes


def test_a_fine_tuned_run_becomes_a_bundle_and_can_be_fine_tuned_again(
    tmp_path: Path, tuned: Run, other_machine: Path
) -> None:
    bundle = tmp_path / "other.evb"
    assert run(["convert", str(tuned.folder), "--no-gate", "-o", str(bundle)]) == 0
    arguments = ["score", str(bundle), str(other_machine), "-o", str(tmp_path / "s.csv")]
    assert run(arguments) == 0
    assert Origin.read(tuned.folder).model("window").vae.architecture.family == "conv"


def test_a_bundle_is_as_good_a_start_as_its_run(bundle_path: Path, run_folder: Path) -> None:
    packed, whole = Origin.read(bundle_path), Origin.read(run_folder)
    assert packed.told == f"bundle {bundle_path.name}, sha256 {Bundle.read(bundle_path).sha256}"
    assert packed.settings.training.epochs == whole.settings.training.epochs == EPOCHS
    for table in ("window", "baseline", "calibration"):
        assert getattr(packed.settings, table) == getattr(whole.settings, table)
    assert packed.settings.data.channels == whole.settings.data.channels
    for view, fit in whole.fits.items():
        read, kept = packed.model(view), whole.model(view)
        assert read.beta == kept.beta == fit.beta
        for a, b in zip(read.vae.decoder.get_weights(), kept.vae.decoder.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, atol=0.01 * np.abs(b).max() + 1e-3)


def test_training_starts_from_the_weights_of_a_bundle(tmp_path: Path, bundle_path: Path, other_machine: Path) -> None:
    arguments = ["train", str(other_machine), "--from", str(bundle_path), "--epochs", "3", "-o", str(tmp_path / "run")]
    assert run(arguments) == 0
    frozen = weights(Run.read(tmp_path / "run"), "window")["encoder", "down1"]
    joined = Bundle.read(bundle_path).models["scoring"]
    assert equal(frozen, list(read_weights(joined, prefix="window/")["encoder", "down1"]))


def with_model(bundle: Bundle, **fit: Any) -> Origin:
    """An origin whose manifest tells something else of the window's model."""
    training = bundle.manifest.training
    fits = {**training.fits, "window": msgspec.structs.replace(training.fits["window"], **fit)}
    changed = msgspec.structs.replace(bundle.manifest, training=msgspec.structs.replace(training, fits=fits))
    wrong = Bundle(changed, bundle.models, bundle.golden, bundle.reference)
    return Origin("bundle x", _settings(wrong), changed.rate_hz, None, changed.views, fits, wrong)


def _settings(bundle: Bundle) -> Any:
    data = {"channels": bundle.manifest.channel_names}
    from edge_vae_train.settings import Settings

    return msgspec.convert({"data": data, "window": {"length": bundle.manifest.window.length}}, Settings)


def test_a_bundle_whose_weights_fit_another_graph_is_refused(bundle_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"view window cannot be read back out of the bundle: .*layer seed"):
        with_model(Bundle.read(bundle_path), latent=5).model("window")


def test_a_damaged_model_with_the_right_hash_is_refused_or_gives_weights(bundle_path: Path, tmp_path: Path) -> None:
    bundle, chance, path = Bundle.read(bundle_path), random.Random(2), tmp_path / "damaged.evb"
    name = next(iter(bundle.models))
    for damaged in list(damage.DAMAGES.values()) * 2:
        damage.with_model(bundle, name, damaged(bundle.models[name], chance)).write(path)
        with suppress(BundleError, ValueError):
            assert Origin.read(path)._weights("window")


def test_a_bundle_whose_rebuilt_graph_reconstructs_something_else_is_refused(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shaken(model: bytes, prefix: str) -> Any:
        found = dict(read_weights(model, prefix=prefix))
        found["decoder", "up1"] = tuple(array[..., ::-1] for array in found["decoder", "up1"])
        return found

    monkeypatch.setattr("edge_vae_train.finetune.read_weights", shaken)
    with pytest.raises(TrainingError, match="times its power as difference"):
        Origin.read(bundle_path).model("window")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--window", "30"], "expected window.length 32 as there, received 30"),
        (["--stride", "5"], "expected window.stride 4 as there, received 5"),
        (["--model", "tcn"], "expected model.family conv as there, received tcn"),
        (["--latent", "4"], "expected model.latent 8 as there, received 4"),
        (["--baseline", "9"], "expected baseline.samples 0 as there, received 9"),
        (["--modes", "speed_rpm"], "expected data.modes"),
        (["--channels", "current_a"], "expected data.channels current_a,speed_rpm,"),
        (["--rate", "5"], "expected --rate 10 as there, received 5"),
        (["--config", "edge-vae.toml"], "--from and --config: expected one of them"),
    ],
)
def test_an_option_that_the_model_answers_otherwise_is_wrong_usage(
    tmp_path: Path,
    run_folder: Path,
    other_machine: Path,
    capsys: pytest.CaptureFixture[str],
    option: list[str],
    says: str,
) -> None:
    arguments = ["train", str(other_machine), "--from", str(run_folder), "-o", str(tmp_path / "run"), *option]
    assert run(arguments) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_fine_tuning_that_does_not_help_is_refused_in_one_line(
    tmp_path: Path,
    run_folder: Path,
    rig: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the very machine that the model knows, with steps of no size, nothing is gained."""
    monkeypatch.setattr("edge_vae_train.fit.TUNING_RATE", 0.0)
    arguments = ["train", str(rig / "healthy"), "--from", str(run_folder), "--epochs", "1", "-o", str(tmp_path / "run")]
    assert run(arguments) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "fine-tuning made no model better on the new machine: expected a held-out loss below" in last
    assert not (tmp_path / "run").exists()


def gain(before: float, after: float, *found: float) -> Gain:
    found_before, found_after = found or (0.8, 0.8)
    return Gain(before=before, after=after, found_before=found_before, found_after=found_after)


def test_one_view_that_gained_is_enough_and_the_other_is_told_to_keep_its_weights() -> None:
    gains = {"window": gain(0.5, 0.4, 0.8, 0.85), "features": gain(0.2, 0.21)}
    expect_gain(gains)
    assert (
        gains["window"]
        .told("window")
        .endswith(
            "from 0.5000 (old weights, scaler and variance fitted anew) to 0.4000, "
            "and the ROC-AUC on synthetic faults from 0.800 to 0.850"
        )
    )
    assert gains["features"].told("features").endswith("to 0.2100, so the old weights are kept")


@pytest.mark.parametrize("after", [0.5, 0.6])
def test_no_gain_in_any_view_is_refused(after: float) -> None:
    with pytest.raises(
        TrainingError, match=r"scaler and variance fitted anew, 0\.5000 \(window\), received 0\.[56]000"
    ):
        expect_gain({"window": gain(0.5, after)})


def test_a_view_that_finds_clearly_less_is_refused_in_spite_of_its_loss() -> None:
    expect_gain({"window": gain(0.5, 0.4, 0.8, 0.8 - MAX_FOUND_LESS + 1e-6)})
    with pytest.raises(TrainingError, match=r"fitted anew, 0\.800 \(window\), received 0\.740 \(window\)\. Give fewer"):
        expect_gain({"window": gain(0.5, 0.4, 0.8, 0.74), "features": gain(0.2, 0.1)})


def waves(file: Path, *, seed: int, lead: float) -> Path:
    """A minute of three sines at 10 Hz, each ahead of the one before."""
    t = np.arange(600)
    noise = np.random.default_rng(seed).normal(0, 0.1, (600, 3))
    values = np.sin(t[:, None] / 5.0 + lead * np.arange(3)) + noise
    pd.DataFrame(values, columns=["a", "b", "c"]).assign(time=t / 10).to_csv(file, index=False)
    return file


@pytest.fixture(scope="module")
def waving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a model that knows such sines."""
    folder = tmp_path_factory.mktemp("waving")
    config = folder / "edge-vae.toml"
    config.write_text(
        "[window]\nlength = 16\nstride = 4\n[training]\nepochs = 25\n[model]\nlatent = 4\n"
        "[calibration]\nscore = ['window.nll']\n"
    )
    files = [str(waves(folder / f"{seed}.csv", seed=seed, lead=1.0)) for seed in (0, 1)]
    assert run(["train", *files, "--config", str(config), "-o", str(folder / "run")]) == 0
    return folder / "run"


def test_a_model_that_learned_the_new_machine_finds_as_much_as_before(tmp_path: Path, waving: Path) -> None:
    new = waves(tmp_path / "new.csv", seed=2, lead=1.3)
    assert run(["train", str(new), "--from", str(waving), "--epochs", "5", "-o", str(tmp_path / "run")]) == 0
    note = next(note for note in Run.read(tmp_path / "run").record.notes if "fine-tuning took" in note)
    before, after = map(float, note.rpartition("synthetic faults from ")[2].split(" to "))
    assert 0.9 < before <= after <= 1.0


def test_a_model_that_fine_tuning_blinded_is_refused_in_one_line(
    tmp_path: Path, waving: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a KL weight that outweighs all else the loss falls, and what falls silent are the latent units."""
    record = msgspec.json.decode((waving / "run.json").read_bytes())
    record["training"]["fits"]["window"]["beta"] = 100.0
    blinding = shutil.copytree(waving, tmp_path / "blinding")
    (blinding / "run.json").write_bytes(msgspec.json.encode(record))
    monkeypatch.setattr("edge_vae_train.fit.TUNING_RATE", 5e-3)
    new = waves(tmp_path / "new.csv", seed=2, lead=1.0)
    assert run(["train", str(new), "--from", str(blinding), "--epochs", "10", "-o", str(tmp_path / "run")]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "fine-tuning made a model find fewer faults on the new machine: expected a ROC-AUC on synthetic" in last
    assert not (tmp_path / "run").exists()


def test_data_without_a_channel_of_the_model_is_refused(
    tmp_path: Path, run_folder: Path, other_machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.read_csv(other_machine).drop(columns="flow_l_min").to_csv(tmp_path / "less.csv", index=False)
    arguments = ["train", str(tmp_path / "less.csv"), "--from", str(run_folder), "-o", str(tmp_path / "run")]
    assert run(arguments) == DataError.exit_status == 1
    assert "flow_l_min" in capsys.readouterr().err


def test_other_operating_modes_are_refused(run_folder: Path) -> None:
    origin = Origin.read(run_folder)
    origin.expect_modes(None)
    one = Modes(("recipe",), ((1.0,), (2.0,)), ((0.0,), (0.0,)), ((1.0,), (1.0,)))
    with pytest.raises(TrainingError, match="expected rows of each of the modes none, received 1; 2"):
        origin.expect_modes(one)


def saved(bundle: Bundle, path: Path, **changed: Any) -> Path:
    manifest = msgspec.structs.replace(bundle.manifest, **changed)
    models = {view.name: bundle.models[view.name] for view in manifest.views if view.model}
    reference = {name: array for name, array in bundle.reference.items() if manifest.views or "lag_" not in name}
    Bundle(manifest, models, bundle.golden, reference).write(path)
    return path


def test_a_linear_model_is_no_start(tmp_path: Path, parts_path: Path) -> None:
    bundle = Bundle.read(parts_path)
    training = bundle.manifest.training
    fits = {**training.fits, "window": msgspec.structs.replace(training.fits["window"], family="linear")}
    path = saved(bundle, tmp_path / "linear.evb", training=msgspec.structs.replace(training, fits=fits))
    with pytest.raises(TrainingError, match=r"nothing to fine-tune.*a linear model in view window, which is solved"):
        Origin.read(path)


def test_a_score_without_a_model_is_no_start(tmp_path: Path, parts_path: Path) -> None:
    bundle = Bundle.read(parts_path)
    manifest = bundle.manifest
    path = saved(
        bundle,
        tmp_path / "plain.evb",
        views=(),
        score=(Term("z", Tail(0.0, 1.0)),),
        training=msgspec.structs.replace(manifest.training, fits={}),
        explanation=Explanation("share", (), (), {}),
    )
    with pytest.raises(TrainingError, match=r"nothing to fine-tune.*received a score without a model"):
        Origin.read(path)
