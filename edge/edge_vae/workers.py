"""The workers of all pipelines, and how one takes the place of another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from edge_vae.watchdog import Progress
from edge_vae.worker import Worker

__all__ = ["Workers"]


class Workers:
    """One worker for each asset, in the order of the configuration; any thread may look while another one swaps.

    Args:
        workers: Not started yet.
    """

    def __init__(self, workers: Iterable[Worker]) -> None:
        self._all: Sequence[Worker] = tuple(workers)
        self._ending = threading.Event()

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, index: int) -> Worker:
        return self._all[index]

    @property
    def assets(self) -> tuple[str, ...]:
        """Names of the assets that are watched."""
        return tuple(worker.asset for worker in self._all)

    @property
    def failure(self) -> Exception | None:
        """The first error that has ended a worker for good."""
        return next((worker.failure for worker in self._all if worker.failure is not None), None)

    def start(self) -> None:
        """Start all of them."""
        for worker in self._all:
            worker.start()

    def stop(self) -> None:
        """Have all of them end, wait for that, and swap no more."""
        self._ending.set()
        for worker in self._all:
            worker.stop()
        for worker in self._all:
            worker.join()

    def stages(self) -> dict[str, Progress]:
        """How far each of them is."""
        return {name: progress for worker in self._all for name, progress in worker.stages().items()}

    def swap(self, wanted: Sequence[str], begin: Mapping[str, Callable[[], Worker]]) -> None:
        """End and start workers one by one; the others do not notice.

        A worker is made when the one that it replaces has ended, and has kept what it learned. One that hangs is waited
        for, and found by the watchdog.

        Args:
            wanted: Names of the assets that are watched from now on, in their order.
            begin: Makes the worker of each asset that gets a new one.
        """
        present = {worker.asset: worker for worker in self._all}
        for asset in list(present):
            if asset not in wanted:
                self._dismiss(present.pop(asset))
        for asset, make in begin.items():
            if asset in present:
                self._dismiss(present[asset])
            if self._ending.is_set():
                return
            present[asset] = make()
            present[asset].start()
            self._all = tuple(present.values())
        self._all = tuple(present[asset] for asset in wanted)

    def _dismiss(self, worker: Worker) -> None:
        worker.stop()
        while not worker.join() and not self._ending.is_set():
            pass
