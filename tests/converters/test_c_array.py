"""Bundles as C: compiled by a real compiler without a warning, run, and held against what Python computes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from broker import program
from c_program import SELF_TEST, compiled, run
from edge_vae.alarm import Alarm, AlarmRules, Change
from edge_vae.bundle import Bundle, Channel, Modes, WindowShape
from edge_vae.detector import load
from edge_vae.errors import GateError
from edge_vae.sample import FloatArray
from edge_vae.score import TERMS
from edge_vae.stream import Stream
from edge_vae_converters.c_array import c_array
from edge_vae_converters.representative import faulty
from edge_vae_train.prepare import WindowSet
from edge_vae_train.run_folder import Run
from every_term import CHANNELS, LENGTH, every_term_bundle, model_free_bundle
from plain_bundle import plain_bundle, plain_threshold

pytestmark = pytest.mark.keras

TOLERANCE = 2e-5
"""Part of a score or of the threshold, whichever is larger, by which C may differ, and of a share. C holds samples and
tables as float, whose rounding is 6e-8; over some hundreds of them 3e-6 was measured at most."""

LINE = re.compile(r"window \d+: score (\S+), expected (\S+), (anomalous|normal)")


@pytest.fixture(scope="module")
def bundle(parts_path: Path) -> Bundle:
    return Bundle.read(parts_path)


@pytest.fixture(scope="module")
def every_term() -> Bundle:
    return every_term_bundle()


def scores_of(lines: list[str]) -> FloatArray:
    return np.array([float(found[1]) for line in lines if (found := LINE.fullmatch(line))])


def as_read(bundle: Bundle) -> FloatArray:
    """The golden windows, scaled, of a device that reads float32: behind a centre of 1e5 few digits are left."""
    modes, windows = bundle.manifest.modes, bundle.golden["windows"].astype(np.float64)
    numbers = np.argmax(bundle.golden["conditions"] @ modes.conditions.T, axis=1) if modes else [0] * len(windows)
    scalers = [modes.scaler(i) if modes else bundle.manifest.scaler for i in numbers]
    read = [s.inverse(window).astype(np.float32) for s, window in zip(scalers, windows, strict=True)]
    return np.array([s(window.astype(np.float64)) for s, window in zip(scalers, read, strict=True)])


def expect_equal_scores(bundle: Bundle, folder: Path) -> list[str]:
    """Fail unless C gives the golden windows the scores that Python gives them; what it printed."""
    lines = run(compiled(c_array(bundle), folder))
    threshold = bundle.manifest.threshold.value
    expected = load(bundle, path="bundle")(as_read(bundle), bundle.golden["conditions"])[0].score
    found = scores_of(lines)
    assert len(found) == len(expected) > 0
    assert (np.abs(found - expected) <= TOLERANCE * np.maximum(expected, threshold)).all()
    assert [line.rpartition(", ")[2] == "anomalous" for line in lines[:-1]] == (found > threshold).tolist()
    return lines


def with_golden(bundle: Bundle, windows: WindowSet) -> Bundle:
    """The bundle with other golden windows."""
    scores, _ = load(bundle, path="bundle")(windows.windows.astype(np.float64), windows.conditions)
    golden = {"windows": windows.windows, "conditions": windows.conditions, "score": scores.score.astype(np.float32)}
    return dataclasses.replace(bundle, golden=golden)


def test_default_bundle_scores_in_c_as_in_python(bundle: Bundle, tmp_path: Path) -> None:
    terms = ["window.max", "features.nll", "features.level", "pca", "features.mahalanobis"]
    assert [term.name for term in bundle.manifest.score] == terms
    lines = expect_equal_scores(bundle, tmp_path)
    assert lines[-1].startswith("0 of 8 scores and baselines differ, 0 model inputs differ; ")


def test_normal_faulty_still_and_broken_windows_score_in_c_as_in_python(
    bundle: Bundle, run_folder: Path, tmp_path: Path
) -> None:
    normal = WindowSet.joined(Run.read(run_folder).held_out)[:24]
    wild = faulty(normal, count=24, severity=8.0, clip=8.0, seed=1)
    still = WindowSet(np.repeat(normal.windows[:4, :1], normal.windows.shape[1], axis=1), normal.conditions[:4])
    broken = WindowSet(normal.windows[:4] * np.float32(3e3), normal.conditions[:4])
    lines = expect_equal_scores(with_golden(bundle, WindowSet.joined([normal, wild, still, broken])), tmp_path)
    assert len({line.rpartition(", ")[2] for line in lines[:-1]}) == 2


def test_every_term_with_modes_and_a_baseline_scores_in_c_as_in_python(every_term: Bundle, tmp_path: Path) -> None:
    assert [term.name for term in every_term.manifest.score] == list(TERMS)
    assert {view.model.precision for view in every_term.manifest.views if view.model} == {"int8", "float32"}
    assert every_term.manifest.baseline
    lines = expect_equal_scores(every_term, tmp_path)
    assert lines[-1].startswith("0 of 12 scores and baselines differ, 0 model inputs differ; ")


def test_bundle_without_a_model_scores_in_c_as_in_python(tmp_path: Path) -> None:
    expect_equal_scores(plain_bundle(), tmp_path)


def test_one_bundle_gives_the_same_files_always(bundle: Bundle) -> None:
    assert c_array(bundle) == c_array(bundle)
    assert {name for name in c_array(bundle) if name.endswith(".c")} == set(SELF_TEST)


NAMES = """
#include <stdio.h>

