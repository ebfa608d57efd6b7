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


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_slurm_distils_on_two_machines(tmp_path: Path) -> None:
    """Both are this one; the processes find each other as those of two would."""
    pytest.importorskip("torch")
    programs = {
        "scontrol": "echo localhost",
        "srun": '"$@" & first=$!; "$@"; wait $first',
        "torchrun": f'exec "{sys.executable}" -m torch.distributed.run "$@"',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\nset -e\n{text}\n")
        (tmp_path / name).chmod(0o755)
    options = [
        "--width",
        "16",
        "--inner",
        "16",
        "--states",
        "24",
        "--dilations",
        "1,2",
        "--steps",
        "4",
        "--warmup",
        "1",
    ]
    options += ["--batch-residues", "1024", "--evaluate-every", "2", "--no-compile", "--precision", "f32"]
    proteins = str(EXAMPLES / "mycoplasma_genitalium.fasta.gz")
    subprocess.run(
        ["bash", str(EXAMPLES / "slurm/distill.sh"), proteins, "-o", "student", "--license", "CC0-1.0", *options],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NODELIST": "this[1-2]",
            "SLURM_NNODES": "2",
        },
        check=True,
        timeout=300,
    )
    assert limbeck.load(tmp_path / "student").encode(["MKTAYIAKQR"]).shape == (1, 16)
