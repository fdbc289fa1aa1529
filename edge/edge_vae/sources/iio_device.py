"""A device of Linux's IIO subsystem as its folder in sysfs shows it: scan elements, attributes, buffer, trigger."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from edge_vae.errors import SourceError
from edge_vae.sources.scan import ScanType

__all__ = ["TIMESTAMP", "IioDevice", "refused"]

TIMESTAMP = "timestamp"
"""The scan element that holds the time, int64 nanoseconds."""
CLOCKS = {
    "realtime": time.CLOCK_REALTIME,
    "realtime_coarse": time.CLOCK_REALTIME,
    "monotonic": time.CLOCK_MONOTONIC,
    "monotonic_coarse": time.CLOCK_MONOTONIC,
    "monotonic_raw": time.CLOCK_MONOTONIC_RAW,
    "boottime": time.CLOCK_BOOTTIME,
    "tai": time.CLOCK_TAI,
}
"""What `current_timestamp_clock` may say, Documentation/ABI/testing/sysfs-bus-iio."""
RATE_TOLERANCE = 0.01
"""A driver rounds a rate to what its registers can say; beyond that it chose another one."""
DENIED = (
    "The group iio may, by the udev rule that edge-vae install-service --source iio writes; "
    "or let somebody else set the buffer up, with setup = false."
)
ACTIONS = {
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
    errno.EROFS: DENIED,
    errno.EBUSY: "End the other program that uses this buffer.",
    errno.EINVAL: "The driver refuses this: it may want a trigger, another rate, or other channels together.",
}


class IioDevice:
    """One device.

    Args:
        folder: Its folder, such as /sys/bus/iio/devices/iio:device0.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.node = folder.name
        # Since Linux 5.11 a device may have several buffers; the character device reads the first.
        own = folder / "buffer0"
        self._buffer, self._elements = (own, own) if own.is_dir() else (folder / "buffer", folder / "scan_elements")

    @classmethod
    def find(cls, root: Path, name: str) -> IioDevice:
        """The device of this name, label or number.

        Args:
            root: Where sysfs is mounted.
            name: Such as `adxl355` or `iio:device0`.

        Raises:
            SourceError: There is none, or there are several.
        """
        every = {folder: _names(folder) for folder in _folders(root, "iio:device")}
        found = [folder for folder, names in every.items() if name in names]
        if len(found) == 1:
            return cls(found[0])
        what, several = f"IIO device {name}", "Name one of them by its number."
        raise SourceError(
            what,
            expected=f"one such device in {root / 'bus/iio/devices'}",
            received=_listed(" ".join(every[folder]) for folder in (found or every)),
            action=several if found else "Correct device, or load its driver and device-tree overlay.",
        )

    @property
    def elements(self) -> list[str]:
        """Names of the scan elements, without `in_`, in the order in which they lie in a scan."""
        names = [path.name[len("in_") : -len("_en")] for path in self._elements.glob("in_*_en")]
        return sorted(names, key=lambda name: _number(self._elements / f"in_{name}_index"))

    @property
    def enabled(self) -> list[str]:
        """Names of the elements that a scan holds, in their order."""
        return [name for name in self.elements if self._element(name, "en") == "1"]

    @property
    def is_running(self) -> bool:
        """Whether the buffer is being filled."""
        return _read(self._buffer / "enable") == "1"

    @property
    def stamp_clock(self) -> int | None:
        """The clock that time stamps come from; None where it is none that is known."""
        path = self._folder / "current_timestamp_clock"
        return CLOCKS.get(_read(path)) if path.exists() else time.CLOCK_REALTIME

    def type_of(self, element: str) -> ScanType:
        """How an element is stored.

        Raises:
            SourceError: Not in a way that is known.
        """
        try:
            return ScanType.parse(self._element(element, "type"))
        except ValueError as error:
            msg = f"{self.node}: {element}: {error}"
            raise SourceError(msg) from error

    def number(self, element: str, attribute: str, *, default: float) -> float:
        """A number such as the scale or the offset: the element's own, or else that of all elements of its kind."""
        path = self._attribute(element, attribute)
        return default if path is None else _number(path)

    def enable_elements(self, wanted: Collection[str]) -> None:
        """Let a scan hold these elements, and its time where the device has one, and no others."""
        for name in self.elements:
            value = "1" if name in wanted or name == TIMESTAMP else "0"
            if self._element(name, "en") != value:
                _write(self._elements / f"in_{name}_en", value)

    def set_trigger(self, root: Path, name: str) -> Path:
        """Let this trigger take the samples; its folder.

        Raises:
            SourceError: There is no such trigger, or the device takes none.
        """
        every = {folder: _names(folder) for folder in _folders(root, "trigger")}
        found = [folder for folder, names in every.items() if name in names]
        if not found:
            what = f"IIO trigger {name}"
            raise SourceError(
                what,
                expected=f"such a trigger in {root / 'bus/iio/devices'}",
                received=_listed(" ".join(names) for names in every.values()),
                action="Correct trigger, or make it: an hrtimer trigger is a folder in configfs.",
            )
        _write(self._folder / "trigger/current_trigger", _read(found[0] / "name"))
        return found[0]

    def set_rate(self, rate_hz: float, elements: Collection[str], *, trigger: Path | None, needed: bool) -> None:
        """Set the sampling frequency, of the trigger if it has one, else of the elements.

        Args:
            rate_hz: Samples a second.
            elements: What is sampled.
            trigger: Folder of the trigger.
            needed: Whether a device that has no such setting is an error.

        Raises:
            SourceError: The device does not sample at this rate, or cannot be told to.
        """
        paths = {self._attribute(element, "sampling_frequency") for element in elements} - {None}
        if trigger is not None and (trigger / "sampling_frequency").exists():
            paths = {trigger / "sampling_frequency"}
        if needed and not paths:
            what = f"{self.node}: rate_hz"
            raise SourceError(what, expected="a device with sampling_frequency", received="one without")
        for path in sorted(filter(None, paths)):
            _write(path, f"{rate_hz:.6f}".rstrip("0").rstrip("."))
            if abs((got := _number(path)) - rate_hz) > RATE_TOLERANCE * rate_hz:
                choices = path.with_name(f"{path.name}_available")
                raise SourceError(
                    str(path),
                    expected=f"{rate_hz:g} Hz",
                    received=f"{got:g} Hz" + (f", of {_read(choices)}" if choices.exists() else ""),
                    action="Train a bundle at a rate that the device has.",
                )

    def set_length(self, scans: int) -> None:
        """Let the buffer hold so many scans."""
        _write(self._buffer / "length", str(scans))

    def set_watermark(self, scans: int, *, needed: bool) -> None:
        """Wake the reader when so many scans have come; where Linux is older than 4.2, each scan wakes it."""
        path = self._buffer / "watermark"
        if needed or path.exists():
            _write(path, str(scans))

    def run(self, *, on: bool) -> None:
        """Begin or end to fill the buffer."""
        _write(self._buffer / "enable", "1" if on else "0")

    def _element(self, name: str, what: str) -> str:
        return _read(self._elements / f"in_{name}_{what}")

    def _attribute(self, element: str, attribute: str) -> Path | None:
        """The file of the nearest attribute: `in_accel_x_scale`, `in_accel_scale`, `in_scale`, `scale`."""
        paths = (self._folder / f"{name}{attribute}" for name in _generic(f"in_{element}"))
        return next((path for path in paths if path.exists()), None)


