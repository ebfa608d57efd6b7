"""Reading records: what comes back is what was written, and what cannot be used is named in one line."""

import bz2
import gzip
import lzma
import os
import re
import string
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck import records
from limbeck.errors import InputError
from limbeck.records import (
    InvalidRecord,
    Locator,
    Record,
    bad_record,
    clean_record,
    format_of,
    line_of,
    read_records,
)
from malformed.cases import CASES, Case, zstd

COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd.compress,
}
PROTEINS = [("P1", "first protein", "MKTAYIAKQRQISFVKSHFSRQ"), ("P2", "", "ACD"), ("P3", "β", "W" * 200)]


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def fasta(proteins: list[tuple[str, str, str]], wrap: int = 60, end: str = "\n") -> str:
    lines = []
    for id, description, sequence in proteins:
        lines.append(f">{id} {description}".rstrip())
        lines += [sequence[i : i + wrap] for i in range(0, len(sequence), wrap)]
    return end.join(lines) + end


def table(path: Path, **options: str) -> list[tuple[str, str]]:
    return [(record.id, record.text) for record in read_records(path, **options)]


def everything(path: Path) -> list[tuple[str, str, str]]:
    return [(record.id, record.description, record.text) for record in read_records(path)]


# FASTA


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("wrap", [1, 60, 1000])
def test_fasta_reads_back(tmp_path: Path, ending: str, end: str, wrap: int) -> None:
    path = write(tmp_path / f"p.fasta{ending}", COMPRESS[ending](fasta(PROTEINS, wrap, end).encode()))
    assert everything(path) == PROTEINS


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("name", ["p", "p.fasta", "p.fasta.gz", "p.fa.zst"])
def test_compression_is_told_by_content(tmp_path: Path, ending: str, name: str) -> None:
    path = write(tmp_path / name, COMPRESS[ending](fasta(PROTEINS).encode()))
    assert everything(path) == PROTEINS


@pytest.mark.parametrize("ending", COMPRESS)
def test_joined_compressed_files_are_read_to_the_end(tmp_path: Path, ending: str) -> None:
    parts = [COMPRESS[ending](fasta([protein]).encode()) for protein in PROTEINS]
    assert everything(write(tmp_path / f"p.fasta{ending}", b"".join(parts))) == PROTEINS


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    proteins=st.lists(
        st.tuples(
            st.text(string.ascii_letters + string.digits + "_.:/|-", min_size=1, max_size=12),
            st.text(string.ascii_letters, min_size=1, max_size=9),
            st.text(string.ascii_letters + "*-.", min_size=0, max_size=150),
        ),
        min_size=1,
        max_size=8,
    ),
    wrap=st.integers(1, 80),
    end=st.sampled_from(["\n", "\r\n", "\n\n", " \n", "\t\r\n"]),
    mark=st.sampled_from(["", "\ufeff", "\n \n"]),
    ending=st.sampled_from(list(COMPRESS)),
)
def test_any_fasta_reads_back(
    tmp_path: Path, proteins: list[tuple[str, str, str]], wrap: int, end: str, mark: str, ending: str
) -> None:
    proteins = [(f"x|{id}", description, sequence) for id, description, sequence in proteins]
    path = write(tmp_path / "p", COMPRESS[ending]((mark + fasta(proteins, wrap, end)).encode()))
    read = list(read_records(path))
    expected = [id.split("|")[1] if id.count("|") == 2 and id.split("|")[1] else id for id, _, _ in proteins]
    assert [r.id for r in read] == expected
    assert [(r.description, r.text) for r in read] == [p[1:] for p in proteins]
    assert [r.number for r in read] == list(range(1, len(proteins) + 1))


@pytest.mark.parametrize(
    ("header", "id", "description"),
    [
        ("P1", "P1", ""),
        ("P1 a  long description ", "P1", "a  long description"),
        ("P1\ttabbed", "P1", "tabbed"),
        (" P1 space first", "P1", "space first"),
        ("sp|P12345|AATM_RABIT Aspartate", "P12345", "Aspartate"),
        ("tr|A0A0|", "A0A0", ""),
        ("sp||AATM", "sp||AATM", ""),
        ("pdb|1ABC|A", "pdb|1ABC|A", ""),
        ("PDB|1ABC|B", "PDB|1ABC|B", ""),
        ("gi|1|ref|NP_1| old", "gi|1|ref|NP_1|", "old"),
        ("a|b", "a|b", ""),
        ("contig_1 # 2 # 181 # ID=1", "contig_1", "# 2 # 181 # ID=1"),
        ("P/1 β-lactamase", "P/1", "β-lactamase"),
        (">P1", ">P1", ""),
    ],
)
def test_header_gives_id_and_description(tmp_path: Path, header: str, id: str, description: str) -> None:
    (record,) = read_records(write(tmp_path / "p.fasta", f">{header}\nMKT\n"))
    assert (record.id, record.description) == (id, description)


