"""The progress of a training: few lines where nobody watches a terminal, one form for all commands."""

from __future__ import annotations

import contextlib
import os
import pty
import sys

import pytest

from edge_vae_train.cli_progress import shown


def everything_of(reader: int) -> str:
    """What was written to a terminal that is closed by now; one read may give a part of it."""
    pieces = []
    with contextlib.suppress(OSError):  # so a terminal's other end tells that nothing more will come
        while piece := os.read(reader, 1 << 16):
            pieces.append(piece)
    os.close(reader)
    return b"".join(pieces).decode()


def test_without_a_terminal_the_first_epoch_and_each_tenth_part_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with shown() as show:
        for epoch in range(1, 41):
            show("window", epoch, 40, 0.5, 0.25)
    out, err = capsys.readouterr()
    assert not out
    lines = err.splitlines()
    assert lines[0] == "window: epoch 1/40 loss 0.5000 held out 0.2500"
    assert [line.split()[2] for line in lines[1:]] == [f"{epoch}/40" for epoch in range(4, 41, 4)]


def test_on_a_terminal_a_bar_shows_each_epoch_and_is_gone_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as screen, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", screen)
        patched.setenv("TERM", "xterm")
        patched.setenv("COLUMNS", "160")
        with shown() as show:
            show("features", 2, 3, 0.5, 0.25)
    told = everything_of(reader)
    assert "training" in told
    assert "features: epoch 2/3 loss 0.5000 held out 0.2500" in told
    assert told.rstrip("\r\n").endswith("\x1b[2K")
