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
import pyarrow.parquet as pq
import pytest

import limbeck
from fake_encoder import random_proteins, write_fasta

pytestmark = pytest.mark.slow
pytest.importorskip("ray")

PROTEINS = random_proteins(500, seed=11, longest=400)
ENCODER = ["--precision", "f32", "--block-residues", "4000"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_fasta(folder / "a.fasta", PROTEINS[:200])
    write_fasta(folder / "b.fa", PROTEINS[200:210])
    (folder / "deep").mkdir()
    write_fasta(folder / "deep" / "c.fasta", [*PROTEINS[210:], ("twin", PROTEINS[300][1])])
    return folder


@pytest.fixture(scope="module")
def single(inputs: Path) -> dict[str, Any]:
    """What one machine gives."""
    files = [inputs / "a.fasta", inputs / "b.fa", inputs / "deep" / "c.fasta"]
    limbeck.embed(files, inputs.parent / "single.parquet", precision="f32", progress=False)
    return table(inputs.parent / "single.parquet")


def table(path: Path) -> dict[str, Any]:
    found = pq.read_table(path)
    vectors = np.concatenate([chunk.flatten().to_numpy() for chunk in found["embedding"].chunks])
    return {
        "rows": found["row"].to_pylist() if "row" in found.column_names else list(range(len(found))),
        "ids": found["id"].to_pylist(),
        "lengths": found["length"].to_pylist(),
        "vectors": vectors.reshape(len(found), -1),
    }


def assert_same(output: Path, single: dict[str, Any]) -> None:
    assert (output / "_SUCCESS").exists()
    assert [path.name for path in output.iterdir() if path.name.startswith(".")] == []
    found = table(output)
    for name in ("rows", "ids", "lengths"):
        assert found[name] == single[name]
    np.testing.assert_allclose(found["vectors"], single["vectors"], atol=1e-6 * np.abs(single["vectors"]).max())


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
    end = time.monotonic() + 300
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


def test_lost_workers_and_a_lost_machine(inputs: Path, single: dict[str, Any], cluster: Any, tmp_path: Path) -> None:
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
        assert process.wait(400) == 0
    finally:
        process.kill()
    assert_same(output, single)


def test_a_lost_driver(inputs: Path, single: dict[str, Any], cluster: Any, tmp_path: Path) -> None:
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
    assert start(inputs, output, cluster).wait(400) == 0
    assert {path: path.stat().st_mtime_ns for path in there} == there
    assert len(list(output.glob("part-*.parquet"))) > len(there)
    assert_same(output, single)


def test_by_itself_on_one_machine(inputs: Path, single: dict[str, Any], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "limbeck.cli", "embed", str(inputs), "-o", str(tmp_path / "out"), *ENCODER]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run([*command, "--engine", "ray"], env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert "501" in done.stderr
    assert_same(tmp_path / "out", single)