#include "edge_vae.h"

int main(void) {
  puts(edge_vae_channels[0]);
  return puts(EDGE_VAE_NAME) < 0;
}
"""


def test_any_name_of_a_bundle_or_a_channel_is_a_c_string(tmp_path: Path) -> None:
    name = 'pump "3" \\ */ ??/ é'
    made = plain_bundle(name=name, channels=(Channel(name, 2.0, 0.5),))
    sources = ("edge_vae.c", "edge_vae_model.c", "names.c")
    files = c_array(made) | {"names.c": NAMES.encode()}
    assert run(compiled(files, tmp_path, sources)) == [name, name]


@pytest.mark.parametrize(
    ("file", "wrong"),
    [
        ("edge_vae_model.c", (r"edge_vae_centre\[\d+\] = {\s*", r"\g<0>0.05 + ")),
        ("edge_vae_model.c", (r"edge_vae_hann\[\d+\] = {\s*", r"\g<0>0.5f + ")),
        ("edge_vae_model.c", (r"edge_vae_lag_mean\[\d+\] = {\s*", r"\g<0>0.5f + ")),
        ("edge_vae_model.c", (r"EDGE_VAE_LEVEL, \d, ", r"\g<0>0.1 + ")),
        ("edge_vae.c", (r"define TRIMMED_TERMS 0\.2", "define TRIMMED_TERMS 0.1")),
        ("edge_vae.c", (r"define MAD_TO_SIGMA 1\.4826", "define MAD_TO_SIGMA 1.4825")),
    ],
)
def test_self_test_finds_what_is_wrong(every_term: Bundle, tmp_path: Path, file: str, wrong: tuple[str, str]) -> None:
    files = c_array(every_term)
    changed, count = re.subn(*wrong, files[file].decode(), count=1)
    assert count == 1
    lines = run(compiled(files | {file: changed.encode()}, tmp_path), status=1)
    assert not lines[-1].startswith("0 of")


# A stream of samples


DRIVER = """
#include <math.h>
#include <stdio.h>

#include "edge_vae.h"

/* Lines of EDGE_VAE_MODE_COLUMNS mode values and EDGE_VAE_CHANNELS readings to: status, score, share of the first
 * channel, after a break, change of the alarm, mode, scale of the first channel. */
