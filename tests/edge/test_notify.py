from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edge_vae import notify


def listener(address: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bound.bind(address)
    bound.settimeout(10.0)
    return bound


@pytest.fixture(params=["a path", "an abstract name"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of a service manager, and its address in the environment."""
    if request.param == "a path":
        shown = address = str(tmp_path / "notify")
    else:
        name = f"edge-vae-test-{secrets.token_hex(8)}"
        shown, address = "@" + name, "\0" + name
    monkeypatch.setenv("NOTIFY_SOCKET", shown)
    with listener(address) as bound:
        yield bound


@pytest.mark.parametrize(
    ("tell", "message"),
    [
        (notify.ready, b"READY=1"),
        (notify.watchdog, b"WATCHDOG=1"),
        (notify.trigger, b"WATCHDOG=trigger"),
        (notify.stopping, b"STOPPING=1"),
    ],
)
def test_service_manager_is_told(manager: socket.socket, tell, message: bytes) -> None:
    assert tell()
    assert manager.recv(4096) == message


def test_reloading_is_told_with_its_time_as_the_protocol_wants(manager: socket.socket) -> None:
    before_us = time.monotonic_ns() // 1000
    assert notify.reloading()
    first, _, second = manager.recv(4096).decode().partition("\n")
    name, _, at_us = second.partition("=")
    assert (first, name) == ("RELOADING=1", "MONOTONIC_USEC")
    assert before_us <= int(at_us) <= time.monotonic_ns() // 1000


def test_status_stays_one_field_whatever_the_text_holds(manager: socket.socket) -> None:
    assert notify.status("2 pipelines,\nREADY=1 größer")
    assert manager.recv(4096).decode() == "STATUS=2 pipelines, READY=1 größer"


def test_without_a_service_manager_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify.ready()


@pytest.mark.parametrize("address", ["{folder}/gone", "{folder}/" + 200 * "x"])
def test_service_manager_that_is_gone_is_logged_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address.format(folder=tmp_path))
    assert not notify.ready()
    assert "service manager not reached: message=READY=1" in caplog.text


def test_service_manager_that_does_not_read_holds_nobody_up_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "full")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with listener(address), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
        filler.connect(address)
        filler.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                filler.send(b"x")
        assert not notify.watchdog()


def test_watchdog_says_how_long_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert notify.watchdog_timeout_s() == 30.0
    monkeypatch.delenv("WATCHDOG_PID")
    assert notify.watchdog_timeout_s() == 30.0


@pytest.mark.parametrize("timeout_us", [None, "", "0", "-5", "soon", "²"])
def test_watchdog_is_off_without_a_usable_timeout(monkeypatch: pytest.MonkeyPatch, timeout_us: str | None) -> None:
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if timeout_us is None:
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    else:
        monkeypatch.setenv("WATCHDOG_USEC", timeout_us)
    assert notify.watchdog_timeout_s() is None


def test_watchdog_meant_for_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert notify.watchdog_timeout_s() is None
