"""A folder that looks like the sysfs of an IIO device, with a FIFO for its character device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_vae.source_config import IioConfig

__all__ = ["IioTree"]

STAMP = "le:s64/64>>0"


class IioTree:
    """One device with its buffer. Whoever reads it finds what is written here, in whole scans or in pieces.

    Args:
        folder: Where `sys` and `dev` are made.
        elements: Types of the scan elements, in the order in which they lie in a scan.
        attributes: More files of the device's folder and what they hold.
        number: Of the device.
        name: Of the device.
        stamped: Whether it has time stamps, by the clock of this name.
        several: Whether it has folders as since Linux 5.11, where a device may have several buffers.
    """

    def __init__(
        self,
        folder: Path,
        elements: Mapping[str, str],
        *,
        attributes: Mapping[str, str] | None = None,
        number: int = 0,
        name: str = "adxl355",
        stamped: str | None = "realtime",
        several: bool = False,
    ) -> None:
        self.root, self.dev, self.name = folder / "sys", folder / "dev", name
        self.folder = self.root / "bus/iio/devices" / f"iio:device{number}"
        self._scan, self._buffer = ("buffer0", "buffer0") if several else ("scan_elements", "buffer")
        for path, value in {"name": name, **(attributes or {})}.items():
            self.set(path, value)
        for path, value in {"enable": "0", "length": "2", "watermark": "1"}.items():
            self.set(f"{self._buffer}/{path}", value)
        if stamped:
            elements = {**elements, "timestamp": STAMP}
            self.set("current_timestamp_clock", stamped)
        for index, (element, kind) in enumerate(elements.items()):
            for what, value in {"en": "0", "index": str(index), "type": kind}.items():
                self.set(f"{self._scan}/in_{element}_{what}", value)
        self.dev.mkdir(exist_ok=True)
        self.node = self.dev / self.folder.name
        os.mkfifo(self.node)
        self._fifo = os.open(self.node, os.O_RDWR | os.O_NONBLOCK)

    def set(self, attribute: str, value: str) -> None:
        """Write a file of the device's folder, made where there is none."""
        path = self.folder / attribute
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")

    def get(self, attribute: str) -> str:
        """What a file of the device's folder holds."""
        return (self.folder / attribute).read_text().strip()

    def buffer(self, attribute: str) -> str:
        """What a file of the buffer holds."""
        return self.get(f"{self._buffer}/{attribute}")

    def enabled(self) -> set[str]:
        """The enabled scan elements."""
        files = (self.folder / self._scan).glob("in_*_en")
        return {file.name[3:-3] for file in files if file.read_text().strip() == "1"}

    def enable(self, *elements: str) -> None:
        """Set the buffer up as somebody else would."""
        for element in elements:
            self.set(f"{self._scan}/in_{element}_en", "1")
        self.set(f"{self._buffer}/enable", "1")

    def trigger(self, number: int, name: str, *, rate_hz: float | None = None) -> Path:
        """A trigger beside the device."""
        folder = self.folder.with_name(f"trigger{number}")
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        if rate_hz is not None:
            (folder / "sampling_frequency").write_text(f"{rate_hz}\n")
        return folder

    def write(self, scans: bytes) -> None:
        """Let the device have taken samples."""
        os.write(self._fifo, scans)

    def config(self, channels: Mapping[str, str], **more: Any) -> IioConfig:
        """A source that reads it."""
        return IioConfig(device=self.name, channels=dict(channels), root=self.root, dev=self.dev, **more)

    def close(self) -> None:
        """End the FIFO: a reader finds that the device has ended."""
        if self._fifo >= 0:
            os.close(self._fifo)
        self._fifo = -1
