"""From files of proteins to one file of embeddings, in bounded memory, resumable at any moment.

Four steps:

1. *Scan.* Every record is read and checked before anything is computed. Ids, lengths and digests go to an
   index on disk.
2. *Plan.* Equal sequences are computed once. The rest is divided into pieces (:mod:`limbeck.embedding.plan`).
3. *Compute.* Each piece is saved in the folder ``<output>.partial`` as soon as it is done. A run that was
   killed goes on behind the last one.
4. *Assemble.* The table is written in input order, and gets its final name when it is whole.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.embedding.frames import is_frame, is_record
from limbeck.embedding.index import Index, sequence_digest
from limbeck.embedding.memory import peak_memory, token_budget
from limbeck.embedding.partial import Partial, replace_durably
from limbeck.embedding.plan import Limits, Piece, chunks
from limbeck.embedding.settings import differences, settings_of
from limbeck.embedding.shards import Shard
from limbeck.embedding.source import Input, Source, stem
from limbeck.embedding.stores import detect_format, format_of, read_metadata, size_on_disk, write_table
from limbeck.embedding.summary import as_table, changes, numbers
from limbeck.embedding.vectors import vectors_of
from limbeck.encoders import Encoder, load
from limbeck.errors import InputError
from limbeck.files import reserve, size_told
from limbeck.progress import Progress
from limbeck.records import InvalidRecord
from limbeck.stages import stage, timed

__all__ = ["Summary", "embed"]

OPEN_PIECES = 128

Inputs = Input | Sequence[Input]


@dataclass(frozen=True)
class Summary:
    """What a run of :func:`embed` did. Its text is a small table for people."""

    output: str
    encoder: str
    dimension: int
    per_residue: bool
    proteins: int
    residues: int
    seconds: float
    """Wall time of the whole run."""
    residues_per_second: float
    """Residues computed by this run over the time that computing took; 0 if nothing was left to compute."""
    padding: float
    """Share of the computed tokens that were padding, special tokens or overlaps of windows."""
    windowed: int
    """Proteins longer than the encoder's window, embedded in overlapping windows."""
    duplicates: int
    """Proteins whose sequence occurred before, so that it was not computed again."""
    renamed: int
    """Proteins that got a suffix because their id occurred before."""
    skipped: int
    """Records that could not be used."""
    skipped_list: str
    """The file that lists them."""
    letters: Mapping[str, int] = field(hash=False)
    """How often each letter was changed by the rule of :mod:`limbeck.residues`."""
    resumed: int
    """Residues computed by earlier, interrupted runs."""
    computed: int
    """Residues computed by this run."""
    nothing_to_do: bool
    """Whether the output was there already, from the same input and settings."""
    peak_memory: int
    """The most memory that the process has held so far, in bytes."""
    shard: str = ""
    """Which part of the input this run had, like ``"2/8"``; empty if it had all of it."""
    stages: Mapping[str, float] = field(default_factory=dict, hash=False)
    """:attr:`seconds` by stage: ``"loading"``, ``"reading"``, ``"packing"``, ``"compiling"``, ``"network"``,
    ``"pooling"``, ``"encoding"`` (what an encoder does that tells no more), ``"writing"`` and ``"the rest"``."""

    def __str__(self) -> str:
        rows = {"part": self.shard} if self.shard else {}
        rows |= {"proteins": f"{self.proteins:,}", "residues": f"{self.residues:,}"}
        rows["letters changed"] = changes(self.letters)
        rows["in windows"] = f"{self.windowed:,} long proteins" if self.windowed else "none"
        rows["duplicates"] = "none"
        if self.duplicates:
            rows["duplicates"] = f"{self.duplicates:,} proteins with the sequence of an earlier one, computed once"
        if self.renamed:
            rows["renamed"] = f"{self.renamed:,} proteins with the id of an earlier one"
        if self.skipped:
            rows["skipped"] = f"{self.skipped:,} records, listed in {self.skipped_list}"
        rows["encoder"] = numbers(self.encoder, self.dimension, self.per_residue)
        if self.resumed:
            rows["resumed"] = f"{self.resumed:,} residues were computed before"
        if self.residues_per_second:
            rows["speed"] = f"{self.residues_per_second:,.0f} residues/s, {100 * self.padding:.1f} % padding"
        rows["time"] = f"{_duration(self.seconds)}, {self.peak_memory / 2**20:,.0f} MB of memory at most"
        if shares := self._shares():
            rows["spent on"] = ", ".join(f"{name} {share:.0%}" for name, share in shares)
        rows["output"] = self.output + (" (was there already, nothing to do)" if self.nothing_to_do else "")
        return as_table(rows)

    def _shares(self) -> list[tuple[str, float]]:
        """The stages that took half a percent of the time or more, the longest first."""
        total = sum(self.stages.values())
        found = [] if self.nothing_to_do else [(name, seconds / total) for name, seconds in self.stages.items()]
        return sorted((pair for pair in found if pair[1] >= 0.005), key=lambda pair: -pair[1])


