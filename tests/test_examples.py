"""The scripts for schedulers do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import limbeck
from fake_encoder import random_proteins, write_fasta

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_slurm_array(tmp_path: Path) -> None:
    write_fasta(tmp_path / "p.fasta", random_proteins(9))
    (tmp_path / "limbeck").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m limbeck.cli "$@" --quiet\n')
    (tmp_path / "limbeck").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(limbeck.__file__).parents[1]),
        "SLURM_ARRAY_TASK_COUNT": "2",
        "SLURM_CPUS_PER_TASK": "1",
    }

    def sbatch(script: str, *arguments: str, **variables: str) -> None:
        command = ["bash", str(EXAMPLES / "slurm" / script), *arguments]
        subprocess.run(command, cwd=tmp_path, env={**environment, **variables}, check=True, timeout=120)

    for task in "21":
        sbatch("embed.sh", "p.fasta", "vectors", SLURM_ARRAY_TASK_ID=task)
    sbatch("merge.sh", "vectors")
    assert [id for id, _ in limbeck.read_embeddings(tmp_path / "vectors.parquet")] == [f"P{n}" for n in range(9)]
