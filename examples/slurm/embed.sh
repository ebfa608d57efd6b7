#!/usr/bin/env bash
# Embeds a file of proteins in parts, one for each task of a SLURM array, then joins them:
#
#   job=$(sbatch --parsable embed.sh proteins.fasta.gz vectors)
#   sbatch --dependency=afterok:$job merge.sh vectors
#
# A task that is preempted or runs out of time goes on where it was when it is put back into the queue.
#SBATCH --job-name=limbeck
#SBATCH --array=1-32
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --requeue
set -euo pipefail

proteins=$1 folder=$2
mkdir -p "$folder"
limbeck embed "$proteins" \
    --output "$folder/part-$SLURM_ARRAY_TASK_ID.parquet" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
    --dtype float16 --precision f32 \
    --threads "$SLURM_CPUS_PER_TASK"
