"""The buffer of a Linux IIO device: a tree of files as sysfs, a FIFO as the character device."""

from __future__ import annotations

import errno
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker import DEADLINE_S, wait_until
from collected import collect, readings
from edge_vae.broker_config import MqttConfig
from edge_vae.errors import SourceError
from edge_vae.source_config import IioConfig
from edge_vae.sources import fed, open_source
from edge_vae.sources.fed import FedSource
from edge_vae.sources.iio import IioBuffer
from iio_tree import IioTree

ACCELEROMETER = dict.fromkeys(("accel_x", "accel_y", "accel_z"), "le:s16/16>>0")
CHANNELS = {"along": "accel_x", "up": "accel_z"}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fed, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(fed, "LAST_RETRY_S", 0.02)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[IioTree]:
    made = IioTree(tmp_path, ACCELEROMETER, attributes={"in_accel_scale": "0.5"}, stamped=None)
    yield made
    made.close()


@pytest.fixture
def opened() -> Iterator[Callable[..., FedSource]]:
    """Opens a source with the channels that its configuration names, and closes it in the end."""
    sources = []

    def open_with(config: IioConfig, *, rate_hz: float = 100.0) -> FedSource:
        source = open_source(config, mqtt=MqttConfig(), rate_hz=rate_hz)
        assert isinstance(source, FedSource)
        sources.append(source)
        source.open(config.names())
        return source

    yield open_with
    for source in sources:
        source.close()


def failure(config: IioConfig, *, rate_hz: float = 100.0) -> str:
    """Why the device cannot be read."""
    with pytest.raises(SourceError) as caught:
        next(IioBuffer(config, rate_hz=rate_hz).readings(config.names()))
    return str(caught.value)


# what is read


def test_readings_are_scaled_and_in_the_order_of_the_channels(tree: IioTree, opened: Callable[..., FedSource]) -> None:
    source = opened(tree.config({"up": "accel_z", "along": "accel_x"}))
    assert source.wait_connected(DEADLINE_S)
    tree.write(struct.pack("<hhhh", 10, 20, -30, 40))

    assert readings(source, 2) == [[10.0, 5.0], [20.0, -15.0]]


@pytest.mark.parametrize("several", [False, True])
def test_the_buffer_is_set_up_filled_and_disabled_in_the_end(
    tmp_path: Path, opened: Callable[..., FedSource], several: bool
) -> None:
    tree = IioTree(tmp_path, ACCELEROMETER, attributes={"sampling_frequency": "800"}, several=several)
    tree.enable("accel_y")  # left behind by somebody
    source = opened(tree.config(CHANNELS), rate_hz=100.0)
    assert source.wait_connected(DEADLINE_S)

    assert tree.enabled() == {"accel_x", "accel_z", "timestamp"}
    assert tree.get("sampling_frequency") == "100"
    assert [tree.buffer(name) for name in ("length", "watermark", "enable")] == ["200", "2", "1"]
    source.close()
    assert tree.buffer("enable") == "0"
    assert tree.enabled() == {"accel_x", "accel_z", "timestamp"}
    tree.close()


def test_settings_are_written_as_the_configuration_says(tree: IioTree, opened: Callable[..., FedSource]) -> None:
    timer = tree.trigger(3, "timer", rate_hz=5.0)
    tree.set("trigger/current_trigger", "")
    tree.set("sampling_frequency", "800")
    source = opened(tree.config(CHANNELS, trigger="timer", rate_hz=12.5, length=64, watermark=8))
    assert source.wait_connected(DEADLINE_S)

    assert tree.get("trigger/current_trigger") == "timer"
    assert (timer / "sampling_frequency").read_text() == "12.5\n"
    assert tree.get("sampling_frequency") == "800", "the trigger takes the samples"
    assert [tree.buffer(name) for name in ("length", "watermark")] == ["64", "8"]


def test_a_rate_of_each_kind_of_element_is_set(tmp_path: Path, opened: Callable[..., FedSource]) -> None:
    rates = {f"in_{kind}_sampling_frequency": "1" for kind in ("accel", "anglvel", "magn")}
    elements = {"accel_x": "le:s16/16>>0", "anglvel_x": "le:s16/16>>0"}
    tree = IioTree(tmp_path, elements, attributes=rates)
    source = opened(tree.config({"a": "accel_x", "b": "anglvel_x"}), rate_hz=104.0)
    assert source.wait_connected(DEADLINE_S)

    assert [tree.get(name) for name in rates] == ["104", "104", "1"]
    tree.close()


