"""Several sources read as one: threads, sessions, members that break."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from broker import DEADLINE_S, wait_until
from collected import values_of
from edge_vae.broker_config import MqttConfig
from edge_vae.errors import SourceError
from edge_vae.sample import Block
from edge_vae.source_config import JoinConfig, ReplayConfig
from edge_vae.sources import MemorySource, Source, open_sources
from edge_vae.sources.joined import JoinedSource

START_S = 1.7e9


def recording(folder: Path, name: str, times: Sequence[float], values: Sequence[float]) -> ReplayConfig:
    folder.mkdir(exist_ok=True)
    number = len(list(folder.iterdir()))
    rows = "".join(f"{START_S + at},{value}\n" for at, value in zip(times, values, strict=True))
    (folder / f"{number}.csv").write_text(f"time,{name}\n{rows}")
    return ReplayConfig(path=folder, speed=0, channels=(name,))


def opened(*configs: ReplayConfig, rate_hz: float = 1.0, **join: float) -> Source:
    names = [name for config in configs for name in config.names()]
    source = open_sources(configs, JoinConfig(**join), mqtt=MqttConfig(), rate_hz=rate_hz, columns=names)  # type: ignore[arg-type]
    source.open(names[::-1])
    return source


def all_blocks(source: Source) -> list[Block]:
    blocks: list[Block] = []
    wait_until(lambda: blocks.extend(source.read(0.2)) or source.exhausted, "the recordings end")
    source.close()
    return blocks


class Flaky(MemorySource):
    """Breaks at the second read of its first life."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__(blocks, endless=True)
        self.reads = 0

    def read(self, timeout_s: float, *, at_least: int = 1) -> list[Block]:
        self.reads += 1
        if self.reads == 2:
            raise SourceError("unplugged")
        time.sleep(0.01)
        return super().read(timeout_s, at_least=at_least)


def test_recordings_that_are_played_flat_out_stay_together_to_the_last_row(tmp_path: Path) -> None:
    count = 20_000
    fast = recording(tmp_path / "fast", "fast", np.arange(count) / 100, np.arange(count))
    slow = recording(tmp_path / "slow", "slow", np.arange(count // 100), np.arange(count // 100) * 100)
    source = opened(fast, slow, rate_hz=100.0, late_s=0.0)
    values = values_of(all_blocks(source))

    np.testing.assert_array_equal(values[:, 1], np.arange(count))
    np.testing.assert_array_equal(values[:, 0], np.arange(count) // 100 * 100)
    assert (source.samples, source.dropped) == (count, 0)


def test_a_recording_that_begins_starts_a_session_at_its_first_row(tmp_path: Path) -> None:
    recording(tmp_path / "a", "a", [0, 1, 2, 3], [0, 1, 2, 3])
    recording(tmp_path / "b", "b", [0, 1, 2, 3], [0, 1, 2, 3])
    a = recording(tmp_path / "a", "a", [100, 101], [4, 5])
    b = recording(tmp_path / "b", "b", [100, 101], [4, 5])
    blocks = all_blocks(opened(a, b, max_age_s=0.5))

    starts = [block.times[0] - START_S for block in blocks if block.starts_session]
    assert starts == [0, 100]
    assert values_of(blocks)[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_recording_without_times_cannot_be_joined(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "0.csv").write_text("b\n1\n2\n")
    a = recording(tmp_path / "a", "a", [0, 1], [0, 1])
    source = opened(a, ReplayConfig(path=tmp_path / "b", speed=0, channels=("b",)))
    try:
        with pytest.raises(SourceError, match="recording with b: expected a time for each row, to join it by"):
            wait_until(lambda: source.read(0.1) is None, "the error comes")
    finally:
        source.close()


def test_a_recording_that_lacks_its_channel_is_an_error(tmp_path: Path) -> None:
    a = recording(tmp_path / "a", "a", [0, 1], [0, 1])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "0.csv").write_text("time,b\n")
    with pytest.raises(SourceError, match="has no column c"):
        opened(a, ReplayConfig(path=tmp_path / "b", speed=0, channels=("c",)))


def test_channels_that_no_source_has_are_told(tmp_path: Path) -> None:
    source = opened(recording(tmp_path / "a", "a", [0], [0]), recording(tmp_path / "b", "b", [0], [0]))
    source.close()

    with pytest.raises(SourceError, match="expected channels a, flow, received none with flow"):
        source.open(["a", "flow"])


def test_a_sensor_that_breaks_is_opened_again_and_starts_no_session() -> None:
    def block(value: float) -> Block:
        return Block(np.array([[value]]), np.array([math.nan]), 0)

    flaky, steady = Flaky([block(1)]), Flaky([block(2)])
    steady.reads = 10
    source = JoinedSource(
        [flaky, steady], [["a"], ["b"]], rate_hz=20.0, late_s=0.5, max_age_s=5.0, join={}, recorded=[False, False]
    )
    source.open(["a", "b"])
    blocks: list[Block] = []
    try:
        wait_until(lambda: blocks.extend(source.read(0.2)) or (flaky.reads > 10 and len(blocks) > 5), "it goes on")
    finally:
        source.close()

    assert [block.starts_session for block in blocks] == [True] + [False] * (len(blocks) - 1)
    values = values_of(blocks)
    assert set(values[np.isfinite(values[:, 0]), 0]) == {1.0}
    assert set(values[np.isfinite(values[:, 1]), 1]) == {2.0}


def test_closing_while_a_recording_waits_for_room_ends_its_thread(tmp_path: Path) -> None:
    count = 200_000
    a = recording(tmp_path / "a", "a", np.arange(count), np.arange(count))
    b = recording(tmp_path / "b", "b", np.arange(count), np.arange(count))
    source = opened(a, b)
    source.read(DEADLINE_S)
    began_s = time.monotonic()
    source.close()

    assert time.monotonic() - began_s < DEADLINE_S
