"""Statistics, their tails on normal data, and their sum."""

from __future__ import annotations

import dataclasses
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vae.sample import FloatArray
from edge_vae.score import TERMS, USUAL_SCALES, Tail, Term, _values, fit_terms, fuse, statistic_of, view_of
from edge_vae.view import LIMIT_SIGMA, Rows, Seen, to_rows

LENGTH, CHANNELS, FEATURES, LATENT = 8, 3, 13, 4
NORMAL = np.random.default_rng(0).normal(0, 1, (300, LENGTH, CHANNELS))
WINDOW_VARIANCE = np.array([[0.5, 1.0, 2.0]])
FEATURE_VARIANCE = np.random.default_rng(1).uniform(0.2, 3.0, (FEATURES, CHANNELS))
LATENT_TERMS = [name for name in TERMS if name.endswith((".kl", ".t2"))]


def seen(target: FloatArray, variance: FloatArray, *, seed: int) -> Seen:
    """A model that gives seven tenths of its target and whose latent units depend on each other."""
    generator = np.random.default_rng(seed)
    mean = generator.normal(0.3, 1.0, (len(target), LATENT)) @ generator.normal(0, 1, (LATENT, LATENT))
    return Seen(target, 0.7 * target, mean, generator.normal(-1.0, 2.0, mean.shape), variance)


def views(windows: FloatArray) -> dict[str, Seen]:
    """What the models make of these windows; only the view `features` is drawn, as no statistic asks where from."""
    target = np.random.default_rng(len(windows)).normal(0, 2, (len(windows), FEATURES, CHANNELS))
    return {
        "window": seen(windows, WINDOW_VARIANCE, seed=2),
        "pca": seen(windows, np.ones((1, CHANNELS)), seed=3),
        "features": seen(target, FEATURE_VARIANCE, seed=4),
    }


def draft(name: str) -> Term:
    """What training makes of a term before any model has run: tables for Gaussians, and a name for the others."""
    target = SEEN["features"].target
    if name == "features.level":
        means = target[:, 0]
        inverse = np.linalg.inv(np.cov(means, rowvar=False))
        return Term(name, centre=to_rows(means.mean(axis=0)[None]), precision=to_rows(inverse))
    if name != "features.mahalanobis":
        return Term(name)
    precisions = [np.linalg.inv(np.cov(target[:, :, c], rowvar=False)) / FEATURES for c in range(CHANNELS)]
    return Term(name, centre=to_rows(target.mean(axis=0)), precision=to_rows(np.concatenate(precisions)))


SEEN = views(NORMAL)
FITTED = dict(
    zip(TERMS, fit_terms([draft(name) for name in TERMS], NORMAL, SEEN, known={}, overlap=1.0)[0], strict=True)
)
USUAL = (FITTED["window.nll"], FITTED["z"])


def reconstructed(windows: FloatArray, reconstruction: FloatArray) -> dict[str, Seen]:
    nothing = np.zeros((len(windows), LATENT))
    return {"window": Seen(windows, reconstruction, nothing, nothing, WINDOW_VARIANCE)}


# Statistics and the parts of their shares, by hand.


def errors_slowly(one: Seen, i: int, *, weighted: bool) -> list[float]:
    """Mean squared error of each channel of window i, over the variance where it is weighted."""
    steps, channels = one.target.shape[1:]
    parts = []
    for c in range(channels):
        total = 0.0
        for t in range(steps):
            variance = one.variance[t if len(one.variance) > 1 else 0, c] if weighted else 1.0
            total += (one.target[i, t, c] - one.reconstruction[i, t, c]) ** 2 / variance
        parts.append(total / steps)
    return parts


def quadratic_slowly(offset: list[float], precision: Rows) -> list[float]:
    """Each row's part of offset' precision offset."""
    return [sum(offset[i] * p * offset[j] for j, p in enumerate(row)) for i, row in enumerate(precision)]


