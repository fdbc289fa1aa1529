"""Small synthetic copies of the data sets, in the layout of the real ones; and the real ones where they are."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

SHARED = Path(os.environ.get("EDGE_VAE_DATA", ROOT.parent / "shared" / "data"))
FAN_LABELS = (
    "fan_0_low_0_weight-moving", "fan_0_low_0_weight", "fan_0_med_0_weight", "fan_0_high_0_weight",
    "fan_0_low_1_weight", "fan_0_med_1_weight", "fan_0_high_1_weight", "fan_0_off_0_weight", "fan_0_low-deploy",
)  # fmt: skip


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all sets, small and made of noise; what is faulty has four times the spread."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    _skab(folder / "skab", generator)
    _milling(folder / "milling", generator)
    _fan(folder / "ceiling_fan", generator)
    _tep(folder / "tep", generator)
    _telemetry(folder / "smap_msl", generator)
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real data; without it the test is skipped, because nothing is downloaded in tests."""
    if not (SHARED / "skab").is_dir():
        pytest.skip(f"no data sets at {SHARED}: set EDGE_VAE_DATA to the folder that holds them")
    return SHARED


def _skab(folder: Path, generator: np.random.Generator) -> None:
    for name in ("valve1/0.csv", "valve1/10.csv", "valve1/2.csv", "other/1.csv", "anomaly-free/anomaly-free.csv"):
        rows = 600
        faulty = (np.arange(rows) >= 500) & (np.arange(rows) < 550)
        values = generator.normal(size=(rows, 3)) * np.where(faulty, 4.0, 1.0)[:, None]
        table = pd.DataFrame(values, columns=["Current", "Pressure", "Volume Flow RateRMS"])
        table.insert(0, "datetime", pd.date_range("2020-03-09", periods=rows, freq="s").astype(str))
        table["anomaly"], table["changepoint"] = faulty.astype(float), 0.0
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / name, sep=";", index=False)


def _milling(folder: Path, generator: np.random.Generator) -> None:
    folder.mkdir()
    cuts = [(mode, tool) for mode in (0, 1) for tool in (0, 0, 0, 0, 0, 1, 2)]
    labels = pd.DataFrame(
        [
            (1, i + 1, 0.1, i, (1.5, 0.75)[mode], 0.5, mode + 1, i, tool, 128, 128 + 64 * 10 + i)
            for i, (mode, tool) in enumerate(cuts)
        ],
        columns=[
            "case", "run", "VB", "time", "DOC", "feed", "material", "cut_no", "tool_class", "window_start",
            "window_end",
        ],
    )  # fmt: skip
    labels.to_csv(folder / "labels.csv", index=False)
    spread = np.array([4.0 if tool == 2 else 1.0 for _, tool in cuts])[:, None, None]
    samples = (100 * generator.normal(size=(len(cuts), 900, 5)) * spread).astype(np.int16)
    usable = np.flatnonzero(np.arange(len(cuts)) != 1)
    np.savez(folder / "milling_5ch_int16.npz", X=samples[usable], scale=np.full(5, 0.01), cut_no=usable)


def _fan(folder: Path, generator: np.random.Generator) -> None:
    folder.mkdir()
    labels = np.repeat(FAN_LABELS, [50, *[10] * 8])
    spread = np.where(labels == FAN_LABELS[0], 1.0, 4.0)[:, None, None]
    clips = (generator.normal(size=(len(labels), 200, 3)) * spread).astype(np.float32)
    order = generator.permutation(len(labels))
    np.savez(folder / "ceiling_fan.npz", X=clips[order], label=labels[order])


def _tep(folder: Path, generator: np.random.Generator) -> None:
    folder.mkdir()
    names = ["d00", "d00_te", *(f"d{fault:02}_te" for fault in range(1, 22))]
    arrays = {name: generator.normal(size=(500 if name == "d00" else 300, 52)) for name in names}
    for name in names[2:]:
        arrays[name][160:] *= 4.0
    np.savez(folder / "tep.npz", **arrays)


def _telemetry(folder: Path, generator: np.random.Generator) -> None:
    folder.mkdir()
    table = (
        "chan_id,spacecraft,anomaly_sequences,class,num_values\n"
        'P-1,SMAP,"[[300, 349]]",[point],600\n'
        'P-2,SMAP,"[[100, 120]]",[point],600\n'
        'P-2,SMAP,"[[110, 140], [500, 510]]","[point, point]",600\n'
        'M-6,MSL,"[[300, 349]]",[point],600\n'
    )
    contents = {"smap_msl/data/SMAP_MSL/labeled_anomalies.csv": table.encode()}
    for channel in ("P-1", "P-2", "M-6"):
        test = generator.normal(size=(600, 3))
        test[300:350] *= 4.0
        for part, values in (("train", generator.normal(size=(500, 3))), ("test", test)):
            packed = io.BytesIO()
            np.save(packed, values)
            contents[f"smap_msl/data/SMAP_MSL/{part}/{channel}.npy"] = packed.getvalue()
    with tarfile.open(folder / "smap_msl.txz", "w:xz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
