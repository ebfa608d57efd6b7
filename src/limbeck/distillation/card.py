"""The model card of a student, and under which licence a student may go given its teachers'."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from limbeck.distillation.config import StudentConfig, TrainingConfig
from limbeck.distillation.corpus import Corpus
from limbeck.encoders.student import expected_shapes
from limbeck.errors import InputError
from limbeck.version import __version__

__all__ = ["Budget", "Teacher", "licence_of", "model_card", "with_stated_licences"]

UNKNOWN = "unknown"
_MISSING = {"", UNKNOWN, "none", "noassertion", "see its file"}
_PERMISSIVE = {
    "0bsd", "afl-3.0", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "cc-by-3.0", "cc-by-4.0", "cc0-1.0",
    "isc", "mit", "mit-0", "ncsa", "odc-by-1.0", "unlicense", "zlib",
}  # fmt: skip
_SHARE_ALIKE = re.compile(r"(a|l)?gpl-|mpl-|epl-|eupl-|osl-|cc-by(-nc)?-sa-")
_HUB_LICENCES = {
    "afl-3.0", "agpl-3.0", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "cc-by-3.0", "cc-by-4.0",
    "cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-4.0", "cc0-1.0", "gpl-2.0",
    "gpl-3.0", "isc", "lgpl-2.1", "lgpl-3.0", "mit", "mpl-2.0", "ncsa", "osl-3.0", "unknown", "unlicense", "zlib",
}  # fmt: skip
"""Those of the model hub's own list that a teacher is likely to have; it spells GPL-3.0-only as gpl-3.0."""


class Teacher(NamedTuple):
    """What a card says of a teacher."""

    name: str
    license: str
    """SPDX identifier of its licence note, or ``"unknown"`` where it has none."""
    fingerprint: str = ""
    """SHA-256 (hex) over all that determines its features."""
    stated_by_user: bool = False
    """Whether the licence is what the user said, for want of a note."""


class Budget(NamedTuple):
    """What a training run cost."""

    residues: int
    """Seen, repetitions counted."""
    hours: float
    """Of wall-clock time."""
    machine: str
    """In words."""
    operations: float | None = None
    """Floating point operations."""


def licence_of(teachers: Iterable[Teacher], wanted: str | None) -> str:
    """The licence that a student may be labelled with; ``docs/student-folder.md`` states the rule.

    limbeck gives no licence that nobody asked for, and no one that a teacher's note speaks against. Whether a student
    is bound by its teachers' licences at all is for a lawyer to say; a label that drops their terms should not be
    one option away.

    Args:
        teachers: with their licence notes.
        wanted: SPDX identifier; ``None`` and ``"unknown"`` grant nothing and are always possible.

    Returns:
        ``wanted``, or ``"unknown"``.

    Raises:
        InputError: if a licence is wanted while a teacher has no licence note, or one whose terms it would drop.
    """
    if wanted is None or _plain(wanted) in _MISSING:
        return UNKNOWN
    for teacher in teachers:
        if refusal := _refusal(teacher, _plain(wanted)):
            raise InputError(f"a student of {teacher.name} cannot be labelled {wanted}: {refusal}")
    return wanted


def _refusal(teacher: Teacher, wanted: str) -> str | None:
    """Why ``wanted`` drops the teacher's terms and what to do, or ``None``."""
    licence, terms = _plain(teacher.license), terms_of(teacher.license)
    leave_out = "leave --license out"
    if terms == "missing":
        return f"it has no licence note; state its licence with --teacher-license '{teacher.name}=ID', or {leave_out}"
    if terms == "no derivatives":
        return f"its licence, {teacher.license}, permits no derivatives; {leave_out}"
    fits = terms == "permissive" or wanted == licence
    if terms == "non-commercial":
        # A narrower non-commercial licence keeps the term; one that forbids derivatives does too.
        fits = fits or "-nc" in wanted
    return None if fits else f"its licence, {teacher.license}, is {_WORDS[terms]}; use --license {teacher.license}"


_WORDS = {
    "non-commercial": "for non-commercial use",
    "share-alike": "passed on to what is made from it",
    "unrecognised": "none whose terms limbeck knows",
}


def terms_of(licence: str) -> str:
    """What kind of terms a licence has: ``"permissive"``, ``"share-alike"``, ``"non-commercial"``,
    ``"no derivatives"``, ``"missing"``, or ``"unrecognised"``; share-alike non-commercial ones are share-alike."""
    plain = _plain(licence)
    if plain in _MISSING:
        return "missing"
    if plain in _PERMISSIVE:
        return "permissive"
    if "-nd-" in plain:
        return "no derivatives"
    if _SHARE_ALIKE.match(plain):
        return "share-alike"
    return "non-commercial" if "-nc-" in plain else "unrecognised"


