"""The counters of an agent in the text format 0.0.4 of Prometheus.

The format: https://prometheus.io/docs/instrumenting/exposition_formats/. Names follow what Prometheus advises.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import get_args

from edge_vae.event import AgentCounters, AssetCounters, AssetState

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATES: tuple[str, ...] = get_args(AssetState)

# Name, field of the counters, help; a name that ends in _total is a counter, any other a gauge.
_OF_AGENT = (
    ("edge_vae_uptime_seconds", "uptime_s", "Time since the agent was started."),
    ("edge_vae_outbox_messages", "outbox_messages", "Messages that wait for the broker."),
    ("edge_vae_outbox_bytes", "outbox_bytes", "Size of the messages that wait for the broker."),
    ("edge_vae_outbox_dropped_total", "outbox_dropped", "Messages that the outbox dropped, since its file was made."),
    ("edge_vae_published_total", "published", "Messages handed to the broker, repetitions included."),
    ("edge_vae_acknowledged_total", "acknowledged", "Messages that the broker took."),
    ("edge_vae_refused_total", "refused", "Messages that the broker would not take, each time."),
    ("edge_vae_reconnects_total", "reconnects", "Connections to the broker after the first."),
    ("edge_vae_disk_written_bytes_total", "disk_written_bytes", "What the agent has sent to storage."),
    ("process_cpu_seconds_total", "cpu_s", "Processor time."),
    ("process_resident_memory_bytes", "rss_bytes", "Resident memory."),
    ("process_open_fds", "open_files", "Descriptors in use."),
)
_OF_ASSET = (
    ("edge_vae_samples_total", "samples", "Samples that the source gave out."),
    ("edge_vae_samples_dropped_total", "dropped", "Samples that were not read in time, or were no news."),
    ("edge_vae_samples_removed_total", "removed", "Samples that were left out because a reading was missing."),
    ("edge_vae_malformed_total", "malformed", "Readings and lines that could not be read."),
    ("edge_vae_windows_total", "windows", "Windows that were scored."),
    ("edge_vae_alarms_raised_total", "raised", "Alarms raised."),
    ("edge_vae_alarms_cleared_total", "cleared", "Alarms cleared."),
    ("edge_vae_sensor_faults_total", "sensor_faults", "Faults of sensors or of the source that have begun."),
    ("edge_vae_failures_total", "failures", "Times that the pipeline broke and was started again."),
    ("edge_vae_last_sample_age_seconds", "last_sample_age_s", "Time since the latest sample; absent before the first."),
    ("edge_vae_score", "score", "Score of the latest window; higher is worse."),
    ("edge_vae_threshold", "threshold", "Threshold in force."),
)
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Sample = tuple[dict[str, str], float | None]
"""Labels and a value."""


def exposition(counters: AgentCounters, *, version: str, connected: bool, quiet_s: Mapping[str, float]) -> str:
    """All metrics as text. What is not known is left out.

    Args:
        counters: Of one moment.
        version: Of this package.
        connected: Whether there is a connection to the broker.
        quiet_s: Seconds since each stage last showed progress.
    """
    assets = counters.assets
    families = [
        _family("edge_vae_agent_info", "The agent's version.", [({"version": version}, 1)]),
        _family("edge_vae_connected", "Whether there is a connection to the broker.", [({}, int(connected))]),
        _family("edge_vae_stage_quiet_seconds", "Time since a stage last showed progress.", _stages(quiet_s)),
        *(_family(name, text, [({}, getattr(counters, field))]) for name, field, text in _OF_AGENT),
        *(_family(name, text, _each(assets, field)) for name, field, text in _OF_ASSET),
        _family("edge_vae_state", "1 for the state that the asset is in, else 0.", _states(assets)),
    ]
    return "".join(f"{line}\n" for family in families for line in family)


def _stages(quiet_s: Mapping[str, float]) -> list[Sample]:
    return [({"stage": stage}, seconds) for stage, seconds in quiet_s.items()]


def _each(assets: Iterable[AssetCounters], field: str) -> list[Sample]:
    return [({"asset": one.asset}, getattr(one, field)) for one in assets]


def _states(assets: Iterable[AssetCounters]) -> list[Sample]:
    return [({"asset": one.asset, "state": state}, int(state == one.state)) for one in assets for state in STATES]


def _family(name: str, text: str, samples: Iterable[Sample]) -> Iterator[str]:
    known = [(labels, number) for labels, number in samples if number is not None]
    if not known:
        return
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"
    for labels, number in known:
        pairs = ",".join(f'{label}="{value.translate(_ESCAPES)}"' for label, value in labels.items())
        yield f"{name}{{{pairs}}} {number!r}" if pairs else f"{name} {number!r}"