def test_what_somebody_else_has_set_up_is_left_alone(tree: IioTree, opened: Callable[..., FedSource]) -> None:
    tree.enable("accel_x", "accel_y", "accel_z")
    source = opened(tree.config(CHANNELS, setup=False))
    assert source.wait_connected(DEADLINE_S)
    tree.write(struct.pack("<hhh", 2, 4, 6))

    assert readings(source, 1) == [[1.0, 3.0]]
    source.close()
    assert [tree.buffer(name) for name in ("length", "watermark", "enable")] == ["2", "1", "1"]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, [100.0, 200.0]),
        ({"in_voltage_scale": "0.5", "in_voltage_offset": "-10"}, [45.0, 95.0]),
        ({"in_voltage_scale": "0.5", "in_voltage1_scale": "2"}, [50.0, 400.0]),
        ({"in_scale": "0.1", "in_voltage0_offset": "1"}, [10.1, 20.0]),
        ({"scale": "3"}, [300.0, 600.0]),
    ],
)
def test_the_nearest_scale_and_offset_hold(
    tmp_path: Path, opened: Callable[..., FedSource], attributes: dict[str, str], expected: list[float]
) -> None:
    tree = IioTree(tmp_path, {"voltage0": "be:u16/16>>0", "voltage1": "be:u16/16>>0"}, attributes=attributes)
    source = opened(tree.config({"p": "voltage0", "q": "voltage1"}))
    assert source.wait_connected(DEADLINE_S)
    tree.write(struct.pack(">HHxxxxq", 100, 200, 0))

    assert readings(source, 1) == [pytest.approx(expected)]
    tree.close()


def test_a_number_of_a_repeated_element_is_a_channel(tmp_path: Path, opened: Callable[..., FedSource]) -> None:
    tree = IioTree(tmp_path, {"rot_quaternion": "le:s32/32X4>>0"}, stamped=None)
    source = opened(tree.config({"w": "rot_quaternion[3]", "x": "rot_quaternion[0]"}))
    assert source.wait_connected(DEADLINE_S)
    tree.write(struct.pack("<iiii", 1, 2, 3, 4))

    assert readings(source, 1) == [[4.0, 1.0]]
    tree.close()


def test_scans_that_come_in_pieces_are_put_together(tree: IioTree, opened: Callable[..., FedSource]) -> None:
    source = opened(tree.config(CHANNELS))
    assert source.wait_connected(DEADLINE_S)
    scans = np.arange(300, dtype="<i2").tobytes()
    for piece in (scans[:5], scans[5:6], scans[6:]):
        tree.write(piece)
        time.sleep(0.01)

    assert np.array(readings(source, 150)).ravel().tolist() == [number / 2 for number in range(300)]


# times


@pytest.mark.parametrize("clock", ["realtime", "monotonic", "boottime", "tai", "monotonic_raw"])
def test_stamps_of_every_clock_are_times(tmp_path: Path, opened: Callable[..., FedSource], clock: str) -> None:
    tree = IioTree(tmp_path, ACCELEROMETER, stamped=clock)
    source = opened(tree.config(CHANNELS))
    assert source.wait_connected(DEADLINE_S)
    stamp_ns, now_s = time.clock_gettime_ns(getattr(time, f"CLOCK_{clock.upper()}")), time.time()
    tree.write(struct.pack("<hhxxxxq", 1, 2, stamp_ns))

    [block] = collect(source, 1)
    assert block.times[0] == pytest.approx(now_s, abs=0.05)
    tree.close()


def test_samples_without_stamps_have_times_by_the_rate(tree: IioTree, opened: Callable[..., FedSource]) -> None:
    source = opened(tree.config(CHANNELS), rate_hz=50.0)
    assert source.wait_connected(DEADLINE_S)
    tree.write(bytes(40))

    times = np.concatenate([block.times for block in collect(source, 10)])
    np.testing.assert_allclose(np.diff(times), 0.02, atol=1e-6)
    assert times[-1] == pytest.approx(time.time(), abs=DEADLINE_S)


# what goes wrong


def test_a_device_that_is_not_there_is_told_beside_those_that_are(tree: IioTree) -> None:
    IioTree(tree.root.parent, {"temp": "le:s16/16>>0"}, number=1, name="bme280").close()
    tree.name = "adxl35"

    assert "adxl355 iio:device0, bme280 iio:device1" in failure(tree.config(CHANNELS))


def test_one_of_two_equal_devices_has_to_be_named_by_its_number(tree: IioTree) -> None:
    second = IioTree(tree.root.parent, ACCELEROMETER, number=1)
    assert "received adxl355 iio:device0, adxl355 iio:device1. Name one of them" in failure(tree.config(CHANNELS))

    second.name = "iio:device1"
    rows = IioBuffer(second.config(CHANNELS), rate_hz=100.0).readings(["along"])
    assert len(next(rows)) == 0
    rows.close()
    second.close()


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({"a": "accel_w"}, "expected scan elements that it has: accel_x, accel_y, accel_z, received accel_w"),
        ({"a": "accel_x[1]"}, "expected accel_x, received accel_x[1]"),
        ({"a": "timestamp"}, "received timestamp"),
    ],
)
def test_an_element_that_is_not_there_is_told(tree: IioTree, channels: dict[str, str], message: str) -> None:
    assert message in failure(tree.config(channels))


@pytest.mark.parametrize("element", ["rot_quaternion", "rot_quaternion[4]"])
def test_one_number_of_a_repeated_element_has_to_be_named(tmp_path: Path, element: str) -> None:
    tree = IioTree(tmp_path, {"rot_quaternion": "le:s32/32X4>>0"})
    told = failure(tree.config({"a": element}))

    assert f"expected rot_quaternion[0] to rot_quaternion[3], received {element}" in told
    tree.close()