def embed(
    inputs: Inputs,
    output: str | os.PathLike[str] | BinaryIO | None = None,
    *,
    encoder: str | os.PathLike[str] | Encoder | None = None,
    per_residue: bool = False,
    dtype: Literal["float32", "float16"] = "float32",
    duplicate_ids: Literal["error", "suffix"] = "error",
    skip_invalid: bool = False,
    sequence_column: str | None = None,
    id_column: str | None = None,
    input_format: str | None = None,
    format: str | None = None,
    layer: int | str | Sequence[int] | None = None,
    dimension: int | None = None,
    pooling: str | None = None,
    precision: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    batch_tokens: int | None = None,
    memory: str | int | None = None,
    shard: str | None = None,
    progress: bool = True,
    restart: bool = False,
    stdin: BinaryIO | None = None,
) -> Summary:
    """Embed the proteins of one or more files into one file.

    An interrupted run is continued by the same call. If the output is there already, made from the same input
    with the same settings, nothing is done.

    Args:
        inputs: FASTA, CSV, TSV or Parquet files, plain or compressed; ``"-"`` is standard input. Also data frames
            (pandas, polars, pyarrow) and Biopython's ``SeqRecord``, one or many.
        output: a file that ends in ``.h5``, ``.parquet``, ``.npz`` or ``.h5ad`` (their layouts:
            :func:`limbeck.embedding.stores.write_table`), or a binary stream, which needs ``format`` and
            cannot be resumed. By default the input's name with ``.h5``, in the working directory.
        encoder: an encoder, or a name or path for :func:`limbeck.load`; ``None`` is the default model.
        per_residue: store one vector for each residue, (length, dimension), not one for each protein.
        dtype: ``"float16"`` halves the file, at a relative error of at most 2**-11.
        duplicate_ids: an id that occurs again is an ``"error"``, or with ``"suffix"`` becomes ``id_2``, ...
        skip_invalid: pass over records that cannot be used and list them in ``<output>.skipped.tsv``.
        sequence_column: of a table; found by its name if not given.
        id_column: of a table; found by its name if not given.
        input_format: ``"fasta"``, ``"csv"``, ``"tsv"`` or ``"parquet"``; by default told by each file.
        format: ``"h5"``, ``"parquet"``, ``"npz"`` or ``"h5ad"``; by default told by the output's ending.
        layer: for :func:`limbeck.load`; this and the next five don't go with an encoder that is loaded.
        dimension: see ``layer``.
        pooling: see ``layer``.
        precision: see ``layer``.
        device: see ``layer``.
        threads: see ``layer``.
        batch_tokens: most tokens in a batch; by default what suits the encoder and the memory.
        memory: the most that the program should take, like ``"4G"`` or in bytes. It bounds the batches.
        shard: ``"2/8"`` computes the second of eight parts of the input only, about equal in residues; each needs an
            output of its own, and :func:`limbeck.merge` joins them.
        progress: show progress on standard error.
        restart: throw away an unfinished run or a finished output of this name, and begin anew.
        stdin: what ``"-"`` reads, if not standard input.

    Raises:
        InputError: if an input, an option, the output or an unfinished run cannot be used. Nothing is
            written then.
    """
    if dtype not in ("float32", "float16"):
        raise InputError(f"unknown dtype {dtype!r}; choose float32 or float16")
    if duplicate_ids not in ("error", "suffix"):
        raise InputError(f"unknown rule {duplicate_ids!r} for duplicate ids; choose error or suffix")
    part = None if shard is None else Shard.parse(shard)
    single = isinstance(inputs, (str, os.PathLike)) or is_frame(inputs) or is_record(inputs)
    paths: list[Input] = [inputs] if single else list(inputs)  # type: ignore[arg-type, list-item]
    with timed() as stages, _target(paths, output, format) as target:
        if per_residue and target.format == "h5ad":
            raise InputError("AnnData holds one vector for each protein; with --per-residue write h5, parquet or npz")
        with stage("loading"):
            model = _model(encoder, layer, dimension, pooling, precision, device, threads, per_residue)
        job = _Job(target, model, dtype, per_residue, duplicate_ids, skip_invalid, part, progress, restart)
        columns = {"sequence_column": sequence_column, "id_column": id_column, "input_format": input_format}
        with _plain_errors(target), Partial(target.partial) as partial:
            source = Source(paths, partial.scratch, **columns, stdin=stdin)
            summary = _run(job, source, partial, batch_tokens, memory)
    return replace(summary, stages=stages, seconds=sum(stages.values()))