def statistic_slowly(term: Term, i: int) -> tuple[float, list[float]]:
    """The statistic of window i and the parts that its shares are taken from."""
    view, _, statistic = term.name.partition(".")
    if view == "z":
        levels = [sum(abs(v) for v in NORMAL[i, :, c]) / LENGTH for c in range(CHANNELS)]
        return sum(levels) / CHANNELS, levels
    one = SEEN[view]
    if statistic in ("", "mse", "nll"):
        errors = errors_slowly(one, i, weighted=statistic == "nll")
        return sum(errors) / CHANNELS, errors
    if statistic == "max":
        relative = [
            e / max(usual, 0.05) for e, usual in zip(errors_slowly(one, i, weighted=False), term.centre[0], strict=True)
        ]
        return max(relative), relative
    if statistic == "student":
        logs = [
            sum(math.log(1 + one.target[i, f, c] ** 2) for f in range(FEATURES)) / FEATURES for c in range(CHANNELS)
        ]
        return sum(logs) / CHANNELS, logs
    if statistic == "mahalanobis":
        distances = []
        for c in range(CHANNELS):
            offset = [one.target[i, f, c] - term.centre[f][c] for f in range(FEATURES)]
            distances.append(sum(quadratic_slowly(offset, term.precision[c * FEATURES : (c + 1) * FEATURES])))
        return max(distances), distances
    if statistic == "level":
        offset = [one.target[i, 0, c] - term.centre[0][c] for c in range(CHANNELS)]
        pulled = [sum(p * o for p, o in zip(row, offset, strict=True)) for row in term.precision]
        own = [pulled[c] ** 2 / term.precision[c][c] for c in range(CHANNELS)]
        return max(sum(p * o for p, o in zip(pulled, offset, strict=True)), 1.0), own
    if statistic == "logm":
        logs = [math.log(e + 1e-6) for e in errors_slowly(one, i, weighted=False)]
        above = [max(log - centre, 0.0) for log, centre in zip(logs, term.centre[0], strict=True)]
        products = quadratic_slowly(above, term.precision)
        return max(sum(products), 0.0), [max(p, 0.0) for p in products]
    latent = one.mean[i].tolist()
    if statistic == "t2":
        offset = [m - centre for m, centre in zip(latent, term.centre[0], strict=True)]
        return sum(quadratic_slowly(offset, term.precision)), errors_slowly(one, i, weighted=True)
    assert statistic == "kl"
    total = 0.0
    for m, v in zip(latent, one.log_variance[i].tolist(), strict=True):
        log_variance = min(max(v, -8.0), 4.0)
        total += 0.5 * (m * m + math.exp(log_variance) - 1.0 - log_variance)
    return total, errors_slowly(one, i, weighted=True)


@pytest.mark.parametrize("name", TERMS)
def test_each_statistic_equals_its_slow_twin(name: str) -> None:
    values, parts = _values(FITTED[name], NORMAL, SEEN)
    assert values.shape == (300,)
    for i in (0, 1, 299):
        value, slow = statistic_slowly(FITTED[name], i)
        # Sums of products of both signs in another order.
        assert values[i] == pytest.approx(value, rel=1e-9, abs=1e-9)
        np.testing.assert_allclose(parts[i], slow, rtol=1e-9, atol=1e-9)


def test_terms_are_two_without_a_view_and_six_statistics_of_each_view_and_three_of_the_features_alone() -> None:
    assert {view_of(name) for name in TERMS} == {None, "pca", "window", "features"}
    statistics = {"kl", "logm", "max", "mse", "nll", "t2"}
    of_views = {f"{view}.{s}" for view in ("window", "features") for s in statistics}
    alone = {"z", "pca", "features.level", "features.mahalanobis", "features.student"}
    assert set(TERMS) == alone | of_views
    assert len(TERMS) == 17


@pytest.mark.parametrize("view", ["window", "features"])
def test_max_is_relative_to_the_mean_error_of_normal_windows(view: str) -> None:
    errors = [errors_slowly(SEEN[view], i, weighted=False) for i in range(300)]
    means = [sum(row[c] for row in errors) / 300 for c in range(CHANNELS)]
    np.testing.assert_allclose(FITTED[f"{view}.max"].centre, [means], rtol=1e-6)