def test_header_is_utf8_whatever_the_locale(tmp_path: Path) -> None:
    path = write(tmp_path / "p.fasta", ">β1\nMKT\n")
    program = "import sys, limbeck.records as r; print(ascii(next(r.read_records(sys.argv[1])).id))"
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = os.environ | ascii_locale | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program, path], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (ascii("β1") + "\n", "")


def test_white_space_in_a_sequence_is_layout(tmp_path: Path) -> None:
    path = write(tmp_path / "p.fasta", ">P1\n  MK T\tA\v\n\n\u00a0YI A\n")
    assert [r.text for r in read_records(path)] == ["MKTAYIA"]


def test_record_longer_than_a_block_reads_back(tmp_path: Path) -> None:
    long = "ACDEFGHIKLMNPQRSTVWY" * 40_000
    proteins = [("P1", "", long), ("P2", "", "MKT"), ("P3", "", long)]
    for wrap in (61, len(long)):
        assert everything(write(tmp_path / "p.fasta", fasta(proteins, wrap, "\r\n"))) == proteins


@pytest.mark.parametrize("wrap", [60, 5000])
def test_endless_record_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrap: int) -> None:
    monkeypatch.setattr(records, "MAX_RECORD", 2000)
    monkeypatch.setattr(records, "_BLOCK", 512)
    fits = write(tmp_path / "fits.fasta", fasta([("P1", "", "M" * 1800)] * 5, wrap))
    assert len(list(read_records(fits))) == 5
    path = write(tmp_path / "p.fasta", fasta([("P1", "", "M" * 1000), ("P2", "", "M" * 5000)], wrap))
    with pytest.raises(InputError, match=r"p\.fasta, line \d+: a record of more than 2,000 characters"):
        list(read_records(path))


def test_endless_cell_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "p.csv", "id,sequence\nP1,MKT\nP2," + "M" * 300_000 + "\n")
    assert table(path)[1] == ("P2", "M" * 300_000)
    monkeypatch.setattr(records, "MAX_RECORD", 200_000)
    with pytest.raises(InputError, match=r"p\.csv, line 3: no well-formed CSV \(field larger than"):
        table(path)


def test_source_is_the_name_the_user_gave(tmp_path: Path) -> None:
    path = write(tmp_path / "spooled", ">P1\nMK1\n")
    (record,) = read_records(path, name="<standard input>")
    assert record.source == "<standard input>"
    with pytest.raises(InvalidRecord, match=r"^<standard input>, line 2, record 'P1': "):
        clean_record(record, Locator(path))
    with pytest.raises(InputError, match=r"^<standard input>: no such file"):
        next(read_records(tmp_path / "absent", name="<standard input>"))


