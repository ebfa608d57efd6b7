"""The queue: right answers whatever the company, bounds, turns, and what happens to those that leave."""

from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_encoder import FakeEncoder, random_proteins
from limbeck.serving.batching import Batcher
from limbeck.serving.refusals import Refusal


@asynccontextmanager
async def batching(functions, *, limit=10_000, batch=100, cost=len, **options):
    with ThreadPoolExecutor(1) as worker:
        batcher = Batcher(functions, cost, worker, limit=limit, batch=batch, **options)
        task = asyncio.create_task(batcher.run())
        try:
            yield batcher
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class Slow:
    """A function that waits for its gate at each batch, and notes the batches."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[str]] = []

    def __call__(self, items):
        self.batches.append(list(items))
        self.entered.set()
        assert self.gate.wait(20)
        return [item.lower() for item in items]

    async def busy(self) -> None:
        while not self.entered.is_set():
            await asyncio.sleep(0.001)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.lists(st.text("MKV", min_size=1, max_size=30), max_size=9)), max_size=9
    ),
    st.integers(1, 60),
    st.sampled_from([0.0, 0.001]),
)
def test_everyone_gets_its_own(requests, batch, wait):
    seen = []

    def function(kind):
        def compute(items):
            seen.append(items)
            return [kind + item for item in items]

        return compute

    async def run():
        async with batching({k: function(k) for k in "ab"}, batch=batch, wait=wait) as batcher:
            answers = await asyncio.gather(*(batcher.submit(kind, items) for kind, items in requests))
            assert batcher.tokens == batcher.requests == 0
            return answers

    assert asyncio.run(run()) == [[kind + item for item in items] for kind, items in requests]
    assert all(sum(map(len, items)) <= batch or len(items) == 1 for items in seen)


def test_vectors_do_not_depend_on_the_company():
    encoder = FakeEncoder()
    proteins = [sequence for _, sequence in random_proteins(60)]
    generator = random.Random(1)
    requests = [generator.sample(proteins, generator.randint(1, 9)) for _ in range(25)]

    async def run():
        async with batching({"proteins": encoder.encode}, batch=700, limit=100_000) as batcher:
            return await asyncio.gather(*(batcher.submit("proteins", request) for request in requests))

    answers = asyncio.run(run())
    assert any(len(call) > max(map(len, requests)) for call in encoder.calls)
    for request, answer in zip(requests, answers, strict=True):
        np.testing.assert_allclose(np.stack(answer), FakeEncoder().encode(request), rtol=1e-6, atol=1e-6)


def test_a_full_queue_refuses_and_says_when_to_come_again():
    slow = Slow()

    async def run():
        async with batching({"x": slow}, limit=10) as batcher:
            first = asyncio.create_task(batcher.submit("x", ["A" * 6]))
            await slow.busy()
            with pytest.raises(Refusal) as full:
                await batcher.submit("x", ["A" * 5])
            with pytest.raises(Refusal) as too_large:
                await batcher.submit("x", ["A" * 11])
            second = asyncio.create_task(batcher.submit("x", ["A" * 4]))
            slow.gate.set()
            await asyncio.gather(first, second)
            assert await batcher.submit("x", ["A" * 10]) == ["a" * 10]
            return full.value, too_large.value

    full, too_large = asyncio.run(run())
    assert (full.status, too_large.status) == (429, 413)
    assert full.retry_after >= 1


def test_who_leaves_is_not_computed_and_frees_its_place():
    slow = Slow()

    async def run():
        async with batching({"x": slow}, limit=10) as batcher:
            first = asyncio.create_task(batcher.submit("x", ["AAAA"]))
            await slow.busy()
            gone = asyncio.create_task(batcher.submit("x", ["CCCCCC"]))
            await asyncio.sleep(0)
            assert (batcher.tokens, batcher.requests) == (10, 2)
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone
            assert (batcher.tokens, batcher.requests) == (4, 1)
            last = asyncio.create_task(batcher.submit("x", ["DDDDDD"]))
            slow.gate.set()
            await asyncio.gather(first, last)
            assert batcher.tokens == 0

    asyncio.run(run())
    assert slow.batches == [["AAAA"], ["DDDDDD"]]


def test_who_leaves_while_it_is_computed_harms_nobody():
    slow = Slow()

    async def run():
        async with batching({"x": slow}) as batcher:
            both = [asyncio.create_task(batcher.submit("x", [item])) for item in ("AA", "CC")]
            await slow.busy()
            both[0].cancel()
            slow.gate.set()
            assert await both[1] == ["cc"]
            assert batcher.tokens == 0

    asyncio.run(run())


def test_a_huge_request_does_not_starve_a_small_one():
    slow = Slow()

    async def run():
        async with batching({"x": slow}, batch=40) as batcher:
            order = []

            async def ask(name, items):
                await batcher.submit("x", items)
                order.append(name)

            huge = asyncio.create_task(ask("huge", ["A" * 4] * 100))
            await slow.busy()
            small = [asyncio.create_task(ask("small", ["C" * 4])) for _ in range(3)]
            await asyncio.sleep(0)
            slow.gate.set()
            await asyncio.gather(huge, *small)
            return order

    assert asyncio.run(run())[-1] == "huge"
    # Ten of the huge one were in work; the next batch has all of the small ones.
    assert slow.batches[1].count("CCCC") == 3
    assert len(slow.batches) == 11


def test_kinds_take_turns():
    slow, other = Slow(), []

    def compute(items):
        other.append((len(slow.batches), items))
        return items

    async def run():
        async with batching({"x": slow, "y": compute}, batch=4) as batcher:
            huge = asyncio.create_task(batcher.submit("x", ["AAAA"] * 20))
            await slow.busy()
            small = asyncio.create_task(batcher.submit("y", ["C"]))
            await asyncio.sleep(0)
            slow.gate.set()
            await asyncio.gather(huge, small)

    asyncio.run(run())
    assert other[0][0] <= 2


def test_only_the_culprit_fails():
    def compute(items):
        if "bad" in items:
            raise RuntimeError("boom")
        return items

    async def run():
        async with batching({"x": compute}, wait=0.01) as batcher:
            requests = (["a"], ["bad"], ["b", "c"])
            answers = await asyncio.gather(*(batcher.submit("x", r) for r in requests), return_exceptions=True)
            assert batcher.tokens == 0
            assert await batcher.submit("x", ["d"]) == ["d"]
            return answers

    first, second, third = asyncio.run(run())
    assert (first, third) == (["a"], ["b", "c"])
    assert isinstance(second, RuntimeError)


def test_a_batch_that_gives_too_few_results_is_an_error():
    async def run():
        async with batching({"x": lambda items: items[1:]}) as batcher:
            with pytest.raises(RuntimeError, match="results"):
                await batcher.submit("x", ["a", "b"])
            assert batcher.tokens == 0

    asyncio.run(run())


def test_stopping_finishes_what_waits_and_takes_no_more():
    slow = Slow()

    async def run():
        async with batching({"x": slow}) as batcher:
            waiting = [asyncio.create_task(batcher.submit("x", [item])) for item in ("A" * 90, "C" * 90)]
            await slow.busy()
            batcher.stop()
            with pytest.raises(Refusal) as refused:
                await batcher.submit("x", ["D"])
            slow.gate.set()
            assert await asyncio.gather(*waiting) == [["a" * 90], ["c" * 90]]
            return refused.value.status

    assert asyncio.run(run()) == 503


def test_who_is_given_up_is_told():
    slow = Slow()

    async def run():
        async with batching({"x": slow}) as batcher:
            waiting = [asyncio.create_task(batcher.submit("x", [item])) for item in ("A" * 90, "C" * 90)]
            await slow.busy()
            batcher.abandon()
            answers = await asyncio.gather(*waiting, return_exceptions=True)
            slow.gate.set()
            assert batcher.tokens == 0
            return [answer.status for answer in answers]

    assert asyncio.run(run()) == [503, 503]