def _generic(name: str) -> Iterator[str]:
    """Beginnings of the names of attributes that hold for an element, the most special first.

    >>> list(_generic("in_voltage3"))
    ['in_voltage3_', 'in_voltage_', 'in_', '']
    """
    while name:
        yield f"{name}_"
        if (kind := re.sub(r"\d+", "", name)) != name:
            yield f"{kind}_"
        name = name.rpartition("_")[0]
    yield ""


def _folders(root: Path, prefix: str) -> list[Path]:
    return sorted((root / "bus/iio/devices").glob(f"{prefix}[0-9]*"))


def _names(folder: Path) -> list[str]:
    files = (folder / "name", folder / "label")
    return [*(_read(file) for file in files if file.exists()), folder.name]


def _listed(names: Collection[str] | Iterator[str]) -> str:
    return ", ".join(names) or "none"


def _number(path: Path) -> float:
    try:
        return float(text := _read(path))
    except ValueError as error:
        raise SourceError(str(path), expected="a number", received=repr(text)) from error


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError as error:
        raise refused(path, error, expected="an attribute that can be read") from error


def _write(path: Path, value: str) -> None:
    """Write an attribute that is there; a missing one is not made, as it would be in a folder of files."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(descriptor, f"{value}\n".encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise refused(path, error, expected=f"an attribute that takes {value}") from error


def refused(path: Path, error: OSError, *, expected: str) -> SourceError:
    """What the kernel's answer means, and what to do about it."""
    action = ACTIONS.get(error.errno or 0, "")
    return SourceError(str(path), expected=expected, received=error.strerror or str(error), action=action)
