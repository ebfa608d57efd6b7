"""The files that fuzzing kept, each for a way through a reader that no other takes; ``fuzz/readers.py`` finds more."""

from pathlib import Path

import pytest

from fuzz.readers import READERS, read

CORPUS = Path(__file__).parent / "fuzz" / "corpus"


@pytest.mark.parametrize("reader", READERS)
def test_kept_files_give_records_or_one_line(reader: str, tmp_path: Path) -> None:
    kept = sorted((CORPUS / reader).iterdir())
    assert kept
    for file in kept:
        try:
            read(reader, file.read_bytes(), tmp_path)
        except Exception as error:
            error.add_note(str(file))
            raise