def test_a_channel_without_element_is_refused_at_once(tree: IioTree) -> None:
    source = open_source(tree.config(CHANNELS), mqtt=MqttConfig(), rate_hz=1.0)
    with pytest.raises(SourceError, match="a scan element for each of along, flow, received none for flow"):
        source.open(["along", "flow"])


@pytest.mark.parametrize(
    ("broken", "more", "message"),
    [
        ({"scan_elements/in_accel_x_type": "le:s16"}, {}, "accel_x: expected a type like le:s12/16>>4"),
        ({"in_accel_scale": "high"}, {}, "in_accel_scale: expected a number, received 'high'"),
        ({}, {"trigger": "timer"}, "IIO trigger timer: expected such a trigger"),
        ({}, {"setup": False}, "expected a buffer that is enabled, received a disabled one"),
        ({}, {"rate_hz": 100.0}, "expected a device with sampling_frequency, received one without"),
    ],
)
def test_what_cannot_be_set_up_is_told(
    tree: IioTree, broken: dict[str, str], more: dict[str, Any], message: str
) -> None:
    for path, value in broken.items():
        tree.set(path, value)

    assert message in failure(tree.config(CHANNELS, **more))
    assert tree.buffer("enable") == "0"


def test_a_buffer_that_lacks_an_element_and_is_not_ours_to_change_is_told(tree: IioTree) -> None:
    tree.enable("accel_x")

    told = failure(tree.config(CHANNELS, setup=False))
    assert "expected accel_z among the enabled scan elements, received accel_x" in told


def test_a_rate_that_the_device_does_not_take_is_told_with_those_that_it_has(tree: IioTree) -> None:
    tree.set("sampling_frequency_available", "25 64 400")
    # A file of the kernel that, like a driver, says something else than what was written: 100 is read as 64.
    filter_of_dumps = Path("/proc/self/coredump_filter")
    (tree.folder / "sampling_frequency").symlink_to(filter_of_dumps)
    before = filter_of_dumps.read_text()
    try:
        told = failure(tree.config(CHANNELS), rate_hz=100.0)
    finally:
        filter_of_dumps.write_text(f"0x{before}")
    assert "sampling_frequency: expected 100 Hz, received 64 Hz, of 25 64 400. Train a bundle" in told


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EBUSY, "End the other program that uses this buffer"),
        (errno.EACCES, "The group iio may, by the udev rule that edge-vae install-service --source iio writes"),
        (errno.EINVAL, "it may want a trigger"),
    ],
)
def test_what_the_kernel_refuses_is_told_with_what_to_do(
    tree: IioTree, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    really = os.open

    def refuse(path: Any, *rest: Any, **more: Any) -> int:
        if Path(path) == tree.node:
            raise OSError(number, os.strerror(number), str(path))
        return really(path, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    told = failure(tree.config(CHANNELS))
    assert f"{tree.node}: expected a buffer that can be read, received {os.strerror(number)}" in told
    assert advice in told


def test_an_attribute_that_may_not_be_written_is_told(tree: IioTree) -> None:
    length = tree.folder / "buffer/length"
    length.unlink()
    length.symlink_to("/proc/sys/kernel/ostype")  # which nobody may write, root neither

    assert f"{length}: expected an attribute that takes 200, received Permission denied" in failure(
        tree.config(CHANNELS)
    )


def test_a_device_that_went_away_is_set_up_again_when_it_is_back(
    tree: IioTree, opened: Callable[..., FedSource]
) -> None:
    source = opened(tree.config(CHANNELS))
    assert source.wait_connected(DEADLINE_S)
    tree.write(struct.pack("<hh", 2, 4))
    assert collect(source, 1)[0].starts_session
    tree.close()
    tree.node.unlink()
    wait_until(lambda: not source.wait_connected(0) and "No such file" in source.failure, "the source notices")

    again = IioTree(tree.root.parent, ACCELEROMETER, stamped=None, attributes={"in_accel_scale": "1"})
    assert source.wait_connected(DEADLINE_S)
    again.write(struct.pack("<hh", 6, 8))
    [block] = collect(source, 1)
    assert block.values.tolist() == [[6.0, 8.0]]
    assert not block.starts_session
    again.close()


def test_a_buffer_that_somebody_disables_is_enabled_again(tree: IioTree, opened: Callable[..., FedSource]) -> None:
    source = opened(tree.config(CHANNELS))
    assert source.wait_connected(DEADLINE_S)
    tree.set("buffer/enable", "0")

    wait_until(lambda: "one that somebody disabled" in source.failure, "the source notices")
    wait_until(lambda: tree.buffer("enable") == "1", "it is enabled again")


def test_closing_ends_the_thread_of_a_silent_device(tree: IioTree, opened: Callable[..., FedSource]) -> None:
    source = opened(tree.config(CHANNELS))
    assert source.wait_connected(DEADLINE_S)
    source.close()

    assert not any(thread.name == "iio adxl355" for thread in threading.enumerate())
