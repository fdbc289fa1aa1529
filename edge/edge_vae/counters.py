"""The counters of a running agent, taken together at one moment."""

from __future__ import annotations

import time
from collections.abc import Iterable

from edge_vae.event import AgentCounters
from edge_vae.outbox import Outbox
from edge_vae.process import read_process
from edge_vae.publish.delivery import Delivery
from edge_vae.worker import Worker

__all__ = ["count"]


def count(workers: Iterable[Worker], outbox: Outbox, delivery: Delivery, *, started_s: float) -> AgentCounters:
    """What everybody has counted so far; asks neither disk nor broker.

    Args:
        workers: Of all pipelines.
        outbox: Of the agent.
        delivery: Of the agent.
        started_s: Monotonic time of the agent's start.
    """
    process, sent = read_process(), delivery.counters
    return AgentCounters(
        uptime_s=time.monotonic() - started_s,
        cpu_s=process.cpu_s,
        rss_bytes=process.rss_bytes,
        open_files=process.open_files,
        disk_written_bytes=process.disk_written_bytes,
        outbox_messages=outbox.count,
        outbox_bytes=outbox.size_bytes,
        outbox_dropped=outbox.dropped_total,
        published=sent.published,
        acknowledged=sent.acknowledged,
        refused=sent.refused,
        connects=sent.connects,
        reconnects=max(0, sent.connects - 1),
        assets=tuple(worker.counters() for worker in workers),
    )
