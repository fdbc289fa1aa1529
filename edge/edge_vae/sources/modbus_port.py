"""What carries the bytes of Modbus: a TCP connection, or a serial line that sources share."""

from __future__ import annotations

import os
import select
import socket
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Protocol

from edge_vae.errors import MissingExtraError, SourceError
from edge_vae.modbus_config import ModbusConfig

try:
    import serial
except ModuleNotFoundError as error:
    raise MissingExtraError("reading Modbus", module="pyserial", extra="modbus") from error

__all__ = ["MAX_ANSWER", "Port", "SerialPort", "TcpPort"]

MAX_ANSWER = 260
"""Bytes of the longest frame (Modbus Application Protocol 1.1b3, 4.1)."""
CHARACTER_BITS = 11
SILENT_CHARACTERS, SILENT_S, FAST_BAUDRATE = 3.5, 0.00175, 19200
"""The silence between two frames, and the time that stands for it on faster lines (Modbus over Serial Line 1.02,
2.5.1.1)."""
PARITIES = {"none": "N", "even": "E", "odd": "O"}


class Port(Protocol):
    """What carries the bytes.

    Attributes:
        turn: Held by the one whose request is under way.
        late_s: For so long an answer that has not come in time may still come, and look like that to the next request.
    """

    turn: threading.Lock
    late_s: float

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        ...

    def receive(self, timeout_s: float) -> bytes:
        """What has come, waiting for it at most this long; empty if nothing has."""
        ...

    def close(self) -> None:
        """Let it go."""
        ...


class TcpPort:
    """A connection to a Modbus TCP server or gateway, where each answer has the number of its request."""

    late_s = 0.0

    def __init__(self, host: str, port: int, *, timeout_s: float) -> None:
        self.turn, self._timeout_s = threading.Lock(), timeout_s
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        self._socket.settimeout(self._timeout_s)
        self._socket.sendall(frame)

    def receive(self, timeout_s: float) -> bytes:
        """What has come, waiting for it at most this long; empty if nothing has."""
        self._socket.settimeout(timeout_s)
        try:
            received = self._socket.recv(MAX_ANSWER)
        except TimeoutError:
            return b""
        if not received:
            raise SourceError("the connection", expected="an answer", received="its end: the device has closed it")
        return received

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class SerialPort:
    """A serial line with Modbus devices on it: all sources of this process share it, and no other process may have it.

    Raises:
        OSError: There is no such serial port, or another program has it.
        SourceError: It cannot be set as is asked for.
    """

    _opened: ClassVar[dict[str, SerialPort]] = {}
    _opening: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, config: ModbusConfig) -> None:
        try:
            self._serial = serial.Serial(
                config.serial_port, config.baudrate, parity=PARITIES[config.parity], stopbits=config.stopbits,
                timeout=0, write_timeout=config.timeout_s, exclusive=True,
            )  # fmt: skip
        except termios.error as error:
            expected = f"a port that takes {config.line_settings}"
            raise SourceError(str(config.serial_port), expected=expected, received=f"{error.args[-1]}") from error
        fast = config.baudrate > FAST_BAUDRATE
        self._silence_s = SILENT_S if fast else SILENT_CHARACTERS * CHARACTER_BITS / config.baudrate
        self.turn, self.late_s = threading.Lock(), config.timeout_s
        self._settings, self._users = config.line_settings, 0

    @classmethod
    def shared(cls, config: ModbusConfig) -> SerialPort:
        """The line that a configuration names, opened where no other source has it open.

        Raises:
            SourceError: It is open with other settings.
        """
        path = os.path.realpath(str(config.serial_port))
        with cls._opening:
            port = cls._opened.get(path)
            if port is None:
                port = cls._opened[path] = cls(config)
            if port._settings != config.line_settings:
                what = f"{config.serial_port}, which another source has open"
                raise SourceError(what, expected=port._settings, received=config.line_settings)
            port._users += 1
            return port

    def send(self, frame: bytes) -> None:
        """Send a frame after the silence that ends the one before; what has come without being asked for is dropped."""
        time.sleep(self._silence_s)
        with self._whole():
            self._serial.reset_input_buffer()
            self._serial.write(frame)

    def receive(self, timeout_s: float) -> bytes:
        """What has come, waiting for it at most this long; empty if nothing has."""
        if not select.select([self._serial], [], [], timeout_s)[0]:
            return b""
        with self._whole():
            received: bytes = self._serial.read(MAX_ANSWER)
        return received

    def close(self) -> None:
        """Let the line go; the last one who does closes it."""
        with self._opening:
            self._users -= 1
            if not self._users:
                self._forget()
                self._serial.close()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Forget a line that broke: an adapter that is plugged in again is another one."""
        try:
            yield
        except (OSError, termios.error) as error:
            with self._opening:
                self._forget()
            raise OSError(*error.args) from error

    def _forget(self) -> None:
        for path in [path for path, port in self._opened.items() if port is self]:
            del self._opened[path]
