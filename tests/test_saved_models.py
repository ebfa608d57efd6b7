"""A saved model predicts in another process what it predicted in this one, or says in one line why it can't."""

import gzip
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.exceptions import NotFittedError

from fake_encoder import FakeEncoder
from limbeck import InputError
from limbeck.landscapes import vectors
from limbeck.landscapes.models.gaussian_process import GaussianProcessModel
from limbeck.landscapes.models.mean import MeanModel
from limbeck.landscapes.models.ridge import RidgeModel
from limbeck.landscapes.models.saved import load_model, load_training, save
from limbeck.residues import RESIDUES
from tiny_encoders import protein, write_library

WILD_TYPE = protein(20)
ROWS = [WILD_TYPE[:i] + letter + WILD_TYPE[i + 1 :] for i in range(6) for letter in RESIDUES[:8]]
SCORES = np.random.default_rng(0).normal(size=len(ROWS))
META = {"name": "an assay", "wild_types": {"wt": WILD_TYPE}, "layout": "substitutions", "first_position": {"wt": 3}}
PREDICT = """
import sys
import numpy as np
from limbeck.landscapes.models.saved import load_model
model, meta = load_model(sys.argv[1])
np.save(sys.argv[3], np.stack(model.predict(open(sys.argv[2]).read().split(), return_std=True)))
"""


@pytest.fixture(autouse=True)
def fresh_tables():
    vectors.forget()
    yield
    vectors.forget()


@pytest.fixture
def fitted():
    return RidgeModel(alpha=1.0).fit(ROWS, SCORES)


def embedding(encoder="limbeck-contexts", features="embedding:mean"):
    return RidgeModel(features, alpha=1.0, encoder=encoder, wild_types=(WILD_TYPE,)).fit(ROWS, SCORES)


def test_same_bits_in_a_fresh_process(tmp_path):
    unseen = [*ROWS[::5], WILD_TYPE, WILD_TYPE[:4] + "*" + "-" * 15, "W" * 20]
    (tmp_path / "rows.txt").write_text("\n".join(unseen))
    embedded = {"encoder": "limbeck-contexts", "wild_types": (WILD_TYPE,)}
    models = {
        "mean": MeanModel(),
        "ridge": RidgeModel(("one-hot", "composition")),
        "embedded": RidgeModel(("one-hot", "embedding:mean"), **embedded),
        "process": GaussianProcessModel("embedding:mutated", most=30, **embedded),
        "sparse-process": GaussianProcessModel("one-hot"),
    }
    script = "".join(
        f"\nsys.argv[1], sys.argv[3] = {str(tmp_path / n)!r}, {str(tmp_path / n)!r} + '.npy'" + PREDICT for n in models
    )
    for name, model in models.items():
        save(model.fit(ROWS, SCORES), tmp_path / name, META)
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", "import sys" + script, "", str(tmp_path / "rows.txt"), ""]
    subprocess.run(command, check=True, env=environment, timeout=120)
    for name, model in models.items():
        expected = np.stack(model.predict(unseen, return_std=True))
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), expected, err_msg=name)


def test_what_comes_back(tmp_path, fitted):
    fitted.set_params(wild_types=(WILD_TYPE,), cache=str(tmp_path / "cache"))
    save(fitted, tmp_path / "model", META, (ROWS, SCORES))
    model, meta = load_model(tmp_path / "model")
    assert meta == META
    assert type(model) is RidgeModel
    assert model.get_params() == fitted.get_params() | {"cache": None}
    rows, scores = load_training(tmp_path / "model")
    assert rows == ROWS
    np.testing.assert_array_equal(scores, SCORES)
    description = json.loads((tmp_path / "model/model.json").read_text())
    assert description["encoder"] is None
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "model.json",
        "training.csv.gz",
        "weights.safetensors",
    ]
    assert gzip.decompress((tmp_path / "model/training.csv.gz").read_bytes()).startswith(b"row,score\n")


def test_saving_again_replaces_all(tmp_path, fitted):
    save(fitted, tmp_path / "model", META, (ROWS, SCORES))
    first = (tmp_path / "model/model.json").read_bytes()
    save(fitted, tmp_path / "model", META, (ROWS, SCORES))
    assert (tmp_path / "model/model.json").read_bytes() == first
    save(MeanModel().fit(ROWS, SCORES), tmp_path / "model", {})
    assert type(load_model(tmp_path / "model")[0]) is MeanModel
    with pytest.raises(InputError, match="without its training data"):
        load_training(tmp_path / "model")


