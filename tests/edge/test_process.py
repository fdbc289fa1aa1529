from __future__ import annotations

import os
from pathlib import Path

from edge_vae.footprint import memory_mib
from edge_vae.process import read_process


def test_memory_is_what_the_kernel_says() -> None:
    found, (rss_mib, _) = read_process().rss_bytes, memory_mib()
    assert found is not None
    assert abs(found / 2**20 - rss_mib) < 4.0  # it may grow between the two


def test_an_open_file_is_counted_until_it_is_closed() -> None:
    before = read_process().open_files
    assert before is not None
    with Path(os.devnull).open():
        assert read_process().open_files == before + 1
    assert read_process().open_files == before


def test_what_is_written_to_disk_and_the_processor_time_only_rise(tmp_path: Path) -> None:
    before = read_process()
    with (tmp_path / "file").open("wb") as file:
        file.write(bytes(1 << 20))
        os.fsync(file.fileno())
    after = read_process()
    assert before.disk_written_bytes is not None
    assert after.disk_written_bytes is not None
    assert after.disk_written_bytes >= before.disk_written_bytes
    assert after.cpu_s >= before.cpu_s > 0


def test_what_the_kernel_does_not_tell_is_none(tmp_path: Path) -> None:
    (tmp_path / "io").write_text("rchar: 12\n")
    found = read_process(tmp_path)
    assert (found.rss_bytes, found.open_files, found.disk_written_bytes) == (None, None, None)