int main(void) {
  static edge_vae machine;
  edge_vae_alarm alarm = {0, 0, 0, 0.0f};
  edge_vae_result result;
  float read[EDGE_VAE_MODE_COLUMNS + EDGE_VAE_CHANNELS];
  edge_vae_init(&machine, NULL);
  for (;;) {
    edge_vae_status status;
    int i, change = 0;
    for (i = 0; i < EDGE_VAE_MODE_COLUMNS + EDGE_VAE_CHANNELS; i++) {
      if (scanf("%f", &read[i]) != 1) {
        return 0;
      }
    }
    edge_vae_set_mode(&machine, read);
    status = edge_vae_push(&machine, read + EDGE_VAE_MODE_COLUMNS, &result);
    if (status == EDGE_VAE_SCORED) {
      change = edge_vae_alarm_push(&alarm, &result);
      printf("%d %.9g %.9g %d %d %d %.9g\\n", (int)status, (double)result.score, (double)result.share[0],
             result.after_break, change, (int)machine.mode, machine.scale[0]);
    } else {
      printf("%d\\n", (int)status);
    }
  }
}
"""
STATUS = {"unusable": "2", "learning": "1", "waiting": "0", "scored": "3"}


def machine_data(count: int, *, seed: int) -> NDArray[np.float32]:
    """Rows of readings and mode values: quiet and loud, in modes that come and go, one of them unknown; gaps."""
    generator = np.random.default_rng(seed)
    pieces = [(1.0, 0.1), (2.0, 0.7), (3.0, 0.1), (2.0, 0.7), (2.0, 0.1), (1.0, 0.1)]
    modes = np.repeat(np.array(pieces), -(-count // len(pieces)), axis=0)[:count]
    centre = np.where(modes[:, :1] == 1.0, [5.0, -2.0, 1e5], [7.0, 3.0, 2e5])
    loudness = np.where(np.arange(count) // 50 % 2, 20.0, 0.3)[:, None]
    readings = centre + np.array([0.5, 1.0, 3.0]) * loudness * generator.normal(size=(count, CHANNELS))
    readings[generator.integers(0, count, count // 60), 1] = np.nan
    readings[generator.integers(0, count, 3), 2] = np.inf
    return np.column_stack([readings, modes]).astype(np.float32)


def expected_lines(bundle: Bundle, rows: NDArray[np.float32]) -> list[list[float]]:
    """Row, score, share of the first channel, after a break and change of each window, as the agent has them."""
    stream, alarm = (
        Stream(load(bundle, path="bundle")),
        Alarm(bundle.manifest.alarm, threshold=bundle.manifest.threshold.value),
    )
    scored = stream.push(rows.astype(np.float64), np.full(len(rows), np.nan))
    codes = {Change.NONE: 0, Change.RAISED: 1, Change.CLEARED: 2}
    lines = []
    for row, score, shares, after_break in zip(
        scored.rows, scored.score, scored.shares, scored.after_break, strict=True
    ):
        if after_break:
            alarm.interrupt()
        lines.append([row, score, shares[0], after_break, codes[alarm.push(score)]])
    return lines


@pytest.mark.parametrize(
    ("baseline", "stride", "rules"),
    [
        (25, 3, AlarmRules()),
        (24, 17, AlarmRules((1, 1), (1, 1), 0.0)),
        (0, LENGTH, AlarmRules((2, 2), (1, 4), 0.3)),
        (9, 1, AlarmRules((3, 32), (5, 7), 0.05)),
    ],
)
def test_stream_of_samples_gives_the_windows_scores_and_alarms_of_the_agent(
    tmp_path: Path, baseline: int, stride: int, rules: AlarmRules
) -> None:
    shape = WindowShape(LENGTH, stride)
    rows = machine_data(1500, seed=baseline + stride)
    bundle = model_free_bundle(baseline=baseline, window=shape, alarm=rules)
    ranked = sorted(line[1] for line in expected_lines(bundle, rows))
    middle = float(np.mean(ranked[len(ranked) // 2 :][:2]))  # between two scores: rounding must not decide
    bundle = model_free_bundle(baseline=baseline, window=shape, alarm=rules, threshold=plain_threshold(value=middle))
    files = c_array(bundle) | {"driver.c": DRIVER.encode()}
    given = "\n".join(" ".join(map(str, [*row[CHANNELS:], *row[:CHANNELS]])) for row in rows)
    lines = run(compiled(files, tmp_path, ("edge_vae.c", "edge_vae_model.c", "driver.c")), given=given)
    assert len(lines) == len(rows)
    found = [[i, *map(float, line.split()[1:5])] for i, line in enumerate(lines) if line[0] == STATUS["scored"]]
    expected = expected_lines(bundle, rows)
    np.testing.assert_array_equal(np.array(found)[:, [0, 3, 4]], np.array(expected)[:, [0, 3, 4]])
    np.testing.assert_allclose(np.array(found)[:, 1:3], np.array(expected)[:, 1:3], rtol=TOLERANCE, atol=TOLERANCE)
    assert {1.0, 2.0} <= {line[4] for line in expected}
    unusable = ~np.isfinite(rows[:, :CHANNELS]).all(axis=1) | (rows[:, CHANNELS] == 3.0)
    assert [line[0] == STATUS["unusable"] for line in lines] == unusable.tolist()
    assert any(line[0] == STATUS["learning"] for line in lines) == bool(baseline)


# What is refused


def changed_model(bundle: Bundle, **changes: Any) -> Bundle:
    """The bundle with another description of its first model."""
    first, *others = bundle.manifest.views
    assert first.model
    view = msgspec.structs.replace(first, model=msgspec.structs.replace(first.model, **changes))
    return dataclasses.replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, views=(view, *others)))


def refusal(bundle: Bundle) -> str:
    with pytest.raises(GateError) as caught:
        c_array(bundle)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("precision", ["dynamic", "float16", "int16x8"])
def test_precision_that_a_microcontroller_lacks_is_refused(bundle: Bundle, precision: str) -> None:
    assert refusal(changed_model(bundle, precision=precision)) == (
        f"view window: a microcontroller cannot run its model: expected float32 or int8, received {precision}. "
        "Convert the run again with --precision int8 or --precision float32."
    )


def test_operator_that_a_microcontroller_lacks_is_refused(bundle: Bundle) -> None:
    line = refusal(changed_model(bundle, operators={"CONV_2D": 6, "TILE": 2}))
    assert line.startswith("view window: a microcontroller cannot run its model: expected the operators ADD, ")
    assert "received TILE. " in line


def test_alarm_that_remembers_more_than_a_word_of_windows_is_refused() -> None:
    assert "received 33. " in refusal(plain_bundle(alarm=AlarmRules((2, 33), (3, 3))))


def test_modes_that_are_one_as_floats_are_refused() -> None:
    one = Modes(("serial",), ((16_777_216.0,), (16_777_217.0,)), ((0.0,),) * 2, ((1.0,),) * 2)
    assert "expected values of serial that differ as float32, received 2 modes that are 1" in refusal(
        plain_bundle(modes=one)
    )


def test_number_that_a_float_cannot_hold_is_refused() -> None:
    assert "expected a finite float, received 1e+39" in refusal(plain_bundle(rate_hz=1e39))


def test_without_a_compiler_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AssertionError, match="sudo apt-get install gcc"):
        program("gcc", package="gcc libc6-dev")
