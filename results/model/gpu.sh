#!/usr/bin/env bash
# Trains a teacher of 31 million parameters by naming masked residues and distils it, with the context library and
# the homology profiles, into a student of the default's shape. One run on one GPU; run it again to go on with it.
#
#     results/model/gpu.sh PROTEINS.fasta CORPUS.h5 LIBRARY.safetensors FOLDER [SECONDS_FOR_THE_TEACHER]
#
# PROTEINS.fasta: what the teacher reads; CORPUS.h5 and LIBRARY.safetensors: of `limbeck profiles` and `limbeck contexts`.
# At 1.0e9 residues the teacher takes 6 x 31e6 x 1.0e9 = 1.9e17 operations: ten minutes at 300 TFLOP/s.
# The student comes back as FOLDER/student, its weights also in parts of 8 MB (cat student.part-* > model.safetensors).
set -euo pipefail
proteins=$1 corpus=$2 library=$3 folder=$4
residues=${TEACHER_RESIDUES:-1000000000} batch=${BATCH:-262144}
student_residues=${STUDENT_RESIDUES:-500000000} student_batch=${STUDENT_BATCH:-98304}
device=${DEVICE:-cuda}
python=${PYTHON:-python3}
run() { "$python" -m limbeck distill "$@" --resume --device "$device" ${LIMBECK_OPTIONS:-}; }
mkdir -p "$folder"

if [ ! -e "$folder/teacher/config.json" ]; then
    run "$proteins" -o "$folder/teacher" --license CC-BY-4.0 \
        --width "${TEACHER_WIDTH:-640}" --inner "${TEACHER_WIDTH:-640}" --states "${TEACHER_WIDTH:-640}" \
        --dilations 1,2,4,8,16,32,1,2,4,8,16,32 \
        --steps $((residues / batch)) --batch-residues "$batch" --warmup 300 --learning-rate 1e-3 \
        --masked 0.15 --contrast 0 --ema 0.999 --evaluate-every 200
fi
if [ ! -e "$folder/student/config.json" ]; then
    # The teacher reads the corpus once, on the processor; a fifth of its residue features are kept.
    run "$corpus" --contexts "$library" --teacher "$folder/teacher" --cache "$folder/features" --share 0.2 \
        --start "${STUDENT_START:-limbeck-9m}" \
        -o "$folder/student" --license CC-BY-4.0 \
        --steps $((student_residues / student_batch)) --batch-residues "$student_batch" --warmup 200 \
        --balance running --evaluate-every 250
fi
split -b 8M -d "$folder/student/model.safetensors" "$folder/student.part-"
cp "$folder/student/config.json" "$folder/student.config.json"
cp "$folder/student/README.md" "$folder/student.README.md"
cp "$folder/student/training/log.jsonl" "$folder/student.log.jsonl"
