"""The benchmark of false alarms: machines made again, alarms as the agent raises them, and sums of groups."""

from __future__ import annotations

import numpy as np
import pytest

from edge_vae.alarm import AlarmRules
from edge_vae.stream import Scored
from edge_vae.threshold import Threshold
from false_alarms import EXPECTED, Counted, added, raised, within
from quality_protocols.normal_recordings import SIMULATED, simulated


def scored(score: list[float], breaks: tuple[int, ...] = (0,)) -> Scored:
    nothing = np.zeros((len(score), 1))
    after_break = np.isin(np.arange(len(score)), breaks)
    rows = np.arange(len(score))
    return Scored(rows, nothing[:, 0], nothing[:, 0], np.array(score), nothing, nothing, nothing, nothing, after_break)


def counted(days: float, raised: int, at_low: int, at_high: int) -> Counted:
    threshold = Threshold(3.0, "blocks", 10.0, 2.0, 0.0, 0.4, 9.0, 4, 0.4, 5, 2.5, 3.5)
    return Counted(10.0, threshold, days, raised, at_low, at_high)


@pytest.mark.parametrize("name", sorted(set(SIMULATED) - {"rig"}))
def test_a_machine_is_the_same_for_the_same_seed_and_another_for_another(name: str) -> None:
    first, again, other = simulated(name, 0), simulated(name, 0), simulated(name, 1)
    assert np.array_equal(first.training.sessions[0].values, again.training.sessions[0].values)
    assert not np.array_equal(first.training.sessions[0].values, other.training.sessions[0].values)
    everything = [*first.training.sessions, *first.tests]
    assert len({float(one.values[0, 0]) for one in everything}) == len(everything)
    assert (len(first.training.sessions), len(first.tests)) == (SIMULATED[name].training[0], SIMULATED[name].tests[0])


def test_the_longest_wish_of_a_machine_can_be_judged() -> None:
    for machine in SIMULATED.values():
        days = machine.tests[0] * machine.tests[1] / machine.rate_hz / 86_400
        windows_a_day = 86_400 * machine.rate_hz / 64
        assert days * 0.15 * windows_a_day > 5 * EXPECTED


def test_alarms_are_those_of_the_agent() -> None:
    rules = AlarmRules((2, 3), (3, 3), 0.1)
    assert raised([scored([0, 5, 0, 5, 5, 0, 0, 0, 5, 5])], 3.0, rules) == 2
    assert raised([scored([0, 5, 0, 0, 5, 0])], 3.0, rules) == 0  # single windows
    assert raised([scored([0, 5, 5, 0], breaks=(0, 2))], 3.0, rules) == 0  # on either side of a gap
    assert raised([scored([0, 5]), scored([5, 0])], 3.0, rules) == 0  # in two sessions


def test_alarms_of_a_group_are_added_up() -> None:
    row = added("group", 3, [counted(1.0, 8, 16, 2), counted(2.0, 22, 30, 20)])
    assert (row.machine, row.seed, row.expected, row.raised) == ("group", 3, 30.0, 30)
    assert row.ratio == 1.0
    assert [row.least, row.most] == pytest.approx([22 / 30, 46 / 30], abs=1e-3)


def test_goal_and_floor_count_ratios() -> None:
    rows = [added("one", 0, [counted(1.0, count, count, count)]) for count in (3, 4, 10, 20, 30, 31)]
    assert within(rows) == {"goal 0.5-2": "2 of 6", "floor 0.33-3": "4 of 6"}
