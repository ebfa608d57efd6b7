"""What is served, whatever the shape of a request: an encoder, and an index and a landscape model if there are any."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders import Encoder
from limbeck.landscapes.zero_labels import has_likelihoods
from limbeck.residues import InvalidResidue, clean
from limbeck.serving.batching import Batcher
from limbeck.serving.metrics import Metrics
from limbeck.serving.refusals import Refusal
from limbeck.serving.scan import Scan, likelihood_ratios
from limbeck.serving.settings import PROTEIN_TOKENS, Settings

if TYPE_CHECKING:
    from limbeck.search import Annotation, Hit, Index
    from limbeck.serving.landscape import Landscape, Placed

__all__ = ["Service"]

VARIANTS_AT_ONCE = 256

Array = NDArray[np.float32]


class Service:
    """An encoder behind a queue, with what goes with it.

    All that is computed is computed in one thread, so that encoders and models need not be safe for several, and the
    processor's cores are theirs.

    Args:
        encoder: loaded.
        settings: the limits.
        dimensions: numbers of a protein vector's beginnings that serve alone.
        index: of that encoder's vectors.
        landscape: a fitted model.
    """

    def __init__(
        self,
        encoder: Encoder,
        settings: Settings,
        *,
        dimensions: Sequence[int] = (),
        index: Index | None = None,
        landscape: Landscape | None = None,
    ) -> None:
        self.encoder = encoder
        self.settings = settings
        self.dimensions = sorted({*dimensions, encoder.dimension})
        self.index = index
        self.landscape = landscape
        self.metrics = Metrics(encoder.name, encoder.version)
        self.ready = False
        self.stopping = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="limbeck-worker")
        self._queue: Batcher[str] | None = None
        self._variants: Batcher[str] | None = None
        self.metrics.watch("limbeck_queue_tokens", "Tokens waiting or being encoded.", lambda: self._waiting("tokens"))
        self.metrics.watch("limbeck_queue_requests", "Requests that these are of.", lambda: self._waiting("requests"))

    @property
    def has_likelihoods(self) -> bool:
        return has_likelihoods(self.encoder)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Compute for the requests of this event loop, after a first batch that prepares what is prepared once."""
        settings = self.settings
        functions: dict[str, Callable[[list[str]], Sequence[Any]]] = {
            "proteins": lambda sequences: list(self.encoder.encode(sequences)),
            "residues": self.encoder.encode_residues,
        }
        if self.has_likelihoods:
            functions["profiles"] = self.encoder.log_probabilities  # type: ignore[attr-defined]
        self._queue = Batcher(
            functions,
            lambda sequence: len(sequence) + PROTEIN_TOKENS,
            self._worker,
            limit=settings.queue_tokens,
            batch=settings.batch_tokens,
            wait=settings.wait,
            on_batch=self.metrics.batch,
        )
        batchers = [self._queue]
        if self.landscape is not None:
            self._variants = Batcher(
                {"variants": self.landscape.score},
                lambda row: 1,
                self._worker,
                limit=settings.queue_variants,
                batch=VARIANTS_AT_ONCE,
                wait=settings.wait,
                on_batch=self.metrics.batch,
            )
            batchers.append(self._variants)
        tasks = [asyncio.create_task(batcher.run()) for batcher in batchers]
        try:
            await asyncio.get_running_loop().run_in_executor(self._worker, self.encoder.encode, ["MKTAYIAKQR"])
            self.ready = True
            yield
        finally:
            self.ready = False
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            self._worker.shutdown(wait=True, cancel_futures=True)

    def stop(self) -> None:
        """Take no more requests; those that wait are still answered."""
        self.stopping = True
        for batcher in (self._queue, self._variants):
            if batcher is not None:
                batcher.stop()

    def abandon(self) -> None:
        """Refuse all that still wait."""
        for batcher in (self._queue, self._variants):
            if batcher is not None:
                batcher.abandon()

    # --- checks

    def cleaned(self, sequences: Sequence[str], places: Sequence[str]) -> list[str]:
        """Sequences in the letters of :mod:`limbeck.residues`.

        Args:
            sequences: as they came.
            places: what to call each in a message.

        Raises:
            Refusal: 400 for a letter that is no residue, or no residue at all; 413 for a protein that is too long.
        """
        result = []
        for text, place in zip(sequences, places, strict=True):
            try:
                sequence = clean(text)
            except InvalidResidue as error:
                raise Refusal(400, f"{place}: {error}; remove it", parameter=place) from None
            if not sequence:
                raise Refusal(400, f"{place}: has no residues; leave it out", parameter=place)
            if len(sequence) > self.settings.max_length:
                most = self.settings.max_length
                raise Refusal(
                    413, f"{place}: has {len(sequence)} residues, the server takes {most}; cut it", parameter=place
                )
            result.append(sequence)
        return result

    def check_size(self, numbers: int) -> None:
        """Refuse an answer that would be too large, before it is computed.

        Raises:
            Refusal: 413.
        """
        if numbers > self.settings.max_numbers:
            most = self.settings.max_numbers
            raise Refusal(413, f"the answer would have {numbers} numbers, the server gives {most}; split the request")

    def check_dimension(self, dimension: int | None, parameter: str) -> int:
        """The dimension of the vectors to give.

        Raises:
            Refusal: 400 if it is none of those that serve alone.
        """
        if dimension is None:
            return self.encoder.dimension
        if dimension not in self.dimensions:
            listed = ", ".join(map(str, self.dimensions))
            raise Refusal(
                400, f"{parameter}: {self.encoder.name} has no dimension {dimension}; choose from: {listed}",
                parameter=parameter,
            )  # fmt: skip
        return dimension

    # --- answers

    async def vectors(self, sequences: Sequence[str], dimension: int | None = None) -> Array:
        """(n, dimension) float32 of cleaned proteins, as :meth:`limbeck.Encoder.encode` gives them."""
        self.check_size(len(sequences) * (dimension or self.encoder.dimension))
        vectors = np.stack(await self._submit("proteins", sequences))
        self._check_finite([vectors])
        return vectors[:, :dimension]

    async def residues(self, sequences: Sequence[str]) -> list[Array]:
        """For each cleaned protein (length, dimension) float32."""
        if hasattr(self.encoder, "check_residues"):
            self.encoder.check_residues()
        self.check_size(sum(map(len, sequences)) * self.encoder.dimension)
        vectors: list[Array] = await self._submit("residues", sequences)
        self._check_finite(vectors)
        return vectors

    async def neighbours(self, sequences: Sequence[str], k: int) -> list[tuple[Sequence[Hit], Sequence[Annotation]]]:
        """Hits of each cleaned protein, nearest first, and the labels that are transferred from them.

        Raises:
            Refusal: 404 if no index is served.
        """
        if self.index is None:
            raise Refusal(404, "no index is served; start the server with --index")
        self.check_size(len(sequences) * k)
        vectors = await self.vectors(sequences)
        return await asyncio.get_running_loop().run_in_executor(self._worker, _neighbours, self.index, vectors, k)

    async def predictions(self, field: str, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Scores of variants; see :class:`limbeck.serving.bodies.Prediction`.

        Raises:
            Refusal: 404 if no model is served, 400 if a variant cannot be used.
        """
        landscape = self._landscape()
        placed = await asyncio.to_thread(landscape.place, field, texts)
        scores = await self._score(placed.rows)
        return await asyncio.to_thread(landscape.described, placed, scores)

    async def scan(self, sequence: str | None, by: str | None) -> Scan:
        """All single mutants of a cleaned protein, by the landscape model or by the encoder's likelihoods.

        Raises:
            Refusal: 404 if what is asked for is not served, 400 if the protein is missing or is none of the model's.
        """
        if by == "likelihood" or (by is None and self.landscape is None):
            if not self.has_likelihoods:
                raise Refusal(404, f"{self.encoder.name} has no likelihoods; serve a landscape model with --model")
            if sequence is None:
                raise Refusal(400, "sequence: is missing; send the protein to scan", parameter="sequence")
            self.check_size(20 * len(sequence))
            (table,) = await self._submit("profiles", [sequence])
            self._check_finite([table])
            return likelihood_ratios(sequence, table, self.encoder.name)
        landscape = self._landscape()
        base: Placed
        if sequence is None:
            base = landscape.wild_type()
        else:
            try:
                base = await asyncio.to_thread(landscape.place, "sequences", [sequence])
            except Refusal as refusal:
                raise Refusal(400, refusal.message.replace("sequences[0]", "sequence")) from None
            landscape.check_related(base)
        scores = await self._score(landscape.singles(base))
        return landscape.scan(base, [value for value, _ in scores])

    async def _submit(self, kind: str, sequences: Sequence[str]) -> list[Any]:
        if self._queue is None:
            raise Refusal(503, "the server is not ready; try again later", retry_after=1)
        return await self._queue.submit(kind, sequences)

    async def _score(self, rows: Sequence[str]) -> list[Any]:
        if self._variants is None:
            raise Refusal(503, "the server is not ready; try again later", retry_after=1)
        return await self._variants.submit("variants", rows)

    def _landscape(self) -> Landscape:
        if self.landscape is None:
            raise Refusal(404, "no landscape model is served; start the server with --model")
        return self.landscape

    def _check_finite(self, arrays: Sequence[Array]) -> None:
        if not all(np.isfinite(array).all() for array in arrays):
            name, precision = self.encoder.name, self.encoder.precision
            raise Refusal(500, f"{name} in {precision} gives a number that is not finite; serve it in f32")

    def _waiting(self, what: str) -> float:
        return float(sum(getattr(b, what) for b in (self._queue, self._variants) if b is not None))


def _neighbours(index: Index, vectors: Array, k: int) -> list[tuple[Sequence[Hit], Sequence[Annotation]]]:
    labels = index.annotate(vectors) if index.labelled else [()] * len(vectors)
    return list(zip(index.search(vectors, k), labels, strict=True))
