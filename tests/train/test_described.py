"""What a bundle says of normal readings, for the device's checks of its sensors."""

from __future__ import annotations

import math

import numpy as np

from edge_vae.scale import Scaler
from edge_vae_train.data import Recording, Session
from edge_vae_train.described import described

NAN = math.nan
COLUMNS = {
    "lively": [1, 2, 2, 3, 4, 5, 6, 7],
    "switch": [0, 0, 1, 1, 1, 1, 1, 1],
    "broken": [1, NAN, 1, 1, 1, 2, 3, 3],
    "labelled": [5, 6, 7, 8, 9, 99, 99, 99],
}
LABELS = np.arange(8) >= 5


def test_range_and_longest_rest_are_those_of_normal_rows_within_a_session() -> None:
    values = np.array(list(COLUMNS.values()), float).T
    times = np.arange(8.0)
    second = np.repeat(values[3:4], 8, axis=0) + np.arange(8)[:, None]
    sessions = (Session("a", values, times, LABELS), Session("b", second, times, None))
    scaler = Scaler(np.zeros(4), np.ones(4))
    lively, switch, broken, labelled = described(Recording(sessions, tuple(COLUMNS), 1.0), scaler)
    assert (lively.least, lively.most, lively.rest) == (1.0, 10.0, 1)  # the row between was not whole
    assert (broken.least, broken.rest) == (1.0, 3)
    assert (labelled.most, labelled.rest) == (15.0, 1)
    assert switch.rest is not None  # its second session has more than two readings


def test_a_channel_with_two_readings_is_a_switch_that_may_rest() -> None:
    values = np.array([[0, 1], [0, 2], [1, 3], [1, 4]], float)
    session = Session("a", values, np.arange(4.0), None)
    scaler = Scaler(np.zeros(2), np.ones(2))
    switch, lively = described(Recording((session,), ("switch", "lively"), 1.0), scaler)
    assert (switch.rest, lively.rest) == (None, 1)
    assert (switch.least, switch.most) == (0.0, 1.0)