def test_max_takes_no_channel_for_more_exact_than_the_floor() -> None:
    term = Term("window.max", centre=((1e-9, 0.05, 0.1),))
    target = np.ones((1, LENGTH, CHANNELS))
    _, parts = _values(term, target, reconstructed(target, 0 * target))
    np.testing.assert_allclose(parts, [[20.0, 20.0, 10.0]])


def test_mahalanobis_keeps_what_training_fitted() -> None:
    drafted, fitted = draft("features.mahalanobis"), FITTED["features.mahalanobis"]
    assert (fitted.centre, fitted.precision) == (drafted.centre, drafted.precision)
    # Of samples with their own covariance the squared distance is the number of features on average.
    distances = np.concatenate([_values(fitted, NORMAL, SEEN)[1][:, c] for c in range(CHANNELS)])
    assert distances.mean() == pytest.approx(1.0, rel=0.01)


def test_level_is_hotellings_t2_of_the_means() -> None:
    fitted = FITTED["features.level"]
    assert (fitted.centre, fitted.precision) == (draft("features.level").centre, draft("features.level").precision)
    # Of samples with their own covariance the squared distance is the number of channels on average; below 1 it is 1.
    assert CHANNELS < _values(fitted, NORMAL, SEEN)[0].mean() < 1.1 * CHANNELS


def test_levels_that_wander_together_are_less_strange_than_one_that_leaves_the_others() -> None:
    common = np.random.default_rng(5).normal(0, 1, (400, 1))
    means = common * [1.0, 1.0, -1.0] + np.random.default_rng(6).normal(0, 0.1, (400, CHANNELS))
    inverse = to_rows(np.linalg.inv(np.cov(means, rowvar=False)))
    term = Term("features.level", centre=((0.0,) * CHANNELS,), precision=inverse)
    target = np.zeros((2, FEATURES, CHANNELS))
    target[0, 0], target[1, 0] = [2.0, 2.0, -2.0], [0.0, 1.0, 0.0]
    (together, single), parts = _values(
        term, NORMAL[:2], {"features": dataclasses.replace(SEEN["features"][:2], target=target)}
    )
    assert together < 6 < 60 < single
    assert parts[1].argmax() == 1


def test_levels_within_a_sigma_are_all_alike() -> None:
    term = Term("features.level", centre=((0.0,) * CHANNELS,), precision=to_rows(np.eye(CHANNELS)))
    near = dataclasses.replace(SEEN["features"], target=0.01 * SEEN["features"].target)
    assert _values(term, NORMAL, {"features": near})[0].tolist() == [1.0] * 300


def test_the_statistic_of_a_term_is_the_one_that_its_tail_was_fitted_on() -> None:
    for term in FITTED.values():
        statistic = statistic_of(term, NORMAL, SEEN)
        np.testing.assert_array_equal(statistic, _values(term, NORMAL, SEEN)[0])
        assert term.tail == Tail.fit(statistic, overlap=1.0, usual=USUAL_SCALES[term.name])


def test_a_known_statistic_takes_the_place_of_the_windows_own() -> None:
    names, known = ("features.mahalanobis", "z"), np.random.default_rng(9).gamma(3.0, 2.0, 300)
    terms, scores = fit_terms(
        [draft(n) for n in names], NORMAL, SEEN, known={"features.mahalanobis": known}, overlap=1.0
    )
    expected = Tail.fit(known, overlap=1.0, usual=USUAL_SCALES["features.mahalanobis"])
    assert terms[0].tail == expected != FITTED["features.mahalanobis"].tail
    assert terms[1] == FITTED["z"]
    said = np.column_stack([np.log1p(terms[0].tail(known)), fuse(terms[1:], NORMAL, SEEN).score])
    np.testing.assert_allclose(scores, [trimmed_slowly(row) for row in said.tolist()], rtol=1e-12)


def test_fitting_gives_the_scores_of_the_windows_it_was_fitted_on() -> None:
    terms, scores = fit_terms([draft(name) for name in TERMS], NORMAL, SEEN, known={}, overlap=1.0)
    np.testing.assert_allclose(scores, fuse(terms, NORMAL, SEEN).score, rtol=1e-12)


