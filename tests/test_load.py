import subprocess
import sys

import pytest

from limbeck import Encoder, InputError, load
from limbeck.encoders import available
from limbeck.encoders.student import DEFAULT_NAME
from tiny_encoders import write_esm2, write_hmm, write_library, write_unirep

WRITERS = {
    "unirep.safetensors": write_unirep,
    "contexts.safetensors": write_library,
    "contexts.hmm": write_hmm,
    "esm2": write_esm2,
}
ON_THIS_MACHINE = [info.name for info in available() if info.on_this_machine and "PATH" not in info.name]


@pytest.mark.parametrize("file", WRITERS)
def test_a_path_is_recognised_by_what_it_holds(tmp_path, file):
    path = WRITERS[file](tmp_path / file)
    encoder = load(path)
    assert isinstance(encoder, Encoder)
    assert encoder.name == str(path)
    assert load(str(path)).fingerprint == encoder.fingerprint
    assert len(encoder.fingerprint) == 64


def test_no_name_is_the_default_student():
    assert load().name == DEFAULT_NAME
    assert load().fingerprint == load(DEFAULT_NAME).fingerprint


@pytest.mark.parametrize("name", ON_THIS_MACHINE)
def test_the_list_tells_the_truth(name):
    (info,) = [i for i in available() if i.name == name]
    encoder = load(name)
    assert isinstance(encoder, Encoder)
    assert info.name == encoder.name
    assert (info.dimension, info.parameters) == (encoder.dimension, encoder.parameters)
    assert info.license == encoder.license
    assert encoder.encode(["MKV"]).shape == (1, info.dimension)


def test_the_list_names_every_family():
    assert {"composition", "dipeptides", "kmers-3", "one-hot", DEFAULT_NAME} <= set(ON_THIS_MACHINE)
    assert {"ESM-2", "UniRep (mLSTM)", "context library", "context HMM (CS-BLAST)"} <= {i.kind for i in available()}


def test_fingerprints_differ():
    assert len({load(name).fingerprint for name in ON_THIS_MACHINE}) == len(ON_THIS_MACHINE)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("compositions", "did you mean composition?"),
        ("kmers3", "did you mean kmers-3?"),
        ("zzzz", "`limbeck encoders` lists"),
        ("models/missing.hmm", "no such file or folder"),
        ("missing.safetensors", "no such file or folder"),
        ("/nowhere/at/all", "no such file or folder"),
        ("./folder", "no such file or folder"),
    ],
)
def test_unknown_name(name, hint):
    with pytest.raises(InputError) as caught:
        load(name)
    assert hint in str(caught.value)
    assert name in str(caught.value)


def test_folder_without_a_model(tmp_path):
    with pytest.raises(InputError, match=r"has no config\.json"):
        load(tmp_path)


def test_file_of_another_kind(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"weights\.pt: not the weights of an encoder"):
        load(tmp_path / "weights.pt")


def test_damaged_safetensors(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{not json")
    with pytest.raises(InputError, match=r"a\.safetensors: not a readable safetensors file"):
        load(tmp_path / "a.safetensors")


def test_listing_and_baselines_import_nothing_heavy():
    program = (
        "import sys, limbeck; from limbeck.encoders import available; available(); limbeck.load('composition');"
        "print(sorted({'torch', 'transformers', 'sklearn', 'openvino'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
