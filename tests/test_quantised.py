"""The default model, and other students, in int8."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openvino import opset13 as op
from safetensors.numpy import save_file

import limbeck
from fake_encoder import write_fasta
from limbeck.encoders import quantised, student, student_graph
from limbeck.encoders.registry import Options
from limbeck.encoders.student import StudentEncoder, expected_shapes
from limbeck.encoders.student_graph import compile_graph
from limbeck.encoders.variants import encode_variants
from limbeck.errors import InputError
from limbeck.records import read_records
from limbeck.search import build_index
from tiny_encoders import protein, write_esm2

pytestmark = pytest.mark.skipif(not quantised.exact(), reason="int8 needs VNNI or AMX")

PROTEOME = Path(__file__).parents[1] / "examples" / "mycoplasma_genitalium.fasta.gz"
LEAST_COSINE = 0.99
# Of the largest number. Ranges taken from the batch would make it 1.5e-3; a number in the middle between two steps,
# which may go either way, shows less.
TOLERANCE = 3e-4
FORMATS = ["h5", "parquet", "npz", "h5ad"]


@pytest.fixture(scope="module")
def natural() -> list[str]:
    """Proteins that the ranges were not taken from."""
    texts = [record.text for record in read_records(PROTEOME) if 60 <= len(record.text) <= 500]
    return [text for text in texts if text not in quantised.PROTEINS][:200:10]


@pytest.fixture(scope="module")
def f32() -> limbeck.Encoder:
    return limbeck.load(precision="f32", threads=1)


@pytest.fixture(scope="module")
def int8() -> StudentEncoder:
    encoder = limbeck.load(precision="int8", threads=1)
    assert isinstance(encoder, StudentEncoder)
    return encoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A student of somebody's own: few numbers, untrained, another shape, one filter without any weight."""
    shape = {"width": 16, "inner": 24, "kernel": 3, "states": 32, "dilations": [1, 3]}
    config = {"version": "1", "license": "CC0-1.0", "pooling": "combined", "limbeck": shape}
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=s).astype(np.float32) for name, s in expected_shapes(shape).items()}
    weights["blocks.0.out.weight"][3] = 0
    path = tmp_path / "student"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    save_file(weights, path / "model.safetensors")
    return path


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def close(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(a, b, atol=TOLERANCE * np.abs(b).max())


# Products


def stepped(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers that rounding leaves alone: multiples of a 127th of the range, and in each filter the largest of it."""
    steps = rng.integers(-127, 128, size=shape)
    steps.reshape(len(steps), -1)[:, 0] = 127
    return (steps / 127).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    beyond=st.integers(0, 40),
    taps=st.sampled_from([1, 3, 5]),
    dilation=st.sampled_from([1, 2, 5]),
    padded=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_a_convolution_is_exact_where_nothing_is_to_be_rounded(batch, beyond, taps, dilation, padded, seed):
    rng = np.random.default_rng(seed)
    reach = dilation * (taps // 2)
    weight = stepped(rng, (4, 3, taps))
    x = stepped(rng, (batch, 2 * reach + 1 + beyond, 3))
    node = op.parameter([-1, -1, 3], np.float32)
    made = quantised.convolution(node, weight, 1 / quantised.MARGIN, dilation, reach if padded else 0)
    found = compile_graph(ov.Model([made], [node], "convolution"), "int8", 1)([x])[0]
    around = np.pad(x.astype(np.float64), ((0, 0), (reach, reach), (0, 0)))
    expected = sum(around[:, k * dilation : k * dilation + x.shape[1]] @ weight[:, :, k].T for k in range(taps))
    expected = expected if padded else expected[:, reach : x.shape[1] - reach]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5 * 3 * taps)


def mapped(values: list[list[float]], lowest: float | None) -> np.ndarray:
    """What an int8 product with the identity makes of pairs of numbers, up to 1 in its range."""
    node = op.parameter([-1, -1, 2], np.float32)
    made = quantised.linear(node, np.eye(2, dtype=np.float32), 1 / quantised.MARGIN, lowest)
    return compile_graph(ov.Model([made], [node], "linear"), "int8", 1)([np.array([values], np.float32)])[0][0]


def test_inputs_are_cut_off_beyond_their_range():
    np.testing.assert_allclose(mapped([[1, -1], [2, -9]], None), [[1, -1]] * 2, rtol=1e-6)


@given(lowest=st.floats(-0.9, -0.01))
@settings(max_examples=10, deadline=None)
def test_a_low_end_of_its_own_leaves_zero_and_makes_steps_finer(lowest):
    step = (1 - lowest) / 255
    inside = np.linspace(lowest, 1 - step, 50)
    found = mapped([[value, 0] for value in inside], lowest)
    np.testing.assert_allclose(found[:, 1], 0, atol=1e-6)
    np.testing.assert_allclose(found[:, 0], inside, atol=0.51 * step)


# Vectors


def test_vectors_and_residues_are_near_f32(f32, int8, natural):
    assert int8.precision == "int8"
    vectors, exact = int8.encode(natural), f32.encode(natural)
    assert cosines(vectors, exact).min() > LEAST_COSINE
    # Not f32 by another name.
    assert np.abs(vectors - exact).max() > 1e-4 * np.abs(exact).max()
    for found, expected in zip(int8.encode_residues(natural[:4]), f32.encode_residues(natural[:4]), strict=True):
        assert cosines(found, expected).min() > LEAST_COSINE
    for found, expected in zip(int8.log_probabilities(natural[:4]), f32.log_probabilities(natural[:4]), strict=True):
        assert (np.exp(expected) * (expected - found)).sum(axis=1).mean() < 1e-3


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_a_vector_does_not_depend_on_its_batch(int8, natural, data):
    """Not even on proteins like no other, which would stretch a range that is taken from the batch."""
    odd = ["W" * 90, "X" * 200, "CHWP" * 40]
    order = data.draw(st.permutations(range(6)))
    neighbours = data.draw(st.lists(st.sampled_from([*odd, *natural]), max_size=4))
    alone = np.concatenate([int8.encode([text]) for text in natural[:6]])
    close(int8.encode([*(natural[i] for i in order), *neighbours])[:6], alone[list(order)])


def test_windows_do_not_show(natural):
    encoder = limbeck.load(precision="int8", threads=1)
    sequence = "".join(natural)[:1500]
    whole, residues = encoder.encode([sequence]), encoder.encode_residues([sequence])[0]
    encoder.max_length = encoder.overlap + 100
    close(encoder.encode([sequence]), whole)
    close(encoder.encode_residues([sequence])[0], residues)


def test_variants_are_as_if_encoded_whole(int8, natural):
    wild_type = natural[0]
    variants = [wild_type[:i] + "W" + wild_type[i + 1 :] for i in range(5, 50, 9) if wild_type[i] != "W"]
    positions = [[i for i, letter in enumerate(v) if letter != wild_type[i]] for v in variants]
    pooled, averages = encode_variants(int8, wild_type, variants, positions)
    close(pooled, int8.encode(variants))
    features = int8.encode_residues(variants)
    close(averages, np.array([f[p].mean(axis=0) for f, p in zip(features, positions, strict=True)]))


def test_vectors_are_those_of_the_first_load(tmp_path, monkeypatch, natural):
    """With or without a compiled graph in the cache; reading one measures no ranges again."""
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    first = limbeck.load(precision="int8", threads=1).encode(natural[:3])
    assert list((tmp_path / "cache").glob("*.blob"))
    with monkeypatch.context() as reading:
        reading.setattr(student, "input_ranges", None)
        np.testing.assert_array_equal(limbeck.load(precision="int8", threads=1).encode(natural[:3]), first)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "file" / "cache"))
    np.testing.assert_array_equal(limbeck.load(precision="int8", threads=1).encode(natural[:3]), first)


def test_precisions_do_not_share_a_compiled_graph(tmp_path, monkeypatch, folder):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    vectors = {p: limbeck.load(folder, precision=p).encode(["MKTAYIAK"]) for p in ("f32", "int8", "f32")}
    assert len(list((tmp_path / "cache").glob("*.blob"))) == 2
    assert np.abs(vectors["f32"] - vectors["int8"]).max() > 0


def test_ranges_hold_for_the_very_proteins_they_are_from(f32):
    """The largest input of the contexts' product is the largest of the features."""
    ranges = student_graph.input_ranges(f32._weights, f32._dilations, 1)
    layers = [f"blocks.{i}.{part}" for i in range(8) for part in ("conv", "out")]
    assert set(ranges) == {*layers, "contexts"}
    features = f32.encode_residues(quantised.PROTEINS)
    assert ranges["contexts"] == pytest.approx(max(np.abs(f).max() for f in features), rel=1e-4)


@pytest.mark.parametrize("pooling", ["combined", "mean"])
def test_a_students_folder(folder, natural, pooling):
    exact, encoder = (limbeck.load(folder, precision=p, pooling=pooling) for p in ("f32", "int8"))
    assert (encoder.precision, encoder.fingerprint) == ("int8", exact.fingerprint)
    expected = exact.encode(natural)
    assert cosines(encoder.encode(natural), expected).min() > LEAST_COSINE
    assert np.isfinite(encoder.encode(["W", "X" * 50])).all()


# What is recorded, and what is refused


@pytest.mark.parametrize("format", FORMATS)
def test_files_tell_int8_and_are_not_mixed_with_others(tmp_path, folder, format):
    fasta = write_fasta(tmp_path / "p.fasta", [(f"p{n}", protein(40, n)) for n in range(8)])
    paths = {}
    for precision in ("int8", "f32"):
        paths[precision] = tmp_path / f"{precision}.{format}"
        limbeck.embed(fasta, paths[precision], encoder=folder, precision=precision, progress=False)
        assert limbeck.embedding.read_metadata(paths[precision])["precision"] == precision
    with pytest.raises(InputError, match=r"another precision \(int8 there, f32 now\)"):
        limbeck.embed(fasta, paths["int8"], encoder=folder, precision="f32", progress=False)
    if format != "h5ad":
        with pytest.raises(InputError, match=r"computed in f32, and .* in int8; embed it with --precision int8"):
            build_index([paths["int8"], paths["f32"]], tmp_path / "index", progress=False)


def test_parts_in_int8_and_others_are_not_merged(tmp_path, folder):
    fasta = write_fasta(tmp_path / "p.fasta", [(f"p{n}", protein(40, n)) for n in range(8)])
    parts = []
    for number, precision in enumerate(("int8", "f32"), start=1):
        parts.append(tmp_path / f"{number}.h5")
        limbeck.embed(fasta, parts[-1], encoder=folder, precision=precision, shard=f"{number}/2", progress=False)
    with pytest.raises(InputError, match=r"another precision \(int8 there, f32 now\)"):
        limbeck.merge(parts, tmp_path / "merged.h5")


def test_stored_vectors_of_int8_are_an_encoder_in_int8(tmp_path, folder):
    fasta = write_fasta(tmp_path / "p.fasta", [("p", "MKTAYIAK")])
    limbeck.embed(fasta, tmp_path / "p.h5", encoder=folder, precision="int8", progress=False)
    name = f"stored:{tmp_path / 'p.h5'}?sequences={fasta}"
    assert limbeck.load(name, precision="int8").precision == "int8"
    with pytest.raises(InputError, match="was computed in int8, not bf16"):
        limbeck.load(name, precision="bf16")


@pytest.mark.parametrize("name", ["composition", "limbeck-contexts", "esm2"])
def test_other_encoders_say_which_precisions_they_have(tmp_path, name):
    encoder = write_esm2(tmp_path / "esm2") if name == "esm2" else name
    with pytest.raises(InputError, match=r"has no precision 'int8'; choose from: auto, f32") as error:
        limbeck.load(encoder, precision="int8")
    assert "\n" not in str(error.value)


def test_a_processor_without_int8_is_one_clear_line(monkeypatch, folder):
    monkeypatch.setattr(ov.Core, "get_property", lambda *_: ["FP32", "BF16"])
    with pytest.raises(
        InputError, match=re.escape("int8 needs a processor with VNNI or AMX; choose from: auto, f32, bf16")
    ):
        limbeck.load(folder, precision="int8")
    assert student.load_student(folder, Options()).precision == "bf16"


def test_a_processor_whose_sums_overflow_has_none(monkeypatch):
    monkeypatch.setattr(student, "exact", lambda: False)
    with pytest.raises(InputError, match="int8 needs a processor with VNNI or AMX"):
        limbeck.load(precision="int8")
