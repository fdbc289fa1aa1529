"""Real Modbus servers for tests, pymodbus's own, over TCP or over a serial cable made of two pseudo-terminals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import select
import threading
import tty
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from broker import ADDRESS, DEADLINE_S, free_port

__all__ = ["ModbusServer", "SerialCable", "device", "told_rows"]

Words = Sequence[int]
Action = Callable[..., "asyncio.Future[ExcCodes | None]"]


def device(
    words: Words,
    *,
    inputs: Words = (0,),
    coils: Sequence[bool] = (False,),
    discrete: Sequence[bool] = (False,),
    device_id: int = 1,
    action: Action | None = None,
) -> SimDevice:
    """A device with holding registers, input registers and bits from address 0 on; beyond there is none."""
    bits = [[SimData(0, values=list(each), datatype=DataType.BITS)] for each in (coils, discrete)]
    blocks = [[SimData(0, values=list(each), datatype=DataType.REGISTERS)] for each in (words, inputs)]
    return SimDevice(device_id, simdata=(*bits, *blocks), action=action)


def told_rows(rows: Sequence[Words]) -> Action:
    """An action of a device that has each of these rows in its registers for one request, and after them is silent."""
    left = deque(rows)

    async def next_row(
        function: int, start: int, address: int, count: int, registers: list[int], written: list[int] | None
    ) -> ExcCodes | None:
        if not left:
            await asyncio.Event().wait()
        row = left.popleft()
        registers[: len(row)] = row
        return None

    return next_row


class ModbusServer:
    """A server in a thread of its own, on one port however often it is started; stopped at the end of the block.

    Args:
        devices: The devices behind it.
        serial_port: Where they are on a serial line; by default they are at a TCP port of `ADDRESS`.
        sent: What becomes of a frame that it sends.
    """

    def __init__(
        self, *devices: SimDevice, serial_port: str | None = None, sent: Callable[[bytes], bytes] = lambda frame: frame
    ) -> None:
        self.devices, self._serial_port, self.sent = list(devices), serial_port, sent
        self.port = 0 if serial_port else free_port()
        self.requests: list[bytes] = []
        self._thread: threading.Thread | None = None

    def __enter__(self) -> ModbusServer:  # noqa: PYI034 (typing.Self is not in Python 3.10)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start, and return when it listens."""
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), name="modbus server")
        self._thread.start()
        assert ready.wait(DEADLINE_S), "the Modbus server does not listen"

    def stop(self) -> None:
        """Hang up on everybody, and end."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(DEADLINE_S)
            self._thread = None

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        if self._serial_port:
            server = ModbusSerialServer(self.devices, port=self._serial_port, trace_packet=self._trace)
        else:
            server = ModbusTcpServer(self.devices, address=(ADDRESS, self.port), trace_packet=self._trace)
        await server.serve_forever(background=True)
        ready.set()
        await self._stopping.wait()
        await server.shutdown()

    def _trace(self, sending: bool, frame: bytes) -> bytes:
        if sending:
            return self.sent(frame)
        self.requests.append(frame)
        return frame


class SerialCable:
    """Two serial ports, each of which reads what is written to the other one."""

    def __init__(self) -> None:
        pairs = [pty.openpty(), pty.openpty()]
        self._masters, self._slaves = zip(*pairs, strict=True)
        for slave in self._slaves:
            tty.setraw(slave)
        self.near, self.far = map(os.ttyname, self._slaves)
        self._ended, self._end = os.pipe()
        self._thread = threading.Thread(target=self._carry, name="serial cable")
        self._thread.start()

    def __enter__(self) -> SerialCable:  # noqa: PYI034 (typing.Self is not in Python 3.10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._end)
        self._thread.join(DEADLINE_S)
        for held in (*self._masters, *self._slaves, self._ended):
            os.close(held)

    def _carry(self) -> None:
        other = dict(zip(self._masters, reversed(self._masters), strict=True))
        while True:
            readable, _, _ = select.select([*self._masters, self._ended], [], [])
            if self._ended in readable:
                return
            for master in readable:
                with contextlib.suppress(OSError):
                    os.write(other[master], os.read(master, 4096))
