"""On a real cluster of several nodes: what is lost during a run does not show in its result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import limbeck
from fake_encoder import random_proteins, write_fasta

pytestmark = pytest.mark.slow
pytest.importorskip("ray")

PROTEINS = random_proteins(500, seed=11)
# Many small parts, so that there is time to kill something.
ENCODER = ["--encoder", "dipeptides", "--block-residues", "1000"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_fasta(folder / "a.fasta", PROTEINS[:200])
    write_fasta(folder / "b.fa", PROTEINS[200:210])
    (folder / "deep").mkdir()
    write_fasta(folder / "deep" / "c.fasta", [*PROTEINS[210:], ("twin", PROTEINS[300][1])])
    return folder


@pytest.fixture(scope="module")
def single(inputs: Path) -> pa.Table:
    """What one machine gives."""
    files = [inputs / "a.fasta", inputs / "b.fa", inputs / "deep" / "c.fasta"]
    limbeck.embed(files, inputs.parent / "single.parquet", encoder="dipeptides", progress=False)
    return pq.read_table(inputs.parent / "single.parquet")


def assert_same(output: Path, single: pa.Table) -> None:
    assert (output / "_SUCCESS").exists()
    assert [path.name for path in output.iterdir() if path.name.startswith(".")] == []
    found = pq.read_table(output)
    assert found["row"].to_pylist() == list(range(len(PROTEINS) + 1))
    assert found.drop_columns(["row"]).equals(single)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        yield found
    finally:
        found.shutdown()


def start(inputs: Path, output: Path, cluster: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "limbeck.cli", "embed", str(inputs), "-o", str(output), *ENCODER]
    return subprocess.Popen([*command, "--engine", "ray", "--address", cluster.address])


def wait_for_parts(process: subprocess.Popen[bytes], output: Path, count: int) -> set[Path]:
    end = time.monotonic() + 600
    while len(parts := set(output.glob("part-*.parquet"))) < count:
        assert process.poll() is None, "the run ended before anything was killed"
        assert time.monotonic() < end
        time.sleep(0.02)
    return parts


def encoders_at_work(cluster: Any) -> list[psutil.Process]:
    """The actors that hold the encoder, on the nodes of this cluster."""
    found = []
    for node in cluster.list_all_nodes():
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        found += [child for child in raylet.children(recursive=True) if "MapWorker" in " ".join(child.cmdline())]
    return found


def test_lost_workers_and_a_lost_machine(inputs: Path, single: pa.Table, cluster: Any, tmp_path: Path) -> None:
    other = cluster.add_node(num_cpus=1)
    output = tmp_path / "vectors"
    process = start(inputs, output, cluster)
    try:
        wait_for_parts(process, output, 2)
        workers = encoders_at_work(cluster)
        assert workers
        for worker in workers:
            worker.kill()
        wait_for_parts(process, output, 5)
        cluster.remove_node(other, allow_graceful=False)
        assert process.wait(900) == 0
    finally:
        process.kill()
    assert_same(output, single)


def test_a_lost_driver(inputs: Path, single: pa.Table, cluster: Any, tmp_path: Path) -> None:
    output = tmp_path / "vectors"
    process = start(inputs, output, cluster)
    try:
        wait_for_parts(process, output, 4)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (output / "_SUCCESS").exists()
    time.sleep(2)
    there = {path: path.stat().st_mtime_ns for path in output.glob("part-*.parquet")}
    assert start(inputs, output, cluster).wait(900) == 0
    assert {path: path.stat().st_mtime_ns for path in there} == there
    assert len(list(output.glob("part-*.parquet"))) > len(there)
    assert_same(output, single)


def test_by_itself_on_one_machine_with_the_default_encoder(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "proteins.fasta", PROTEINS[:40])
    command = [sys.executable, "-m", "limbeck.cli", "embed", str(fasta), "--precision", "f32", "--per-residue"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    on_ray = ["-o", str(tmp_path / "out"), "--engine", "ray", "--block-residues", "1000"]
    done = subprocess.run([*command, *on_ray], env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "\nproteins         40\n" in done.stderr
    limbeck.embed(fasta, tmp_path / "single.h5", precision="f32", per_residue=True, progress=False)
    pairs = zip(limbeck.read_embeddings(tmp_path / "out"), limbeck.read_embeddings(tmp_path / "single.h5"), strict=True)
    for (id, found), (expected_id, expected) in pairs:
        assert id == expected_id
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
