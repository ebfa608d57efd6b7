"""``limbeck distill``."""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

from limbeck.commands.shared import need_pytorch, say
from limbeck.commands.training import add_fields, add_machines, from_fields, is_first, training_progress
from limbeck.distillation.config import StudentConfig, TrainingConfig

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "distill",
        help="train a student from teachers, or from scratch",
        description="Distil teachers into a student; without any, pretrain one by naming hidden residues.\n"
        "A run that was interrupted goes on with --resume.",
        epilog="examples:\n"
        "  limbeck distill corpus.h5 --contexts library.safetensors -o my-student\n"
        "  limbeck distill proteins.fasta --teacher facebook/esm2_t33_650M_UR50D --device cuda -o my-student\n"
        "  limbeck distill proteins.fasta --teacher facebook/esm2_t33_650M_UR50D@20,33 \\\n"
        "      --teacher Rostlab/prot_t5_xl_half_uniref50-enc --share 0.2 --cache features -o my-student\n"
        "  limbeck distill proteins.fasta -o pretrained        # no teacher: masked residues\n"
        "  torchrun --nproc-per-node 2 -m limbeck distill corpus.h5 --processes 2 ...\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("corpus", metavar="CORPUS", help="proteins in a file, or what `limbeck profiles` wrote")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the student's folder")
    group = parser.add_argument_group("teachers")
    group.add_argument("--contexts", metavar="LIBRARY", help="a context library; the corpus needs profiles")
    group.add_argument(
        "--teacher", action="append", default=[], dest="teachers", metavar="ENCODER[@LAYERS]",
        help="an encoder by name or path, and its layers (@33 or @20,33 or @all); may be given several times",
    )  # fmt: skip
    group.add_argument("--cache", metavar="FOLDER", help="where features of teachers are kept between runs")
    group.add_argument(
        "--share", type=float, default=0.25, metavar="N",
        help="part of the residues whose features are kept; 0 keeps those of proteins alone (default: 0.25)",
    )  # fmt: skip
    group.add_argument(
        "--live", action="append", default=[], metavar="ENCODER",
        help="a teacher that is cheap: computed whenever it is needed instead of kept",
    )  # fmt: skip
    group.add_argument(
        "--teacher-license", action="append", default=[], metavar="ENCODER=LICENCE", dest="teacher_licenses",
        help="licence of a teacher that has no note of it",
    )  # fmt: skip
    group = parser.add_argument_group("student")
    group.add_argument("--start", metavar="STUDENT", help="go out from the weights of a student, in its shape")
    group.add_argument("--name", help="the student's name (default: the folder's)")
    group.add_argument("--license", help="licence of its weights, SPDX; its teachers' must allow it (default: none)")
    group = parser.add_argument_group("run")
    group.add_argument("--resume", action="store_true", help="go on with an unfinished run")
    group.add_argument("--tensorboard", action="store_true", help="write curves to FOLDER/training/tensorboard")
    group.add_argument(
        "--probes", nargs="?", const="", metavar="DATA",
        help="score the student at each validation, on the data sets in DATA (default: those of limbeck's source)",
    )  # fmt: skip
    add_machines(group)
    add_fields(parser.add_argument_group("training"), TrainingConfig)
    add_fields(parser.add_argument_group("shape of the student"), StudentConfig)


def run(options: argparse.Namespace) -> None:
    need_pytorch()
    from limbeck.distillation.distill import distill
    from limbeck.distillation.training import Machines

    options.when_interrupted = "; the same command with --resume goes on from the last checkpoint"
    config = from_fields(options, TrainingConfig, student=from_fields(options, StudentConfig))
    probe: Any = None
    if options.probes is not None:
        from limbeck.benchmarks import quick_probes, shipped_data, tasks

        data = Path(options.probes) if options.probes else shipped_data()
        tasks(data)  # says now, and not after the first steps, that they are missing
        probe = functools.partial(quick_probes, data=data)
    with training_progress("distilling", config) as report:
        folder = distill(
            options.corpus,
            options.output,
            contexts=options.contexts,
            teachers=options.teachers,
            cache=options.cache,
            share=options.share,
            live=options.live,
            start=options.start,
            config=config,
            name=options.name,
            license=options.license,
            teacher_licenses=options.teacher_licenses,
            machines=Machines(options.device, options.processes, options.nodes),
            resume=options.resume,
            tensorboard=options.tensorboard,
            command=["limbeck", *sys.argv[1:]],
            probe=probe,
            report=report,
            on_features=lambda name, part, whole: say(f"features of {name}: {part:,} of {whole:,} residues"),
        )
    if is_first():
        say(f"{folder}: a student; limbeck embed proteins.fasta --encoder {folder}")
