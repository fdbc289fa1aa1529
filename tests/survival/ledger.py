"""What became of the alarms of one run: logged by the agent, taken by the broker, twice, in another order."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields

from survival.proxy import Account

__all__ = ["Counts", "counted"]


@dataclass(frozen=True)
class Counts:
    """Numbers of one run, or sums of several.

    Attributes:
        runs: How many.
        kills: How often a process was killed.
        raised: Events that an agent logged as stored: the promise is about these.
        received: Of these, how many the broker took, by its acknowledgement.
        lost: Of these, how many it did not.
        duplicated: Events that reached the broker again.
        unexplained: Of these, how many whose acknowledgement had reached an agent that lived on.
        reordered: Events that came after a later one of their asset, each for the first time.
        given_up: Events in a store that was damaged on purpose, of which nothing was left to save.
    """

    runs: int = 0
    kills: int = 0
    raised: int = 0
    received: int = 0
    lost: int = 0
    duplicated: int = 0
    unexplained: int = 0
    reordered: int = 0
    given_up: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name.name) + getattr(other, name.name) for name in fields(Counts)))


def counted(logged: Iterable[str], account: Account, *, kills: int, given_up: Collection[str]) -> Counts:
    """The numbers of one run.

    Args:
        logged: Ids of the events that agents logged.
        account: Of the proxy between them and the broker.
        kills: How often a process was killed.
        given_up: Ids of events that may be missing; their assets' sequence numbers may have begun anew.
    """
    promised = set(logged)
    missing = promised - account.taken
    excused = missing & set(given_up)
    reordered, last = 0, dict.fromkeys((asset for asset, _, _ in account.sent), 0)
    for event_id, (asset, seq) in first_arrivals(account).items():
        reordered += seq < last[asset] and event_id not in given_up
        last[asset] = seq
    return Counts(
        runs=1, kills=kills, raised=len(promised), received=len(promised & account.taken),
        lost=len(missing - excused), duplicated=account.repeated, unexplained=account.unexplained,
        reordered=reordered, given_up=len(excused),
    )  # fmt: skip


def first_arrivals(account: Account) -> dict[str, tuple[str, int]]:
    """Asset and sequence number of every event that the broker took, by id, in the order of their first arrival."""
    first: dict[str, tuple[str, int]] = {}
    for asset, seq, event_id in account.sent:
        if event_id in account.taken:
            first.setdefault(event_id, (asset, seq))
    return first
