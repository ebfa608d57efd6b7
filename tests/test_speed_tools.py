"""``limbeck speed``: parts that add up, rates that are counted right, and nothing changed by looking."""

import argparse
import json
import re
import time

import numpy as np
import pytest

import limbeck
from limbeck.commands import speed
from limbeck.encoders.quantised import exact
from limbeck.encoders.student_graph import Operator
from limbeck.profiling import Part, SpeedProfile, _parts, _typical_batch, copy_rate, product_rate, profile, start_up
from limbeck.stages import stage, timed
from tiny_encoders import protein

STAGES = {"reading": 2.0, "network": 2.0}


@pytest.fixture(scope="module")
def encoder():
    return limbeck.load(precision="f32", threads=1)


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    path = tmp_path_factory.mktemp("speed") / "proteins.fasta"
    path.write_text("".join(f">p{i}\n{protein(40 + 10 * i, i)}\n" for i in range(6)) + f">again\n{protein(40, 0)}\n")
    return path


def made(**changes):
    values = {
        "encoder": "x", "precision": "f32", "threads": 2, "residues": 1000, "padding": 0.5, "stages": STAGES,
        "operators": {}, "operations_per_residue": 10, "product_rates": {"f32": 1e4, "int8": 9e9}, "copy_rate": 1e9,
        "load": 0.0,
    }  # fmt: skip
    return SpeedProfile(**values | changes)


def test_inner_stages_take_their_time_from_the_outer_ones(monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 127.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    with timed() as seconds:
        with stage("a"), stage("b"):
            pass
        with pytest.raises(ZeroDivisionError), stage("a"):
            _ = 1 / 0
    # Each switch takes twice as long as the one before.
    assert seconds == {"the rest": 1.0 + 16.0 + 64.0, "a": 2.0 + 8.0 + 32.0, "b": 4.0}


def test_stages_that_nobody_times_change_nothing():
    with stage("a"):
        pass
    with timed() as seconds:
        pass
    assert list(seconds) == ["the rest"]


def test_profile_accounts_for_the_run_and_leaves_the_encoder_as_it_was(encoder, fasta):
    before = encoder.encode(["MKTAYIAK"])
    found = profile([fasta], encoder, threads=1)
    # Equal sequences are computed once.
    assert found.residues == sum(40 + 10 * i for i in range(6))
    assert set(found.stages) == {
        "loading", "reading", "packing", "compiling", "network", "pooling", "encoding", "writing", "the rest",
    }  # fmt: skip
    assert all(seconds >= 0 for seconds in found.stages.values())
    assert sum(part.share for part in found.operators.values()) == pytest.approx(1)
    # 9 activations of 384 numbers in float32 are read and written at least.
    assert found.operators["matrix products"].bytes_per_residue > 9 * 2 * 4 * 384
    np.testing.assert_array_equal(encoder.encode(["MKTAYIAK"]), before)


def test_operations_of_the_default_model(encoder):
    """By hand: 8 blocks of 2 products an output (5 in bf16) and a linear map, width 384, and 2,048 contexts."""
    contexts = 384 * 2048
    assert encoder.operations() == 2 * (8 * (2 + 1) * 384**2 + contexts)
    assert limbeck.load(precision="bf16").operations() == 2 * (8 * (5 + 1) * 384**2 + contexts)
    assert limbeck.load(precision="f32", pooling="mean").operations() == 2 * 8 * 3 * 384**2


def test_shares_of_the_limit():
    assert made().limit == 1000
    assert made().share_of_limit == 1000 / 4.0 / 1000
    # Padding is work that the network does.
    assert made().network_share_of_limit == 1000 / 0.5 / 2.0 / 1000
    assert made(operations_per_residue=None).share_of_limit is None
    assert "the run reaches 25 %, the network 100 %" in str(made())
    assert "busy" in str(made(load=9.0))
    assert "busy" not in str(made())


def test_operators_are_named_for_people_and_add_up():
    operators = [Operator("Slice", 1.0, 8), Operator("FullyConnected", 2.5, 100), Operator("Pad", 0.5, 2)]
    parts = _parts(operators, residues=10)
    assert list(parts.items()) == [("matrix products", Part(0.625, 10.0)), ("copies", Part(0.375, 1.0))]


@pytest.mark.skipif(not exact(), reason="int8 needs VNNI or AMX")
def test_matrix_products_in_int8_are_known_by_their_names():
    """The runtime has other names for them; else they would count as copies."""
    encoder = limbeck.load(precision="int8", threads=1)
    parts = _parts(encoder.operators(["MKTAYIAKQRQISFVK" * 20] * 4), residues=1280)
    assert next(iter(parts)) == "matrix products"
    assert encoder.operations() == limbeck.load(precision="bf16").operations()


def test_typical_batch_is_full_of_proteins_of_the_mean_length():
    assert [len(p) for p in _typical_batch(residues=1000, proteins=10, tokens=350)] == [100] * 3
    assert [len(p) for p in _typical_batch(residues=1000, proteins=10, tokens=9999)] == [100] * 10
    assert [len(p) for p in _typical_batch(residues=1000, proteins=1, tokens=350)] == [1000]


def test_rates_are_rates():
    assert product_rate("f32", threads=1, size=256, repeats=1) > 1e8
    assert product_rate("int8", threads=1, size=256, repeats=1) > 1e8
    assert copy_rate(2**20, repeats=1) > 1e7


def test_encoder_that_does_not_tell_its_operations_still_has_stages(fasta):
    found = profile([fasta], limbeck.load("composition"), threads=1)
    assert found.stages["encoding"] > 0
    assert found.limit is None
    assert not found.operators


def test_start_up_names_its_parts():
    found = start_up("random-student", "f32", cached=False, repeats=1)
    assert list(found) == ["import", "load", "first batch", "all"]
    assert found["all"] == pytest.approx(sum(list(found.values())[:3]))


def test_command_writes_its_numbers(fasta, tmp_path, capsys):
    verbs = argparse.ArgumentParser().add_subparsers()
    speed.add(verbs)
    options = verbs.choices["speed"].parse_args([str(fasta), "--threads", "1", "--json", str(tmp_path / "s.json")])
    options.run(options)
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["encoder"] == "limbeck-9m"
    assert found["limit"] == found["product_rates"][found["precision"]] / found["operations_per_residue"]
    assert "residues/s" in capsys.readouterr().err


def test_summary_tells_the_stages(fasta, tmp_path, encoder):
    summary = limbeck.embed(fasta, tmp_path / "v.h5", encoder=encoder, progress=False)
    assert sum(summary.stages.values()) == summary.seconds
    assert re.search(r"^spent on +\w.* \d+%", str(summary), re.MULTILINE)
    again = limbeck.embed(fasta, tmp_path / "v.h5", encoder=encoder, progress=False)
    assert "spent on" not in str(again)
