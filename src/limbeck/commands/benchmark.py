"""``limbeck benchmark``."""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path
from typing import Any

from limbeck.commands.shared import LANDSCAPE, need, say, size, width
from limbeck.errors import InputError

__all__ = ["add", "run"]

SUITES = ("proteins", "landscape", "tasks")


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "benchmark",
        help="score encoders on published data sets",
        description="Score encoders on published tasks with one protocol, and put them into one table.\n"
        "proteins (default): solved linear probes on frozen vectors: localisation, solubility, melting, fold, ...\n"
        "landscape: assays with their published splits, as `limbeck landscape` judges them.\n"
        "tasks: list the tasks, where they come from, and what is left out.",
        epilog="examples:\n"
        "  limbeck benchmark -o benchmark --quick\n"
        "  limbeck benchmark -o benchmark --encoder my-student         # one more row\n"
        '  limbeck benchmark -o benchmark --encoder "UniRep=unirep.safetensors@auto" --data FOLDER\n'
        "  limbeck benchmark landscape -o landscapes --only gb1\n"
        "  limbeck benchmark tasks\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("suite", choices=SUITES, nargs="?", default="proteins", help="what to run (default: proteins)")
    parser.add_argument("-o", "--output", metavar="FOLDER", help="the table, its page, and what a later run takes up")
    parser.add_argument(
        "--encoder", action="append", default=[], dest="encoders", metavar="NAME",
        help="one more encoder, as `limbeck embed` takes it; proteins: [LABEL=]NAME[@OPTION], where @auto tries all "
        "layers and poolings on validation proteins, @2 is a layer and @mean a pooling",
    )  # fmt: skip
    parser.add_argument("--data", metavar="FOLDER", help="data sets beside those that come with limbeck")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of landscape (default: 0)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, and no table")
    group = parser.add_argument_group("proteins")
    group.add_argument("--quick", action="store_true", help="the scale of two minutes: few short proteins")
    group.add_argument(
        "--scale", help="quick, small, medium or full: so many proteins (default: the table's, else small)"
    )
    group.add_argument(
        "--task", action="append", dest="tasks", metavar="NAME",
        help="only this task; repeatable (default: the table's, in a new one all that are here)",
    )  # fmt: skip
    group.add_argument(
        "--split", choices=["test", "valid"],
        help="valid: to choose between models without a look at test (default: the table's, else test)",
    )  # fmt: skip
    group.add_argument("--mlp", action="store_true", help="a small network beside each linear probe, three seeds")
    group.add_argument(
        "--mtdp", action="store_true", help="MTDP's own protocol, too: leaky, in a table of its own, to compare with it"
    )
    group.add_argument(
        "--finetune", choices=["lora", "prompt", "full", "head"], metavar="HOW",
        help="a further row for each student and each encoder of transformers, fine-tuned on each task: lora, prompt, "
        "full or head (slow)",
    )  # fmt: skip
    group.add_argument("--no-default", action="store_false", dest="default", help="without limbeck's own student")
    group.add_argument(
        "--no-floor", action="store_false", dest="floor", help="without residue counts and an untrained network"
    )
    group.add_argument("--reference", metavar="LABEL", help="the row that others are compared with (default: first)")
    group.add_argument("--threads", metavar="N", type=int, help="most processor threads (default: all)")
    group = parser.add_argument_group("landscape")
    group.add_argument("--only", action="append", metavar="NAME", help="one assay; may be given several times")
    group.add_argument("--ladder", default="quick", help="quick or paper (default: quick)")
    group.add_argument(
        "--sample", type=size, metavar="N",
        help="most variants of a split that an encoder reads, or all (default: what makes 1.2 M residues)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    if options.suite == "tasks":
        sys.stdout.write(_listed(options.data))
        return
    if options.output is None:
        raise InputError("name a folder for the table with -o")
    options.when_interrupted = "; the same command goes on from here"
    if options.suite == "landscape":
        _landscape(options)
    else:
        _proteins(options)


def _proteins(options: argparse.Namespace) -> None:
    from limbeck.benchmarks.run import benchmark

    if options.quick and options.scale not in (None, "quick"):
        raise InputError("--quick is --scale quick; give one of them")
    found = benchmark(
        options.output,
        encoders=options.encoders,
        default=options.default,
        floor=options.floor,
        tasks=options.tasks,
        scale="quick" if options.quick else options.scale,
        split=options.split,
        data=options.data,
        methods=("mlp",) if options.mlp else (),
        mtdp=options.mtdp,
        finetune=options.finetune,
        reference=options.reference,
        threads=options.threads,
        say=None if options.quiet else say,
    )
    if not options.quiet:
        sys.stdout.write(found.table(width()) + "\n")
        page = "benchmark.html, " if (Path(options.output) / "benchmark.html").exists() else ""
        say(f"{options.output}: {page}benchmark.md, benchmark.json")


def _landscape(options: argparse.Namespace) -> None:
    need("landscape", *LANDSCAPE)
    from limbeck.benchmarks.landscape import benchmark_landscapes, table_of

    rows = benchmark_landscapes(
        options.output,
        only=options.only,
        data=options.data,
        ladder=options.ladder,
        encoders=options.encoders,
        sample=options.sample,
        seed=options.seed,
        progress=not options.quiet,
    )
    if not options.quiet:
        sys.stdout.write(table_of(rows) + "\n")
        say(f"{options.output}: landscape.json, landscape.md, a report for each data set")


def _listed(data: str | None) -> str:
    from limbeck.benchmarks import LEFT_OUT, all_tasks, tasks

    here = tasks(None if data is None else Path(data))
    lines = []
    for task in all_tasks():
        mark = (
            "" if task in here else f"   (its data are not here: give the folder that holds {task.folder} with --data)"
        )
        lines.append(f"{task.name}{mark}")
        facts = (f"{task.question}; {', '.join(task.metrics).replace('_', ' ')}", f"split: {task.split}")
        more = (f"caution: {task.caution}",) if task.caution else ()
        for fact in (
            *facts,
            *more,
            f"scales: {', '.join(task.sizes)}; licence: {task.license}",
            f"cite: {task.citation}",
        ):
            lines += textwrap.wrap(fact, width() - 4, initial_indent="    ", subsequent_indent="      ")
    lines += ["", "Left out:"]
    for name, reason in LEFT_OUT.items():
        lines += textwrap.wrap(f"{name}: {reason}", width() - 4, initial_indent="    ", subsequent_indent="      ")
    return "\n".join(lines) + "\n"
