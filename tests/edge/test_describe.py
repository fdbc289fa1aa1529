"""A bundle in words: how its alarms are explained, and how often that names the right channel."""

from __future__ import annotations

import pytest

from edge_vae.describe import text
from edge_vae.explain import Explanation
from plain_bundle import plain_bundle

HITS = {"share": 0.6, "surprise": 0.8, "imputation": 0.7}
SEEN = {"share": 0.91, "surprise": 0.97, "imputation": 0.93}


@pytest.mark.parametrize(
    ("explanation", "line"),
    [
        (Explanation("share", (), (), {}), "explained  by share"),
        (
            Explanation("share", (), (), {"share": 0.6, "surprise": 0.5}),
            "explained  by share: the faulty channel came first in 60% of all synthetic faults (surprise 50%)",
        ),
        (
            Explanation("surprise", ((0.0,),), ((1.0,),), HITS, SEEN),
            (
                "explained  by surprise: the faulty channel came first in 97% of the synthetic faults that the score "
                "sees, 80% of all synthetic faults (share 91%, 60%; imputation 93%, 70%)"
            ),
        ),
    ],
    ids=["not measured", "few seen", "both rates"],
)
def test_the_way_of_explaining_is_told_with_its_hits(explanation: Explanation, line: str) -> None:
    assert line in text(plain_bundle(explanation=explanation)).splitlines()