def _plain(licence: str) -> str:
    """Lower case, without the suffix by which SPDX tells versions of the GNU licences apart."""
    return re.sub(r"-(only|or-later)$", "", licence.strip().lower())


def with_stated_licences(teachers: Sequence[Teacher], stated: Iterable[str]) -> list[Teacher]:
    """Fill in licences that the user knows for teachers without a licence note.

    Args:
        teachers: as they describe themselves.
        stated: ``NAME=LICENCE`` each.

    Raises:
        InputError: if an entry has another form, names no teacher, or speaks against a teacher's own note.
    """
    result = {teacher.name: teacher for teacher in teachers}
    for entry in stated:
        name, equals, licence = entry.rpartition("=")
        if not equals or not name or not licence:
            raise InputError(f"--teacher-license takes NAME=LICENCE, not {entry!r}")
        if name not in result:
            raise InputError(f"--teacher-license names {name!r}, which is no teacher of this run; check the name")
        own = result[name].license
        if _plain(own) not in _MISSING and _plain(own) != _plain(licence):
            raise InputError(f"teacher {name} itself states {own}, not {licence}; leave --teacher-license out")
        if _plain(own) in _MISSING:
            result[name] = result[name]._replace(license=licence, stated_by_user=True)
    return list(result.values())


def model_card(
    name: str,
    license: str,
    corpus: Corpus,
    corpus_name: str,
    teachers: Sequence[Teacher],
    config: TrainingConfig,
    validation: Mapping[str, float],
    *,
    pooling: str = "combined",
    nested: Sequence[int] = (),
    objectives: Sequence[str] = (),
    budget: Budget | None = None,
    scores: Mapping[str, float] | None = None,
    held_out: str = "whole families",
) -> str:
    """Markdown with the metadata block that model hubs read; it states only what it is given.

    Args:
        name: of the student.
        license: what :func:`licence_of` returned.
        corpus: what it was trained on.
        corpus_name: of the corpus's file.
        teachers: in the order given.
        config: options of the run.
        validation: losses on held-out families, by name.
        pooling: ``"combined"`` or ``"mean"``.
        nested: as ``config.json`` states them, see :func:`limbeck.distillation.export.nested_dimensions`.
        objectives: names of the losses that were trained; by default those of ``validation``.
        budget: what the run cost.
        scores: of a benchmark, by name.
        held_out: what was kept for validation, in words.
    """
    shape = config.student
    sections = [
        _front_matter(license),
        f"# {name}\n\nA small protein encoder, made with limbeck {__version__}: sequences in, vectors out.",
        _table(("", ""), _facts(shape, pooling, license, corpus, corpus_name, config, budget, held_out)),
        _loading(shape.width, nested),
        "## Training\n\nObjectives: " + (", ".join(objectives or validation) or "none recorded") + ".",
        "## Teachers\n\n" + _teachers(teachers) + "\n\n" + _licence_note(teachers, license),
        f"## Losses on what was held out, {held_out}\n\n" + _numbers("objective", validation),
        "## Scores\n\n" + (_numbers("benchmark", scores) if scores else "The run measured none."),
        _limits(shape, corpus, pooling),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(license: str) -> str:
    plain = _plain(license)
    if plain in _MISSING:
        lines = ["license: unknown"]
    elif plain in _HUB_LICENCES:
        lines = [f"license: {plain}"]
    else:
        lines = ["license: other", f"license_name: {re.sub('[^a-z0-9.-]+', '-', plain)}"]
    tags = "tags: [limbeck, protein, biology, distillation, custom_code, sentence-transformers]"
    return "\n".join(["---", "library_name: transformers", "pipeline_tag: feature-extraction", *lines, tags, "---"])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _cell(text: str) -> str:
    """One line, without what would end the cell."""
    return " ".join(text.split()).replace("|", "\\|")


def _facts(
    shape: StudentConfig,
    pooling: str,
    license: str,
    corpus: Corpus,
    corpus_name: str,
    config: TrainingConfig,
    budget: Budget | None,
    held_out: str,
) -> list[tuple[str, str]]:
    numbers = sum(int(np.prod(s)) for s in expected_shapes(shape.as_dict()).values())
    dilations = ", ".join(map(str, shape.dilations))
    combined = (
        f"pooled from {shape.states:,} sequence contexts, the residue vectors, over the protein and at its ends, "
        "residues and pairs of them, and the length"
    )
    how = combined if pooling == "combined" else "the mean of the residue vectors"
    facts = [
        ("network", f"{len(shape.dilations)} convolution blocks, width {shape.width}, kernel {shape.kernel}, "
                    f"dilations {dilations}"),
        ("parameters", f"{numbers:,}, stored in float16"),
        ("receptive field", f"{shape.radius} residues on either side"),
        ("protein vector", f"{shape.width} numbers, {how}"),
        ("licence", license),
        ("corpus", f"`{corpus_name}`: {len(corpus):,} proteins, {int(corpus.offsets[-1]):,} residues"),
        ("SHA-256 of its sequences", corpus.fingerprint),
        ("held out", f"{int(corpus.is_validation.sum()):,} proteins, {held_out}"),
        ("seed", str(config.seed)),
    ]  # fmt: skip
    if budget is None:
        return facts
    facts += [
        ("residues seen", f"{budget.residues:,}"),
        ("time", f"{budget.hours:.2g} hours on {budget.machine}"),
    ]
    return facts if budget.operations is None else [*facts, ("floating point operations", f"{budget.operations:.3g}")]


def _loading(width: int, nested: Sequence[int]) -> str:
    smaller = [d for d in nested if d < width]
    vectors = "Use the vectors whole: no prefix of them is promised to serve alone."
    if smaller:
        first = smaller[0]
        vectors = (
            f"The first {_words(smaller)} numbers of a protein vector serve alone: "
            f"`SentenceTransformer(..., truncate_dim={first})`, or `vectors[:, :{first}]` anywhere. "
            "Residue vectors have no such order."
        )
    return f"""## Use

```python
import limbeck

vectors = limbeck.load("folder").encode(["MKTAYIAKQR"])  # (1, {width}); needs no PyTorch
```

```python
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("folder", trust_remote_code=True)
model = AutoModel.from_pretrained("folder", trust_remote_code=True)
output = model(**tokenizer(["MKTAYIAKQR", "GSHMLEDP"], padding=True, return_tensors="pt"))
output.pooler_output, output.last_hidden_state  # protein vectors, residue vectors
```

```python
from sentence_transformers import SentenceTransformer

vectors = SentenceTransformer("folder", trust_remote_code=True).encode(["MKTAYIAKQR"])
```

`trust_remote_code` runs `modeling_limbeck.py` of this folder, the network in PyTorch. {vectors}"""


def _words(numbers: Sequence[int]) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} or {last}" if most else last