@pytest.mark.parametrize("view", ["window", "features"])
def test_t2_is_measured_from_the_mean_with_the_inverse_covariance(view: str) -> None:
    term, latent = FITTED[f"{view}.t2"], SEEN[view].mean
    np.testing.assert_allclose(term.centre[0], latent.mean(axis=0), rtol=1e-6, atol=1e-9)
    covariance = np.cov(latent, rowvar=False)
    ridge = 0.01 * np.trace(covariance) / LATENT
    np.testing.assert_allclose(
        np.array(term.precision) @ (covariance + ridge * np.eye(LATENT)), np.eye(LATENT), atol=1e-4
    )
    # Of samples with their own covariance T2 is n on average; the ridge takes a little of it away.
    assert 0.8 * LATENT < _values(term, NORMAL, SEEN)[0].mean() < LATENT


def test_logm_takes_no_notice_of_smaller_errors() -> None:
    term = FITTED["window.logm"]
    perfect = reconstructed(NORMAL[:3], NORMAL[:3])
    value, parts = _values(term, NORMAL[:3], perfect)
    assert value.tolist() == [0.0] * 3
    assert not parts.any()


@pytest.mark.parametrize("log_variance", [-1e3, 1e3, 40.0])
def test_an_extreme_log_variance_does_not_overflow(log_variance: float) -> None:
    extreme = dataclasses.replace(SEEN["window"], log_variance=np.full((300, LATENT), log_variance))
    value, _ = _values(FITTED["window.kl"], NORMAL, {"window": extreme})
    assert np.isfinite(value).all()
    assert (value > 0).all()


def test_the_posterior_that_equals_the_prior_diverges_by_nothing() -> None:
    value, _ = _values(FITTED["window.kl"], NORMAL[:2], reconstructed(NORMAL[:2], NORMAL[:2]))
    assert value.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["window.t2", "features.logm"])
def test_one_silent_unit_or_channel_leaves_a_distance_finite(name: str) -> None:
    silent = {
        view: dataclasses.replace(one, mean=one.mean * 0, reconstruction=one.target) for view, one in SEEN.items()
    }
    (term,), _ = fit_terms((Term(name),), NORMAL, silent, known={}, overlap=1.0)
    for one in (silent, SEEN):
        scores = fuse((term,), NORMAL, one)
        assert np.isfinite(scores.score).all()
        assert np.isfinite(scores.shares).all()


@pytest.mark.parametrize("name", ["window.t2", "features.logm"])
def test_one_latent_unit_or_channel_is_enough_for_a_distance(name: str) -> None:
    single = {
        view: Seen(
            one.target[:, :, :1], one.reconstruction[:, :, :1], one.mean[:, :1], one.log_variance[:, :1],
            one.variance[:, :1],
        )
        for view, one in SEEN.items()
    }  # fmt: skip
    (term,), _ = fit_terms((Term(name),), NORMAL[:, :, :1], single, known={}, overlap=1.0)
    assert np.shape(term.precision) == (1, 1)
    assert fuse((term,), NORMAL[:, :, :1], single).shares.tolist() == [[1.0]] * 300


@pytest.mark.parametrize(
    "change",
    [
        {"name": "entropy"},
        {"name": "window"},
        {"name": "pca.mse"},
        {"name": "window.mahalanobis"},
        {"centre": ((0.0,) * LATENT, (0.0,))},
        {"precision": ((1.0,) * LATENT, (1.0,) * (LATENT + 1))},
    ],
)
def test_a_term_whose_tables_do_not_fit_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"^expected "):
        msgspec.structs.replace(FITTED["window.t2"], **change)


# Tails.


def tail_slowly(tail: Tail, statistic: float) -> float:
    """-log p by hand, p being the part of a logistic distribution that lies above the log statistic."""
    distance = (math.log(max(statistic, 1e-9)) - tail.median) / tail.scale
    return distance + math.log1p(math.exp(-distance)) if distance > 0 else math.log1p(math.exp(distance))


