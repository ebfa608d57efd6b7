import math

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from limbeck import InputError, load
from limbeck.residues import RESIDUES
from tiny_encoders import CSBLAST_ORDER, hmm_text, protein, write_hmm, write_library

SEQUENCES = ["A", "XX", "WXC", protein(12), protein(13), protein(70, letters=RESIDUES + "X")]


def slow_posterior(log_prior, log_columns, sharpness, sequence, position, masked=False):
    half = len(log_columns[0]) // 2
    scores = []
    for prior, columns in zip(log_prior, log_columns, strict=True):
        score = float(prior)
        for offset in range(-half, half + 1):
            place = position + offset
            if 0 <= place < len(sequence) and sequence[place] != "X" and not (masked and offset == 0):
                weight = 1.6 * 0.85 ** abs(offset)
                score += sharpness * weight * float(columns[half + offset][RESIDUES.index(sequence[place])])
        scores.append(score)
    exponentials = [math.exp(score - max(scores)) for score in scores]
    return np.array(exponentials) / sum(exponentials)


def slow_hmm(text):
    """Prior and columns of a .hmm file: the prior from the transition matrix's leading eigenvector."""
    lines = text.splitlines()
    states = int(lines[1].split()[1])
    rows = [line.split() for line in lines if line[:1].isdigit()]
    columns = np.array([[int(x) for x in row[1:]] for row in rows if len(row) == 21]).reshape(states, -1, 20)
    columns = columns[:, :, [CSBLAST_ORDER.index(r) for r in RESIDUES]] * -math.log(2) / 1000
    chain = np.zeros((states, states))
    for i, j, score in (row for row in rows if len(row) == 3):
        chain[int(i), int(j)] = 2 ** (-int(score) / 1000)
    chain /= chain.sum(axis=1, keepdims=True)
    values, vectors = np.linalg.eig(chain.T)
    leading = np.abs(vectors[:, np.argmax(values.real)].real)
    return np.log(leading / leading.sum()), columns


@pytest.fixture(params=["hmm", "library"])
def contexts(request, tmp_path):
    """An encoder, and what its file holds: log prior, log columns, sharpness."""
    if request.param == "hmm":
        path = write_hmm(tmp_path / "tiny.hmm")
        return load(path), (*slow_hmm(path.read_text()), 1.0)
    path = write_library(tmp_path / "tiny.safetensors", sharpness=1.5)
    tensors = load_file(path)
    return load(path), (tensors["log_prior"], tensors["log_columns"], 1.5)


def test_residue_features_are_the_posterior(contexts):
    encoder, parts = contexts
    for features, sequence in zip(encoder.encode_residues(SEQUENCES), SEQUENCES, strict=True):
        expected = [slow_posterior(*parts, sequence, i) for i in range(len(sequence))]
        np.testing.assert_allclose(features, expected, atol=2e-6)


def test_protein_feature_is_the_root_of_the_mean_posterior(contexts):
    encoder, parts = contexts
    for vector, sequence in zip(encoder.encode(SEQUENCES), SEQUENCES, strict=True):
        mean = np.mean([slow_posterior(*parts, sequence, i) for i in range(len(sequence))], axis=0)
        np.testing.assert_allclose(vector, np.sqrt(mean), atol=2e-6)
    assert encoder.pooling == "sqrt-mean"