def _teachers(teachers: Sequence[Teacher]) -> str:
    if not teachers:
        return "None: pretrained from scratch, by naming hidden residues."
    rows = [
        (t.name, ("none stated" if terms_of(t.license) == "missing" else t.license)
                 + (" (as the user states)" if t.stated_by_user else ""), t.fingerprint or "not recorded")
        for t in teachers
    ]  # fmt: skip
    return _table(("teacher", "licence", "SHA-256"), rows)


def _licence_note(teachers: Sequence[Teacher], license: str) -> str:
    """What a reader must know of the teachers' terms, in sentences."""
    notes = []
    for teacher in teachers:
        terms = terms_of(teacher.license)
        if terms == "missing":
            notes.append(f"{teacher.name} has no licence note: find out what it permits before you pass this model on.")
        elif terms == "no derivatives":
            notes.append(f"{teacher.name} ({teacher.license}) permits no derivatives.")
        elif terms != "permissive":
            notes.append(f"{teacher.name} ({teacher.license}): its licence is {_WORDS[terms]}.")
    if terms_of(license) == "missing":
        notes.append("Nobody has put this model under a licence, so nobody is granted any use of it beyond the law's.")
    notes.append("The licence of the training proteins is not recorded here.")
    return " ".join(notes)


def _numbers(what: str, values: Mapping[str, float]) -> str:
    return _table((what, "value"), [(key, f"{value:.4f}") for key, value in values.items()]) if values else "None."


def _limits(shape: StudentConfig, corpus: Corpus, pooling: str) -> str:
    low, high = int(corpus.lengths.min()), int(corpus.lengths.max())
    limits = [
        f"A residue vector knows nothing of residues more than {shape.radius} positions away.",
        f"The corpus has proteins of {low:,} to {high:,} residues; what is unlike them was never seen.",
        "A vector describes the sequence as it is given, tags and signal peptides included.",
    ]
    if pooling == "combined":
        limits.append("Protein vectors are pooled contexts and more, not means of the residue vectors.")
        limits.append("They tell how long a protein is, and what stands at its ends: give it whole.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)
