"""The outbox against a plain model in memory, whatever is done in whatever order."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_vae.outbox import SET_ASIDE_AFTER, OnFull, Outbox, Priority

ASSETS = {"pump": "t/pump/event", "fan": "t/fan/event"}
NOTICE_SIZE = 40


def notice(kind: str, *, asset: str, seq: int, dropped: int | None, salvaged: int | None) -> bytes:
    return json.dumps([kind, dropped, salvaged]).encode().ljust(NOTICE_SIZE)


@dataclass(frozen=True)
class Kept:
    """A message as the model has it; it accounts for itself and for those that it reports."""

    asset: str
    seq: int
    size: int
    priority: int
    reports: int = 0
    parted: int = 0

    @property
    def name(self) -> tuple[str, int]:
        return self.asset, self.seq


@settings(max_examples=40, stateful_step_count=25, deadline=None)
class OutboxMachine(RuleBasedStateMachine):
    """Every sequence number is delivered, stored, set aside, known to be lost, or in exactly one count."""

    @initialize(on_full=st.sampled_from(["drop_oldest", "drop_newest", "thin"]), max_bytes=st.integers(1, 400))
    def begin(self, on_full: OnFull, max_bytes: int) -> None:
        self.root = TemporaryDirectory()
        self.folder = Path(self.root.name) / "0"
        self.on_full, self.max_bytes = on_full, max_bytes
        self.stored: list[Kept] = []
        self.last: Counter[str] = Counter()
        self.unreported: Counter[str] = Counter()
        self.accounted: Counter[str] = Counter()
        self.taken: set[tuple[str, int]] = set()
        self.dropped = self.aside = 0
        self.outbox = self.opened()

    def teardown(self) -> None:
        if hasattr(self, "outbox"):
            self.outbox.close()
            self.root.cleanup()

    def opened(self) -> Outbox:
        return Outbox(self.folder, assets=ASSETS, notice=notice, max_bytes=self.max_bytes, on_full=self.on_full)

    @rule(asset=st.sampled_from(list(ASSETS)), size=st.integers(8, 120), priority=st.sampled_from(Priority))
    def put(self, asset: str, size: int, priority: Priority) -> None:
        self.last[asset] += 1
        seq = self.outbox.put(
            asset, ASSETS[asset], lambda seq: f"{asset} {seq}".encode().ljust(size), priority=priority
        )
        assert seq == self.last[asset]
        doomed = self.doomed(size, priority)
        for message in doomed or ():
            self.stored.remove(message)
            self.drop(message)
        new = Kept(asset, seq, size, priority)
        if doomed is None:
            self.drop(new)
        else:
            self.stored.append(new)
        self.report()

    @rule(asset=st.sampled_from(list(ASSETS)), limit=st.integers(0, 4))
    def take(self, asset: str, limit: int) -> None:
        taken = [(stored.asset, stored.seq) for stored in self.outbox.take(asset, 0, limit)]
        free = [message.name for message in self.stored if message.asset == asset and message.name not in self.taken]
        assert taken == free[:limit]
        self.taken.update(taken)

    @rule()
    def release(self) -> None:
        self.outbox.release()
        self.taken.clear()

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.stored), unique=True, max_size=6))
        self.outbox.delete(*(self.keys()[message.name] for message in chosen))
        for message in chosen:
            self.forget(message)
        self.report()

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def blame(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.stored), unique=True, min_size=1, max_size=3))
        for _ in range(SET_ASIDE_AFTER - 1):
            self.outbox.blame([self.keys()[message.name] for message in chosen], "packet too large")
            parted = [message.parted + 1 if len(chosen) == 1 else max(message.parted, 1) for message in chosen]
            changed = [replace(message, parted=count) for message, count in zip(chosen, parted, strict=True)]
            for old, new in zip(chosen, changed, strict=True):
                self.stored[self.stored.index(old)] = new
            chosen = changed
            if chosen[0].parted >= SET_ASIDE_AFTER:
                break
        for message in chosen:
            if message.parted >= SET_ASIDE_AFTER:
                self.aside += 1
                self.stored.remove(message)
                self.tell(message.asset, 1 + message.reports)
        self.report()

    @rule()
    def reopen(self) -> None:
        self.outbox.close()
        self.outbox = self.opened()
        self.taken.clear()

    @rule()
    def pull_the_plug(self) -> None:
        """Go on with a copy of what is on the disk while the file is open."""
        copy = self.folder.with_name(str(int(self.folder.name) + 1))
        shutil.copytree(self.folder, copy)
        self.outbox.close()
        self.folder = copy
        self.outbox = self.opened()
        self.taken.clear()
        assert self.outbox.moved_to is None

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def flip_a_bit(self, data: st.DataObject) -> None:
        """One message is damaged: it is lost, the others stay, and a notice for each asset tells it."""
        victim = data.draw(st.sampled_from(self.stored))
        self.outbox.close()
        file = self.folder / "outbox.db"
        with closing(self.opened()) as outbox:
            payload = next(s.payload for s in outbox.pending(0, 1000) if (s.asset, s.seq) == victim.name)
            assert len(payload) == victim.size
        content = file.read_bytes()
        places = [at for at in range(len(content)) if content.startswith(payload, at)]
        if len(places) == 1:
            file.write_bytes(content[: places[0]] + b"\xff" + content[places[0] + 1 :])
            self.forget(victim)
        self.outbox = self.opened()
        self.taken.clear()
        if len(places) == 1:
            saved = Counter(message.asset for message in self.stored)
            assert self.outbox.salvaged is not None
            assert self.outbox.salvaged.messages == saved
            for asset in ASSETS:
                self.tell(asset, 0)
            self.report()

    @invariant()
    def same_messages(self) -> None:
        if hasattr(self, "outbox"):
            found = self.outbox.pending(0, 1000)
            assert [(s.asset, s.seq, len(s.payload), s.parted) for s in found] == [
                (m.asset, m.seq, m.size, m.parted) for m in self.stored
            ]
            assert self.outbox.count == len(self.stored)
            assert self.outbox.size_bytes == self.used()
            assert self.outbox.waiting().keys() == {message.asset for message in self.stored}
            assert sum(self.outbox.dropped().values()) == self.dropped

    @invariant()
    def order_is_kept_and_nothing_is_unaccounted_for(self) -> None:
        if hasattr(self, "outbox"):
            for asset, last in self.last.items():
                mine = [message for message in self.stored if message.asset == asset]
                assert [message.seq for message in mine] == sorted(message.seq for message in mine)
                held = sum(1 + message.reports for message in mine)
                assert self.accounted[asset] + held + self.unreported[asset] == last

    def keys(self) -> dict[tuple[str, int], int]:
        return {(stored.asset, stored.seq): stored.key for stored in self.outbox.pending(0, 1000)}

    def used(self) -> int:
        return sum(message.size for message in self.stored)

    def forget(self, message: Kept) -> None:
        self.stored.remove(message)
        self.taken.discard(message.name)
        self.accounted[message.asset] += 1 + message.reports

    def drop(self, message: Kept) -> None:
        self.unreported[message.asset] += 1 + message.reports
        self.dropped += 1

    def doomed(self, size: int, priority: Priority) -> list[Kept] | None:
        """The messages that must have gone; None if the new one went itself."""
        if self.used() + size <= self.max_bytes:
            return []
        free = [message for message in self.stored if message.name not in self.taken]
        if self.on_full == "thin":
            return self.thinned(free, size, priority)
        kept = self.used() - sum(message.size for message in free)
        if self.on_full == "drop_newest" or size > self.max_bytes or kept + size > self.max_bytes:
            return None
        count = 0
        while self.used() - sum(message.size for message in free[:count]) + size > self.max_bytes:
            count += 1
        return free[:count]

    def thinned(self, free: list[Kept], size: int, priority: Priority) -> list[Kept] | None:
        """Which ones go depends on earlier passes; what must hold of them does not."""
        worth = [message for message in free if min(message.priority, Priority.END) <= priority]
        left = self.keys()
        gone = [message for message in self.stored if message.name not in left]
        excess = self.used() + size - self.max_bytes
        if size > self.max_bytes or sum(message.size for message in worth) < excess:
            assert gone == []
            return None
        assert set(gone) <= set(worth)
        assert sum(message.size for message in gone) >= excess
        levels = [min(message.priority, Priority.END) for message in gone]
        kept = [min(message.priority, Priority.END) for message in worth if message not in gone]
        assert min(kept, default=Priority.END) >= max(levels)  # nothing went before what is worth less
        assert sum(message.size for message in gone) - max(message.size for message in gone) < excess
        return gone

    def report(self) -> None:
        if self.used() <= self.max_bytes // 2:
            for asset in sorted(self.unreported):
                if count := self.unreported.pop(asset):
                    self.tell(asset, count)

    def tell(self, asset: str, count: int) -> None:
        self.last[asset] += 1
        self.stored.append(Kept(asset, self.last[asset], NOTICE_SIZE, Priority.NOTE, count))


TestOutboxAgainstAModel = OutboxMachine.TestCase