# Tables


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize(("kind", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_table_reads_back(tmp_path: Path, ending: str, kind: str, delimiter: str) -> None:
    rows = [["Entry", "Length", "Sequence"]] + [[p[0], str(len(p[2])), p[2]] for p in PROTEINS]
    text = "\ufeff" + "\r\n\r\n".join(delimiter.join(row) for row in rows)
    content = COMPRESS[ending](text.encode())
    for name in (f"p.{kind}{ending}", "p"):
        assert table(write(tmp_path / name, content)) == [(p[0], p[2]) for p in PROTEINS]


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.text(string.ascii_letters + "é,\"'|/ ", min_size=1, max_size=10).filter(str.strip),
            st.text(string.ascii_letters, min_size=1, max_size=50),
        ),
        min_size=1,
        max_size=6,
    ),
    kind=st.sampled_from(["csv", "tsv", "parquet"]),
    ending=st.sampled_from(list(COMPRESS)),
)
def test_any_table_reads_back(tmp_path: Path, rows: list[tuple[str, str]], kind: str, ending: str) -> None:
    if kind == "parquet":
        path = tmp_path / "p.parquet"
        pq.write_table(pa.table({"id": [r[0] for r in rows], "seq": [r[1] for r in rows]}), path)
    else:
        delimiter = "," if kind == "csv" else "\t"
        quoted = [[cell.replace('"', '""') for cell in row] for row in [("id", "seq"), *rows]]
        text = "\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in quoted)
        path = write(tmp_path / f"p.{kind}{ending}", COMPRESS[ending](text.encode()))
    assert table(path) == [(id.strip(), sequence) for id, sequence in rows]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("columns", "options", "id", "text"),
    [
        (["sequence"], {}, "row-1", "C"),
        (["x", "SEQ", "Accession"], {}, "E", "D"),
        (["name", "protein_id", "aa_sequence"], {}, "D", "E"),
        (["id", "sequence", "mutant"], {"sequence_column": "mutant"}, "C", "E"),
        (["id", "sequence", "key"], {"id_column": "key"}, "E", "D"),
        (["sequence", "seq"], {"sequence_column": "seq"}, "row-1", "D"),
        (["id", "sequence"], {"id_column": "sequence"}, "D", "D"),
    ],
)
def test_columns(tmp_path: Path, kind: str, columns: list[str], options: dict[str, str], id: str, text: str) -> None:
    path = tmp_path / f"p.{kind}"
    row = dict(zip(columns, "CDE", strict=False))
    if kind == "csv":
        write(path, ",".join(row) + "\n" + ",".join(row.values()) + "\n")
    else:
        pq.write_table(pa.table({column: [cell] for column, cell in row.items()}), path)
    assert table(path, **options) == [(id, text)]


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
    ids=str,
)
def test_parquet_text_types(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "p.parquet"
    columns = {"id": pa.array([7, 8]), "sequence": pa.array(["MKT", "ACD"]).cast(kind)}
    pq.write_table(pa.table(columns), path)
    assert table(path) == [("7", "MKT"), ("8", "ACD")]


def test_parquet_is_read_across_batches_and_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "p"
    expected = [(f"P{i}", "ACDEFGHIKL"[: 1 + i % 10]) for i in range(10_000)]
    columns = {"id": [e[0] for e in expected], "sequence": [e[1] for e in expected]}
    pq.write_table(pa.table(columns), path, row_group_size=3000)
    assert table(path) == expected


# Formats


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("p.fasta", "fasta"),
        ("P.FAA.GZ", "fasta"),
        ("p.fa.bz2", "fasta"),
        ("p.fas.xz", "fasta"),
        ("p.fsa.zst", "fasta"),
        ("p.pep", "fasta"),
        ("p.csv", "csv"),
        ("p.fasta.csv.gz", "csv"),
        ("p.TSV", "tsv"),
        ("p.parquet", "parquet"),
    ],
)
def test_format_by_ending(name: str, expected: str) -> None:
    assert format_of(name) == expected


def test_format_option_overrides_the_ending(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", fasta(PROTEINS))
    assert [r.text for r in read_records(path, format="fasta")] == [p[2] for p in PROTEINS]
    assert line_of(path, 2, format="fasta") == 3


# Records that cannot be used, and their lines


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_malformed_input_gets_one_line(tmp_path: Path, case: Case) -> None:
    path = write(tmp_path / case.file, case.content)
    locator = Locator(path, case.options.get("format"))
    with pytest.raises(InputError) as caught:
        [clean_record(record, locator) for record in read_records(path, **case.options)]
    # "." matches no line feed, so this also says that the message is one line.
    expected = re.escape(case.message.format(path)).replace("<detail>", ".+")
    assert re.fullmatch(expected, str(caught.value))
    assert isinstance(caught.value, InvalidRecord) == case.record


@pytest.mark.parametrize("case", [case for case in CASES if case.record], ids=lambda case: case.name)
def test_other_records_of_the_file_can_be_used(tmp_path: Path, case: Case) -> None:
    path = write(tmp_path / case.file, case.content)
    locator = Locator(path)
    read, invalid = list(read_records(path)), 0
    for record in read:
        try:
            clean_record(record, locator)
        except InvalidRecord:
            invalid += 1
    assert invalid == 1


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("fault", ["\0", "#", "\udce9"])
def test_line_of_a_fault_far_into_a_file(tmp_path: Path, end: str, fault: str) -> None:
    lines = [">P", "ACDEFGHIKL"] * 40_000
    lines[65_431] = fault
    path = write(tmp_path / "p.fasta", end.join(lines).encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"p\.fasta, line 65432: "):
        list(read_records(path))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.fasta: no such file; check the path$"):
        next(read_records(tmp_path / "absent.fasta"))


@pytest.mark.parametrize("name", ["folder", "folder.fasta", "folder.parquet"])
def test_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=rf"{name}: is a directory; name the files in it$"):
        next(read_records(tmp_path / name))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_named_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: is no regular file; save its content as one"):
        next(read_records(tmp_path / "pipe"))