def test_every_term_has_a_usual_scale() -> None:
    assert USUAL_SCALES.keys() == set(TERMS)


@pytest.mark.parametrize(("overlap", "usual"), [(1.0, 0.2), (2.5, 0.5)])
def test_a_tail_is_the_median_and_the_mean_excess_of_the_upper_half_drawn_to_the_usual_scale(
    overlap: float, usual: float
) -> None:
    logs = [-3.0, -1.0, 0.0, 0.25, 1.0]
    tail = Tail.fit(np.exp(logs), overlap=overlap, usual=usual)
    assert tail.median == pytest.approx(0.0, abs=1e-12)
    independent = 5 / overlap
    assert tail.scale == pytest.approx((independent * (0.25 + 1.0) / 2 + 16 * usual) / (independent + 16))
    many = Tail.fit(np.repeat(np.exp(logs), 100_000), overlap=overlap)
    assert many.scale == pytest.approx((0.25 + 1.0) / 2, rel=1e-3)


@pytest.mark.parametrize("statistic", [0.0, 1e-12, 0.2, 0.9, 1.0, 1.7, 3.0, 1e4])
def test_a_tail_equals_its_slow_twin(statistic: float) -> None:
    tail = Tail.fit(np.random.default_rng(1).gamma(4.0, 0.3, 5_000), overlap=1.0)
    assert tail(np.array([statistic]))[0] == pytest.approx(tail_slowly(tail, statistic), rel=1e-9, abs=1e-12)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=60), st.lists(st.floats(0, 1e12), min_size=2, max_size=60))
def test_a_tail_never_falls_and_is_finite_and_never_negative(fitted: list[float], asked: list[float]) -> None:
    surprise = Tail.fit(np.array(fitted), overlap=1.0)(np.sort(asked))
    assert np.isfinite(surprise).all()
    assert surprise[0] >= 0
    assert (np.diff(surprise) >= 0).all()


def test_surprise_is_log_2_at_the_median_and_grows_with_rarity() -> None:
    gamma = np.random.default_rng(2).gamma(4.0, 0.3, 100_000)
    assert Tail.fit(gamma, overlap=1.0)(np.quantile(gamma, [0.5]))[0] == pytest.approx(math.log(2), rel=1e-6)
    # Far out it tells half of the rarity: the scale is a mean excess, 1.39 scales of a logistic distribution, and the
    # tail of this logarithm is lighter than that.
    for level in (0.9, 0.99, 0.999):
        assert 0.45 < Tail.fit(gamma, overlap=1.0)(np.quantile(gamma, [level]))[0] / -math.log(1 - level) < 1.0


def test_the_scale_of_a_log_logistic_statistic_is_its_mean_excess() -> None:
    # The mean excess of a logistic distribution over its median is 2 ln 2 of its scale: what is fitted is that mean.
    statistic = np.exp(np.random.default_rng(2).logistic(0.7, 0.2, 100_000))
    tail = Tail.fit(statistic, overlap=1.0)
    assert tail.median == pytest.approx(0.7, abs=0.01)
    assert tail.scale == pytest.approx(2 * math.log(2) * 0.2, rel=0.02)


def test_a_constant_statistic_has_a_tail() -> None:
    tail = Tail.fit(np.full(50, 2.0), overlap=1.0)
    assert tail.scale == 0.1
    below, above = tail(np.array([1.0, 3.0]))
    assert below < 0.01
    assert above > 4


@pytest.mark.parametrize(
    "statistic",
    [np.zeros(50), np.full(50, 2.0), np.array([2.0]), np.repeat([1.0, 2.0], [10, 40]), np.repeat([0.0, 2.0], [45, 15])],
    ids=["zeros", "constant", "one window", "two levels", "zeros below"],
)
def test_ties_at_the_top_leave_the_tail_finite_and_rising(statistic: FloatArray) -> None:
    assert not (statistic > np.quantile(statistic, 0.9)).any()
    tail, top = Tail.fit(statistic, overlap=1.0), float(statistic.max())
    assert tail.scale >= 0.1
    surprise = tail(np.array([top, 1.001 * top + 1e-6, 2 * top + 1, 1e12]))
    assert np.isfinite(surprise).all()
    assert surprise[0] >= math.log(2)
    assert (np.diff(surprise) > 0).all()


