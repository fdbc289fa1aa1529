"""The features of each channel as a Gaussian, against loops, and against the formula of Ledoit and Wolf."""

from __future__ import annotations

import numpy as np

from edge_vae.features import feature_names
from edge_vae.sample import FloatArray
from edge_vae.score import Term, statistic_of
from edge_vae.view import View, see, to_rows
from edge_vae_train.mahalanobis import featured, fit_level, fit_mahalanobis
from edge_vae_train.prepare import WindowSet
from edge_vae_train.views import features_view
from edge_vae_train.wander import wander

LENGTH, CHANNELS = 8, 2
FEATURES = len(feature_names(LENGTH))
RIDGE = 1e-3
GENERATOR = np.random.default_rng(4)
VIEW = View(
    "features", "features", to_rows(GENERATOR.normal(size=(FEATURES, CHANNELS))),
    to_rows(GENERATOR.uniform(0.5, 2.0, (FEATURES, CHANNELS))), ((1.0,) * CHANNELS,), 0, (), None,
)  # fmt: skip


def windows(count: int, *, seed: int) -> WindowSet:
    generator = np.random.default_rng(seed)
    drawn = np.cumsum(generator.normal(size=(count, LENGTH, CHANNELS)), axis=1) * [1.0, 0.2]
    return WindowSet(drawn.astype(np.float32), np.zeros((count, 0), np.float32))


def target(given: WindowSet) -> FloatArray:
    return VIEW.target(given.windows.astype(np.float64), given.conditions)


TRAINING, HELD_OUT, BETWEEN = windows(60, seed=0), windows(15, seed=1), windows(7, seed=2)
EVERY = WindowSet.joined([TRAINING, HELD_OUT, BETWEEN])


def ledoit_wolf_slowly(samples: FloatArray) -> FloatArray:
    """The shrunk covariance of samples (samples, features): Ledoit and Wolf (2004), lemmas 3.2 to 3.5."""
    count, size = samples.shape
    centred = samples - samples.mean(axis=0)
    covariance = sum(np.outer(x, x) for x in centred) / count
    level = np.trace(covariance) / size
    distance = np.square(covariance - level * np.eye(size)).sum() / size
    error = sum(np.square(np.outer(x, x) - covariance).sum() / size for x in centred) / count**2
    shrinkage = min(error, distance) / distance
    return np.asarray(shrinkage * level * np.eye(size) + (1 - shrinkage) * covariance)


def spread(samples: FloatArray) -> FloatArray:
    """Covariance (n, n) that is expected of what follows samples (windows, n)."""
    return ledoit_wolf_slowly(samples) + wander(samples) + RIDGE * np.eye(samples.shape[1])


def fitted() -> tuple[Term, FloatArray]:
    return fit_mahalanobis(target(TRAINING), target(HELD_OUT), every=target(EVERY))


def relative_distances(fitted: WindowSet, asked: WindowSet) -> FloatArray:
    """(windows, channels) squared Mahalanobis distances under a fit on other windows, one by one."""
    known, unknown = target(fitted), target(asked)
    distances = np.empty((len(unknown), CHANNELS))
    for channel in range(CHANNELS):
        samples = known[:, :, channel]
        inverse = np.linalg.inv(spread(samples))
        for i, window in enumerate(unknown[:, :, channel]):
            offset = window - samples.mean(axis=0)
            distances[i, channel] = offset @ inverse @ offset
    return distances


def test_held_out_windows_are_judged_by_a_fit_without_them() -> None:
    distances = relative_distances(TRAINING, HELD_OUT)
    _, statistic = fitted()
    np.testing.assert_allclose(statistic, (distances / distances.mean(axis=0)).max(axis=1), rtol=1e-9)


def test_the_term_is_fitted_on_all_windows_and_relative_to_the_usual_distance_of_each_channel() -> None:
    term, _ = fitted()
    everything = target(EVERY)
    usual = relative_distances(TRAINING, HELD_OUT).mean(axis=0)
    assert term.name == "features.mahalanobis"
    np.testing.assert_allclose(np.array(term.centre), everything.mean(axis=0), rtol=1e-6, atol=1e-7)
    precision = np.array(term.precision).reshape(CHANNELS, FEATURES, FEATURES)
    for channel in range(CHANNELS):
        expected = np.linalg.inv(spread(everything[:, :, channel])) / usual[channel]
        # The manifest keeps seven digits.
        np.testing.assert_allclose(precision[channel], expected, rtol=1e-5, atol=1e-6)


