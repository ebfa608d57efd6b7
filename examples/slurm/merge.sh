#!/usr/bin/env bash
# Joins the parts that embed.sh wrote; refuses if one is missing or of another run.
#SBATCH --job-name=limbeck-merge
#SBATCH --mem=8G
#SBATCH --time=01:00:00
set -euo pipefail

limbeck merge "$1"/part-*.parquet --output "$1.parquet"