# The score.


def trimmed_slowly(said: list[float]) -> float:
    """The number of terms times the mean of what they say without the highest fifth of them, in part if need be."""
    total, left_out = 0.0, len(said) / 5
    for value in sorted(said, reverse=True):
        skipped = min(left_out, 1.0)
        total, left_out = total + (1.0 - skipped) * value, left_out - skipped
    return len(said) * total / (4 * len(said) / 5)


def test_the_loudest_of_five_terms_does_not_move_the_score() -> None:
    names = ("window.nll", "window.mse", "window.max", "z", "features.nll")
    normal = np.argsort(fuse([FITTED["features.nll"]], NORMAL, SEEN).score)[-1:]
    quiet, loud = (
        {**SEEN, "features": dataclasses.replace(SEEN["features"], target=SEEN["features"].target * gain)}
        for gain in (1.0, 9.0)
    )
    before, after = (
        fuse([FITTED[name] for name in names], NORMAL[normal], {view: one[normal] for view, one in seen.items()})
        for seen in (quiet, loud)
    )
    assert after.terms[0, 4] > before.terms[0, 4] == before.terms.max()
    assert after.score == before.score


@pytest.mark.parametrize("names", [("z",), ("window.nll", "z"), TERMS], ids=["one", "two", "all"])
def test_the_score_is_what_its_terms_say_but_for_the_loudest_of_them(names: tuple[str, ...]) -> None:
    terms = [FITTED[name] for name in names]
    found = fuse(terms, NORMAL, SEEN)
    assert found.terms.shape == (300, len(names))
    for i, term in enumerate(terms):
        surprise = [tail_slowly(term.tail, value) for value in _values(term, NORMAL, SEEN)[0].tolist()]
        np.testing.assert_allclose(found.terms[:, i], np.log1p(surprise), rtol=1e-9)
        np.testing.assert_array_equal(fuse([term], NORMAL, SEEN).score, found.terms[:, i])
    np.testing.assert_allclose(found.score, [trimmed_slowly(row) for row in found.terms.tolist()], rtol=1e-12)


def test_shares_are_the_terms_own_shares_weighted_with_the_terms() -> None:
    found = fuse(USUAL, NORMAL, SEEN)
    for i in (0, 7, 299):
        weighted = [0.0] * CHANNELS
        for term, surprise, own in zip(USUAL, found.terms[i], found.parts[i], strict=True):
            _, parts = statistic_slowly(term, i)
            np.testing.assert_allclose(own, parts, rtol=1e-9, atol=1e-9)
            weighted = [w + surprise * p / sum(parts) for w, p in zip(weighted, parts, strict=True)]
        # The floor under every part, 1e-9, is all that differs.
        np.testing.assert_allclose(found.shares[i], np.array(weighted) / sum(weighted), atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.floats(0, 1e6), st.integers(0, 12))
def test_scores_are_at_least_zero_and_shares_sum_to_one(seed: int, size: float, windows: int) -> None:
    generator = np.random.default_rng(seed)
    scaled = generator.normal(0, size, (windows, LENGTH, CHANNELS))
    disturbed = {
        view: dataclasses.replace(
            one[:windows],
            target=generator.normal(0, size, one.target[:windows].shape),
            mean=generator.normal(0, size, one.mean[:windows].shape),
        )
        for view, one in SEEN.items()
    }
    for terms in ([FITTED[name] for name in TERMS], [FITTED[name] for name in LATENT_TERMS]):
        found = fuse(terms, scaled, disturbed)
        assert found.score.shape == (windows,)
        assert found.shares.shape == (windows, CHANNELS)
        assert (found.terms >= 0).all()
        assert (found.shares >= 0).all()
        assert np.isfinite(found.score).all()
        np.testing.assert_allclose(found.shares.sum(axis=1), 1.0, rtol=1e-9)


