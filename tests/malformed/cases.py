"""Inputs that cannot be used, and the one line that each gets.

``{}`` in a message stands for the file as the user named it, ``<detail>`` for what another library says.
"""

import bz2
import gzip
import io
import lzma
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

try:
    from compression import zstd
except ImportError:
    from backports import zstd  # what xopen[zstd] installs before Python 3.14

SKIP = "; remove it or use --skip-invalid"
FOREIGN = "; expected FASTA, CSV or TSV as UTF-8 text, or Parquet (--input-format)"
AGAIN = "; get the file again"


@dataclass(frozen=True)
class Case:
    name: str
    file: str
    content: bytes
    message: str
    record: bool = False
    """Whether only one record is at fault, so that the rest of the file can be used."""
    options: dict[str, str] = field(default_factory=dict)


def parquet(**columns: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


FASTA = b"".join(b">P%d\n%s\n" % (i, b"ACDEFGHIKLMNPQRSTVWY" * (1 + i % 7)) for i in range(500))
GZIP = gzip.compress(FASTA)
PARQUET = parquet(id=["P1", "P2"], sequence=["MKT", "ACD"])

BAD_RECORDS = [
    Case(
        "digit",
        "p.fasta",
        b">P1\nMKT7\n",
        "{}, line 2, record 'P1': character '7' at position 4 is not a residue" + SKIP,
    ),
    Case(
        "digit in a later line of a wrapped record",
        "p.fasta",
        b">P0\nMK\n>P1 d\r\nMKTAY\r\n\r\nIAK\r\nQ1R\n>P2\nMK\n",
        "{}, line 7, record 'P1': character '1' at position 10 is not a residue" + SKIP,
    ),
    Case(
        "digit after spaces and tabs",
        "p.fasta",
        b">P1\nM K\tT\n A9\n",
        "{}, line 3, record 'P1': character '9' at position 5 is not a residue" + SKIP,
    ),
    Case(
        "digit with old Macintosh line ends",
        "p.fasta",
        b">P1\rMKT\rA2\r",
        "{}, line 3, record 'P1': character '2' at position 5 is not a residue" + SKIP,
    ),
    Case(
        "digit in compressed FASTA",
        "p.fasta.gz",
        gzip.compress(b">P1\nMKT\n>P2\nAC\nD5\n"),
        "{}, line 5, record 'P2': character '5' at position 4 is not a residue" + SKIP,
    ),
    Case(
        "question mark",
        "p.fasta",
        b">sp|P12345|AATM_RABIT Aspartate\nMK?\n",
        "{}, line 2, record 'P12345': character '?' at position 3 is not a residue" + SKIP,
    ),
    Case(
        "letter outside ASCII",
        "p.fasta",
        ">P1\nMÅK\n".encode(),
        "{}, line 2, record 'P1': character 'Å' at position 2 is not a residue" + SKIP,
    ),
    Case(
        "byte-order mark amid joined files",
        "p.fasta",
        b">P1\nMKT\n\xef\xbb\xbf>P2\nMKT\n",
        "{}, line 3, record 'P1': character '\\ufeff' at position 4 is not a residue" + SKIP,
    ),
    Case(
        "header inside a line",
        "p.fasta",
        b">P1\nMKT>P2\nMKT\n",
        "{}, line 2, record 'P1': character '>' at position 4 is not a residue" + SKIP,
    ),
    Case(
        "comment with semicolon inside a record",
        "p.fasta",
        b">P1\n;note\nMKT\n",
        "{}, line 2, record 'P1': character ';' at position 1 is not a residue" + SKIP,
    ),
    Case(
        "control character",
        "p.fasta",
        b">P1\nMK\x07T\n",
        "{}, line 2, record 'P1': character '\\x07' at position 3 is not a residue" + SKIP,
    ),
    Case("no sequence", "p.fasta", b">P1\n>P2\nMKT\n", "{}, line 1, record 'P1': has no residues" + SKIP),
    Case(
        "no sequence at the end",
        "p.fasta",
        b">P1\nMKT\n\n>P2",
        "{}, line 4, record 'P2': has no residues" + SKIP,
    ),
    Case("only gaps and a stop", "p.fasta", b">P1\n--*\n", "{}, line 1, record 'P1': has no residues" + SKIP),
    Case("no id", "p.fasta", b">P1\nMKT\n>\nMKT\n", "{}, line 3, record 2: has no id" + SKIP),
    Case("blank id", "p.fasta", b"> \t\nMKT\n", "{}, line 1, record 1: has no id" + SKIP),
    Case(
        "digit in a table",
        "p.csv",
        b"id,sequence\nP1,MKT\n\nP2,MK1\n",
        "{}, line 4, record 'P2': character '1' at position 3 is not a residue" + SKIP,
    ),
    Case(
        "digit in a table after a cell of two lines",
        "p.csv",
        b'id,note,sequence\nP1,"two\nlines",MKT\nP2,one,MK1\n',
        "{}, line 4, record 'P2': character '1' at position 3 is not a residue" + SKIP,
    ),
    Case(
        "comma too many",
        "p.csv",
        b"id,name,sequence\nP1,kinase, putative,MKT\n",
        "{}, line 2, record 'row-1': has 4 fields where the column names are 3" + SKIP,
    ),
    Case(
        "row cut short",
        "p.tsv",
        b"id\tsequence\nP1\tMKT\nP2\n",
        "{}, line 3, record 'row-2': has 1 fields where the column names are 2" + SKIP,
    ),
    Case("no id in a table", "p.csv", b"id,sequence\n,MKT\n", "{}, line 2, record 1: has no id" + SKIP),
    Case("empty cell", "p.csv", b"seq\n\nMKT\n \nM\n-\n", "{}, line 6, record 'row-3': has no residues" + SKIP),
    Case(
        "missing value of R",
        "p.csv",
        b"id,sequence\nP1,MKT\nP2,NA\n",
        "{}, line 3, record 'P2': 'NA' stands for a missing sequence" + SKIP,
    ),
    Case(
        "missing value of pandas",
        "p.tsv",
        b"id\tsequence\nP1\tNaN\n",
        "{}, line 2, record 'P1': 'NaN' stands for a missing sequence" + SKIP,
    ),
    Case(
        "digit in Parquet",
        "p.parquet",
        parquet(accession=["P1", "P2"], seq=["MKT", "M4"]),
        "{}, row 2, record 'P2': character '4' at position 2 is not a residue" + SKIP,
    ),
    Case(
        "null sequence",
        "p.parquet",
        parquet(id=["P1"], sequence=pa.array([None], pa.string())),
        "{}, row 1, record 'P1': the sequence is null" + SKIP,
    ),
    Case(
        "null id",
        "p.parquet",
        parquet(id=["P1", None], sequence=["MKT", "MKT"]),
        "{}, row 2, record 2: has no id" + SKIP,
    ),
]
BAD_RECORDS = [Case(c.name, c.file, c.content, c.message, True, c.options) for c in BAD_RECORDS]

NO_RECORDS = "{}: holds no records; expected proteins as %s, or name another --input-format"
BAD_FILES = [
    Case("empty", "p.fasta", b"", NO_RECORDS % "FASTA"),
    Case("empty, no ending", "p", b"", NO_RECORDS % "FASTA"),
    Case("blank lines only", "p.fasta", b"\n \n\t\r\n", NO_RECORDS % "FASTA"),
    Case("byte-order mark only", "p.fasta", b"\xef\xbb\xbf", NO_RECORDS % "FASTA"),
    Case("nothing compressed", "p.fasta.gz", gzip.compress(b""), NO_RECORDS % "FASTA"),
    Case("column names only", "p.csv", b"id,sequence\n", NO_RECORDS % "CSV"),
    Case("empty table", "p.tsv", b"", NO_RECORDS % "TSV"),
    Case("no rows", "p.parquet", parquet(sequence=pa.array([], pa.string())), NO_RECORDS % "PARQUET"),
    Case(
        "sequence before the first header",
        "p.fasta",
        b"\nMKT\n>P1\nMKT\n",
        "{}, line 2: text before the first '>'; expected FASTA, or name another format with --input-format",
    ),
    Case(
        "FASTQ",
        "p.fasta",
        b"@read\nACGT\n+\n!!!!\n",
        "{}, line 1: text before the first '>'; expected FASTA, or name another format with --input-format",
    ),
    Case(
        "comment at the top",
        "p.fasta",
        b"# proteins\n>P1\nMKT\n",
        "{}, line 1: a comment ('#'), which FASTA does not have; remove the line",
    ),
    Case(
        "comment amid a sequence",
        "p.fasta",
        ">P1 β # kept\nMKT\n  #MKT\nMKT\n".encode(),
        "{}, line 3: a comment ('#'), which FASTA does not have; remove the line",
    ),
    Case(
        "NUL byte",
        "p.fasta",
        b">P1\nMKT\n>P2\nMK\0T\n",
        "{}, line 4: a NUL byte, so this is binary data or UTF-16; expected UTF-8 text",
    ),
    Case("UTF-16", "p.fasta", ">P1\nMKT\n".encode("utf-16"), "{}: is UTF-16 text" + FOREIGN),
    Case(
        "UTF-16 without a mark",
        "p.fasta",
        ">P1\nMKT\n".encode("utf-16-le"),
        "{}, line 1: a NUL byte, so this is binary data or UTF-16; expected UTF-8 text",
    ),
    Case(
        "Latin-1",
        "p.fasta",
        b">P0\nMKT\n>P1 caf\xe9\nMKT\n",
        "{}, line 3: byte 0xe9 is not UTF-8 text; convert the file (iconv -f latin1 -t utf8)",
    ),
    Case("gzip cut short", "p.fasta.gz", GZIP[:-20], "{}: its compressed data are cut short" + AGAIN),
    Case(
        "gzip cut short, no ending",
        "p",
        GZIP[: len(GZIP) // 2],
        "{}: its compressed data are cut short" + AGAIN,
    ),
    Case(
        "bzip2 cut short",
        "p.fasta.bz2",
        bz2.compress(FASTA)[:-5],
        "{}: its compressed data are cut short" + AGAIN,
    ),
    Case(
        "xz cut short",
        "p.fasta.xz",
        lzma.compress(FASTA)[:-5],
        "{}: its compressed data are cut short" + AGAIN,
    ),
    Case(
        "zstd cut short",
        "p.fasta.zst",
        zstd.compress(FASTA)[:-5],
        "{}: its compressed data are cut short" + AGAIN,
    ),
    Case(
        "second part of gzip cut short",
        "p.fasta.gz",
        GZIP + GZIP[:-9],
        "{}: its compressed data are cut short" + AGAIN,
    ),
    Case(
        "gzip damaged",
        "p.fasta.gz",
        GZIP[:-6] + b"\xff" + GZIP[-5:],
        "{}: cannot be read or decompressed (<detail>)" + AGAIN,
    ),
    Case(
        "xz damaged",
        "p.fasta.xz",
        b"\xfd7zXZ\0" + bytes(40),
        "{}: cannot be read or decompressed (<detail>)" + AGAIN,
    ),
    Case("compressed twice", "p.fasta.gz", gzip.compress(GZIP), "{}: is compressed twice" + FOREIGN),
    Case("compressed with lz4", "p.fasta", b"\x04\x22\x4d\x18rest", "{}: is compressed with lz4" + FOREIGN),
    Case("Parquet named FASTA", "p.fasta", PARQUET, "{}: is Parquet" + FOREIGN),
    Case("workbook", "p", b"PK\x03\x04rest", "{}: is a ZIP archive or an Excel workbook" + FOREIGN),
    Case("web page", "p.fasta", b"<!DOCTYPE html>\n<html>", "{}: is an HTML or XML page" + FOREIGN),
    Case("HDF5", "p.csv", b"\x89HDF\r\n\x1a\n", "{}: is HDF5" + FOREIGN),
    Case(
        "bare sequences",
        "p.txt",
        b"MKT\nACD\n",
        "{}: neither FASTA (starts with '>') nor a table with column names; "
        "name its format with --input-format (fasta, csv, tsv, parquet)",
    ),
    Case(
        "unknown format",
        "p.fasta",
        FASTA,
        "--input-format 'genbank' is unknown; use one of fasta, csv, tsv, parquet",
        options={"format": "genbank"},
    ),
    Case(
        "no sequence column",
        "p.csv",
        b"P1,MKT\nP2,MKT\n",
        "{}: no column is called 'sequence' or the like; its columns are 'P1', 'MKT'; "
        "choose one with --sequence-column",
    ),
    Case(
        "two sequence columns",
        "p.csv",
        b"id,sequence,Protein_Sequence\n1,ATG,M\n",
        "{}: several columns may hold the sequence: 'sequence', 'Protein_Sequence'; choose one with --sequence-column",
    ),
    Case(
        "named sequence column missing",
        "p.tsv",
        b"id\tsequence\nP1\tMKT\n",
        "{}: no column called 'aa'; --sequence-column must name one of 'id', 'sequence'",
        options={"sequence_column": "aa"},
    ),
    Case(
        "named id column missing",
        "p.parquet",
        PARQUET,
        "{}: no column called 'key'; --id-column must name one of 'id', 'sequence'",
        options={"id_column": "key"},
    ),
    Case(
        "named column twice",
        "p.csv",
        b"a,a,b\nP,M,K\n",
        "{}: several columns called 'a'; --sequence-column must name one of 'a', 'a', 'b'",
        options={"sequence_column": "a"},
    ),
    Case(
        "quote not closed",
        "p.csv",
        b'id,sequence\nP1,MKT\nP2,"MKT\nP3,MKT\n',
        "{}, line 3: no well-formed CSV (unexpected end of data); fix its quotes",
    ),
    Case(
        "quoted names between semicolons",
        "p.csv",
        b'"id";"sequence"\n"P1";"MKT"\n',
        "{}, line 1: no well-formed CSV (',' expected after '\"'); fix its quotes, or save it with commas between its "
        "columns",
    ),
    Case(
        "text after a quote",
        "p.csv",
        b'id,sequence\nP1,"M"KT\n',
        "{}, line 2: no well-formed CSV (',' expected after '\"'); fix its quotes",
    ),
    Case(
        "numbers for sequences",
        "p.parquet",
        parquet(sequence=[1, 2]),
        "{}: column 'sequence' holds int64, not text; choose another with --sequence-column",
    ),
    Case("Parquet cut short", "p.parquet", PARQUET[:-20], "{}: damaged Parquet file (<detail>)" + AGAIN),
    Case(
        "Parquet with a column's name in other letters than UTF-8",
        "p.parquet",
        PARQUET.replace(b"sequence", b"se\x87uence"),
        "{}: damaged Parquet file (<detail>)" + AGAIN,
    ),
    Case(
        "Parquet with text in other letters than UTF-8",
        "p.parquet",
        parquet(
            sequence=pa.Array.from_buffers(pa.string(), 1, [*pa.array(["MKT"]).buffers()[:2], pa.py_buffer(b"M\x87T")])
        ),
        "{}: damaged Parquet file (<detail>)" + AGAIN,
    ),
    Case(
        "Parquet compressed as a whole",
        "p.parquet.gz",
        gzip.compress(PARQUET),
        "{}: is no Parquet file; if it is compressed as a whole, decompress it first",
    ),
    Case(
        "FASTA named Parquet",
        "p.parquet",
        FASTA,
        "{}: is no Parquet file; if it is compressed as a whole, decompress it first",
    ),
]

CASES = BAD_RECORDS + BAD_FILES