@dataclass(frozen=True)
class _Target:
    """Where the table goes; ``name`` is for the user, ``path`` for the program."""

    path: Path
    name: str
    format: str
    skipped: Path
    """The list of records that were passed over."""

    @property
    def partial(self) -> Path:
        return self.path.with_name(self.path.name + ".partial")


@dataclass(frozen=True)
class _Job:
    target: _Target
    encoder: Encoder
    dtype: str
    per_residue: bool
    duplicate_ids: str
    skip_invalid: bool
    shard: Shard | None
    progress: bool
    restart: bool

    def settings(self, input_hash: str) -> dict[str, str]:
        """All that determines the table; stored with it."""
        settings = settings_of(self.encoder, per_residue=self.per_residue, dtype=self.dtype)
        return settings | {"input_sha256": input_hash}


@contextmanager
def _target(
    inputs: Sequence[Input],
    output: str | os.PathLike[str] | BinaryIO | None,
    format: str | None,
) -> Iterator[_Target]:
    if output is None:
        if len(inputs) != 1 or inputs[0] == "-" or not isinstance(inputs[0], (str, os.PathLike)):
            raise InputError("name the output with -o; only a single input file names it by itself")
        output = f"{stem(inputs[0])}.{format or 'h5'}"
    if isinstance(output, (str, os.PathLike)):
        path = Path(output)
        if path.is_dir():
            raise InputError(f"{str(path)!r} is a folder; name a file in it")
        if path.exists() and not path.is_file():
            # Reading it, to see whether the run is done, could wait for ever; and a device is not to be replaced.
            raise InputError(f"{str(path)!r} is a device or a pipe; name a file, or - for standard output")
        if not path.parent.is_dir():
            raise InputError(f"the output's folder {str(path.parent)!r} does not exist; create it first")
        skipped = path.with_name(path.name + ".skipped.tsv")
        yield _Target(path, str(path), format_of(path, format), skipped)
        return
    if format is None:
        raise InputError("a stream as output needs a format; name h5, parquet, npz or h5ad with --format")
    with tempfile.TemporaryDirectory(prefix="limbeck-") as folder:
        path = Path(folder, f"embeddings.{format_of('', format)}")
        yield _Target(path, "standard output", format, Path("limbeck.skipped.tsv"))
        with path.open("rb") as file:
            shutil.copyfileobj(file, output)
        output.flush()


def _model(
    encoder: str | os.PathLike[str] | Encoder | None,
    layer: int | str | Sequence[int] | None,
    dimension: int | None,
    pooling: str | None,
    precision: str,
    device: str,
    threads: int | None,
    per_residue: bool,
) -> Encoder:
    if encoder is None or isinstance(encoder, (str, os.PathLike)):
        model = load(
            encoder,
            layer=layer,
            dimension=dimension,
            pooling=pooling,
            precision=precision,
            device=device,
            threads=threads,
        )
    elif (layer, dimension, pooling, precision, device, threads) == (None, None, None, "auto", "auto", None):
        model = encoder
    else:
        raise TypeError(
            "layer, dimension, pooling, precision, device and threads go with the name of an encoder, "
            "not with a loaded one"
        )
    if per_residue:
        # An encoder without features of residues says so now, not after a long scan.
        model.encode_residues(["A"])
    return model


