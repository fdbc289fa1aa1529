"""The short form of `make survive`: most scenarios once, and everything that was logged has arrived."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from survival.run import Run
from survival.scenarios import SCENARIOS

pytestmark = pytest.mark.broker

LONG = {"source dies", "configuration changed", "configuration damaged"}
"""Left to `make survive`; what a machine goes through there has shorter tests in test_reload.py and test_agent.py."""


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path, random.Random(request.node.name))
    yield made
    made.close()


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in LONG])
def test_no_alarm_that_was_logged_is_lost_and_none_comes_before_an_earlier_one(name: str, run: Run) -> None:
    if name == "disk read-only" and os.getuid():
        pytest.skip("only root can mount a file system")
    SCENARIOS[name](run)
    counts = run.settle()

    assert counts.raised > 50
    assert (counts.lost, counts.unexplained, counts.reordered) == (0, 0, 0), counts
    assert counts.received + counts.given_up == counts.raised
    assert name == "store damaged" or not counts.given_up
