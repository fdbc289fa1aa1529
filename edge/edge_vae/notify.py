"""Telling systemd how the agent is: the sd_notify protocol, spoken without libsystemd.

Outside systemd there is nobody to tell, and every function here does nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import time

__all__ = ["ready", "reloading", "status", "stopping", "trigger", "watchdog", "watchdog_timeout_s"]

log = logging.getLogger(__name__)


def ready() -> bool:
    """Say that start-up is over; whether somebody was told."""
    return _tell("READY=1")


def reloading() -> bool:
    """Say that the configuration is being read anew, until the next `ready()`; whether somebody was told."""
    return _tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog() -> bool:
    """Say that the agent makes progress; whether somebody was told."""
    return _tell("WATCHDOG=1")


def trigger() -> bool:
    """Say that the agent hangs, so that systemd (from 243 on) need not wait to find out; whether somebody was told."""
    return _tell("WATCHDOG=trigger")


def stopping() -> bool:
    """Say that the agent is about to end; whether somebody was told."""
    return _tell("STOPPING=1")


def status(text: str) -> bool:
    """Say in one line what `systemctl status` should show; whether somebody was told."""
    return _tell("STATUS=" + " ".join(text.split()))


def watchdog_timeout_s() -> float | None:
    """Seconds without `watchdog()` after which systemd would end this process, None if nobody waits for it."""
    timeout_us = os.environ.get("WATCHDOG_USEC", "")
    meant_for = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not (timeout_us.isascii() and timeout_us.isdigit()) or meant_for != str(os.getpid()):
        return None
    return int(timeout_us) / 1e6 or None


def _tell(message: str) -> bool:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    # An address in the abstract namespace of Linux is written with @ and sent with a zero byte.
    target = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaker:
            speaker.settimeout(1.0)  # a service manager that hangs must not hang the agent
            speaker.connect(target)
            speaker.send(message.encode())
    except (OSError, ValueError) as error:
        log.warning("service manager not reached: message=%s address=%s reason=%s", message, address, error)
        return False
    return True