@contextmanager
def _plain_errors(target: _Target) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, sqlite3.OperationalError) as error:
        # HDF5 raises any of the first three; it, NumPy and SQLite tell the system's error in words only.
        told = any(words in str(error) for words in ("No space left", "Not enough free space", "disk is full"))
        if told or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"the disk of {target.name} is full; make room and repeat the command, which resumes"
            ) from error
        if isinstance(error, OSError):
            what = error.strerror or str(error).splitlines()[0]
        elif isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_IOERR:
            what = str(error)
        else:
            raise
        raise InputError(f"{target.name}: {what}; put that right and repeat the command, which resumes") from error


@dataclass
class _Counts:
    letters: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    renamed: int = 0
    resumed: int = 0
    computed: int = 0
    tokens: int = 0
    seconds: float = 0.0


def _run(job: _Job, source: Source, partial: Partial, batch_tokens: int | None, memory: str | int | None) -> Summary:
    counts = _Counts()
    with Index(partial.scratch) as index:
        with stage("reading"):
            _scan(job, source, index, partial.scratch / "skipped", counts)
        settings = job.settings(index.fingerprint)
        if job.shard:
            settings |= job.shard.cut(index)
        manifest = None if job.restart else partial.manifest()
        finished = not job.restart and _is_finished(job.target, settings, manifest)
        if not finished:
            limits = _limits(job, partial, index, settings, manifest, batch_tokens, memory)
            table = _compute(job, source, index, partial, limits, counts, settings)
            with stage("writing"):
                _assemble(job, table, partial, counts)
        partial.clear()
        return _summary(job, index, counts, finished)


def _scan(job: _Job, source: Source, index: Index, skipped: Path, counts: _Counts) -> None:
    """Read and check everything once."""
    with (
        skipped.open("w", encoding="utf-8") as file,
        Progress("reading", "proteins", None, job.progress) as bar,
    ):
        file.write("file\tplace\tid\treason\n")

        def note(error: InvalidRecord) -> None:
            counts.skipped += 1
            fields = (error.record.source, error.place, error.record.id, error.problem)
            file.write("\t".join(" ".join(text.split()) for text in fields) + "\n")

        for record, sequence in source.proteins(counts.letters, note if job.skip_invalid else None):
            index.add(record.id, sequence)
            bar.update(1)
    if not index.proteins:
        raise InputError(f"none of {counts.skipped:,} records can be used; drop --skip-invalid to see why")
    index.finish()
    if job.duplicate_ids == "suffix":
        counts.renamed = index.rename_repeated_ids()
    elif repeated := index.first_repeated_id():
        raise _repeated_id(job, source, *repeated)


def _repeated_id(job: _Job, source: Source, earlier: int, later: int) -> InputError:
    proteins = source.proteins(on_invalid=(lambda error: None) if job.skip_invalid else None)
    places = {}
    for row, (record, _) in enumerate(proteins):
        if row in (earlier, later):
            places[row] = source.place(record)
        if row == later:
            break
    return InputError(
        f"{places[later]}: id {record.id!r} occurs before, in {places[earlier]}; "
        "make ids unique or use --duplicate-ids suffix"
    )


def _is_finished(target: _Target, settings: dict[str, str], manifest: dict[str, Any] | None) -> bool:
    """Whether the output is there, from these very settings.

    Raises:
        InputError: if something else is there, unless the unfinished run was told to replace it.
    """
    if not target.path.exists():
        return False
    try:
        found = read_metadata(target.path) if detect_format(target.path) == target.format else {}
    except InputError:
        found = {}
    if found == settings:
        return True
    if manifest and manifest["replaces_output"] and not differences(manifest["settings"], settings):
        return False
    made = f", made with another {differences(found, settings)}" if "encoder_fingerprint" in found else ""
    raise InputError(f"{target.name} exists already{made}; choose another output, or give --restart to replace it")


