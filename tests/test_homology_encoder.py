"""Homology profiles as an encoder. What searches needs MMseqs2; the rest runs without it."""

import shutil
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import limbeck
from limbeck import InputError, load
from limbeck.encoders import available
from limbeck.encoders.contexts import Library, ProfileReader, profile_projection, read_library, save_library
from limbeck.encoders.profile import HomologyProfileEncoder
from limbeck.homology import database, mmseqs
from limbeck.homology.database import RelativesDatabase
from limbeck.homology.profiles import background, profile
from limbeck.residues import RESIDUES, to_ids
from tiny_encoders import protein, write_hmm, write_library

needs_mmseqs = pytest.mark.skipif(not shutil.which("mmseqs"), reason="MMseqs2 (apt install mmseqs2) is no package")


def relative(ancestor, seed, share=0.35):
    """The ancestor with a share of its residues drawn anew."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(list(RESIDUES), size=len(ancestor))
    return "".join(np.where(rng.random(len(ancestor)) < share, drawn, list(ancestor)))


ANCESTOR = protein(150)
FAMILY = [relative(ANCESTOR, seed) for seed in range(12)]
OTHERS = [protein(120 + i, seed=i) for i in range(15)]
QUERY = FAMILY[0]
STRANGER = protein(len(QUERY), seed=99)
LONG = protein(15_000, seed=1) + relative(ANCESTOR, 50) + protein(15_000 - len(ANCESTOR), seed=2)
ODD = ["M", "MK", "X" * 60, "acX-U*", QUERY[:70] + "X" * 20 + QUERY[90:]]
SEQUENCES = [STRANGER, QUERY, LONG, *ODD, QUERY, *FAMILY[1:4]]


def write_fasta(path, sequences):
    path.write_text("".join(f">p{i}\n{s}\n" for i, s in enumerate(sequences)))
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "a cache"))
    return tmp_path / "a cache" / "homology"


def orphan(sequence):
    return np.log(profile(sequence, []))


def library_of_profiles(path, profile_sharpness=1.5, **shape):
    plain = read_library(write_library(path, **shape))
    parts = (plain.log_prior, plain.log_columns, plain.sharpness, plain.license, plain.version)
    save_library(path, Library(*parts, profile_sharpness=profile_sharpness))
    return path


# What needs the search


@pytest.fixture(scope="module")
def proteins(tmp_path_factory):
    return write_fasta(tmp_path_factory.mktemp("database") / "proteins.fasta", [*FAMILY, *OTHERS])


@pytest.fixture(scope="module")
def found(proteins, tmp_path_factory):
    """Profiles of all sequences, from one search."""
    relatives = RelativesDatabase(proteins, tmp_path_factory.mktemp("cache"))
    return HomologyProfileEncoder(relatives, threads=1).log_probabilities(SEQUENCES)


@needs_mmseqs
def test_profiles_speak_of_the_relatives(found):
    for logs, sequence in zip(found, SEQUENCES, strict=True):
        assert logs.dtype == np.float32
        np.testing.assert_allclose(np.exp(logs).sum(axis=1), 1, rtol=1e-5)
        assert len(logs) == len(limbeck.residues.clean(sequence))
    ancestor = to_ids(ANCESTOR)
    changed = ancestor != to_ids(QUERY)
    positions = np.arange(len(ancestor))
    # Where the query has lost the ancestral residue, its relatives still tell it.
    gained = found[1][positions, ancestor] - orphan(QUERY)[positions, ancestor]
    assert gained[changed].mean() > 1
    np.testing.assert_array_equal(found[0], orphan(STRANGER))


@needs_mmseqs
def test_unusual_proteins_and_repeated_ones(found):
    at = SEQUENCES.index("M")
    for logs, sequence in zip(found[at : at + 3], ["M", "MK", "X" * 60], strict=True):
        np.testing.assert_array_equal(logs, orphan(sequence))
    np.testing.assert_array_equal(found[at + 3], orphan("ACXC"))
    known = found[at + 4][75:85, :]  # an X that relatives cover
    assert known.max() > orphan("X").max() + 1
    np.testing.assert_array_equal(found[SEQUENCES.index(QUERY, 2)], found[1])


@needs_mmseqs
def test_a_long_protein_is_searched_whole(found):
    logs, alone = found[2], orphan(LONG)
    differs = np.abs(logs - alone).max(axis=1) > 1e-6
    assert differs[15_000 : 15_000 + len(ANCESTOR)].mean() > 0.8
    assert not differs[:14_900].any()
    assert not differs[15_000 + len(ANCESTOR) + 100 :].any()


@needs_mmseqs
def test_a_query_in_the_database_is_not_its_own_relative(found, tmp_path):
    """Another protein of the same length in its place: as many residues, hence the same E-values."""
    without = write_fasta(tmp_path / "without.fasta", [STRANGER, *FAMILY[1:], *OTHERS])
    (logs,) = load(f"homology:{without}", threads=1).log_probabilities([QUERY])
    np.testing.assert_array_equal(logs, found[1])


@needs_mmseqs
def test_embedding_a_few_gives_the_vectors_that_they_have_among_many(found, proteins, tmp_path):
    """Other neighbours, another number of queries, other threads, another process: the same bits."""
    some = [4, 1, 9, 0]
    fasta = write_fasta(tmp_path / "some.fasta", [SEQUENCES[i] for i in some])
    command = [sys.executable, "-m", "limbeck.cli", "embed", fasta, "--encoder", f"homology:{proteins}"]
    done = subprocess.run([*command, "-o", tmp_path / "a.npz"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = [(found[i] - np.log(background())).mean(axis=0, dtype=np.float64) for i in some]
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["embeddings"], np.float32(expected))


@needs_mmseqs
def test_proteins_beyond_mmseqs_own_limit_go_through_windows(tmp_path, monkeypatch):
    monkeypatch.setattr(mmseqs, "LONGEST", 400)
    monkeypatch.setattr(database, "OVERLAP", 200)
    long = protein(700, seed=5) + FAMILY[3] + protein(300, seed=6)
    proteins = write_fasta(tmp_path / "proteins.fasta", [*FAMILY, *OTHERS, long])
    features, short = load(f"homology:{proteins}", threads=1).log_probabilities([long, FAMILY[2]])
    differs = np.abs(features - orphan(long)).max(axis=1) > 1e-6
    assert differs[710:840].mean() > 0.8
    # The database holds the same windows, and they are not relatives of the query's own.
    assert not differs[:650].any()
    assert not differs[950:].any()
    assert np.abs(short - orphan(FAMILY[2])).max() > 1


@needs_mmseqs
def test_the_database_is_made_once(proteins, cache, monkeypatch):
    made = []
    run = mmseqs.MMseqs.run
    monkeypatch.setattr(mmseqs.MMseqs, "run", lambda self, *arguments: (made.append(arguments), run(self, *arguments)))
    first = load(f"homology:{proteins}")
    copy = proteins.with_name("copy.fa")
    shutil.copy(proteins, copy)
    second = load(f"homology:{copy}")
    assert len(made) == 1
    assert first.fingerprint == second.fingerprint
    write_fasta(copy, FAMILY)
    third = load(f"homology:{copy}")
    assert third.fingerprint != first.fingerprint
    assert len(list(cache.iterdir())) == 2


@needs_mmseqs
def test_a_database_that_another_process_made_meanwhile_is_kept(proteins, cache, monkeypatch):
    made = []
    run = mmseqs.MMseqs.run

    def beaten(self, *arguments):
        run(self, *arguments)
        if not made:
            made.append(arguments)
            RelativesDatabase(proteins, cache)

    monkeypatch.setattr(mmseqs.MMseqs, "run", beaten)
    RelativesDatabase(proteins, cache)
    (folder,) = cache.iterdir()
    assert (folder / "proteins.index").exists()


@needs_mmseqs
def test_what_fails_leaves_no_database(tmp_path, cache, monkeypatch):
    bad = tmp_path / "bad.fasta"
    bad.write_text(">a\nMKV\n>b\nMK7\n")
    with pytest.raises(InputError, match=r"bad\.fasta, line 4, record 'b'"):
        load(f"homology:{bad}")
    assert list(cache.iterdir()) == []

    (tmp_path / "file").touch()
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "file"))
    good = write_fasta(tmp_path / "good.fasta", FAMILY)
    with pytest.raises(InputError, match="set LIMBECK_CACHE to a folder that can"):
        load(f"homology:{good}")


@needs_mmseqs
@pytest.mark.parametrize(
    ("suffix", "options", "message"),
    [
        ("?context=a", {}, r"option 'context=a' is unknown; write contexts=\.\.\. or license=\.\.\."),
        ("?contexts=", {}, "option 'contexts=' is unknown"),
        ("?contexts=no.safetensors", {}, r"no\.safetensors: no such context library"),
        ("?contexts=limbeck-contexts", {"pooling": "mean"}, "pooling 'mean' uses no context library"),
        ("", {"pooling": "max"}, "has no pooling 'max'; choose from: mean, contexts"),
        ("", {"device": "cuda"}, "has no device 'cuda'"),
        ("", {"precision": "bf16"}, "has no precision 'bf16'"),
        ("", {"layer": 1}, "has no choice of layers"),
    ],
)
def test_options_are_checked(proteins, suffix, options, message):
    with pytest.raises(InputError, match=message):
        load(f"homology:{proteins}{suffix}", **options)


@needs_mmseqs
def test_a_library_without_a_sharpness_for_profiles_is_refused(proteins, tmp_path):
    for path in (write_library(tmp_path / "plain.safetensors"), write_hmm(tmp_path / "plain.hmm")):
        with pytest.raises(InputError, match="states no profile_sharpness, so it reads no profiles"):
            load(f"homology:{proteins}?contexts={path}")


@needs_mmseqs
def test_what_an_encoder_says_of_itself(proteins, tmp_path, monkeypatch):
    library = library_of_profiles(tmp_path / "library.safetensors", states=9)
    names = [f"homology:{proteins}", f"homology:{proteins}?contexts={library}&license=CC0-1.0"]
    plain, contexts = (load(name) for name in names)
    assert isinstance(plain, limbeck.Encoder)
    assert (plain.name, plain.dimension, plain.parameters, plain.pooling) == (names[0], 20, 0, "mean")
    assert (contexts.dimension, contexts.parameters, contexts.pooling) == (9, 9 * (1 + 5 * 20), "contexts")
    assert (plain.license, contexts.license) == ("unknown", "CC0-1.0")
    assert load(names[0], pooling="contexts").dimension == 2048
    prints = {plain.fingerprint, contexts.fingerprint}
    library_of_profiles(library, states=9, profile_sharpness=2.0)
    prints.add(load(names[1]).fingerprint)
    monkeypatch.setattr(mmseqs, "version", lambda: "another")
    prints.add(load(names[0]).fingerprint)
    assert len(prints) == 4


# What needs no search


class Stored:
    """Stands for a database whose search finds nothing."""

    content = fingerprint = "0" * 64

    def profiles(self, proteins, threads):
        yield from reversed([(i, profile(p, [])) for i, p in enumerate(proteins)])


def test_residues_are_log_odds_and_proteins_their_mean():
    encoder = HomologyProfileEncoder(Stored())
    seen = []
    vectors = encoder.encode(["ACX", "W"], lambda done, tokens: seen.append((done, tokens)))
    assert sorted(seen) == [(1, 1), (3, 3)]
    for vector, residues, sequence in zip(vectors, encoder.encode_residues(["acX", "W"]), ["ACX", "W"], strict=True):
        expected = np.log(profile(sequence, []) / background())
        np.testing.assert_allclose(residues, expected, atol=1e-6)
        np.testing.assert_allclose(vector, expected.mean(axis=0), atol=1e-6)
    # A function of the residue alone, positive for itself, and next to nothing for the unknown one.
    first, second = encoder.encode_residues(["AW", "WWA"])
    np.testing.assert_array_equal(first[0], second[2])
    assert first[0].argmax() == RESIDUES.index("A")
    assert np.abs(encoder.encode(["XX"])).max() < 0.1
    assert encoder.encode([]).shape == (0, 20)
    assert encoder.encode_residues([]) == []
    with pytest.raises(ValueError, match="sequence 1 has no residues"):
        encoder.encode(["A", "-"])


def test_contexts_read_the_profile(tmp_path):
    library = read_library(library_of_profiles(tmp_path / "a.safetensors"))
    encoder = HomologyProfileEncoder(Stored(), pooling="contexts", library=library)
    sequences = [protein(30), "A"]
    for vector, residues, sequence in zip(
        encoder.encode(sequences), encoder.encode_residues(sequences), sequences, strict=True
    ):
        expected = slow_posteriors(library, profile(sequence, []))
        np.testing.assert_allclose(residues, expected, atol=2e-6)
        np.testing.assert_allclose(vector, np.sqrt(expected.mean(axis=0)), atol=2e-6)
        assert residues.dtype == vector.dtype == np.float32
    with pytest.raises(ValueError, match="a library goes with pooling 'contexts'"):
        HomologyProfileEncoder(Stored(), library=library)


def slow_posteriors(library, columns):
    half = library.log_columns.shape[1] // 2
    result = []
    for position in range(len(columns)):
        scores = library.log_prior.astype(float)
        for offset in range(-half, half + 1):
            if 0 <= position + offset < len(columns):
                odds = library.log_columns[:, half + offset] - np.log(background())
                weight = library.profile_sharpness * 1.6 * 0.85 ** abs(offset)
                scores += weight * (odds @ columns[position + offset])
        exponentials = np.exp(scores - scores.max())
        result.append(exponentials / exponentials.sum())
    return np.array(result)


def test_a_profile_of_one_sequence_is_read_as_the_sequence(tmp_path):
    path = library_of_profiles(tmp_path / "a.safetensors", profile_sharpness=1.5, sharpness=1.5)
    sequence = protein(40, letters=RESIDUES + "X")
    columns = np.eye(21, 20, dtype=np.float32)[to_ids(sequence)]
    posteriors = np.concatenate(list(ProfileReader(read_library(path)).posteriors(columns)))
    np.testing.assert_allclose(posteriors, load(path).encode_residues([sequence])[0], atol=2e-6)


def test_blocks_of_a_profile_do_not_show(tmp_path, monkeypatch):
    reader = ProfileReader(read_library(library_of_profiles(tmp_path / "a.safetensors")))
    columns = profile(protein(50), [])
    (whole,) = reader.posteriors(columns)
    monkeypatch.setattr("limbeck.encoders.contexts._BLOCK_NUMBERS", 8 * reader.states)
    blocks = list(reader.posteriors(columns))
    assert [len(block) for block in blocks] == [8] * 6 + [2]
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)


def test_libraries_keep_the_sharpness_for_profiles(tmp_path):
    path = library_of_profiles(tmp_path / "a.safetensors", profile_sharpness=2.5)
    assert read_library(path).profile_sharpness == 2.5
    assert read_library("limbeck-contexts").profile_sharpness == 4.0
    without = read_library(write_library(tmp_path / "b.safetensors"))
    with pytest.raises(ValueError, match="no sharpness for profiles"):
        profile_projection(without)
    metadata = {"format": "limbeck-context-library", "sharpness": "1.0", "profile_sharpness": "high"}
    save_file(load_file(path), path, metadata)
    with pytest.raises(InputError, match="state no sharpness"):
        read_library(path)


def test_a_missing_program_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(mmseqs.shutil, "which", lambda name: None)
    proteins = write_fasta(tmp_path / "proteins.fasta", FAMILY)
    with pytest.raises(InputError, match="MMseqs2 is not installed; get it with 'apt install mmseqs2'"):
        load(f"homology:{proteins}")


def test_a_missing_database_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no\.fasta: no such file; give a file of proteins"):
        load(f"homology:{tmp_path / 'no.fasta'}")
    with pytest.raises(InputError, match=r"homology: names no database; write homology:proteins\.fasta"):
        load("homology:")


@pytest.mark.parametrize("where", ["/usr/bin/mmseqs", None])
def test_the_list_names_it(monkeypatch, where):
    monkeypatch.setattr(mmseqs.shutil, "which", lambda name: where)
    (info,) = [i for i in available() if i.name == "homology:PATH"]
    assert (info.kind, info.dimension, info.parameters) == ("homology profile (MMseqs2)", 20, 0)
    assert (info.license, info.on_this_machine) == ("of the file", where is not None)


def test_windows_cover_a_long_protein_once():
    (first, *_, last) = windows = database._windows(0, "A" * 150_000)
    assert (first.own_start, last.own_stop) == (0, 150_000)
    assert all(a.own_stop == b.own_start for a, b in pairwise(windows))
    assert all(len(w) == mmseqs.LONGEST for w in windows)
