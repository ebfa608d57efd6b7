"""Files of vectors, UniProt's among them, as encoders."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import limbeck
from fake_encoder import FakeEncoder, random_proteins, write_fasta
from limbeck import Encoder, InputError

PROTEINS = dict(random_proteins(12, seed=4))


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    """Headers as UniProt writes them."""
    return write_fasta(tmp_path / "uniprot.fasta", [(f"sp|{id}|X_HUMAN", s) for id, s in PROTEINS.items()])


def uniprot(path: Path, per_residue: bool) -> Path:
    """A file in the layout of UniProt's per-protein.h5 and per-residue.h5: accession -> float16."""
    encoder = FakeEncoder()
    with h5py.File(path, "w") as file:
        for id, sequence in reversed(PROTEINS.items()):
            features = encoder.encode_residues([sequence])[0]
            file.create_dataset(id, data=(features if per_residue else features.mean(axis=0)).astype("float16"))
    return path


@pytest.mark.parametrize("per_residue", [False, True])
def test_uniprots_files(fasta: Path, per_residue: bool) -> None:
    path = uniprot(fasta.with_name("uniprot.h5"), per_residue)
    assert {id for id, _ in limbeck.read_embeddings(path)} == set(PROTEINS)
    encoder = limbeck.load(f"stored:{path}?sequences={fasta}&license=CC-BY-4.0")
    assert isinstance(encoder, Encoder)
    assert (encoder.dimension, encoder.precision, encoder.license) == (8, "f16", "CC-BY-4.0")
    sequences = [s.lower() for s in PROTEINS.values()]
    found = encoder.encode(sequences)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, FakeEncoder().encode(sequences), atol=2e-3)
    if per_residue:
        expected_all = FakeEncoder().encode_residues(sequences)
        for features, expected in zip(encoder.encode_residues(sequences), expected_all, strict=True):
            np.testing.assert_allclose(features, expected, atol=2e-3)
    else:
        with pytest.raises(InputError, match="one vector for each protein, none of residues"):
            encoder.encode_residues(sequences)


def test_what_embed_wrote_is_read_back(tmp_path: Path) -> None:
    proteins = {"a/b": "MKV", "%": "MKLV", "twin": "MKV"}
    fasta = write_fasta(tmp_path / "p.fasta", proteins.items())
    limbeck.embed(fasta, tmp_path / "p.h5", encoder=FakeEncoder(), progress=False)
    name = f"stored:{tmp_path / 'p.h5'}?sequences={fasta}"
    limbeck.embed(fasta, tmp_path / "again.h5", encoder=name, progress=False)
    again = dict(limbeck.read_embeddings(tmp_path / "again.h5"))
    for id, vector in limbeck.read_embeddings(tmp_path / "p.h5"):
        np.testing.assert_array_equal(again[id], vector)


def test_what_is_wrong(fasta: Path) -> None:
    path = uniprot(fasta.with_name("uniprot.h5"), True)
    encoder = limbeck.load(f"stored:{path}?sequences={fasta}")
    with pytest.raises(InputError, match="no vector for the protein WWWW; leave it out"):
        encoder.encode(["WWWW"])
    write_fasta(fasta, [(id, sequence + "W") for id, sequence in PROTEINS.items()])
    moved = limbeck.load(f"stored:{path}?sequences={fasta}")
    assert moved.fingerprint != encoder.fingerprint
    with pytest.raises(InputError, match=r"'P0' has the shape .*; take the proteins of the same release"):
        moved.encode([PROTEINS["P0"] + "W"])
    write_fasta(fasta, [("other", "MKV")])
    for name, message in {
        f"stored:{path}": "write it like stored:per-protein.h5",
        f"stored:{path}?sequences={fasta}&x=1": "write it like",
        f"stored:{path}?sequences={fasta}": "have no protein in common",
        f"stored:{fasta}?sequences={fasta}": "cannot be read as HDF5",
        f"stored:{path}?sequences=nowhere.fasta": "nowhere.fasta: no such file",
    }.items():
        with pytest.raises(InputError, match=message):
            limbeck.load(name)
