"""Operators' verdicts on alarms, with the samples that they are about: kept on disk, and made a labelled data set.

An excerpt and a verdict are a file each, named after the alarm, replaced whole: whoever reads them needs no lock.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from edge_vae.clock import format_time
from edge_vae.event import Verdict
from edge_vae.recorder import Excerpt
from edge_vae.whole_file import replace

__all__ = ["Feedback", "Judged", "Judgement", "export", "judged"]

log = logging.getLogger(__name__)

LABEL = "anomaly"
_EXCERPT, _VERDICT = ".excerpt", ".verdict.json"


class Judgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator said of an alarm; `at` is RFC 3339, UTC."""

    verdict: Verdict
    by: str | None
    note: str | None
    at: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An excerpt on disk; arrays are little-endian float64, row by row."""

    asset: str
    columns: tuple[str, ...]
    values: bytes
    times: bytes
    alarm: bytes


@dataclass(frozen=True, slots=True)
class Judged:
    """An alarm's samples, and the verdict on it."""

    asset: str
    columns: tuple[str, ...]
    excerpt: Excerpt
    judgement: Judgement


class Feedback:
    """The excerpts and verdicts of one agent, within a limit of bytes; the oldest alarm goes first.

    Nothing is raised for a disk that takes nothing, since no alarm may depend on it: it is logged.

    Args:
        state_dir: Holds the folder `feedback`.
        max_bytes: Of all files; 0 keeps nothing.
    """

    def __init__(self, state_dir: Path, *, max_bytes: int) -> None:
        self._folder, self._max_bytes = state_dir / "feedback", max_bytes
        self._lock, self._failed = threading.Lock(), False

    @property
    def on(self) -> bool:
        """Whether anything is kept."""
        return self._max_bytes > 0

    def keep(self, asset: str, columns: Sequence[str], excerpt: Excerpt) -> None:
        """Keep an excerpt, in the place of an earlier one of the same alarm."""
        arrays = (excerpt.values.astype("<f8"), excerpt.times.astype("<f8"), excerpt.alarm)
        packed = msgspec.msgpack.encode(_File(asset, tuple(columns), *(array.tobytes() for array in arrays)))
        if len(packed) > self._max_bytes:
            return
        with self._lock:
            try:
                self._folder.mkdir(exist_ok=True)
                # Samples of one alarm are no loss.
                replace(self._folder / f"{excerpt.alarm_id}{_EXCERPT}", packed, sync=False)
                self._prune()
            except OSError as error:
                level = logging.DEBUG if self._failed else logging.WARNING
                log.log(level, "samples of an alarm not kept alarm_id=%s error=%s", excerpt.alarm_id, error)
                self._failed = True
            else:
                self._failed = False

    def judge(self, asset: str, alarm_id: str, judgement: Judgement) -> bool:
        """Whether the verdict could be kept: there are samples of this alarm of this asset, and the disk takes it."""
        with self._lock:
            try:
                if _kept(self._folder / f"{alarm_id}{_EXCERPT}").asset != asset:
                    return False
                # What a person said is not said again.
                replace(self._folder / f"{alarm_id}{_VERDICT}", msgspec.json.encode(judgement))
                self._prune()
            except FileNotFoundError:
                return False
            except (OSError, ValueError) as error:
                log.warning("verdict not kept alarm_id=%s error=%s", alarm_id, error)
                return False
        return True

    def _prune(self) -> None:
        # Names begin with the alarm's id, and so with its time.
        sizes = {file: file.stat().st_size for file in sorted(self._folder.iterdir())}
        excess = sum(sizes.values()) - self._max_bytes
        for file, size in sizes.items():
            if excess <= 0:
                return
            file.unlink(missing_ok=True)
            excess -= size


def judged(state_dir: Path) -> Iterator[Judged]:
    """Every alarm with a verdict whose samples are kept, the oldest first; files that cannot be read are logged."""
    for file in sorted((state_dir / "feedback").glob(f"*{_VERDICT}")):
        alarm_id = file.name.removesuffix(_VERDICT)
        try:
            judgement = msgspec.json.decode(file.read_bytes(), type=Judgement)
            yield _read(file.with_name(alarm_id + _EXCERPT), alarm_id, judgement)
        except FileNotFoundError:  # it has just been the oldest
            continue
        except (OSError, ValueError) as error:
            log.warning("feedback not read file=%s error=%s", file, error)


def export(state_dir: Path, folder: Path) -> Counter[str]:
    """Write a CSV file for each alarm, `<asset>/<alarm_id>.csv`, with a column `anomaly`; the number of each verdict.

    Rows of an alarm that was real are labelled 1; those of a false one are normal, label 0. Alarms whose verdict is
    `unknown` are left out: nobody knows what to learn from them. `verdicts.json` says who judged what.
    """
    counts: Counter[str] = Counter()
    told = []
    for one in judged(state_dir):
        counts[one.judgement.verdict] += 1
        told.append({"asset": one.asset, "alarm_id": one.excerpt.alarm_id, **msgspec.structs.asdict(one.judgement)})
        if one.judgement.verdict != "unknown":
            _write_csv(one, folder / one.asset.replace(".", "_", one.asset.startswith(".")))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "verdicts.json").write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=1))
    return counts


def _write_csv(one: Judged, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    excerpt, real = one.excerpt, one.judgement.verdict == "true"
    timed = bool(np.isfinite(excerpt.times).all())
    lines = [",".join([*(["time"] if timed else []), *map(_quoted, one.columns), LABEL])]
    for at_s, row, alarm in zip(excerpt.times.tolist(), excerpt.values.tolist(), excerpt.alarm.tolist(), strict=True):
        cells = ["" if math.isnan(value) else repr(value) for value in row]
        lines.append(",".join([*([format_time(at_s)] if timed else []), *cells, str(int(alarm and real))]))
    (folder / f"{excerpt.alarm_id}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & set('",\n\r;') else name


def _kept(file: Path) -> _File:
    return msgspec.msgpack.decode(file.read_bytes(), type=_File)


def _read(file: Path, alarm_id: str, judgement: Judgement) -> Judged:
    kept = _kept(file)
    values = np.frombuffer(kept.values, "<f8").reshape(-1, len(kept.columns))
    times, alarm = np.frombuffer(kept.times, "<f8"), np.frombuffer(kept.alarm, np.bool_)
    if not len(values) == len(times) == len(alarm):
        msg = f"expected a time and a mark for each of {len(values)} samples, received {len(times)} and {len(alarm)}"
        raise ValueError(msg)
    return Judged(kept.asset, kept.columns, Excerpt(alarm_id, values, times, alarm), judgement)
