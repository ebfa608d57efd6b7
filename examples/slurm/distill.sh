#!/usr/bin/env bash
# Distils a student on several machines with one process for each GPU, started by torchrun:
#
#   sbatch distill.sh corpus.h5 --contexts library.safetensors --teacher facebook/esm2_t33_650M_UR50D -o student --device cuda
#
# Put back into the queue it needs --resume, and goes on from the last checkpoint.
#SBATCH --job-name=limbeck-distill
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=12:00:00
set -euo pipefail

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
processes=${SLURM_GPUS_ON_NODE:-1}
srun torchrun \
    --nnodes "$SLURM_NNODES" --nproc-per-node "$processes" \
    --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:29500" \
    -m limbeck distill "$@" --nodes "$SLURM_NNODES" --processes "$processes"