def _limits(
    job: _Job,
    partial: Partial,
    index: Index,
    settings: dict[str, str],
    manifest: dict[str, Any] | None,
    batch_tokens: int | None,
    memory: str | int | None,
) -> Limits:
    """The recorded limits of the unfinished run, or new ones once a new run is begun."""
    if manifest is None:
        budget = token_budget(job.encoder, batch_tokens, memory)
        limits = Limits.choose(job.encoder, budget, job.per_residue)
        _check_space(job, partial, index)
        replaces = job.target.path.exists()
        partial.begin({"settings": settings, "limits": limits.as_dict(), "replaces_output": replaces})
        return limits
    limits = Limits(**manifest["limits"])
    changed = differences(manifest["settings"], settings)
    if not changed and batch_tokens not in (None, limits.token_budget):
        changed = f"batch size ({limits.token_budget} tokens there, {batch_tokens} now)"
    if changed:
        raise InputError(
            f"{partial.folder} holds an unfinished run with another {changed}; "
            "go on with its own command, or give --restart to begin anew"
        )
    _check_space(job, partial, index)
    return limits


def _check_space(job: _Job, partial: Partial, index: Index) -> None:
    computed, all_vectors = (
        (index.computed_residues, index.residues)
        if job.per_residue
        else (index.proteins - index.duplicates, index.proteins)
    )
    width, itemsize = job.encoder.dimension, np.dtype(job.dtype).itemsize
    pieces = max(0, computed * width * itemsize - partial.size())
    needed = pieces + size_on_disk(index.proteins, all_vectors, width, itemsize, job.target.format)
    free = shutil.disk_usage(partial.folder).free
    if needed > free:
        advice = "" if job.dtype == "float16" else ", or use --dtype float16"
        raise InputError(
            f"the disk of {job.target.name} has {size_told(free)} free, and the run needs about "
            f"{size_told(needed)} (results in the making and the final file); make room{advice}"
        )


def _compute(
    job: _Job,
    source: Source,
    index: Index,
    partial: Partial,
    limits: Limits,
    counts: _Counts,
    settings: dict[str, str],
) -> _PiecedTable:
    """Compute all the pieces that are not there yet."""
    reserve(partial.scratch / "places", index.proteins * np.dtype(np.int64).itemsize)
    places = np.memmap(partial.scratch / "places", dtype=np.int64, mode="r+")
    starts: list[int] = []
    done = 0
    proteins = _unchanged(job, source, index)
    dtype, width = np.dtype(job.dtype), job.encoder.dimension
    with (
        _budget(job.encoder, limits.token_budget),
        Progress("embedding", "residues", index.computed_residues, job.progress) as bar,
    ):
        for chunk in chunks(index.lengths, index.firsts, places, limits, job.per_residue):
            missing = []
            for piece in chunk.pieces:
                starts.append(piece.start)
                if partial.has_piece(piece.number, (piece.vectors, width), dtype):
                    done += len(piece.rows)
                    counts.resumed += piece.residues
                    bar.skip(piece.residues)
                else:
                    missing.append(piece)
            wanted = {row for piece in missing for row in piece.rows.tolist()}
            with stage("reading"):
                sequences = {
                    row: sequence
                    for row, sequence in zip(range(chunk.start, chunk.stop), proteins, strict=False)
                    if row in wanted
                }
            bar.note(_proteins(done, index))
            for piece in missing:
                texts = [sequences[row] for row in piece.rows.tolist()]
                with stage("encoding"):
                    vectors = _encode(job, index, piece, texts, counts, bar, done)
                with stage("writing"):
                    partial.save_piece(piece.number, vectors)
                done += len(piece.rows)
    # Reads on to the end (of the part), so that a file which has grown is noticed too.
    with stage("reading"):
        for _ in proteins:
            pass
    return _PiecedTable(job, index, partial, settings, places, np.array(starts))


def _unchanged(job: _Job, source: Source, index: Index) -> Iterator[str]:
    """The sequences once more, each checked to be what the scan has seen."""
    proteins = source.proteins(on_invalid=(lambda error: None) if job.skip_invalid else None)
    for found, expected in zip_longest(islice(proteins, index.start, index.stop), index.originals()):
        if not found or (found[0].id, sequence_digest(found[1])) != expected:
            raise InputError("the input changed while it was read; run again")
        yield found[1]


