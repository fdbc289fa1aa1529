"""Requests to Modbus devices, and their answers.

Frames and messages are pymodbus's; its clients are not used, since they block for as long as a device is silent, hide
why they cannot connect, and measure time by the system clock on serial lines.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Sequence

from edge_vae.errors import MissingExtraError, SourceError
from edge_vae.modbus_config import BITS, ModbusConfig
from edge_vae.sources.fed import TURN_S
from edge_vae.sources.modbus_port import MAX_ANSWER, Port, SerialPort, TcpPort
from edge_vae.sources.registers import Request

try:
    from pymodbus.exceptions import ModbusException
    from pymodbus.framer import FramerBase, FramerRTU, FramerSocket
    from pymodbus.pdu import DecodePDU, ModbusPDU
    from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
    from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest
except ModuleNotFoundError as error:
    raise MissingExtraError("reading Modbus", module="pymodbus", extra="modbus") from error

__all__ = ["Line", "RefusedError", "connected"]

# What it logs is told once by the source, and not with every request.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

READS = {
    "coil": ReadCoilsRequest,
    "discrete": ReadDiscreteInputsRequest,
    "holding": ReadHoldingRegistersRequest,
    "input": ReadInputRegistersRequest,
}
REFUSALS = {
    1: "illegal function: the device has no such kind of register",
    2: "illegal data address: the device has not all of them; addresses count from 0, and max_gap = 0 reads no gaps",
    3: "illegal data value: the device does not read so many at once",
    4: "server device failure",
    5: "acknowledge: the device needs longer",
    6: "server device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}
"""Exception codes (Modbus Application Protocol 1.1b3, 7)."""


class RefusedError(SourceError):
    """The device answered that it will not answer this request.

    Args:
        request: What was asked for.
        code: The exception code of the protocol.
    """

    def __init__(self, request: Request, code: int) -> None:
        self.code = code
        super().__init__(
            f"{request}", expected="values", received=f"exception {code} ({REFUSALS.get(code, 'unknown')})"
        )


class Line:
    """Requests and their answers, one after the other.

    Args:
        port: What carries the bytes.
        framer: How a frame looks there.
        timeout_s: How long a device may take to answer.
    """

    def __init__(self, port: Port, framer: FramerBase, *, timeout_s: float) -> None:
        self._port, self._framer, self._timeout_s = port, framer, timeout_s
        self._number = 0

    def ask(self, request: Request) -> Generator[None, None, Sequence[int]]:
        """The registers or bits that a request reads; yields at least every `TURN_S` while there is no answer.

        Raises:
            RefusedError: The device will not read them.
            SourceError, OSError: There is no answer, or none that can be one; the line should be let go.
        """
        while not self._port.turn.acquire(timeout=TURN_S):
            yield
        try:
            self._number = self._number % 0xFFFF + 1
            sent = READS[request.kind](
                dev_id=request.device_id, transaction_id=self._number, address=request.address, count=request.count
            )
            self._port.send(self._framer.buildFrame(sent))
            answer = yield from self._answer(sent, str(request))
        finally:
            self._port.turn.release()
        return _read(request, sent, answer)

    def close(self) -> None:
        """Let the line go."""
        self._port.close()

    def _answer(self, sent: ModbusPDU, what: str) -> Generator[None, None, ModbusPDU]:
        until_s, heard, received = time.monotonic() + self._timeout_s, b"", b""
        while (left_s := until_s - time.monotonic()) > 0 and len(heard) <= MAX_ANSWER:
            came = self._port.receive(min(left_s, TURN_S))
            heard, received = heard + came, received + came
            try:
                used, answer = self._framer.handleFrame(received, sent.dev_id, sent.transaction_id)
            except ModbusException as error:
                raise SourceError(what, expected="an answer", received=f"{heard.hex(' ')}: {error}") from error
            if answer is not None:
                return answer
            received = received[used:]
            yield
        yield from self._let_late_pass()
        shown = f"{len(heard)} bytes that are none: {heard[:16].hex(' ')}" if heard else "nothing"
        raise SourceError(what, expected=f"an answer within {self._timeout_s:g} s", received=shown)

    def _let_late_pass(self) -> Generator[None, None, None]:
        until_s = time.monotonic() + self._port.late_s
        while (left_s := until_s - time.monotonic()) > 0:
            self._port.receive(min(left_s, TURN_S))
            yield


def _read(request: Request, sent: ModbusPDU, answer: ModbusPDU) -> Sequence[int]:
    if answer.function_code == sent.function_code | 0x80:
        raise RefusedError(request, answer.exception_code)
    found = answer.bits if request.kind in BITS else answer.registers
    # Bits come in whole bytes.
    count = -(-request.count // 8) * 8 if request.kind in BITS else request.count
    if answer.function_code != sent.function_code or len(found) != count:
        received = f"{len(found)} by function {answer.function_code}"
        raise SourceError(str(request), expected=f"{count} values by function {sent.function_code}", received=received)
    return found


def connected(config: ModbusConfig) -> Line:
    """The line that a configuration describes.

    Raises:
        OSError: There is nobody, or no such serial port, or another program has it.
    """
    if config.host is not None:
        port: Port = TcpPort(config.host, config.port, timeout_s=config.timeout_s)
        return Line(port, FramerSocket(DecodePDU(is_server=False)), timeout_s=config.timeout_s)
    return Line(SerialPort.shared(config), FramerRTU(DecodePDU(is_server=False)), timeout_s=config.timeout_s)