@pytest.mark.parametrize("name", LATENT_TERMS)
def test_a_latent_term_shares_as_its_views_error_does(name: str) -> None:
    # Far out, so that the floor of a term without surprise plays no part.
    far = {view: dataclasses.replace(one, mean=one.mean + 50) for view, one in SEEN.items()}
    shares = fuse([FITTED[name]], NORMAL, far).shares
    of_error = fuse([FITTED[f"{view_of(name)}.nll"]], NORMAL, far)
    surprised = of_error.score > 0.1
    assert surprised.sum() > 100
    assert (fuse([FITTED[name]], NORMAL, far).score > 0.1).all()
    np.testing.assert_allclose(shares[surprised], of_error.shares[surprised], atol=1e-6)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-9)


@pytest.mark.parametrize("reading", [1e308, -1e308, float("inf"), float("-inf"), 1e4])
def test_huge_readings_give_finite_scores_and_shares(reading: float) -> None:
    windows = NORMAL[:4].copy()
    windows[1:, 3:, 1] = reading
    target = np.clip(windows, -LIMIT_SIGMA, LIMIT_SIGMA)  # as a view gives it
    found = fuse(USUAL, windows, reconstructed(target, 0.7 * NORMAL[:4]))
    assert np.isfinite(found.score).all()
    assert np.isfinite(found.shares).all()
    assert found.score[1] > found.score[0]
    assert found.shares[1].argmax() == 1


def test_a_reading_beyond_the_limit_counts_as_the_limit() -> None:
    at, beyond = NORMAL[:1].copy(), NORMAL[:1].copy()
    at[0, 2, 0], beyond[0, 2, 0] = LIMIT_SIGMA, 50 * LIMIT_SIGMA
    assert fuse(USUAL[1:], beyond, {}).score == fuse(USUAL[1:], at, {}).score > 0


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_the_disturbed_channel_has_the_largest_share_and_the_score_rises(channel: int) -> None:
    disturbed = NORMAL[:1].copy()
    disturbed[0, :, channel] += 9.0
    before, after = (fuse(USUAL, w, reconstructed(w, 0.7 * NORMAL[:1])) for w in (NORMAL[:1], disturbed))
    assert after.score[0] > before.score[0]
    assert after.shares[0].argmax() == channel
    assert after.shares[0, channel] > 0.8


@pytest.mark.parametrize("name", ["window.logm", "features.logm", "window.max", "features.max", "features.mahalanobis"])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_statistic_of_channels_points_to_the_one_that_is_off(name: str, channel: int) -> None:
    one = SEEN[str(view_of(name))]
    target = one.target.copy()
    target[:, :, channel] *= 20
    found = fuse([FITTED[name]], NORMAL, {str(view_of(name)): dataclasses.replace(one, target=target)})
    assert (found.shares.argmax(axis=1) == channel).all()
    assert (found.score > fuse([FITTED[name]], NORMAL, SEEN).score).all()


def test_a_window_below_everything_normal_scores_next_to_nothing_with_even_shares_of_what_is_there() -> None:
    nothing = np.zeros((1, LENGTH, CHANNELS))
    found = fuse(USUAL, nothing, reconstructed(nothing, nothing))
    assert 0.0 <= found.score[0] < 1e-3
    np.testing.assert_allclose(found.shares, 1 / 3)


def test_a_window_is_scored_the_same_alone_and_among_others() -> None:
    terms = list(FITTED.values())
    whole = fuse(terms, NORMAL[:40], {view: one[:40] for view, one in SEEN.items()})
    for i in range(40):
        alone = fuse(terms, NORMAL[i : i + 1], {view: one[i : i + 1] for view, one in SEEN.items()})
        np.testing.assert_array_equal(alone.terms[0], whole.terms[i])
        np.testing.assert_array_equal(alone.shares[0], whole.shares[i])
        assert alone.score[0] == whole.score[i]


def test_terms_survive_the_way_through_json() -> None:
    terms = tuple(FITTED.values())
    assert msgspec.json.decode(msgspec.json.encode(terms), type=tuple[Term, ...]) == terms