def test_the_covariance_is_shrunk() -> None:
    samples = target(TRAINING)[:, :, 0]
    plain = np.cov(samples, rowvar=False, bias=True)
    assert not np.allclose(ledoit_wolf_slowly(samples), plain, rtol=0.01)


def test_one_strange_channel_is_enough() -> None:
    term, statistic = fitted()
    strange = HELD_OUT.windows.astype(np.float64).copy()
    strange[:, :, 1] += 30.0
    nothing = np.zeros((len(strange), 0), np.float32)
    seen = see([VIEW], {}, strange, clip=np.inf, conditions=nothing)
    assert statistic_of(term, strange, seen).min() > statistic.max()


def test_rounding_of_a_channel_that_never_varies_does_not_decide() -> None:
    def still(part: WindowSet) -> WindowSet:
        values = part.windows.copy()
        values[:, :, 1] = 0.0
        return WindowSet(values, part.conditions)

    training, held_out, every = (still(part) for part in (TRAINING, HELD_OUT, EVERY))
    view = features_view(training, ((1.0,) * CHANNELS,))
    before, unknown, everything = (featured(view, part) for part in (training, held_out, every))
    term, statistic = fit_mahalanobis(before, unknown, every=everything)
    rounded = held_out.windows.astype(np.float64)
    rounded[:, :, 1] += np.random.default_rng(3).normal(0, 1e-9, rounded[:, :, 1].shape)
    again = statistic_of(term, rounded, see([view], {}, rounded, clip=np.inf, conditions=held_out.conditions))
    assert again.max() < 2 * statistic.max()
    rounded[:, :, 1] += 1.0
    changed = statistic_of(term, rounded, see([view], {}, rounded, clip=np.inf, conditions=held_out.conditions))
    assert changed.min() > 10 * statistic.max()


def test_features_are_those_of_the_view() -> None:
    np.testing.assert_array_equal(featured(VIEW, EVERY), target(EVERY))


def test_held_out_levels_are_judged_by_a_fit_without_them_and_the_term_is_fitted_on_all() -> None:
    term, statistic = fit_level(target(TRAINING), target(HELD_OUT), every=target(EVERY))
    before, everything = target(TRAINING)[:, 0], target(EVERY)[:, 0]
    inverse = np.linalg.inv(spread(before))
    offsets = target(HELD_OUT)[:, 0] - before.mean(axis=0)
    np.testing.assert_allclose(statistic, [max(o @ inverse @ o, 1.0) for o in offsets], rtol=1e-9)
    assert term.name == "features.level"
    np.testing.assert_allclose(term.centre, [everything.mean(axis=0)], rtol=1e-6)
    expected = np.linalg.inv(spread(everything))
    np.testing.assert_allclose(np.array(term.precision), expected, rtol=1e-6)


def test_a_level_that_wanders_counts_for_less_than_one_that_stays() -> None:
    generator = np.random.default_rng(7)
    levels = generator.normal(size=(400, FEATURES, CHANNELS))
    walk = np.cumsum(generator.normal(size=400))
    levels[:, 0, 1] = (walk - walk.mean()) / walk.std()
    _, statistic = fit_level(levels, np.array([[[4.0, 0.0]], [[0.0, 4.0]]]), every=levels)
    assert statistic[0] > 1.4 * statistic[1]


def test_rounding_of_levels_that_never_vary_does_not_decide() -> None:
    still = WindowSet(np.zeros((40, LENGTH, CHANNELS), np.float32), np.zeros((40, 0), np.float32))
    view = features_view(still, ((1.0,) * CHANNELS,))
    given = featured(view, still)
    term, statistic = fit_level(given, given, every=given)
    rounded = np.random.default_rng(3).normal(0, 1e-6, still.windows.shape)
    again = statistic_of(term, rounded, see([view], {}, rounded, clip=np.inf, conditions=still.conditions))
    assert statistic.tolist() == again.tolist() == [1.0] * 40
    changed = statistic_of(
        term, rounded + 1.0, see([view], {}, rounded + 1.0, clip=np.inf, conditions=still.conditions)
    )
    assert changed.min() > 1e3
