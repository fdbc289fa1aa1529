"""The bundles whose speed is measured, made by our own commands from a simulated rig with six channels."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from edge_vae.errors import EdgeVaeError
from edge_vae.sample import FloatArray
from edge_vae.window import sliding

__all__ = ["CHANNELS", "LENGTH", "STRIDE", "Bundles", "made"]

LENGTH, STRIDE = 64, 8
CHANNELS = ("current_a", "speed_rpm", "vibration_x_g", "vibration_y_g", "pressure_bar", "flow_l_min")
EPOCHS = 2
"""Weights do not matter for speed."""
EDGE_VAE = [sys.executable, "-c", "from edge_vae.cli import main; main()"]
WINDOW_ONLY = '[calibration]\nscore = ["window.nll"]\n'


@dataclass(frozen=True)
class Bundles:
    """Files in one folder; the run folders have the names of their bundles."""

    folder: Path

    @property
    def default(self) -> Path:
        """The default score: a VAE on the window, one on its features, a PCA of consecutive samples, two distances."""
        return self.folder / "default.evb"

    @property
    def window(self) -> Path:
        """The VAE on the window alone."""
        return self.folder / "window.evb"

    def parts(self, bundle: Path) -> Path:
        """The same bundle with separate models in place of one graph."""
        return bundle.with_name(f"{bundle.stem}-parts.evb")

    def raw_windows(self, count: int) -> FloatArray:
        """Windows (windows, length, channels) in sensor units, one stride after the other.

        They are of the first healthy recording, which begins again where it ends.
        """
        table = pd.read_csv(self.folder / "rig" / "healthy" / "run-1.csv", usecols=list(CHANNELS))
        values = table[list(CHANNELS)].to_numpy(np.float64)
        rows = np.arange(LENGTH + STRIDE * (count - 1)) % len(values)
        return sliding(values[rows], length=LENGTH, stride=STRIDE)


def made(folder: Path) -> Bundles:
    """The bundles in this folder, which is made and filled where they are missing; that takes one or two minutes.

    Raises:
        EdgeVaeError: One of our commands failed.
    """
    bundles = Bundles(folder)
    if all(path.exists() for path in (bundles.parts(bundles.default), bundles.parts(bundles.window))):
        return bundles
    folder.mkdir(parents=True, exist_ok=True)
    rig, window_only = folder / "rig", folder / "window.toml"
    window_only.write_text(WINDOW_ONLY)
    _command("simulate", "-o", rig, "--healthy", 3, "--faulty", 0, "--minutes", 4, "--rate", 10, "--force")
    for bundle, options in ((bundles.window, ["--config", window_only]), (bundles.default, [])):
        run = folder / bundle.stem
        shape = ["--window", LENGTH, "--stride", STRIDE, "--channels", ",".join(CHANNELS), "--epochs", EPOCHS]
        _command("train", rig / "healthy", *shape, *options, "-o", run)
        _command("convert", run, "-o", bundle)
        _command("convert", run, "--io", "int8", "-o", bundles.parts(bundle))
    return bundles


def _command(*words: object) -> None:
    ended = subprocess.run([*EDGE_VAE, *map(str, words)], capture_output=True, text=True, check=False)
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["nothing"])[-1]
        what = f"edge-vae {words[0]} failed"
        raise EdgeVaeError(what, expected="status 0", received=last)
