"""Public data sets: what they are, where they lie on this machine, and how to download them with checksums verified."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edge_vae.errors import EdgeVaeError, MissingExtraError

__all__ = ["SETS", "DataSet", "Place", "checksums", "data_folder", "fetch", "find", "locate"]

TIMEOUT_S = 30
SKAB_COMMIT = "b2c0d46c2971dcbfe71e26087b6d231998bb91c2"
"""Head of SKAB's main branch in August 2024, after release v0.9.0; named by commit, which cannot change under us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """One public set.

    Attributes:
        what: What was measured.
        licence: Under which terms.
        source: Page where people find it.
        protocol: How it is used to compare detectors.
        files: Files that make the set complete in a local folder; where there are checksums, those name them.
        base_url: Address the names in its checksums are appended to; empty when the set cannot be downloaded from here.
    """

    name: str
    what: str
    licence: str
    source: str
    protocol: str
    files: tuple[str, ...] = ()
    base_url: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a set lies: its folder, and whether that is in the `local` data folder or in the download `cache`."""

    folder: Path
    kind: str


SETS = {
    data_set.name: data_set
    for data_set in (
        DataSet(
            name="skab",
            what="pump and valve water loop, 8 channels about once a second, 34 labelled experiments and a healthy run",
            licence="GPL-3.0",
            source="https://github.com/waico/SKAB",
            protocol="each experiment: the first 400 rows train, the rest is scored row by row; no point adjustment",
            base_url=f"https://raw.githubusercontent.com/waico/SKAB/{SKAB_COMMIT}/data/",
        ),
        DataSet(
            name="milling",
            what="milling machine, 165 cuts of 9000 samples at 250 Hz, 5 of 6 channels, tool wear of each cut",
            licence="NASA PCoE public repository, cite Agogino and Goebel 2007",
            source="https://www.nasa.gov/intelligent-systems-division/discovery-and-systems-health/pcoe/pcoe-data-set-repository/",
            protocol="windows of 64, steady part of a cut; no cut on both sides of the split; positive = failed tool",
            files=("milling_5ch_int16.npz", "labels.csv"),
        ),
        DataSet(
            name="ceiling_fan",
            what="fan with an accelerometer, 4674 one-second clips of 3 axes at 200 Hz, speeds and added weights",
            licence="Beerware",
            source="https://github.com/ShawnHymel/tinyml-example-anomaly-detection",
            protocol="normal = slow, no weight, sensor moved; 60/20/20 clips; anomalies = other speeds and weights",
            files=("ceiling_fan.npz",),
        ),
        DataSet(
            name="tep",
            what="Tennessee Eastman process, simulated, 52 variables every 3 minutes, 21 faults",
            licence="permissive, Braatz group",
            source="https://github.com/camaramm/tennessee-eastman-profBraatz",
            protocol="train on d00; limits so that d00_te alarms 1 %; mean detection rate of the faults from row 160",
            files=("tep.npz",),
        ),
        DataSet(
            name="smap_msl",
            what="telemetry of the SMAP satellite and the MSL rover, 54 + 27 labelled channels",
            licence="JPL, BSD-like",
            source="https://github.com/khundman/telemanom",
            protocol="one channel at a time, every sample scored, no point adjustment",
            files=("smap_msl.txz",),
        ),
    )
}


def data_folder() -> Path:
    """The folder of data sets kept on this machine: `EDGE_VAE_DATA`, or `../shared/data`."""
    return Path(os.environ.get("EDGE_VAE_DATA") or "../shared/data")


