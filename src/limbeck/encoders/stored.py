"""Vectors that were computed elsewhere, as an encoder: a file of them, and the file of the proteins they belong to.

``stored:per-protein.h5?sequences=uniprot_sprot.fasta.gz`` reads UniProt's own embeddings of its entries (ProtT5 in half
precision, https://www.uniprot.org/help/embeddings), and any HDF5 file that :func:`limbeck.embed` wrote: one dataset for
each protein at the root, named by its id, (dimension,) or for each residue (length, dimension). The second file tells
which sequence an id has. A protein is found by its sequence, so it need not have that id in the data it comes from; one
that is not in the file is an error, as nothing is computed.

``&license=CC-BY-4.0`` states the licence of the vectors. Of residues, the protein's vector is their mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders.base import Encoder, OnBatch, cleaned
from limbeck.encoders.registry import EncoderInfo, Family, Options, file_hash, fingerprint
from limbeck.errors import InputError
from limbeck.hdf5 import link_name

__all__ = ["FAMILY", "StoredEncoder"]

PREFIX = "stored:"
_PRECISIONS = {"float16": "f16", "float32": "f32", "float64": "f64"}


class StoredEncoder:
    """Looks vectors up.

    Args:
        vectors: the HDF5 file; its names of proteins stay on disk, those of ``sequences`` are held in memory.
        sequences: FASTA, CSV, TSV or Parquet with at least the proteins that will be asked for.
        license: of the vectors.

    Raises:
        InputError: if a file cannot be read, or they have no protein in common.
    """

    version = "1"
    parameters = 0
    max_length: int | None = None
    token_budget = 2**20
    bytes_per_token = 4096

    def __init__(self, vectors: Path, sequences: Path, license: str = "unknown") -> None:
        self.name = f"{PREFIX}{vectors.name}"
        self.license = license
        self._path = vectors
        self._file = _open(vectors)
        self._ids = _ids(sequences, self._file)
        if not self._ids:
            raise InputError(f"{vectors} and {sequences} have no protein in common; are the ids of one kind?")
        first = self._file[link_name(next(iter(self._ids.values())))]
        self._of_residues = first.ndim == 2
        self.dimension = int(first.shape[-1])
        self.pooling = str(self._file.attrs.get("pooling", "mean"))
        self.precision = str(self._file.attrs.get("precision", _PRECISIONS.get(str(first.dtype), str(first.dtype))))
        self.fingerprint = fingerprint("stored", self.version, file_hash(vectors), file_hash(sequences))

    def encode(self, sequences: Sequence[str], on_batch: OnBatch | None = None) -> NDArray[np.float32]:
        proteins = cleaned(sequences)
        result = np.empty((len(proteins), self.dimension), dtype=np.float32)
        for row, protein in enumerate(proteins):
            found = self._look_up(protein)
            result[row] = found.mean(axis=0, dtype=np.float64) if self._of_residues else found
            if on_batch:
                on_batch(len(protein), len(protein))
        return result

    def encode_residues(self, sequences: Sequence[str], on_batch: OnBatch | None = None) -> list[NDArray[np.float32]]:
        if not self._of_residues:
            raise InputError(f"{self._path} holds one vector for each protein, none of residues; take the other file")
        features = []
        for protein in cleaned(sequences):
            features.append(self._look_up(protein).astype(np.float32))
            if on_batch:
                on_batch(len(protein), len(protein))
        return features

    def _look_up(self, protein: str) -> NDArray[np.floating]:
        id = self._ids.get(_digest(protein))
        if id is None:
            raise InputError(
                f"{self._path} has no vector for the protein {_short(protein)}; leave it out, or compute it"
            )
        found: NDArray[np.floating] = self._file[link_name(id)][()]
        expected = (len(protein), self.dimension) if self._of_residues else (self.dimension,)
        if found.shape != expected:
            raise InputError(
                f"{self._path}: {id!r} has the shape {found.shape}, not {expected}; "
                "take the proteins of the same release as the vectors"
            )
        return found


def _open(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path)
    except OSError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read as HDF5 ({reason}); check the path") from None


def _ids(sequences: Path, vectors: Any) -> dict[bytes, str]:
    """For the digest of each sequence the first id that has a vector."""
    from limbeck.records import Locator, clean_record, read_records

    found: dict[bytes, str] = {}
    locator = Locator(sequences)
    for record in read_records(sequences):
        if record.id and link_name(record.id) in vectors:
            found.setdefault(_digest(clean_record(record, locator)), record.id)
    return found


def _digest(protein: str) -> bytes:
    return hashlib.blake2b(protein.encode("ascii"), digest_size=16).digest()


def _short(protein: str) -> str:
    return protein if len(protein) <= 30 else f"{protein[:30]}... of {len(protein):,} residues"


def _load(name: str, options: Options) -> Encoder:
    path, _, query = name.removeprefix(PREFIX).partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    sequences, license = given.pop("sequences", ""), given.pop("license", "unknown")
    if given or not path or not sequences:
        raise InputError(f"{name}: write it like {PREFIX}per-protein.h5?sequences=proteins.fasta&license=CC-BY-4.0")
    options.check(name, precisions=("f16", "bf16", "f32", "f64", "int8"))
    encoder = StoredEncoder(Path(path), Path(sequences), license)
    if options.precision not in ("auto", encoder.precision):
        raise InputError(
            f"{name}: was computed in {encoder.precision}, not {options.precision}; leave the precision out"
        )
    return encoder


FAMILY = Family(
    recognises=lambda name: name.startswith(PREFIX),
    load=_load,
    available=lambda: [EncoderInfo(f"{PREFIX}PATH.h5?sequences=PATH", "stored vectors", None, 0, "of the file", False)],
)