def test_unfitted_models_and_foreign_folders(tmp_path, fitted):
    with pytest.raises(NotFittedError):
        save(RidgeModel(), tmp_path / "model", META)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    with pytest.raises(InputError, match="something else than a model"):
        save(fitted, tmp_path / "other", META)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="not a folder"):
        save(fitted, tmp_path / "file", META)
    with pytest.raises(InputError, match="encoders by name"):
        save(embedding(FakeEncoder()), tmp_path / "model", META)
    with pytest.raises(InputError, match="can't be saved"):
        save(fitted, tmp_path / "model", {"array": SCORES})
    assert not (tmp_path / "model").exists()


def overwrite(name, change):
    def damage(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(change(content))

    return damage


def edited(**fields):
    def change(content):
        return json.dumps(json.loads(content) | fields).encode()

    return overwrite("model.json", change)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda folder: (folder / "model.json").unlink(), "model.json is missing"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors is missing or damaged"),
        (overwrite("weights.safetensors", lambda b: b[:-1] + bytes([b[-1] ^ 1])), "weights.safetensors is missing or"),
        (overwrite("weights.safetensors", lambda b: b[:100]), "weights.safetensors is missing or damaged"),
        (overwrite("model.json", lambda b: b[: len(b) // 2]), "model.json is damaged"),
        (overwrite("model.json", lambda b: b"[]"), "not of a model that limbeck saved"),
        (edited(format="other"), "not of a model that limbeck saved"),
        (edited(version=2), "update limbeck"),
        (edited(meta=None), "damaged at 'meta'"),
        (edited(encoder=3), "damaged at 'encoder'"),
        (edited(**{"class": "Nonsense"}), "does not fit its description"),
        (edited(**{"class": "MeanModel"}), "does not fit its description"),
        (edited(parameters={"features": "nonsense"}), "no features 'nonsense'"),
        (edited(parameters={"features": "composition"}), "does not fit its description"),
    ],
)
def test_damage_is_one_line(tmp_path, fitted, damage, problem):
    save(fitted, tmp_path / "model", META)
    damage(tmp_path / "model")
    with pytest.raises(InputError, match=problem) as caught:
        load_model(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_damaged_training_data(tmp_path, fitted):
    save(fitted, tmp_path / "model", META, (ROWS, SCORES))
    overwrite("training.csv.gz", lambda b: b[:-4])(tmp_path / "model")
    load_model(tmp_path / "model")
    with pytest.raises(InputError, match=r"training\.csv\.gz is missing or damaged"):
        load_training(tmp_path / "model")


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="give a model's folder"):
        load_model(tmp_path / "nothing")


def test_encoder_is_recorded_and_another_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    original = write_library(tmp_path / "library.safetensors").read_bytes()
    save(embedding("library.safetensors"), tmp_path / "model", META)
    recorded = json.loads((tmp_path / "model/model.json").read_text())["encoder"]
    assert recorded["name"] == "library.safetensors"
    assert len(recorded["fingerprint"]) == 64
    assert recorded["license"]
    expected = load_model(tmp_path / "model")[0].predict(ROWS)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    np.testing.assert_array_equal(load_model(tmp_path / "model")[0].predict(ROWS), expected)
    write_library(tmp_path / "library.safetensors", sharpness=1.2)
    with pytest.raises(InputError, match="not the one that the model was fitted with"):
        load_model(tmp_path / "model")[0].predict(ROWS)
    (tmp_path / "library.safetensors").unlink()
    with pytest.raises(InputError, match="its encoder is not at"):
        load_model(tmp_path / "model")
    (tmp_path / "elsewhere/library.safetensors").write_bytes(original)
    np.testing.assert_array_equal(load_model(tmp_path / "model")[0].predict(ROWS), expected)


def test_weights_are_plain_tensors(tmp_path, fitted):
    save(fitted, tmp_path / "model", META)
    assert {"coef", "alpha", "intercept"} <= set(load_file(tmp_path / "model/weights.safetensors"))
