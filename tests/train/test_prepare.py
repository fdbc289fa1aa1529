"""Training and held-out windows: none of one overlaps one of the other, and none holds what it must not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_vae.errors import TrainingError
from edge_vae.sample import FloatArray
from edge_vae.scale import Baseline, trimmed_mean
from edge_vae_train.data import Recording, Session
from edge_vae_train.prepare import Prepared, WindowSet, prepare

NAN = float("nan")
RATE_HZ = 2.0


def session(
    samples: int,
    *,
    name: str = "a.csv",
    first: int = 0,
    seed: int = 0,
    offset: float = 0.0,
    labels: list[int] | None = None,
) -> Session:
    """Channel 0 counts the rows of all sessions, so that a window tells which rows it holds; channel 1 is noise."""
    values = np.column_stack(
        [np.arange(first, first + samples), np.random.default_rng(seed).normal(offset, 1.0, samples)]
    )
    marked = None if labels is None else np.isin(np.arange(samples), labels)
    return Session(name, values.astype(np.float64), np.arange(samples) / RATE_HZ, marked)


def recording(*sessions: Session) -> Recording:
    return Recording(tuple(sessions), ("row", "noise"), RATE_HZ)


def prepared(*sessions: Session, length: int = 8, stride: int = 2, baseline: int = 0) -> Prepared:
    return prepare(recording(*sessions), length=length, stride=stride, baseline=baseline)


def rows_of(windows: NDArray[np.float32], found: Prepared) -> NDArray[np.int64]:
    """(windows, length): the rows that each window holds; without a baseline the scaler of all sessions tells them."""
    return np.rint(windows[:, :, 0] * found.scaler.scale[0] + found.scaler.centre[0]).astype(np.int64)


def training_rows(found: Prepared) -> NDArray[np.int64]:
    return rows_of(found.training.windows, found)


def held_out_rows(found: Prepared) -> list[NDArray[np.int64]]:
    return [rows_of(block.windows, found) for block in found.held_out]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=4),
    length=st.integers(4, 20),
    stride=st.integers(1, 25),
    data=st.data(),
)
def test_no_held_out_window_shares_a_row_with_a_training_window(
    sizes: list[int], length: int, stride: int, data: st.DataObject
) -> None:
    sessions, first = [], 0
    for i, size in enumerate(sizes):
        marked = data.draw(st.lists(st.integers(0, max(size - 1, 0)), max_size=3))
        made = session(size, first=first, seed=i, labels=marked)
        for row in data.draw(st.lists(st.integers(0, size - 1), max_size=3)) if size else []:
            made.values[row, 1] = NAN
        sessions.append(made)
        first += size
    whole = np.concatenate([s.values for s in sessions])
    unusable = np.isnan(whole[:, 1])
    for i, s in enumerate(sessions):
        assert s.labels is not None
        unusable[sum(sizes[:i]) : sum(sizes[: i + 1])] |= s.labels
    try:
        found = prepared(*sessions, length=length, stride=stride)
    except TrainingError:
        return  # what is too little is told; the test below says from where on it is enough

    training, held_out = training_rows(found), held_out_rows(found)
    assert len(training)
    assert all(len(block) for block in held_out)
    assert not set(training.ravel().tolist()) & {row for block in held_out for row in block.ravel().tolist()}
    edges = np.cumsum([0, *sizes])
    for window in [*training, *(window for block in held_out for window in block)]:
        assert (np.diff(window) == 1).all()
        assert not unusable[window].any()
        assert np.searchsorted(edges, window[0], side="right") == np.searchsorted(edges, window[-1], side="right")
    for block in held_out:
        assert len(set(np.searchsorted(edges, block[:, -1], side="right").tolist())) == 1


def test_held_out_blocks_come_from_several_sessions_and_are_about_a_fifth() -> None:
    found = prepared(*(session(400, first=400 * i, seed=i) for i in range(5)))
    blocks = held_out_rows(found)
    assert {int(block[0, 0]) // 400 for block in blocks} >= {0, 1, 3}
    share = sum(map(len, blocks)) / (5 * 197)
    assert 0.15 < share < 0.25


@pytest.mark.parametrize("sizes", [[2_000], [120], [60, 60], [2_000, 40, 700]])
def test_every_normal_window_is_for_training_or_held_out_or_between_and_their_order_is_known(sizes: list[int]) -> None:
    starts = np.cumsum([0, *sizes])
    found = prepared(
        *(session(size, first=int(at), seed=i) for i, (at, size) in enumerate(zip(starts, sizes, strict=False)))
    )
    parts = [training_rows(found), *held_out_rows(found), rows_of(found.between.windows, found)]
    every = np.concatenate(parts)[found.order, 0]
    length, stride = parts[0].shape[1], int(np.diff(every).min())
    expected = [np.arange(at, at + size - length + 1, stride) for at, size in zip(starts, sizes, strict=False)]
    np.testing.assert_array_equal(every, np.concatenate(expected))
    assert len(parts[-1])


def test_a_block_is_consecutive_windows() -> None:
    for block in held_out_rows(prepared(session(2_000))):
        assert (np.diff(block[:, 0]) == 2).all()


def test_the_largest_part_of_the_windows_is_trained_on() -> None:
    found = prepared(session(2_000))
    assert len(found.training) > 0.6 * 997


def many(count: int, *, samples: int = 120) -> list[Session]:
    return [session(samples, name=f"{i}.csv", first=i * samples, seed=i) for i in range(count)]


def test_of_many_sessions_every_fifth_is_held_out_as_a_whole() -> None:
    found = prepared(*many(12))
    whole = {2, 7}
    trained = {int(row) // 120 for row in training_rows(found).ravel()}
    assert trained == set(range(12)) - whole
    assert {int(row) // 120 for block in held_out_rows(found) for row in block.ravel()} == whole
    assert all(len({int(row) // 120 for row in block.ravel()}) == 1 for block in held_out_rows(found))
    assert len(found.between) == 0
    windows_of_two = 2 * len(prepared(many(1)[0]).training) + 2 * sum(map(len, prepared(many(1)[0]).held_out))
    assert sum(map(len, found.held_out)) == windows_of_two + 2 * len(prepared(many(1)[0]).between)


def test_of_fewer_sessions_blocks_within_them_are_held_out() -> None:
    trained = {int(row) // 400 for row in training_rows(prepared(*many(9, samples=400))).ravel()}
    assert trained == set(range(9))


@pytest.mark.parametrize("long_one", [2, 5])
def test_one_long_session_among_short_ones_is_split_into_blocks(long_one: int) -> None:
    sizes = [4000 if i == long_one else 60 for i in range(12)]
    firsts = np.cumsum([0, *sizes])
    found = prepared(*(session(n, name=f"{i}.csv", first=int(firsts[i]), seed=i) for i, n in enumerate(sizes)))
    held_out = sum(map(len, found.held_out))
    assert 0.1 < held_out / (held_out + len(found.training) + len(found.between)) < 0.3
    assert len(found.training) > 0.6 * held_out / 0.2


def test_with_operating_modes_blocks_within_sessions_are_held_out_however_many_there_are() -> None:
    sessions = [Session(s.name, s.values, s.times, None, np.zeros((400, 1))) for s in many(12, samples=400)]
    made = Recording(tuple(sessions), ("row", "noise"), RATE_HZ, (), ("mode",))
    found = prepare(made, length=8, stride=2, baseline=0)
    assert {int(row) // 400 for row in training_rows(found).ravel()} == set(range(12))


def test_with_a_baseline_blocks_within_sessions_are_held_out_however_many_there_are() -> None:
    assert len(prepared(*many(12, samples=400), baseline=20).between) > 0
    assert len(prepared(*many(12, samples=400)).between) == 0


def test_one_short_session_is_split_and_a_shorter_one_is_refused() -> None:
    # Two blocks of five windows with a gap of four between them need at least ten windows: 8 + 9 * 2 rows.
    found = prepared(session(26))
    assert len(found.held_out) == 1
    assert len(training_rows(found)) >= 1
    with pytest.raises(TrainingError) as caught:
        prepared(session(25))
    line = str(caught.value)
    assert "expected sessions of several times 8 normal rows, in at least two blocks" in line
    assert "received 1 sessions, the longest with 25 rows" in line
    assert "Give more data, or a smaller --window, --stride or --baseline." in line


def test_two_short_sessions_are_one_for_training_and_one_held_out() -> None:
    found = prepared(session(20, first=0), session(20, first=20, seed=1))
    assert {int(row) // 20 for row in training_rows(found)[:, 0]} == {0}
    assert [int(block[0, 0]) // 20 for block in held_out_rows(found)] == [1]


def test_a_last_session_without_a_window_does_not_become_the_held_out_block() -> None:
    broken = session(20, first=40, seed=2)
    broken.values[::4, 1] = NAN
    found = prepared(session(20), session(20, first=20, seed=1), broken)
    assert [len(block) for block in found.held_out] == [5]
    assert [int(block[0, 0]) // 20 for block in held_out_rows(found)] == [1]


def test_without_a_baseline_the_scaler_is_mean_and_deviation_of_normal_rows() -> None:
    made = session(500, labels=list(range(100, 200)))
    made.values[100:200, 1] = 1e6
    found = prepared(made)
    normal = np.delete(made.values, range(100, 200), axis=0)
    np.testing.assert_allclose(found.scaler.centre, normal.mean(axis=0))
    np.testing.assert_allclose(found.scaler.scale, normal.std(axis=0))
    assert np.abs(found.training.windows).max() < 10


def test_anomalous_rows_end_a_segment() -> None:
    found = prepared(session(600, labels=[300, 301]))
    windows = np.concatenate([training_rows(found), *held_out_rows(found)])
    starts = windows[:, 0]
    assert not ((starts <= 301) & (windows[:, -1] >= 300)).any()
    assert 302 in starts.tolist()  # the segment starts anew, not at the next stride of the old one


def scaled_alone(made: Session, found: Prepared, baseline: int) -> FloatArray:
    learned = Baseline(samples=baseline, model=found.scaler)
    learned.push(made.values)
    assert learned.scaler is not None
    return learned.scaler(made.values)


def test_with_a_baseline_each_session_is_scaled_on_its_own_first_rows() -> None:
    sessions = [session(300, seed=i, offset=100.0 * i) for i in range(3)]
    found = prepared(*sessions, baseline=50)
    noise = WindowSet.joined([found.training, *found.held_out]).windows[:, :, 1]
    assert np.abs(noise).max() < 8
    for made, rows in zip(sessions, found.sessions, strict=True):
        np.testing.assert_allclose(rows, scaled_alone(made, found, 50))


def test_with_a_baseline_sessions_count_alike_in_the_scale() -> None:
    long, short = session(3_000, seed=0), session(300, seed=1)
    short.values[:, 1] *= 10
    found = prepared(long, short, baseline=50)
    squares = [
        np.square(s.values[:, 1] - trimmed_mean(s.values[:50])[1]).mean() for s in (long, short)
    ]  # of all normal rows, around the session's own centre
    assert found.scaler.scale[1] == pytest.approx(np.sqrt(np.mean(squares)))


def test_no_held_out_window_holds_a_row_of_the_baseline() -> None:
    made = session(400)
    found = prepared(made, baseline=100)
    scaled = scaled_alone(made, found, 100)[:, 0].astype(np.float32)
    rows = [np.searchsorted(scaled, block.windows[:, :, 0]) for block in found.held_out]
    assert min(int(block.min()) for block in rows) >= 100
    assert found.training.windows[:, :, 0].min() == scaled[0]  # training has them: they are normal


def test_a_session_whose_baseline_is_anomalous_is_left_out_and_told() -> None:
    found = prepared(session(300), session(300, name="b.csv", seed=1, labels=[49]), baseline=50)
    assert len(found.sessions) == 1
    assert found.notes == ("b.csv: left out, rows of its baseline are labelled anomalous",)
    kept = prepared(session(300), session(300, name="b.csv", seed=1, labels=[50]), baseline=50)
    assert len(kept.sessions) == 2
    assert kept.notes == ()


def test_a_session_too_short_for_baseline_and_window_is_left_out_and_told() -> None:
    found = prepared(session(300), session(57, name="b.csv", seed=1), baseline=50)
    assert found.notes == ("b.csv: left out, 57 usable rows are fewer than baseline 50 + window 8",)
    assert prepared(session(300), session(58, name="b.csv", seed=1), baseline=50).notes == ()


@pytest.mark.parametrize("baseline", [0, 7])
def test_a_session_without_a_normal_window_is_left_out_and_told(baseline: int) -> None:
    anomalous = session(300, name="b.csv", first=300, seed=1, labels=list(range(baseline, 300)))
    found = prepared(session(300), anomalous, baseline=baseline)
    assert len(found.sessions) == 1
    assert found.notes == (f"b.csv: left out, {baseline} normal rows are fewer than window 8",)


def test_a_session_that_is_normal_in_its_baseline_alone_is_trained_on_and_never_held_out() -> None:
    anomalous = session(300, name="b.csv", first=300, seed=1, offset=500.0, labels=list(range(20, 300)))
    found = prepared(session(300), anomalous, baseline=20)
    assert len(found.sessions) == 2
    alone = prepared(session(300), baseline=20)
    assert len(found.training) == len(alone.training) + 7
    assert [len(block) for block in found.held_out] == [len(block) for block in alone.held_out]


def test_data_without_a_normal_row_is_refused() -> None:
    with pytest.raises(TrainingError, match="too little normal data"):
        prepared(session(300, labels=list(range(300))))
    with pytest.raises(TrainingError, match="after a baseline of 400"):
        prepared(session(300), baseline=400)


def test_a_constant_channel_is_told_and_any_change_of_it_is_large() -> None:
    made = session(300)
    made.values[:, 1] = 5.0
    found = prepared(made)
    assert found.notes == ("constant in normal data, so any change of it will count as a large one: noise",)
    assert (found.training.windows[:, :, 1] == 0).all()
    assert abs(found.scaler(np.array([[0.0, 5.1]]))[0, 1]) > 10


def test_the_same_data_gives_the_same_windows() -> None:
    first, second = (prepared(session(500), session(300, seed=1), baseline=20) for _ in range(2))
    np.testing.assert_array_equal(first.training.windows, second.training.windows)
    assert len(first.held_out) == len(second.held_out)


# operating modes

LOW, HIGH = (1.0, 10.0), (2.0, 30.0)
"""The values of two mode columns in two modes."""


def moded(
    runs: list[tuple[tuple[float, float], int]],
    *,
    first: int = 0,
    name: str = "a.csv",
    seed: int = 0,
    labels: list[int] | None = None,
) -> Session:
    """A session of runs, each some samples in a mode; in the mode HIGH the noise is tenfold and around 1000."""
    made = session(sum(count for _, count in runs), name=name, first=first, seed=seed, labels=labels)
    modes = np.concatenate([np.tile(mode, (count, 1)) for mode, count in runs])
    high = modes[:, 0] == HIGH[0]
    made.values[high, 1] = 1000.0 + 10.0 * made.values[high, 1]
    return Session(made.name, made.values, made.times, made.labels, modes)


def prepared_modes(*sessions: Session, length: int = 8, stride: int = 2, baseline: int = 0) -> Prepared:
    whole = Recording(tuple(sessions), ("row", "noise"), RATE_HZ, mode_columns=("recipe", "load"))
    return prepare(whole, length=length, stride=stride, baseline=baseline)


def modes_of(windows: WindowSet) -> NDArray[np.intp]:
    """(windows,) number of the mode, which the condition (recipe one-hot, load one-hot) tells twice."""
    recipe, load = np.split(windows.conditions, 2, axis=1)
    np.testing.assert_array_equal(recipe, load)
    assert (recipe.sum(axis=1) == 1).all()
    return recipe.argmax(axis=1)


def mode_rows(windows: WindowSet, found: Prepared) -> NDArray[np.int64]:
    """(windows, length): the rows that each window holds, told by the scaler of its mode."""
    assert found.modes is not None
    mode = modes_of(windows)
    centre, scale = (np.array(table)[mode, 0] for table in (found.modes.centre, found.modes.scale))
    return np.rint(windows.windows[:, :, 0] * scale[:, None] + centre[:, None]).astype(np.int64)


def test_without_mode_columns_there_is_no_mode_and_no_condition() -> None:
    found = prepared(session(300))
    assert found.modes is None
    for windows in (found.training, *found.held_out):
        assert windows.conditions.shape == (len(windows), 0)


def test_each_mode_has_the_scaler_of_its_own_normal_rows() -> None:
    made = moded([(HIGH, 400), (LOW, 600)], labels=[20, 700])
    made.values[[20, 700], 1] = 1e6
    found = prepared_modes(made)
    assert found.modes is not None
    assert found.modes.columns == ("recipe", "load")
    assert found.modes.values == (LOW, HIGH)  # in rising order
    normal = [
        np.delete(made.values, [*range(400), 700], axis=0),
        np.delete(made.values, [20, *range(400, 1000)], axis=0),
    ]
    np.testing.assert_allclose(found.modes.centre, [rows.mean(axis=0) for rows in normal], rtol=1e-6)
    np.testing.assert_allclose(found.modes.scale, [rows.std(axis=0) for rows in normal], rtol=1e-6)
    together = np.delete(made.values, [20, 700], axis=0)
    np.testing.assert_allclose(found.scaler.centre, together.mean(axis=0))
    noise = WindowSet.joined([found.training, *found.held_out]).windows[:, :, 1]
    assert np.abs(noise).max() < 6


def test_the_condition_of_a_window_is_one_one_for_each_mode_column() -> None:
    mixed = (LOW[0], HIGH[1])
    found = prepared_modes(moded([(LOW, 300), (mixed, 300), (HIGH, 300)]))
    assert found.modes is not None
    assert found.modes.values == (LOW, mixed, HIGH)
    np.testing.assert_array_equal(found.modes.conditions, [[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1]])
    every = WindowSet.joined([found.training, *found.held_out]).conditions
    assert every.dtype == np.float32
    assert {tuple(row) for row in every.tolist()} == {tuple(row) for row in found.modes.conditions.tolist()}


@settings(max_examples=40, deadline=None)
@given(
    runs=st.lists(st.tuples(st.sampled_from([LOW, HIGH, (NAN, 10.0)]), st.integers(1, 200)), min_size=1, max_size=6),
    length=st.integers(4, 20),
    stride=st.integers(1, 25),
)
def test_no_window_crosses_a_mode_run_and_held_out_ones_are_a_window_away_from_training(
    runs: list[tuple[tuple[float, float], int]], length: int, stride: int
) -> None:
    made = moded(runs)
    assert made.modes is not None
    known = np.isfinite(made.modes[:, 0])
    going_on = np.maximum.accumulate(np.where(known, np.arange(len(known)), known.argmax()))  # behind a missing mode
    run = np.concatenate([[0], np.cumsum((np.diff(made.modes[going_on], axis=0) != 0).any(axis=1))])
    try:
        found = prepared_modes(made, length=length, stride=stride)
    except TrainingError:
        return  # too little data is told, and tested above
    assert found.modes is not None
    number = np.where(np.isnan(made.modes[:, 0]), -1, found.modes.find(made.modes))
    training, held_out = mode_rows(found.training, found), [mode_rows(block, found) for block in found.held_out]
    for windows, rows in zip((found.training, *found.held_out), (training, *held_out), strict=True):
        assert (np.diff(rows, axis=1) == 1).all()
        assert (run[rows] == run[rows[:, :1]]).all()
        assert (number[rows] == modes_of(windows)[:, None]).all()
    for block in held_out:
        assert len(set(run[block.ravel()].tolist())) == 1
        beside = training[run[training[:, 0]] == run[block[0, 0]]]
        assert ((beside[:, 0] > block[-1, -1]) | (beside[:, -1] < block[0, 0])).all()


def test_each_mode_run_learns_a_baseline_of_its_own() -> None:
    made = moded([(LOW, 300), (HIGH, 300), (LOW, 300)])
    found = prepared_modes(made, baseline=50)
    assert found.modes is not None
    assert len(found.sessions) == 3
    for at, mode, rows in zip((0, 300, 600), (0, 1, 0), found.sessions, strict=True):
        learned = Baseline(samples=50, model=found.modes.scaler(mode))
        learned.push(made.values[at : at + 300])
        assert learned.scaler is not None
        np.testing.assert_allclose(rows, learned.scaler(made.values[at : at + 300]))


def test_no_held_out_window_holds_a_row_of_a_mode_runs_baseline() -> None:
    sessions = [moded([(LOW, 200), (HIGH, 200)], first=400 * i, seed=i) for i in range(4)]
    found = prepared_modes(*sessions, baseline=100)
    # A run of 200 rows has 97 windows, of which the last 47 start behind the baseline.
    assert 0 < sum(map(len, found.held_out)) <= 8 * 47
    assert max(map(len, found.held_out)) <= 47
    for block in found.held_out:
        first = block.windows[0, 0, 0]
        own = [rows for rows in found.sessions if np.isin(first, rows[:, 0].astype(np.float32))]
        at = [int(np.searchsorted(rows[:, 0].astype(np.float32), first)) for rows in own]
        assert min(at) >= 100


def test_rows_without_a_mode_are_left_out_and_told_and_end_a_run() -> None:
    found = prepared_modes(moded([(LOW, 300), ((NAN, 10.0), 5), (LOW, 300), ((1.0, NAN), 2), (HIGH, 300)]))
    assert found.notes == ("a.csv: 7 rows without an operating mode are left out",)
    assert found.modes is not None
    assert found.modes.values == (LOW, HIGH)
    rows = np.concatenate([mode_rows(windows, found) for windows in (found.training, *found.held_out)])
    assert not set(rows.ravel().tolist()) & {300, 301, 302, 303, 304, 605, 606}
    assert not ((rows[:, 0] < 300) & (rows[:, -1] > 304)).any()


def test_run_goes_on_behind_rows_without_a_mode_and_keeps_its_baseline() -> None:
    made = moded([(LOW, 300), ((NAN, 10.0), 5), (LOW, 300), (HIGH, 300)])
    found = prepared_modes(made, baseline=50)
    assert [len(rows) for rows in found.sessions] == [600, 300]


def test_labels_and_times_travel_with_their_mode_run() -> None:
    made = moded([(LOW, 300), (HIGH, 300)], labels=[450, 451])
    made.times[400:] += 60.0  # a gap within the second run
    found = prepared_modes(made)
    assert [len(rows) for rows in found.sessions] == [300, 298]
    rows = np.concatenate([mode_rows(windows, found) for windows in (found.training, *found.held_out)])
    assert not np.isin(rows, [450, 451]).any()
    assert not ((rows[:, 0] < 400) & (rows[:, -1] >= 400)).any()
    assert {400, 452} <= set(rows[:, 0].tolist())


def test_a_mode_whose_runs_are_all_too_short_is_not_known_and_that_is_told() -> None:
    found = prepared_modes(moded([(LOW, 300), (HIGH, 7), (LOW, 300)]))
    assert found.modes is not None
    assert found.modes.values == (LOW,)
    assert found.notes == ("a.csv: left out, 7 usable rows are fewer than baseline 0 + window 8",)


def with_a_burst(rows: int, *, burst: int, resting: bool = False) -> Session:
    """Noise of spread 2 around 10, or a channel that rests at 10 and seldom moves; the last rows are far away."""
    made = session(rows)
    generator = np.random.default_rng(4)
    made.values[:, 1] = 10.0 + 2.0 * generator.normal(size=rows) * (generator.random(rows) < 0.2 if resting else 1.0)
    made.values[rows - burst :, 1] = 1_000.0
    return made


def robust(*sessions: Session, baseline: int = 0) -> Prepared:
    return prepare(recording(*sessions), length=8, stride=2, baseline=baseline, robust=True)


@pytest.mark.parametrize("baseline", [0, 50])
def test_a_robust_scaler_is_not_moved_by_a_few_faulty_rows(baseline: int) -> None:
    sessions = [with_a_burst(800, burst=burst) for burst in (0, 0, 40)]
    scaler = robust(*sessions, baseline=baseline).scaler
    assert scaler.centre[1] == pytest.approx(10.0, abs=0.3)
    assert scaler.scale[1] == pytest.approx(2.0, rel=0.1)
    assert prepared(*sessions, baseline=baseline).scaler.scale[1] > 20.0


def test_a_channel_at_rest_in_most_rows_is_scaled_by_its_standard_deviation_and_it_is_told() -> None:
    found = robust(with_a_burst(800, burst=0, resting=True))
    assert found.scaler.scale[1] == pytest.approx(2.0 * np.sqrt(0.2), rel=0.15)
    assert "at rest in more than half of the rows, so scaled by its standard deviation: noise" in found.notes


def test_a_robust_scaler_has_the_same_floor_for_a_constant_channel() -> None:
    still = session(400)
    still.values[:, 1] = 4.0
    found = robust(still)
    assert found.scaler.scale[1] == pytest.approx(4e-3)
    assert found.notes == ("constant in normal data, so any change of it will count as a large one: noise",)


def test_each_mode_is_scaled_robustly_by_itself() -> None:
    made = moded([(LOW, 400), (HIGH, 400)])
    made.values[380:400, 1] = 500.0
    whole = Recording((made,), ("row", "noise"), RATE_HZ, mode_columns=("recipe", "load"))
    found = prepare(whole, length=8, stride=2, baseline=0, robust=True)
    assert found.modes is not None
    assert [row[1] for row in found.modes.scale] == pytest.approx([1.0, 10.0], rel=0.2)
