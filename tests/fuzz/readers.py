#!/usr/bin/env python3
"""Fuzzing of the readers: whatever a file's bytes, there are records, or one line that says what is wrong with it.

    pip install atheris
    tests/fuzz/readers.py --reader=fasta FOUND tests/fuzz/corpus/fasta -max_total_time=300 -max_len=600

What goes a new way is written into the folder FOUND, which has to be there; what crashed, into the working directory.
``-set_cover_merge=1 KEPT FOUND`` copies the few files that go all ways. ``test_fuzz.py`` gives the kept ones to the
readers again, without atheris.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

if __name__ == "__main__":
    import atheris

    instrumented = atheris.instrument_imports(include=["limbeck"])
else:
    instrumented = nullcontext()

with instrumented:
    from limbeck.errors import InputError
    from limbeck.landscapes.mutations import Misfit, parse_mutations
    from limbeck.landscapes.reading import read_assay
    from limbeck.records import InvalidRecord, Locator, clean_record, read_records


def records(path: Path, format: str) -> None:
    locator = Locator(path, format)
    for record in read_records(path, format=format):
        try:
            sequence = clean_record(record, locator)
        except InvalidRecord as error:
            one_line(error)
        else:
            assert sequence
            assert record.id


def assay(path: Path) -> None:
    variants = read_assay(path, input_format="csv", skip_invalid=True)
    assert len(variants) >= 10


def mutations(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "replace")
    try:
        parse_mutations(text)
    except Misfit as error:
        one_line(error)


def one_line(error: Exception) -> None:
    assert "\n" not in str(error), f"more than a line: {error!r}"
    assert str(error)


READERS = {
    "fasta": lambda path: records(path, "fasta"),
    "csv": lambda path: records(path, "csv"),
    "parquet": lambda path: records(path, "parquet"),
    "assay": assay,
    "mutations": mutations,
}


def read(reader: str, data: bytes, folder: Path) -> None:
    """Give a file of these bytes to a reader; raises whatever no user should see."""
    path = folder / "file"
    path.write_bytes(data)
    try:
        READERS[reader](path)
    except InputError as error:
        one_line(error)


if __name__ == "__main__":
    # libFuzzer passes over such options, and hands them on where it starts itself.
    (name,) = (word.removeprefix("--reader=") for word in sys.argv if word.startswith("--reader="))
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as scratch:
        atheris.Setup(sys.argv, lambda data: read(name, data, Path(scratch)))
        atheris.Fuzz()
