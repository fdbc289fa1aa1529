"""A signal waits until it can be answered in order, by the handler that was there before."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_vae_train.interrupt import answer, held


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def usual() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_a_signal_nothing_happens() -> None:
    with held():
        assert not usual()
        answer()
    assert usual()


def test_a_signal_waits_until_it_is_answered() -> None:
    done: list[str] = []

    @held()
    def train() -> None:
        for epoch in ("first", "second", "third"):
            answer()
            if epoch == "second":
                signal.raise_signal(signal.SIGINT)
            done.append(epoch)

    with pytest.raises(KeyboardInterrupt):
        train()
    assert done == ["first", "second"]
    assert usual()


def test_a_signal_that_nobody_answers_is_answered_at_the_end() -> None:
    done: list[str] = []

    @held()
    def write() -> None:
        signal.raise_signal(signal.SIGINT)
        done.append("whole")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert done == ["whole"]
    assert usual()


def test_a_block_within_a_block_leaves_the_signal_to_the_outer_one() -> None:
    done: list[str] = []

    @held()
    def outer() -> None:
        with held():
            signal.raise_signal(signal.SIGINT)
        done.append("after the inner block")

    with pytest.raises(KeyboardInterrupt):
        outer()
    assert done == ["after the inner block"]


def test_a_second_signal_is_answered_at_once() -> None:
    done: list[str] = []

    @held()
    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("too late")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not done
    assert usual()


def test_an_error_that_comes_of_the_interruption_is_not_what_the_user_sees() -> None:
    @held()
    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:  # as TensorFlow does with what is raised within its calls
            raise TypeError("not a tensor") from error

    with pytest.raises(KeyboardInterrupt):
        work()


def test_an_error_without_a_signal_stays_what_it_is() -> None:
    @held()
    def work() -> None:
        raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        work()
    assert usual()


def test_termination_is_answered_by_its_own_handler() -> None:
    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        with pytest.raises(SystemExit) as left, held():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert left.value.code == 128 + signal.SIGTERM


def test_in_another_thread_nothing_is_held() -> None:
    found: list[bool] = []

    def work() -> None:
        with held():
            answer()
            found.append(usual())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]


@pytest.mark.keras
def test_a_command_that_is_interrupted_while_it_imports_tensorflow_ends_with_one_line(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(300, 2))
    (tmp_path / "data.csv").write_text("a,b\n" + "".join(f"{a:.3f},{b:.3f}\n" for a, b in rows))
    words = ["train", str(tmp_path / "data.csv"), "--rate", "10", "--window", "16", "-o", str(tmp_path / "run")]
    command = [sys.executable, "-c", "from edge_vae.cli import main; main()", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = next(line for line in process.stderr if "300 rows" in line)
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate(timeout=120)
    assert (process.returncode, out, rest.split("\n")) == (130, "", ["", "interrupted", ""]), [told, rest]
    assert not (tmp_path / "run").exists()
