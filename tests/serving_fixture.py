"""A server in a thread of its own, on a free port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import uvicorn

from fake_encoder import FakeEncoder
from limbeck.landscapes.assay import Assay
from limbeck.landscapes.models import RidgeModel
from limbeck.landscapes.trained import save_trained
from limbeck.residues import RESIDUES
from limbeck.search import Annotation, Hit
from limbeck.serving.api import make_app
from limbeck.serving.server import claim
from limbeck.serving.service import Service
from limbeck.serving.settings import Settings

WILD = "MKTAYIAKQRQISF"
FIRST = 21


class LikelihoodEncoder(FakeEncoder):
    """The fake encoder, with likelihoods that depend on the position's own letter."""

    def log_probabilities(self, sequences):
        tables = [f[:, :1] * np.arange(20)[None, :] / 20 for f in self.encode_residues(sequences)]
        return [t - np.log(np.exp(t).sum(axis=1, keepdims=True)) for t in tables]


class GatedEncoder(FakeEncoder):
    """Encodes only while ``gate`` is open; ``entered`` says that it has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def encode(self, sequences, on_batch=None):
        self.entered.set()
        assert self.gate.wait(20)
        return super().encode(sequences, on_batch)


class FakeIndex:
    """Vectors of some proteins, compared one by one."""

    name = "toy"
    labelled = True

    def __init__(self, encoder, proteins: dict[str, str]) -> None:
        self.ids = list(proteins)
        self.vectors = encoder.encode(list(proteins.values()))

    def __len__(self) -> int:
        return len(self.ids)

    def search(self, vectors, k):
        distances = np.linalg.norm(vectors[:, None] - self.vectors[None], axis=2)
        return [
            [Hit(self.ids[i], 1 - float(row[i]), label="<b>", reliability=0.5) for i in np.argsort(row)[:k]]
            for row in distances
        ]

    def annotate(self, vectors):
        return [[Annotation("<b>", 0.25, 1.0, 0.5, 0)] for _ in vectors]


@dataclass
class Running:
    """A server that answers at ``url``."""

    url: str
    port: int
    service: Service
    client: httpx.Client

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return self.client.post(path, json=body, **options)

    def metric(self, line: str) -> float:
        """The value of a line of /metrics that starts so."""
        for each in self.client.get("/metrics").text.splitlines():
            if each.startswith(line + " "):
                return float(each.rsplit(" ", 1)[1])
        return 0.0


@contextmanager
def running(encoder=None, settings=None, *, service=None, **more: Any) -> Iterator[Running]:
    """Serve until the block ends, which is graceful."""
    made = service or Service(encoder or FakeEncoder(), settings or Settings(), **more)
    listener = claim("127.0.0.1", 0)
    port = listener.getsockname()[1]
    config = uvicorn.Config(make_app(made), http="h11", ws="none", lifespan="on", log_config=None, access_log=False)
    ready = threading.Event()

    class Watched(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            ready.set()

    server = Watched(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    assert ready.wait(20)
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
            yield Running(url, port, made, client)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def save_model(folder) -> None:
    """A ridge regression whose effects are additive, of a protein that is numbered from :data:`FIRST`."""
    rng = np.random.default_rng(0)
    rows = {WILD}
    while len(rows) < 200:
        letters = list(WILD)
        for p in rng.choice(12, rng.integers(1, 3), replace=False):
            letters[p] = rng.choice(list(RESIDUES.replace("W", "")))
        rows.add("".join(letters))
    rows = sorted(rows)
    scores = np.array([sum(RESIDUES.index(r) * (1 + p % 3) / 10 for p, r in enumerate(row)) for row in rows])
    assay = Assay("toy", rows, scores, np.full(len(rows), "toy", object), {"toy": WILD}, first_position={"toy": FIRST})
    save_trained(RidgeModel("one-hot", alpha=1e-3).fit(rows, scores), folder, assay, "one-hot, ridge")
