"""A bounded queue of requests, and batches made of several of them.

One thread computes. While it is busy requests gather; when it is free a batch is taken from all that wait, by turns, a
share each, so that a request of thousands of proteins holds up one of a single protein by about one batch. A
request whose client has gone leaves the queue, and what it counted is free again.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Generic, TypeVar

from limbeck.serving.refusals import Refusal

__all__ = ["Batcher"]

Item = TypeVar("Item")

SHARES = 8
"""A request that is not alone gets this part of a batch at each of its turns."""
MOST_PATIENCE = 120
"""The most seconds after which a refused client is told to come again."""


class _Job(Generic[Item]):
    """One request: items that are to be computed in one way."""

    def __init__(self, kind: str, items: Sequence[Item], costs: Sequence[int]) -> None:
        self.kind = kind
        self.items = items
        self.costs = costs
        self.cost = sum(costs)
        # Like lengths together: an encoder pads the items of a batch to the longest.
        self.left = deque(sorted(range(len(items)), key=lambda i: -costs[i]))
        self.results: list[Any] = [None] * len(items)
        self.missing = len(items)
        self.arrived = time.monotonic()
        self.done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    def take(self, room: int, *, at_least_one: bool) -> tuple[list[int], int]:
        """Items for a batch, as many as there is room for, and what they cost."""
        taken: list[int] = []
        cost = 0
        while self.left:
            next_cost = self.costs[self.left[0]]
            if cost + next_cost > room and (taken or not at_least_one):
                break
            taken.append(self.left.popleft())
            cost += next_cost
        return taken, cost

    def add(self, places: Sequence[int], results: Sequence[Any]) -> None:
        for place, result in zip(places, results, strict=True):
            self.results[place] = result
        self.missing -= len(places)
        if not self.missing and not self.done.done():
            self.done.set_result(self.results)

    def fail(self, error: Exception) -> None:
        self.left.clear()
        if not self.done.done():
            self.done.set_exception(error)


class Batcher(Generic[Item]):
    """Takes requests of one event loop and computes them in batches in a worker's thread.

    Args:
        functions: by kind of request, what computes a batch: items in, as many results out. A request's results must
            not depend on the batch.
        cost: of an item, in tokens.
        worker: where batches are computed, one after another.
        limit: most tokens that are waiting or being computed.
        batch: most tokens in a batch; an item of more has a batch of its own.
        wait: seconds that a batch which is not full waits for more, from the arrival of its first request.
        on_batch: called after each batch with its kind, tokens and seconds.
    """

    def __init__(
        self,
        functions: Mapping[str, Callable[[list[Item]], Sequence[Any]]],
        cost: Callable[[Item], int],
        worker: Executor,
        *,
        limit: int,
        batch: int,
        wait: float = 0.0,
        on_batch: Callable[[str, int, float], None] | None = None,
    ) -> None:
        self.tokens = 0
        """Waiting or being computed."""
        self._functions = functions
        self._cost = cost
        self._worker = worker
        self._limit = limit
        self._batch = batch
        self._wait = wait
        self._on_batch = on_batch
        self._jobs: deque[_Job[Item]] = deque()
        self._open: set[_Job[Item]] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._speed = 0.0

    @property
    def requests(self) -> int:
        """Waiting or being computed."""
        return len(self._open)

    async def submit(self, kind: str, items: Sequence[Item]) -> list[Any]:
        """Wait for the results of some items, in their order. Cancelled, they leave the queue.

        Raises:
            Refusal: 413 if there is no room for them even in an empty queue, 429 if there is none now, 503 if the
                server is stopping.
            Exception: what the function raised for these items.
        """
        costs = [self._cost(item) for item in items]
        job = _Job(kind, items, costs)
        self._check(job.cost)
        if not items:
            return []
        self.tokens += job.cost
        self._open.add(job)
        self._jobs.append(job)
        self._wake.set()
        try:
            return await job.done
        finally:
            self._forget(job)

    async def run(self) -> None:
        """Compute batches until cancelled."""
        while True:
            await self._wake.wait()
            if not self._jobs:
                self._wake.clear()
                continue
            await self._company()
            if taken := self._take():
                await self._compute(taken)

    def stop(self) -> None:
        """Take no more requests; those that wait are still computed."""
        self._stopping = True

    def abandon(self) -> None:
        """Give up all requests: they fail with 503."""
        for job in list(self._open):
            job.fail(Refusal(503, "the server is stopping; send the request to another or later"))
        self._jobs.clear()

    def _check(self, cost: int) -> None:
        if self._stopping:
            raise Refusal(503, "the server is stopping; send the request to another or later", retry_after=10)
        if cost > self._limit:
            raise Refusal(413, f"the request counts {cost} tokens, the server holds {self._limit}; split it")
        if self.tokens + cost > self._limit:
            raise Refusal(429, "the queue is full; try again later", retry_after=self._patience())

    def _patience(self) -> int:
        """Seconds until about half of the queue is done, at the speed of late."""
        seconds = self.tokens / self._speed / 2 if self._speed else 1.0
        return min(MOST_PATIENCE, max(1, math.ceil(seconds)))

    async def _company(self) -> None:
        waiting = sum(job.cost for job in self._jobs)
        late = self._jobs[0].arrived + self._wait - time.monotonic()
        if late > 0 and waiting < self._batch:
            await asyncio.sleep(late)

    def _take(self) -> list[tuple[_Job[Item], list[int]]]:
        """The next batch: by turns from the requests of one kind, first the one that has waited longest."""
        if not self._jobs:
            return []
        kind = self._jobs[0].kind
        turns = deque(job for job in self._jobs if job.kind == kind)
        share = self._batch if len(turns) == 1 else max(1, self._batch // SHARES)
        room = self._batch
        taken: dict[_Job[Item], list[int]] = {}
        while turns and room > 0:
            job = turns.popleft()
            # A long protein may be more than a share; whoever has not had a turn must not wait for ever.
            places, cost = job.take(min(share, room), at_least_one=not taken or self._fits(job, room))
            if places:
                taken.setdefault(job, []).extend(places)
                room -= cost
                if job.left:
                    turns.append(job)
        served = [job for job in self._jobs if job in taken and job.left]
        self._jobs = deque([*(job for job in self._jobs if job not in taken), *served])
        return list(taken.items())

    def _fits(self, job: _Job[Item], room: int) -> bool:
        return bool(job.left) and job.costs[job.left[0]] <= room

    async def _compute(self, taken: list[tuple[_Job[Item], list[int]]]) -> None:
        # While a batch was computed some may have gone.
        taken = [(job, places) for job, places in taken if not job.done.done()]
        if not taken:
            return
        kind = taken[0][0].kind
        items = [job.items[place] for job, places in taken for place in places]
        started = time.monotonic()
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._worker, self._functions[kind], items)
            if len(results) != len(items):
                raise RuntimeError(f"{len(items)} items have {len(results)} results")
        except Exception as error:
            await self._one_by_one(taken, error)
            return
        tokens = sum(job.costs[place] for job, places in taken for place in places)
        self._note(kind, tokens, time.monotonic() - started)
        start = 0
        for job, places in taken:
            job.add(places, results[start : start + len(places)])
            start += len(places)

    async def _one_by_one(self, taken: list[tuple[_Job[Item], list[int]]], error: Exception) -> None:
        """After a failure: whose fault was it? The others are to have their answers."""
        if len(taken) > 1:
            for each in taken:
                await self._compute([each])
            return
        job, _ = taken[0]
        job.fail(error)
        self._forget(job)

    def _note(self, kind: str, tokens: int, seconds: float) -> None:
        speed = tokens / max(seconds, 1e-6)
        self._speed = 0.8 * self._speed + 0.2 * speed if self._speed else speed
        if self._on_batch:
            self._on_batch(kind, tokens, seconds)

    def _forget(self, job: _Job[Item]) -> None:
        if job in self._open:
            self._open.remove(job)
            self.tokens -= job.cost
        if job in self._jobs:
            self._jobs.remove(job)