def test_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(records, "open", refuse, raising=False)
    with pytest.raises(InputError, match=r"cannot be opened \(Permission denied\); check its permissions$"):
        next(read_records(write(tmp_path / "p.fasta", fasta(PROTEINS))))


def test_clean_record_counts_what_it_changed(tmp_path: Path) -> None:
    path = write(tmp_path / "p.fasta", ">P1\nmKUB\n>P2\nM-K*\n")
    changed: Counter[str] = Counter()
    assert [clean_record(r, Locator(path), changed) for r in read_records(path)] == ["MKCX", "MK"]
    assert changed == {"lower case": 1, "U": 1, "B": 1, "-": 1, "*": 1}


def test_long_id_is_shortened_in_the_message(tmp_path: Path) -> None:
    path = write(tmp_path / "p.fasta", f">{'x' * 1000}\n1\n")
    (record,) = read_records(path)
    with pytest.raises(InvalidRecord, match=r"record 'x{57}\.\.\.': "):
        clean_record(record, Locator(path))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    wraps=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    blank=st.integers(0, 2),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    ending=st.sampled_from(list(COMPRESS)),
    data=st.data(),
)
def test_every_character_is_found_on_its_line(
    tmp_path: Path, wraps: list[int], blank: int, end: str, ending: str, data: st.DataObject
) -> None:
    lines, places = [], []
    for wrap in wraps:
        lines += [""] * blank + [">P"]
        own, start = [], len(lines)
        for i in range(20):
            if i % wrap == 0:
                lines.append("")
            lines[-1] += "A"
            own.append(len(lines))
        places.append((start, own))
    path = write(tmp_path / "p", COMPRESS[ending](end.join(lines).encode()))
    locator = Locator(path)
    for _ in range(5):
        number = data.draw(st.integers(1, len(wraps)))
        offset = data.draw(st.integers(0, 19))
        start, own = places[number - 1]
        assert locator.line(number) == start
        assert locator.line(number, offset) == own[offset]


def test_lines_of_table_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", 'id,seq\n\nP1,MKT\n"P\n2",MKT\n\nP3,MKT\n')
    assert [line_of(path, number) for number in (1, 2, 3)] == [3, 4, 7]


def test_place_names_rows_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"sequence": ["MKT"] * 3}), path)
    assert Locator(path).place(3) == "row 3"


def test_locator_reads_the_file_once_when_asked_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = records._open
    monkeypatch.setattr(records, "_open", lambda path, source: opened.append(path) or real(path, source))
    path = write(tmp_path / "p.fasta", fasta([("P", "", "MKT")] * 100))
    locator = Locator(path)
    assert [locator.line(number) for number in range(1, 101)] == list(range(1, 200, 2))
    assert locator.line(100, 2) == 200
    assert len(opened) == 1


def test_file_that_changed_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "p.fasta", fasta(PROTEINS))
    read = list(read_records(path))
    write(path, fasta(PROTEINS[:1]))
    with pytest.raises(InputError, match=r"p\.fasta: changed while it was read; run again$"):
        Locator(path).line(read[2].number)


def test_bad_record_carries_what_a_list_of_skipped_records_needs(tmp_path: Path) -> None:
    path = write(tmp_path / "p.fasta", fasta(PROTEINS))
    record = Record("p.fasta", 2, "P2", "", "ACD")
    error = bad_record(record, Locator(path), "is odd")
    assert (error.record, error.place, error.problem) == (record, "line 3", "is odd")
    assert str(error) == "p.fasta, line 3, record 'P2': is odd; remove it or use --skip-invalid"