def checksums(name: str) -> dict[str, str]:
    """SHA-256 of each file of a set by its path in the set; empty for a set that cannot be downloaded."""
    if not SETS[name].base_url:
        return {}
    text = (files("edge_vae_train") / "registry" / f"{name}.txt").read_text(encoding="ascii")
    rows = (line.partition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {path: digest for path, _, digest in rows}


def find(name: str, *, cache: Path | None = None) -> Place | None:
    """Where a set lies complete on this machine, the local data folder first; None when it does not.

    Args:
        name: Key of `SETS`.
        cache: The download cache; by default `EDGE_VAE_CACHE`, or this user's cache folder.
    """
    expected = checksums(name)
    local = data_folder() / name
    if all((local / file).is_file() for file in expected or SETS[name].files):
        return Place(local, "local")
    cached = _cache(cache) / name if expected else None
    if cached is not None and not _missing(cached, expected):
        return Place(cached, "cache")
    return None


def locate(name: str, *, cache: Path | None = None) -> Path | None:
    """The folder a set lies in on this machine, as `find` looks for it; None when it is not here."""
    place = find(name, cache=cache)
    return place.folder if place else None


def fetch(
    name: str,
    base_url: str | None = None,
    *,
    cache: Path | None = None,
    advance: Callable[[str], object] | None = None,
) -> Path:
    """The folder of a set, downloaded into the cache unless it is on this machine already.

    Files move into the cache only after every one of them was downloaded and has the published checksum.

    Args:
        name: Key of `SETS`.
        base_url: Address of a mirror with the same layout; the set's own source by default.
        cache: The download cache; by default `EDGE_VAE_CACHE`, or this user's cache folder.
        advance: Called with the name of each file once it is downloaded and verified.

    Raises:
        EdgeVaeError: No verified download exists, the source cannot be reached, or a file is not the published one.
        MissingExtraError: pooch is not installed.
    """
    if (found := locate(name, cache=cache)) is not None:
        return found
    data_set, expected = SETS[name], checksums(name)
    if not expected:
        what = f"{name} has no download that a checksum verifies"
        raise EdgeVaeError(
            what,
            action=f"Get the original from {data_set.source} ({data_set.licence}); repacked as "
            f"{' and '.join(data_set.files)} in {data_folder() / name} it is found there.",
        )
    folder = _cache(cache) / name
    _download(folder, base_url or data_set.base_url, _missing(folder, expected), advance)
    return folder


def _cache(cache: Path | None) -> Path:
    if cache is not None:
        return cache
    if named := os.environ.get("EDGE_VAE_CACHE"):
        return Path(named)
    return Path(_pooch().os_cache("edge-vae"))


def _missing(folder: Path, expected: dict[str, str]) -> dict[str, str]:
    """The part of the expected files that is not in the folder, or has other bytes."""
    return {file: digest for file, digest in expected.items() if not _holds(folder / file, digest)}


def _holds(path: Path, digest: str) -> bool:
    return path.is_file() and sha256(path.read_bytes()).hexdigest() == digest


def _download(folder: Path, base_url: str, wanted: dict[str, str], advance: Callable[[str], object] | None) -> None:
    pooch = _pooch()
    pooch.get_logger().setLevel("WARNING")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as staging:
        registry = {file: f"sha256:{digest}" for file, digest in wanted.items()}
        fetcher = pooch.create(path=staging, base_url=base_url.rstrip("/") + "/", registry=registry)
        for file in wanted:
            _download_one(fetcher, file)
            if advance:
                advance(file)
        for file in wanted:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (Path(staging) / file).replace(folder / file)


def _download_one(fetcher: Any, file: str) -> None:
    from requests import RequestException

    url = fetcher.get_url(file)
    try:
        fetcher.fetch(file, downloader=_pooch().HTTPDownloader(timeout=TIMEOUT_S))
    except RequestException as error:
        what = f"{url} cannot be downloaded"
        raise EdgeVaeError(
            what,
            expected="the file",
            received=_failure(error),
            action="Check the network and try again, or set EDGE_VAE_DATA to a folder that holds the set.",
        ) from error
    except ValueError as error:
        what = f"{url} is not the published file"
        raise EdgeVaeError(
            what,
            expected=f"SHA-256 {fetcher.registry[file].removeprefix('sha256:')}",
            received="other bytes",
            action="Nothing was kept. Try again; if it stays so, the source or a proxy on the way changed the file.",
        ) from error


def _failure(error: Exception) -> str:
    """What went wrong on the network, without the addresses of sockets and pools."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    from requests import ConnectionError as NoConnection
    from requests import Timeout

    if isinstance(error, Timeout):
        return f"no answer within {TIMEOUT_S} s"
    return "no connection" if isinstance(error, NoConnection) else f"{type(error).__name__}: {error}"


def _pooch() -> Any:
    try:
        import pooch
    except ModuleNotFoundError as error:
        raise MissingExtraError("data sets", module="pooch", extra="train") from error
    return pooch
