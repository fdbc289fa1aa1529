"""Waits between tries: longer with each, short again after what held."""

from __future__ import annotations

from random import Random

import pytest

from edge_vae.backoff import STEADY_S, Backoff, Retries


class Longest(Random):
    """Draws the upper bound."""

    def uniform(self, a: float, b: float) -> float:
        return b


def retries() -> Retries:
    return Retries(Backoff(Longest(), first_s=1.0, cap_s=8.0))


def test_each_wait_is_longer_up_to_the_cap() -> None:
    tries = retries()
    assert [tries.delay_s() for _ in range(5)] == [1.0, 2.0, 4.0, 8.0, 8.0]


@pytest.mark.parametrize(("held_s", "next_s"), [(0.0, 4.0), (0.99 * STEADY_S, 4.0), (STEADY_S, 1.0)])
def test_the_wait_is_short_again_after_what_held_and_not_after_what_broke_at_once(held_s: float, next_s: float) -> None:
    tries = retries()
    tries.delay_s(), tries.delay_s()
    assert tries.delay_s(held_s) == next_s


def test_the_first_try_is_told_from_the_others() -> None:
    tries = retries()
    assert not tries.again
    tries.delay_s()
    assert tries.again