def test_masked_log_probabilities(contexts):
    encoder, parts = contexts
    centre = np.exp(np.asarray(parts[1], dtype=float)[:, len(parts[1][0]) // 2])
    for found, sequence in zip(encoder.log_probabilities(SEQUENCES), SEQUENCES, strict=True):
        posterior = [slow_posterior(*parts, sequence, i, masked=True) for i in range(len(sequence))]
        mixed = np.array(posterior) @ centre
        np.testing.assert_allclose(found, np.log(mixed / mixed.sum(axis=1, keepdims=True)), atol=5e-6)


def test_masked_probability_does_not_see_its_own_residue(contexts):
    encoder, _ = contexts
    first, second = encoder.log_probabilities(["ACDEFGH", "ACDWFGH"])
    np.testing.assert_array_equal(first[3], second[3])
    assert np.abs(first[2] - second[2]).max() > 1e-3


def test_blocks_do_not_show(contexts, monkeypatch):
    encoder, _ = contexts
    whole = encoder.encode_residues(SEQUENCES)
    monkeypatch.setattr("limbeck.encoders.contexts._BLOCK_NUMBERS", 4 * encoder.dimension)
    for one, other in zip(whole, encoder.encode_residues(SEQUENCES), strict=True):
        np.testing.assert_array_equal(one, other)


def test_mean_pooling(contexts):
    encoder, _ = contexts
    mean = load(encoder.name, pooling="mean")
    np.testing.assert_allclose(mean.encode(SEQUENCES), encoder.encode(SEQUENCES) ** 2, atol=1e-6)
    assert mean.fingerprint != encoder.fingerprint


def test_library_keeps_what_was_written(tmp_path):
    encoder = load(write_library(tmp_path / "a.safetensors", states=9, width=3))
    assert (encoder.license, encoder.version, encoder.dimension) == ("CC0-1.0", "3", 9)
    assert encoder.parameters == 9 + 9 * 3 * 20


def test_state_without_transitions_has_no_prior(tmp_path):
    lines = hmm_text(states=3).splitlines()
    begin = lines.index("TRANS") + 1
    kept = [line for line in lines[begin:-1] if "1" not in line.split("\t")[:2]]
    text = "\n".join([*lines[:begin], *kept, "//"]).replace("NTRANS\t9", f"NTRANS\t{len(kept)}")
    (tmp_path / "a.hmm").write_text(text)
    (posterior,) = load(tmp_path / "a.hmm").encode_residues([protein(20)])
    assert not posterior[:, 1].any()
    np.testing.assert_allclose(posterior.sum(axis=1), 1, atol=1e-6)


def damaged(kind):
    lines = hmm_text(states=2, width=3).splitlines()
    edits = {
        "no header": (0, "HMMER3"),
        "states not a number": (1, "NSTATES\tmany"),
        "no states": (1, "NSTATES\t0"),
        "even width": (3, "NCOLS\t4"),
        "wrong block": (7, "ContextProfile"),
        "index out of order": (8, "INDEX\t1"),
        "prior missing": (9, "PRIOR"),
        "other width": (10, "NCOLS\t5"),
        "other alphabet": (11, "ALPH\t4"),
        "no logarithms": (12, "LOG\t0"),
        "other states": (13, "NSTATES\t3"),
        "letters": (14, "PROF\tA\tC"),
        "column number": (15, lines[15].replace("1", "2", 1)),
        "column short": (16, lines[16].rsplit("\t", 1)[0]),
        "column not a number": (16, lines[16].rsplit("\t", 1)[0] + "\t*"),
        "column not a distribution": (16, "2" + "\t1000" * 20),
        "state not closed": (18, "4" + "\t4322" * 20),
        "no transitions": (31, "TRANSITIONS"),
        "transition to nowhere": (33, "0\t2\t100"),
        "transition above one": (33, "0\t1\t-100"),
        "transition short": (33, "0\t1"),
        "not closed": (36, "1\t1\t100"),
    }
    number, line = edits[kind]
    lines[number] = line
    return number + 1, "\n".join(lines)


KINDS = """no header|states not a number|no states|even width|wrong block|index out of order|prior missing|other width
|other alphabet|no logarithms|other states|letters|column number|column short|column not a number
|column not a distribution|state not closed|no transitions|transition to nowhere|transition above one|transition short
|not closed""".replace("\n", "").split("|")


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_hmm_names_its_line(tmp_path, kind):
    number, text = damaged(kind)
    (tmp_path / "bad.hmm").write_text(text)
    with pytest.raises(InputError, match=r"bad\.hmm, line \d+: ") as caught:
        load(tmp_path / "bad.hmm")
    stated = int(str(caught.value).split("line ")[1].split(":")[0])
    # Header lines are judged together, once the last of them has been read.
    assert stated == (4 if kind == "no states" else number)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lines", [0, 1, 10, 20, 33])
def test_truncated_hmm(tmp_path, lines):
    text = "\n".join(hmm_text(states=2, width=3).splitlines()[:lines])
    (tmp_path / "bad.hmm").write_text(text)
    with pytest.raises(InputError, match=f"line {lines + 1}: the file ends too early"):
        load(tmp_path / "bad.hmm")


def test_text_after_the_end(tmp_path):
    (tmp_path / "bad.hmm").write_text(hmm_text(states=2) + "\nmore\n")
    with pytest.raises(InputError, match="text after the end"):
        load(tmp_path / "bad.hmm")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"log_prior": None}, "'log_prior' is missing"),
        ({"log_prior": np.zeros(3, np.float32)}, "has shape"),
        ({"log_prior": np.full(7, -np.inf, np.float32)}, "not finite"),
        ({"log_columns": np.zeros((7, 4, 20), np.float32)}, "has shape"),
        ({"log_columns": np.zeros((7, 20), np.float32)}, "has shape"),
        ({"log_columns": np.full((7, 5, 20), np.nan, np.float32)}, "not finite"),
        ({"sharpness": None}, "state no sharpness"),
        ({"sharpness": "high"}, "state no sharpness"),
    ],
)
def test_damaged_library(tmp_path, change, problem):
    path = write_library(tmp_path / "bad.safetensors")
    metadata = {"format": "limbeck-context-library", "sharpness": "1.0"}
    parts = {k: v for k, v in (load_file(path) | metadata | change).items() if v is not None}
    tensors = {k: v for k, v in parts.items() if isinstance(v, np.ndarray)}
    save_file(tensors, path, {k: v for k, v in parts.items() if isinstance(v, str)})
    with pytest.raises(InputError, match=rf"bad\.safetensors: .*{problem}"):
        load(path)