@contextmanager
def _budget(encoder: Encoder, tokens: int) -> Iterator[None]:
    before = encoder.token_budget
    encoder.token_budget = tokens
    try:
        yield
    finally:
        encoder.token_budget = before


def _proteins(done: int, index: Index) -> str:
    return f"{done:,} of {index.proteins - index.duplicates:,} proteins"


def _encode(
    job: _Job,
    index: Index,
    piece: Piece,
    sequences: list[str],
    counts: _Counts,
    bar: Progress,
    before: int,
) -> NDArray[np.floating]:
    """Vectors of one piece, (vectors, dimension) in the dtype of the table.

    Args:
        before: proteins of the pieces before it.
    """
    # A piece has its longest protein first, and so do the batches of encoders: after so many residues so many proteins
    # are whole. One that takes another order has finished no fewer.
    ends = np.cumsum(index.lengths[piece.rows], dtype=np.int64)
    computed = 0

    def on_batch(residues: int, tokens: int) -> None:
        nonlocal computed
        computed += residues
        counts.computed += residues
        counts.tokens += tokens
        bar.note(_proteins(before + int(np.searchsorted(ends, computed, side="right")), index))
        bar.update(residues)

    started = time.monotonic()
    vectors = vectors_of(
        job.encoder, sequences, job.dtype, job.per_residue, lambda place: index.id(int(piece.rows[place])), on_batch
    )
    counts.seconds += time.monotonic() - started
    return vectors


class _PiecedTable:
    """The table as :mod:`limbeck.embedding.stores` wants it, read from the pieces."""

    def __init__(
        self,
        job: _Job,
        index: Index,
        partial: Partial,
        metadata: Mapping[str, str],
        places: NDArray[np.int64],
        starts: NDArray[np.int64],
    ) -> None:
        self.dimension = job.encoder.dimension
        self.dtype = job.dtype
        self.per_residue = job.per_residue
        self.metadata = metadata
        self.lengths = index.lengths
        self.ids = index.ids
        self._places = places
        self._starts = starts
        self._piece = lru_cache(maxsize=OPEN_PIECES)(partial.open_piece)

    def vectors(self, start: int, stop: int) -> NDArray[np.floating]:
        places = self._places[start:stop]
        pieces = np.searchsorted(self._starts, places, side="right") - 1
        places = places - self._starts[pieces]
        if self.per_residue:
            parts = zip(pieces.tolist(), places.tolist(), self.lengths[start:stop].tolist(), strict=True)
            return np.concatenate([self._piece(piece)[place : place + size] for piece, place, size in parts])
        result = np.empty((stop - start, self.dimension), dtype=self.dtype)
        for piece in np.unique(pieces).tolist():
            rows = pieces == piece
            result[rows] = self._piece(piece)[places[rows]]
        return result


def _assemble(job: _Job, table: _PiecedTable, partial: Partial, counts: _Counts) -> None:
    """Write the table beside its final place, then move it there."""
    temporary = partial.scratch / "table"
    with Progress("writing", "proteins", len(table.lengths), job.progress) as bar:
        write_table(table, temporary, job.target.format, bar.update)
    if counts.skipped:
        shutil.move(partial.scratch / "skipped", job.target.skipped)
    replace_durably(temporary, job.target.path)


def _summary(job: _Job, index: Index, counts: _Counts, finished: bool) -> Summary:
    window = job.encoder.max_length
    return Summary(
        output=job.target.name,
        encoder=job.encoder.name,
        dimension=job.encoder.dimension,
        per_residue=job.per_residue,
        proteins=index.proteins,
        residues=index.residues,
        seconds=0.0,
        residues_per_second=counts.computed / counts.seconds if counts.seconds else 0.0,
        padding=1 - counts.computed / counts.tokens if counts.tokens else 0.0,
        windowed=int(np.count_nonzero(index.lengths > window)) if window else 0,
        duplicates=index.duplicates,
        renamed=counts.renamed,
        skipped=counts.skipped,
        skipped_list=str(job.target.skipped),
        letters=dict(counts.letters),
        resumed=counts.resumed,
        computed=counts.computed,
        nothing_to_do=finished,
        peak_memory=peak_memory(),
        shard=str(job.shard or ""),
    )


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
