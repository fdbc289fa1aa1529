"""A signal ends training between two epochs, by the handler that was there before."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from edge_vae_train.interrupt import whole_epochs


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_all_epochs_come_without_a_signal() -> None:
    assert list(whole_epochs(3)) == [1, 2, 3]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_within_an_epoch_is_answered_after_it() -> None:
    whole: list[int] = []

    def train() -> None:
        for epoch in whole_epochs(5):
            if epoch == 2:
                signal.raise_signal(signal.SIGINT)
            whole.append(epoch)

    with pytest.raises(KeyboardInterrupt):
        train()
    assert whole == [1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_is_answered_at_once() -> None:
    whole: list[int] = []

    def train() -> None:
        for epoch in whole_epochs(5):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            whole.append(epoch)

    with pytest.raises(KeyboardInterrupt):
        train()
    assert whole == []


def test_a_loop_that_is_left_early_gives_the_handler_back() -> None:
    for _ in whole_epochs(5):
        break
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_another_thread_the_epochs_come_as_they_are() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(whole_epochs(3)))
    thread.start()
    thread.join()
    assert found == [1, 2, 3]
