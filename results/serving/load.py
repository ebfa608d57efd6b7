"""Load ``limbeck serve``: many clients at once, some of them broken, and every answer checked.

    python results/serving/load.py

Starts the server as a process, sends requests of one to three proteins of the example proteome from hundreds of clients
at once, and beside them malformed bodies, clients that close their connection in the middle, and more than the queue
holds. Each vector is compared with that of ``encoder.encode`` of all proteins at once. Memory and open files of the
server are read after each round: a leak would grow. Writes ``load.json`` beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np

import limbeck
from limbeck.records import read_records
from limbeck.residues import clean

HERE = Path(__file__).parent
PROTEOME = HERE.parents[1] / "examples" / "mycoplasma_genitalium.fasta.gz"
MALFORMED = (
    b"", b"{", b"[" * 100_000, b"\xff\xfe\x00", b'{"sequences": 5}', b'{"sequences": ["M1"]}',
    b'{"sequences": ["\\ud800"]}',
    b'{"sequences": []}', b'{"sequences": ["MK"], "k": 1}', b" " * 3_000_000,
)  # fmt: skip


def tolerance(vectors: np.ndarray) -> float:
    """What vectors of one protein in different batches may differ by, as in the tests of invariance."""
    return 2e-5 * float(np.abs(vectors).max())


class Run:
    """What the clients of one run saw."""

    def __init__(self, url: str, proteins: list[str], vectors: np.ndarray) -> None:
        self.url = url
        self.proteins = proteins
        self.vectors = vectors
        self.allowed = tolerance(vectors)
        self.statuses: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.residues = 0
        self.largest_difference = 0.0
        self.wrong = 0

    def check(self, chosen: list[int], rows: list[np.ndarray]) -> None:
        difference = float(np.abs(np.stack(rows) - self.vectors[chosen]).max())
        self.largest_difference = max(self.largest_difference, difference)
        self.wrong += difference > self.allowed
        self.residues += sum(len(self.proteins[i]) for i in chosen)

    async def client(self, http: httpx.AsyncClient, requests: asyncio.Queue[list[int]], name: str) -> None:
        """Ask until all requests are answered; come again when the server is full."""
        while not requests.empty():
            chosen = requests.get_nowait()
            sequences = [self.proteins[i] for i in chosen]
            openai = len(chosen) == 1
            body: dict[str, Any] = {"sequences": sequences, "encoding": "base64"}
            if openai:
                body = {"input": sequences, "model": name, "encoding_format": "base64"}
            started = time.monotonic()
            while True:
                response = await http.post("/v1/embeddings" if openai else "/embed", json=body)
                self.statuses[str(response.status_code)] += 1
                if response.status_code != 429:
                    break
                await asyncio.sleep(random.uniform(0.5, 1) * float(response.headers["retry-after"]))
            if response.status_code == 200:
                self.seconds.append(time.monotonic() - started)
                rows = response.json()["data" if openai else "embeddings"]
                self.check(chosen, [np.frombuffer(base64.b64decode(r["embedding"]), "<f4") for r in rows])

    async def malformed(self, http: httpx.AsyncClient, done: asyncio.Event) -> None:
        while not done.is_set():
            content = random.choice(MALFORMED)
            response = await http.post("/embed", content=content, headers={"content-type": "application/json"})
            self.statuses[f"{response.status_code} to a malformed body"] += 1
            self.wrong += response.status_code not in (400, 413, 422, 429) or set(response.json()) != {"detail"}
            await asyncio.sleep(0.05)

    async def killed(self, done: asyncio.Event) -> None:
        host, port = self.url.removeprefix("http://").strip("/").split(":")
        while not done.is_set():
            body = json.dumps({"sequences": random.sample(self.proteins, 3)}).encode()
            head = "POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            message = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(host, int(port))
                # Half of them go in the middle of the request, the others while they wait for the answer.
                writer.write(message[: random.choice([len(message), random.randrange(len(message))])])
                await writer.drain()
                await asyncio.sleep(random.uniform(0, 0.3))
                writer.transport.abort()
                self.statuses["killed clients"] += 1
            await asyncio.sleep(0.2)


async def state(http: httpx.AsyncClient) -> dict[str, float]:
    lines = (await http.get("/metrics")).text.splitlines()
    values = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}
    return {
        "resident_megabytes": round(values["process_resident_memory_bytes"] / 2**20, 1),
        "processor_seconds": values["process_cpu_seconds_total"],
        "open_files": values["process_open_fds"],
        "queue_tokens": values["limbeck_queue_tokens"],
        "queue_requests": values["limbeck_queue_requests"],
        "requests_in_work": values["limbeck_requests_in_work"],
        "clients_gone": values.get('limbeck_requests_total{path="/embed",status="499"}', 0.0),
    }


async def load(
    url: str, name: str, proteins: list[str], vectors: np.ndarray, options: argparse.Namespace
) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=options.clients)
    result: dict[str, Any] = {"rounds": []}
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits, trust_env=False) as http:
        result["before"] = await state(http)
        for number in range(options.rounds):
            random.seed(number)
            run = Run(url, proteins, vectors)
            requests: asyncio.Queue[list[int]] = asyncio.Queue()
            for _ in range(options.requests):
                requests.put_nowait([random.randrange(len(proteins)) for _ in range(random.randint(1, 3))])
            done = asyncio.Event()
            broken = [run.malformed(http, done) for _ in range(4)] + [run.killed(done) for _ in range(8)]
            beside = [asyncio.create_task(each) for each in broken]
            started, own = time.monotonic(), time.process_time()
            await asyncio.gather(*(run.client(http, requests, name) for _ in range(options.clients)))
            seconds, own = time.monotonic() - started, time.process_time() - own
            done.set()
            await asyncio.gather(*beside)
            await asyncio.sleep(1)
            quantiles = np.percentile(run.seconds, [50, 95, 99])
            result["rounds"].append(
                {
                    "seconds": round(seconds, 2),
                    "processor_seconds_of_the_clients": round(own, 2),
                    "answers": len(run.seconds),
                    "wrong_answers": run.wrong,
                    "largest_difference": run.largest_difference,
                    "allowed_difference": run.allowed,
                    "requests_per_second": round(len(run.seconds) / seconds, 1),
                    "residues_per_second": round(run.residues / seconds),
                    "latency_seconds": dict(zip(("p50", "p95", "p99"), quantiles.round(3).tolist(), strict=True)),
                    "statuses": dict(sorted(run.statuses.items())),
                    "after": await state(http),
                }
            )
            print(json.dumps(result["rounds"][-1]), flush=True)
    # Without this script's own connections.
    await asyncio.sleep(1)
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        result["after"] = await state(http)
    return result


def one(encoder: str, options: argparse.Namespace) -> dict[str, Any]:
    """Reference, load and stop of one encoder."""
    records = read_records(PROTEOME)
    proteins = [p for p in (clean(record.text) for record in records) if len(p) <= options.longest]
    loaded = limbeck.load(encoder, threads=options.threads)
    loaded.encode(proteins[:20])
    started = time.monotonic()
    vectors = loaded.encode(proteins)
    alone = sum(map(len, proteins)) / (time.monotonic() - started)
    command = [
        *options.command.split(), "--port", "0", "--encoder", encoder, "--threads", str(options.threads),
        "--queue-tokens", str(options.queue_tokens), "--max-length", str(options.longest), "--max-body", "2M",
        "--batch-tokens", str(options.batch_tokens),
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    if " is served at " not in line:
        sys.exit(line + process.stderr.read())
    try:
        result = asyncio.run(load(line.split()[-1], encoder, proteins, vectors, options))
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        complaints = process.stderr.read().splitlines()
    finally:
        process.kill()
    return {
        "proteins": len(proteins),
        "encode_all_at_once_residues_per_second": round(alone),
        **result,
        "exit_code": code,
        "lines_on_standard_error": complaints[:20],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=["composition", "limbeck-9m"])
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--requests", type=int, default=1000, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--longest", type=int, default=300, help="residues of the proteins sent")
    parser.add_argument("--queue-tokens", type=int, default=32_768)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--command", default=f"{sys.executable} -m limbeck serve")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "load.json")
    options = parser.parse_args()
    content = json.loads(options.output.read_text()) if options.output.exists() else {}
    for encoder in options.encoders:
        settings = {k: v for k, v in vars(options).items() if k not in ("encoders", "output", "command")}
        machine = {"cores": os.cpu_count(), "load_average": os.getloadavg(), "python": platform.python_version()}
        content[encoder] = {"settings": settings, "machine": machine, **one(encoder, options)}
        options.output.write_text(json.dumps(content, indent=1) + "\n")
        print(encoder, json.dumps(content[encoder], indent=1))


if __name__ == "__main__":
    main()
