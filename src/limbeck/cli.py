"""The command line: one verb a function, no logic."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import limbeck
from limbeck.distillation.config import ADAPTATION, StudentConfig, TrainingConfig
from limbeck.errors import InputError
from limbeck.progress import Progress

__all__ = ["main"]

BAD_INPUT = 2
INTERRUPTED = 128 + signal.SIGINT
BROKEN_PIPE = 128 + 13


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message}; see {self.prog} --help\n")
        sys.exit(BAD_INPUT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``limbeck`` with the given arguments (those of the process by default); returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        run(options)
        sys.stdout.flush()
    except InputError as error:
        sys.stderr.write(f"limbeck: {error}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write(f"\nlimbeck: interrupted{getattr(options, 'when_interrupted', '')}\n")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever reads has gone; at exit Python would complain once more about what it cannot write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="limbeck",
        description="Turn proteins into vectors with small, fast encoders distilled from large ones.",
        epilog="limbeck VERB --help explains a verb.",
    )
    parser.add_argument("--version", action="version", version=f"limbeck {limbeck.__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    _add_embed(verbs)
    _add_encoders(verbs)
    _add_landscape(verbs)
    _add_predict(verbs)
    _add_benchmark(verbs)
    _add_profiles(verbs)
    _add_contexts(verbs)
    _add_distill(verbs)
    _add_adapt(verbs)
    _add_report(verbs)
    _add_export(verbs)
    return parser


def _add_embed(verbs: Any) -> None:
    parser = verbs.add_parser(
        "embed",
        help="embed the proteins of files into one file",
        description="Embed proteins: one vector for each protein (or residue), in input order.\n"
        "A run that was interrupted goes on when the same command is given again.",
        epilog="examples:\n"
        "  limbeck embed proteins.fasta\n"
        "  limbeck embed swissprot.fasta.gz -o swissprot.parquet --dtype float16\n"
        "  limbeck embed proteins.fasta -o residues.h5 --per-residue\n"
        "  limbeck embed assay.csv --sequence-column mutated_sequence -o assay.npz\n"
        "  zcat proteins.fasta.gz | limbeck embed - -o - --format parquet > proteins.parquet\n"
        "  limbeck embed proteins.fasta -o esm2.h5 --encoder facebook/esm2_t33_650M_UR50D\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_embed)
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="FILE",
        help="FASTA, CSV, TSV or Parquet, plain or compressed (gz, bz2, xz, zst); - is standard input",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="where to write: .h5, .parquet or .npz; - is standard output, with --format "
        "(default: the name of the only input with .h5, in the working directory)",
    )

    group = parser.add_argument_group("encoder")
    group.add_argument(
        "--encoder",
        metavar="NAME",
        help="a name from `limbeck encoders`, a hub name, or the path of a model (default: limbeck's own)",
    )
    group.add_argument(
        "--layer", metavar="N[,N...]", type=_layer,
        help="layer whose features to take: one, several side by side (6,12,33), or all; -1 is the last",
    )  # fmt: skip
    group.add_argument(
        "--dimension", metavar="N", type=int, help="leading numbers of a vector, where they serve alone: 64, 128, 256"
    )
    group.add_argument("--pooling", metavar="P", help="how residues become one vector, where an encoder has a choice")
    group.add_argument(
        "--precision", default="auto", help="auto, f32, bf16 or f16, where an encoder has it (default: auto)"
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")

    group = parser.add_argument_group("input")
    group.add_argument("--sequence-column", metavar="NAME", help="column of a table that holds the sequences")
    group.add_argument("--id-column", metavar="NAME", help="column of a table that holds the ids")
    group.add_argument(
        "--input-format", metavar="FORMAT", help="fasta, csv, tsv or parquet (default: seen from the file)"
    )
    group.add_argument(
        "--duplicate-ids",
        choices=["error", "suffix"],
        default="error",
        help="an id that occurs again is an error, or becomes id_2, id_3, ... (default: error)",
    )
    group.add_argument(
        "--skip-invalid",
        action="store_true",
        help="pass over records that cannot be used, and list them in OUTPUT.skipped.tsv",
    )

    group = parser.add_argument_group("output")
    group.add_argument("--per-residue", action="store_true", help="one vector for each residue: (length, dimension)")
    group.add_argument(
        "--dtype",
        choices=["float32", "float16"],
        default="float32",
        help="float16 halves the file, with a relative error of at most 0.05 %% (default: float32)",
    )
    group.add_argument("--format", help="h5, parquet or npz (default: by the output's ending)")
    group.add_argument(
        "--restart",
        action="store_true",
        help="throw away an unfinished run or an older file of this name, and begin anew",
    )
    group.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")

    group = parser.add_argument_group("resources")
    group.add_argument(
        "--memory", metavar="SIZE", help="the most memory to take, like 4G (default: half of what is free)"
    )
    group.add_argument("--threads", metavar="N", type=int, help="most processor threads (default: all)")
    group.add_argument("--batch-tokens", metavar="N", type=int, help="most tokens in a batch (default: by memory)")


def _embed(options: argparse.Namespace) -> None:
    arguments = {k: v for k, v in vars(options).items() if k not in ("run", "output", "quiet")}
    to_stdout = options.output == "-"
    if to_stdout and sys.stdout.isatty():
        raise InputError("standard output is a terminal; pipe it somewhere or name a file with -o")
    if not to_stdout:
        options.when_interrupted = "; the same command goes on from here"
        if options.restart:
            options.when_interrupted = "; the same command without --restart goes on from here"
    output = sys.stdout.buffer if to_stdout else options.output
    summary = limbeck.embed(output=output, progress=not options.quiet, **arguments)
    if not options.quiet:
        sys.stderr.write(f"{summary}\n")


def _add_encoders(verbs: Any) -> None:
    parser = verbs.add_parser(
        "encoders",
        help="list what can be used with --encoder",
        description="List the encoders: what to give to --encoder, and whether they are on this machine.",
    )
    parser.set_defaults(run=_encoders)


def _encoders(options: argparse.Namespace) -> None:
    from limbeck.encoders import available

    rows = [("name", "kind", "dimension", "parameters", "licence", "on this machine")]
    # What works now comes first.
    for info in sorted(available(), key=lambda info: not info.on_this_machine):
        rows.append(
            (
                info.name,
                info.kind,
                "by file" if info.dimension is None else f"{info.dimension:,}",
                "by file" if info.parameters is None else _in_millions(info.parameters),
                info.license,
                "yes" if info.on_this_machine else "no",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if 2 <= index <= 3 else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _add_profiles(verbs: Any) -> None:
    parser = verbs.add_parser(
        "profiles",
        help="make a training corpus: protein families and homology profiles",
        description="Cluster proteins into families and search a balanced choice of them for relatives, with MMseqs2.\n"
        "The result is what `limbeck contexts` and `limbeck distill` learn from.",
        epilog="example:\n  limbeck profiles proteins.fasta.gz -o corpus.h5 --threads 8\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_profiles)
    parser.add_argument("input", metavar="FILE", help="proteins, in any format that `limbeck embed` reads")
    parser.add_argument("-o", "--output", required=True, metavar="CORPUS", help="the corpus to write (.h5)")
    parser.add_argument(
        "--per-family", type=int, default=3, metavar="N",
        help="most proteins of one family that get a profile (default: 3)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N", help="default: all")


def _profiles(options: argparse.Namespace) -> None:
    from limbeck.distillation.homology import build_corpus

    proteins, residues = build_corpus(
        Path(options.input), Path(options.output), per_family=options.per_family, threads=options.threads, say=_say
    )
    _say(f"{options.output}: {proteins:,} proteins, {residues:,} residues")


def _add_contexts(verbs: Any) -> None:
    parser = verbs.add_parser(
        "contexts",
        help="fit a context library to a corpus of profiles: a teacher",
        description="Fit a library of sequence contexts to the homology profiles of a corpus.",
        epilog="example:\n  limbeck contexts corpus.h5 -o library.safetensors --states 2048\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_contexts)
    parser.add_argument("corpus", metavar="CORPUS", help="what `limbeck profiles` wrote")
    parser.add_argument("-o", "--output", required=True, metavar="LIBRARY", help="the library to write (.safetensors)")
    parser.add_argument("--states", type=int, default=2048, metavar="N", help="contexts (default 2048)")
    parser.add_argument("--windows", type=int, default=400_000, metavar="N", help="windows to fit to (default 400000)")
    parser.add_argument("--iterations", type=int, default=16, metavar="N", help="passes over them (default 16)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed (default 0)")
    parser.add_argument("--license", default="unknown", help="licence of the library, SPDX (default: none)")


def _contexts(options: argparse.Namespace) -> None:
    _need_pytorch()
    from limbeck.distillation.context_library import fit_library
    from limbeck.distillation.corpus import Corpus

    fit_library(
        Corpus(Path(options.corpus)),
        Path(options.output),
        states=options.states,
        n_windows=options.windows,
        iterations=options.iterations,
        seed=options.seed,
        license=options.license,
        report=lambda iteration, value: _say(f"pass {iteration + 1}: log-likelihood {value:.4f} nats a window"),
    )
    _say(f"{options.output}: {options.states:,} contexts")


def _add_distill(verbs: Any) -> None:
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
    parser.set_defaults(run=_distill)
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
    _add_machines(group)
    _add_fields(parser.add_argument_group("training"), TrainingConfig)
    _add_fields(parser.add_argument_group("shape of the student"), StudentConfig)


def _add_machines(group: Any) -> None:
    group.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, mps or auto")
    group.add_argument("--processes", type=int, default=1, metavar="N", help="processes on this machine (default: 1)")
    group.add_argument("--nodes", type=int, default=1, metavar="N", help="machines, started by torchrun (default: 1)")


def _add_fields(
    group: Any,
    config: type[TrainingConfig | StudentConfig],
    defaults: TrainingConfig | None = None,
    only: Sequence[str] | None = None,
) -> None:
    """One option for each field that describes itself, or for some; the defaults are the fields' or an instance's."""
    for field in dataclasses.fields(config):
        if "help" not in field.metadata or (only is not None and field.name not in only):
            continue
        flag = "--" + field.name.replace("_", "-")
        default = field.default if defaults is None else getattr(defaults, field.name)
        if isinstance(default, bool):
            help_text = f"{field.metadata['help']} (default: {'yes' if default else 'no'})"
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=help_text)
            continue
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        kind: Any = type(default)
        if isinstance(default, tuple):
            kind = _integers if isinstance(default[0], int) else _words
        group.add_argument(
            flag, type=kind, default=default, metavar="N", help=f"{field.metadata['help']} (default: {shown})"
        )


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _from_fields(options: argparse.Namespace, config: type[Any], **others: Any) -> Any:
    described = {f.name: getattr(options, f.name) for f in dataclasses.fields(config) if "help" in f.metadata}
    return config(**described, **others)


def _distill(options: argparse.Namespace) -> None:
    _need_pytorch()
    from limbeck.distillation.distill import distill
    from limbeck.distillation.training import Machines

    options.when_interrupted = "; the same command with --resume goes on from the last checkpoint"
    config = _from_fields(options, TrainingConfig, student=_from_fields(options, StudentConfig))
    probe: Any = None
    if options.probes is not None:
        from limbeck.benchmarks import quick_probes, shipped_data, tasks

        data = Path(options.probes) if options.probes else shipped_data()
        tasks(data)  # says now, and not after the first steps, that they are missing
        probe = functools.partial(quick_probes, data=data)
    with _training_progress("distilling", config) as report:
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
            on_features=lambda name, part, whole: _say(f"features of {name}: {part:,} of {whole:,} residues"),
        )
    if _is_first():
        _say(f"{folder}: a student; limbeck embed proteins.fasta --encoder {folder}")


@contextmanager
def _training_progress(verb: str, config: TrainingConfig) -> Iterator[Any]:
    """A bar over the residues of a run, and a line for each validation."""
    with Progress(verb, "residues", config.steps * config.batch_residues, shown=_is_first()) as progress:
        done = 0

        def report(step: Any) -> None:
            nonlocal done
            losses = ", ".join(f"{name} {value:.3f}" for name, value in step.losses.items())
            progress.note(f"step {step.step}, {losses}")
            (progress.skip if done == 0 else progress.update)((step.step - done) * config.batch_residues)
            done = step.step
            if step.evaluation:
                values = step.evaluation["validation"] | step.evaluation["probes"]
                _say(f"step {step.step}, held out: {', '.join(f'{k} {v:.3f}' for k, v in values.items())}")

        yield report


def _add_report(verbs: Any) -> None:
    parser = verbs.add_parser(
        "report",
        help="write a page about the training of one or several students",
        description="Write one HTML page: curves, students at equal loss, residues by the course of their loss.",
        epilog="examples:\n  limbeck report my-student -o report.html\n  limbeck report small large -o both.html\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_report)
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="a student's folder, finished or in training"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html"
    )
    parser.add_argument(
        "--loss", metavar="NAME", help="loss at which students are compared (default: that of residues)"
    )
    parser.add_argument(
        "--threshold", type=float, default=0.1, metavar="NATS",
        help="change by which a residue's loss falls or rises (default: 0.1)",
    )  # fmt: skip


def _report(options: argparse.Namespace) -> None:
    try:
        from limbeck.distillation.report import write_report
    except ImportError:
        raise InputError("a report needs jinja2; pip install 'limbeck[train]'") from None
    _say(f"{write_report(options.folders, options.output, loss=options.loss, threshold=options.threshold)}: the report")


def _add_export(verbs: Any) -> None:
    parser = verbs.add_parser(
        "export",
        help="copy a student to a folder that transformers and sentence-transformers open",
        description="Copy a student, such as the one in the package, to a folder that transformers and "
        "sentence-transformers open as well. Students that `limbeck distill` wrote are such folders already.",
        epilog="example:\n  limbeck export limbeck-9m -o limbeck-9m\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_export)
    parser.add_argument("student", metavar="STUDENT", help="a student's folder, or the name of one in the package")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the folder to write")


def _export(options: argparse.Namespace) -> None:
    _need_pytorch()
    from limbeck.distillation.export import copy_student

    _say(f"{copy_student(options.student, Path(options.output))}: for limbeck, transformers and sentence-transformers")


def _is_first() -> bool:
    """Of several processes of one run, started by torchrun or Fabric, the first speaks."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def _add_adapt(verbs: Any) -> None:
    parser = verbs.add_parser(
        "adapt",
        help="fit a student to one protein family, without labels",
        description="Fit a student to one protein family by self-distillation: pretrain it further on the family's\n"
        "sequences, then train it anew, near to what that gave.",
        epilog="examples:\n"
        "  limbeck adapt family.fasta -o my-family\n"
        "  limbeck adapt alignment.fasta -o my-family --start my-student --steps 400\n"
        "  limbeck embed variants.csv --encoder my-family\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_adapt)
    parser.add_argument("family", metavar="FILE", help="its sequences, as `limbeck embed` reads them; gaps are removed")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the adapted student's folder")
    parser.add_argument("--start", metavar="NAME", help="folder or name of a student (default: limbeck's own)")
    parser.add_argument(
        "--weight", type=float, default=1.0, metavar="W",
        help="of the distance to the further-pretrained student (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--held-out", type=float, default=0.1, metavar="SHARE", help="of the sequences, to measure on (default: 0.1)"
    )
    parser.add_argument("--name", help="the student's name (default: the folder's)")
    parser.add_argument("--license", help="licence of its weights, SPDX; that of the start may bind it")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, mps or auto")
    parser.add_argument("--resume", action="store_true", help="go on with an unfinished run")
    group = parser.add_argument_group("training, of each of the two runs")
    _add_fields(group, TrainingConfig, defaults=ADAPTATION, only=_ADAPTED)


_ADAPTED = ("steps", "batch_residues", "learning_rate", "warmup", "masked", "seed", "evaluate_every", "precision")


def _adapt(options: argparse.Namespace) -> None:
    _need_pytorch()
    from limbeck.distillation.adapt import adapt
    from limbeck.distillation.training import Machines

    options.when_interrupted = "; the same command with --resume goes on from the last checkpoint"
    config = dataclasses.replace(ADAPTATION, **{name: getattr(options, name) for name in _ADAPTED})

    def report(run: str, step: Any) -> None:
        if step.evaluation is not None:
            losses = ", ".join(f"{name} {value:.3f}" for name, value in step.evaluation["validation"].items())
            _say(f"{run}, step {step.step} of {config.steps}; held-out sequences: {losses}")

    folder = adapt(
        options.family,
        options.output,
        start=options.start,
        config=config,
        weight=options.weight,
        held_out=options.held_out,
        name=options.name,
        license=options.license,
        machines=Machines(options.device),
        resume=options.resume,
        command=["limbeck", *sys.argv[1:]],
        report=report,
    )
    perplexity = json.loads((folder / "training.json").read_text(encoding="utf-8"))["adaptation"]["perplexity"]
    measured = ", ".join(f"{name} {value:.2f}" for name, value in perplexity.items())
    _say(f"{folder}: a student; perplexity at hidden residues of held-out sequences: {measured}")


def _add_landscape(verbs: Any) -> None:
    parser = verbs.add_parser(
        "landscape",
        help="does this assay need transfer learning? baselines, honest splits, a verdict, a model",
        description="Compare models on the variants of an assay, from the simplest up, and say whether pretrained\n"
        "vectors are needed. The folder gets report.html, report.json and the best model. Run again, for instance\n"
        "with one more --encoder, it only fits what is new.",
        epilog="examples:\n"
        "  limbeck landscape assay.csv -o report\n"
        "  limbeck landscape assay.csv -o report --encoder facebook/esm2_t33_650M_UR50D\n"
        "  limbeck landscape dms.csv -o report --wild-type protein.fasta --score-column fitness\n"
        "  limbeck landscape assay.csv -o report --ladder paper --split random\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_landscape)
    parser.add_argument("assay", metavar="ASSAY", help="CSV, TSV or Parquet, plain or compressed")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the report's folder")
    _add_reading(parser.add_argument_group("input"))
    group = parser.add_argument_group("models")
    group.add_argument(
        "--ladder", default="quick",
        help="quick (minutes), or paper: every network as published, with an estimate first (default: quick)",
    )  # fmt: skip
    group.add_argument(
        "--encoder", action="append", default=[], dest="encoders", metavar="NAME",
        help="one more pretrained encoder, as `limbeck embed` takes it; may be given several times",
    )  # fmt: skip
    group.add_argument(
        "--no-default-encoder", action="store_false", dest="default_encoder",
        help="leave out limbeck's own student, and the random network of its shape",
    )  # fmt: skip
    group.add_argument(
        "--sample", type=_size, metavar="N",
        help="most variants of a split that an encoder reads, or all (default: what makes 1.2 M residues)",
    )  # fmt: skip
    group = parser.add_argument_group("comparison")
    group.add_argument(
        "--split", action="append", dest="splits", metavar="NAME",
        help="only this split; may be given several times (default: all that the data allow)",
    )  # fmt: skip
    group.add_argument("--replicates", type=int, default=1000, metavar="N", help="of the bootstrap (default: 1000)")
    group.add_argument(
        "--margin", type=float, default=0.02, metavar="N",
        help="gain in Spearman's correlation that would be worth a pretrained encoder (default: 0.02)",
    )  # fmt: skip
    group.add_argument("--no-curves", action="store_false", dest="curves", help="no learning curves")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, and no table")


def _add_reading(group: Any) -> None:
    """Options that say how an assay's file is to be read."""
    group.add_argument("--score-column", metavar="NAME", help="column of the scores (default: by its usual names)")
    group.add_argument("--sequence-column", metavar="NAME", help="column of the variants' sequences")
    group.add_argument("--mutation-column", metavar="NAME", help="column of mutations, like A108D or A108D:K120R")
    group.add_argument(
        "--wild-type", metavar="W", help="a sequence, a FASTA file of one or several wild types, or a column"
    )
    group.add_argument("--protein-column", metavar="NAME", help="column that tells several proteins apart")
    group.add_argument(
        "--split-column", action="append", dest="split_columns", metavar="NAME",
        help="column of train, valid and test; may be given several times",
    )  # fmt: skip
    group.add_argument(
        "--offset", type=int, metavar="N", dest="position_offset",
        help="number of the wild type's first residue (default: the one that fits all mutations)",
    )  # fmt: skip
    group.add_argument(
        "--stops", choices=["keep", "drop"], default="keep", help="variants with a stop codon (default: keep)"
    )
    group.add_argument(
        "--skip-invalid", action="store_true", help="leave out rows that cannot be used, and list them in skipped.tsv"
    )
    group.add_argument("--input-format", metavar="FORMAT", help="csv, tsv or parquet (default: seen from the file)")


_READING = (
    "score_column", "sequence_column", "mutation_column", "wild_type", "protein_column", "split_columns",
    "position_offset", "stops", "skip_invalid", "input_format",
)  # fmt: skip


def _landscape(options: argparse.Namespace) -> None:
    options.when_interrupted = "; the same command goes on from here"
    _need("landscape", *_LANDSCAPE)
    from limbeck.landscapes import landscape

    comparison = landscape(
        options.assay,
        options.output,
        ladder=options.ladder,
        encoders=options.encoders,
        default_encoder=options.default_encoder,
        sample=options.sample,
        splits=options.splits,
        replicates=options.replicates,
        margin=options.margin,
        curves=options.curves,
        seed=options.seed,
        progress=not options.quiet,
        say=None if options.quiet else _say,
        **{name: getattr(options, name) for name in _READING},
    )
    if not options.quiet:
        sys.stdout.write(comparison.table(_width()) + "\n")
        _say(f"{options.output}: report.html, report.json, model")


def _width() -> int:
    return min(140, shutil.get_terminal_size((100, 24)).columns)


def _add_predict(verbs: Any) -> None:
    parser = verbs.add_parser(
        "predict",
        help="score new variants with the model of a landscape report",
        description="Score variants with a model that `limbeck landscape` saved: those of a file, or with --saturate\n"
        "all single mutants of a protein and the best doubles. Every prediction has a standard deviation.",
        epilog="examples:\n"
        "  limbeck predict report/model variants.csv -o scored.csv\n"
        "  limbeck predict report/model --saturate -o scan\n"
        "  limbeck predict report/model --saturate wild_type.fasta -o scan --doubles 200\n"
        "  limbeck predict report/model variants.csv --explain 5\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_predict)
    parser.add_argument("model", metavar="MODEL", help="the folder `model` of a report, or the report's")
    parser.add_argument(
        "variants", nargs="?", metavar="FILE", help="FASTA, CSV, TSV or Parquet of sequences or mutations"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE",
        help="CSV, TSV or Parquet by its ending (default: standard output, as CSV); with --saturate a folder",
    )  # fmt: skip
    parser.add_argument(
        "--saturate", nargs="?", const="", metavar="WILD_TYPE",
        help="score all single mutants of this protein (a sequence, a FASTA file or a name; default: the model's)",
    )  # fmt: skip
    parser.add_argument(
        "--doubles", type=int, default=1000, metavar="N", help="most double mutants to list (default: 1000)"
    )
    parser.add_argument(
        "--explain", type=int, metavar="N",
        help="name the N training variants that drove each prediction, instead of the predictions alone",
    )  # fmt: skip
    parser.add_argument(
        "--check", action="store_true",
        help="with --explain: remove them, fit again, and compare with removing as many at random",
    )  # fmt: skip
    group = parser.add_argument_group("input")
    group.add_argument("--sequence-column", metavar="NAME", help="column of the variants' sequences")
    group.add_argument("--mutation-column", metavar="NAME", help="column of mutations, like A108D or A108D:K120R")
    group.add_argument("--protein-column", metavar="NAME", help="column that tells several proteins apart")
    group.add_argument("--id-column", metavar="NAME", help="column of the variants' names")
    group.add_argument("--offset", type=int, metavar="N", dest="position_offset", help="number of the first residue")
    group.add_argument("--skip-invalid", action="store_true", help="pass over rows that cannot be used, and say which")
    group.add_argument("--input-format", metavar="FORMAT", help="fasta, csv, tsv or parquet (default: by the file)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")


_VARIANTS = (
    "sequence_column", "mutation_column", "protein_column", "id_column", "position_offset", "skip_invalid",
    "input_format",
)  # fmt: skip


def _predict(options: argparse.Namespace) -> None:
    _need("landscape", *_LANDSCAPE)
    from limbeck.landscapes import explain, predict, saturate
    from limbeck.landscapes.predicting import check_output, write_table

    model = Path(options.model)
    model = model / "model" if (model / "report.json").exists() else model
    shown = not options.quiet
    reading = {name: getattr(options, name) for name in _VARIANTS}
    if (options.saturate is None) == (options.variants is None):
        raise InputError("give either a file of variants or --saturate")
    if options.check and options.explain is None:
        raise InputError("--check is of what --explain names; give --explain N, too")
    if options.saturate is not None:
        if options.explain is not None:
            raise InputError("--explain is of the variants of a file, not of --saturate; give one of them")
        if options.output is None:
            raise InputError("--saturate writes several files; name a folder with -o")
        scan = saturate(model, options.saturate or None, options.output, doubles=options.doubles, progress=shown)
        files = ["singles.csv", *(["doubles.csv"] if len(scan.doubles) else []), "heatmap.svg", "scan.html"]
        notes = [*scan.notes, f"{options.output}: {', '.join(files)}"]
    elif options.explain is not None:
        check_output(options.output or "-")
        table, checked = explain(
            model, options.variants, listed=options.explain, checked=options.check, progress=shown, **reading
        )
        write_table(table, options.output or "-")
        if checked is not None:
            # It was asked for, so --quiet leaves it.
            _say(checked.to_string(index=False))
        notes = []
    else:
        found = predict(model, options.variants, options.output or "-", progress=shown, **reading)
        notes = [*found.notes, *(f"line {line}: {reason}; passed over" for line, reason in found.skipped)]
    if shown:
        for note in notes:
            _say(note)


def _add_benchmark(verbs: Any) -> None:
    parser = verbs.add_parser(
        "benchmark",
        help="score encoders on published data sets",
        description="Run a suite of published data sets that come with limbeck.\n"
        "landscape: eight assays with their published splits, as `limbeck landscape` judges them.",
        epilog="examples:\n"
        "  limbeck benchmark landscape -o benchmark --only gb1\n"
        "  limbeck benchmark landscape -o benchmark --encoder facebook/esm2_t33_650M_UR50D\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_benchmark)
    parser.add_argument("suite", choices=["landscape"], help="what to run")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FOLDER", help="a report for each data set, and one table"
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="one data set; may be given several times (default: all)"
    )
    parser.add_argument("--data", metavar="FOLDER", help="the data sets (default: those that come with limbeck)")
    parser.add_argument(
        "--encoder", action="append", default=[], dest="encoders", metavar="NAME", help="one more pretrained encoder"
    )
    parser.add_argument("--ladder", default="quick", help="quick or paper (default: quick)")
    parser.add_argument(
        "--sample", type=_size, metavar="N",
        help="most variants of a split that an encoder reads, or all (default: what makes 1.2 M residues)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, and no table")


def _benchmark(options: argparse.Namespace) -> None:
    options.when_interrupted = "; the same command goes on from here"
    _need("landscape", *_LANDSCAPE)
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
        _say(f"{options.output}: landscape.json, landscape.md, a report for each data set")


_LANDSCAPE = ("pandas", "sklearn", "scipy", "jinja2", "matplotlib", "Bio")


def _need(extra: str, *modules: str) -> None:
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        raise InputError(f"this needs {', '.join(missing)}; pip install 'limbeck[{extra}]'")


def _need_pytorch() -> None:
    try:
        import lightning_fabric  # noqa: F401
        import torch  # noqa: F401
    except ImportError:
        raise InputError("training needs PyTorch and Lightning Fabric; pip install 'limbeck[train]'") from None


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _in_millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 100_000 else f"{count:,}"


def _size(text: str) -> int:
    """A number of variants, or ``all`` of them."""
    if text == "all":
        return sys.maxsize
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor 'all'") from None


def _layer(text: str) -> int | str | tuple[int, ...]:
    if text == "all":
        return text
    layers = _integers(text)
    return layers[0] if len(layers) == 1 else layers


if __name__ == "__main__":
    sys.exit(main())
