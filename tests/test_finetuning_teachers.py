"""Fine-tuning of encoders of transformers, tiny ones: where it starts, what learns, what is kept, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import limbeck
import tiny_encoders as tiny
from finetuning_fixture import TASKS, after, parts, proteins
from limbeck.benchmarks.candidates import choices
from limbeck.benchmarks.finetuning import FineTuning, Settings, finetune, load_finetuned
from limbeck.benchmarks.finetuning.bases import opened
from limbeck.benchmarks.finetuning.examples import Examples
from limbeck.benchmarks.finetuning.network import Tuned
from limbeck.benchmarks.finetuning.training import frozen, loss_of, scored, train
from limbeck.benchmarks.run import _default
from limbeck.benchmarks.task import Parts, Task
from limbeck.cli import main
from limbeck.errors import InputError
from tiny_encoders import protein

torch.set_num_threads(1)

WRITERS: dict[str, Callable[[Path], Path]] = {
    "ESM-2": tiny.write_esm2,
    "ProtT5": tiny.write_prott5,
    "ProtBert": tiny.write_protbert,
    "ESM-1b": tiny.write_esm1b,
    "ESM C": tiny.write_esmc,
    "Ankh3": lambda folder: tiny.write_ankh(folder, prefix=True),
    "RoBERTa": tiny.write_roberta,
    "GPT-2": tiny.write_gpt2,
}
MAIN = ("ESM-2", "ProtT5", "ProtBert")
WIDTH, LAYERS, RANK = 16, 3, 2
# A query, key, value and output map each of width by width, one to and one from 32 numbers, in each of 3 layers.
LORA = LAYERS * RANK * (4 * (WIDTH + WIDTH) + 2 * (WIDTH + 32))
PROMPT = 2 * RANK * WIDTH + LAYERS * WIDTH
F32 = {"rank": RANK, "precision": "f32"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("weights")
    return {name: str(write(root / name.replace(" ", ""))) for name, write in WRITERS.items()}


def unlike(folder: str, method: str, layer: Any, texts: list[str]) -> tuple[float, float]:
    """Largest difference of protein and of residue vectors to the encoder's, as a share of its largest number."""
    encoder, base = limbeck.load(folder, layer=layer, precision="f32"), opened(folder, layer)
    settings = Settings(method=method, batch=8, **F32)
    network = Tuned(base.body(settings, residues=False), 1)
    rows = [np.arange(len(text)) for text in texts]
    whole = frozen(network, Examples(texts, torch.zeros(len(texts)), None, base.reading), settings)
    single = frozen(network, Examples(texts, torch.zeros(sum(map(len, texts))), rows, base.reading), settings)
    vectors, residues = encoder.encode(texts), np.concatenate(encoder.encode_residues(texts))
    scale = np.abs(residues).max()
    return float(np.abs(whole.numpy() - vectors).max() / scale), float(np.abs(single.numpy() - residues).max() / scale)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("method", ["head", "prompt", "lora", "full"])
def test_before_training_vectors_are_the_encoders(name: str, method: str, folders: dict[str, str]) -> None:
    # Of like and of other lengths; of windows of 128 residues the last two need two and three.
    texts = ["M", *(protein(n, letters="ACDEFGHIKLMNPQRSTVWYX") for n in (5, 39, 40, 40, 90, 128, 200, 300))]
    assert max(unlike(folders[name], method, None, texts)) < 1e-5
    assert max(unlike(folders[name], method, (2, 1), texts)) < 1e-5


def learned(folder: str, settings: Settings) -> tuple[Tuned, list[float], Any]:
    """A network trained to tell residues by their neighbour, the loss before and after, and what training chose."""
    base = opened(folder)
    texts = [proteins(n, seed)[0] for n, seed in ((24, 0), (12, 1))]
    fit, choose = (
        Examples(
            t,
            torch.tensor([float(label == "H") for text in after("ADGKNRTW", t).labels for label in text]),
            [np.arange(len(text)) for text in t],
            base.reading,
        )
        for t in texts
    )
    torch.manual_seed(0)
    network = Tuned(base.body(settings, residues=True), 1)

    def loss(examples: Examples, scores: torch.Tensor) -> float:
        return float(loss_of("values", scores, examples.targets))

    losses = [loss(fit, scored(network, fit, settings))]
    start = -loss(choose, scored(network, choose, settings))
    course = train(network, "values", fit, choose, lambda scores: -loss(choose, scores), start, settings, seed=0)
    return network, [*losses, loss(fit, scored(network, fit, settings))], course


@pytest.mark.parametrize("name", MAIN)
@pytest.mark.parametrize(("method", "count"), [("lora", LORA), ("prompt", PROMPT)])
def test_adapters_alone_change_and_lower_the_loss(name: str, method: str, count: int, folders: dict[str, str]) -> None:
    before = limbeck.load(folders[name], precision="f32").network.state_dict()
    settings = Settings(method=method, epochs=6, batch=8, learning_rate=2e-2, **F32)
    network, (first, last), course = learned(folders[name], settings)
    assert last < first
    assert course.epochs[course.epoch] == course.valid == max(course.epochs)
    after_it = network.body.network.state_dict()
    assert all(torch.equal(after_it[key], value) for key, value in before.items())
    learning = {key: p for key, p in network.body.network.named_parameters() if p.requires_grad}
    assert learning.keys().isdisjoint(before)
    assert sum(p.numel() for p in learning.values()) == network.trainable == count
    # None is bypassed: each has moved from its start, which for the last of each pair is zero.
    assert all(float(p.detach().abs().max()) > 0 for p in learning.values())


def test_a_network_that_learns_as_a_whole_changes_as_a_whole(folders: dict[str, str]) -> None:
    before = dict(limbeck.load(folders["ESM-2"], precision="f32").network.named_parameters())
    settings = Settings(method="full", epochs=6, batch=8, learning_rate=1e-3, **F32)
    network, (first, last), _ = learned(folders["ESM-2"], settings)
    assert last < first
    same = {key for key, p in network.body.network.named_parameters() if torch.equal(p, before[key])}
    # Contacts are no feature, and a bias of keys shifts all scores of attention alike.
    assert all("contact_head" in key or "key.bias" in key for key in same)
    assert network.trainable == sum(p.numel() for key, p in before.items() if "contact_head" not in key)


def test_layers_above_the_chosen_one_do_not_learn(folders: dict[str, str]) -> None:
    two = opened(folders["ESM-2"], 2)
    for method, count in (("lora", LORA * 2 // 3), ("prompt", 2 * RANK * WIDTH + 2 * WIDTH)):
        assert Tuned(two.body(Settings(method=method, **F32), residues=False), 1).trainable == count
    with pytest.raises(InputError, match=r"its features of layer 0 have nothing to learn; choose another layer"):
        opened(folders["ESM-2"], 0).body(Settings(method="lora", **F32), residues=False)


def test_there_is_no_dropout_in_training(folders: dict[str, str]) -> None:
    base = opened(folders["ProtBert"])  # of which a tenth would be dropped
    network = Tuned(base.body(Settings(method="full", **F32), residues=False), 1)
    (batch,) = Examples([protein(40)], torch.zeros(1), None, base.reading).batches(1, 100)
    assert torch.equal(network.train().vectors(batch), network.eval().vectors(batch))


def test_a_prompt_leaves_over_99_percent_of_a_network_frozen(tmp_path: Path) -> None:
    folder = tiny.write_esm2(tmp_path / "wider", layers=6, hidden_size=128, intermediate_size=512)
    base = opened(str(folder))
    network = Tuned(base.body(Settings(method="prompt"), residues=False), 1)
    assert network.trainable == 2 * 8 * 128 + 6 * 128 < 0.01 * base.parameters


def test_frozen_weights_are_held_in_bf16_and_what_learns_in_f32(folders: dict[str, str]) -> None:
    for name in MAIN:
        settings = Settings(method="lora", epochs=2, batch=8, rank=RANK, learning_rate=2e-2, precision="bf16")
        network, (first, last), _ = learned(folders[name], settings)
        kinds = {(p.dtype, p.requires_grad) for p in network.body.network.parameters()}
        assert kinds == {(torch.bfloat16, False), (torch.float32, True)}
        assert last < first


@pytest.fixture(scope="module")
def tuned(folders: dict[str, str]) -> dict[str, FineTuning]:
    settings = Settings(method="lora", epochs=3, batch=8, learning_rate=2e-2, **F32)
    return {
        "ESM-2": finetune(
            TASKS["classes"], parts("classes"), encoder=folders["ESM-2"], settings=settings, seeds=(0, 1)
        ),
        "ProtT5": finetune(TASKS["values"], parts("values"), encoder=folders["ProtT5"], settings=settings, seeds=(0,)),
        "ProtBert": finetune(
            TASKS["residues"],
            Parts(*(after("ADGKNRTW", proteins(n, seed)[0]) for seed, n in enumerate((32, 12, 16)))),
            encoder=folders["ProtBert"],
            layer=(1, 3),
            settings=Settings(method="prompt", epochs=3, batch=8, learning_rate=2e-2, **F32),
            seeds=(0,),
        ),
    }


def test_result_has_the_form_of_a_students(tuned: dict[str, FineTuning], folders: dict[str, str]) -> None:
    for name, found in tuned.items():
        result = found.result
        chosen = result["chosen"]
        assert chosen["features"] == folders[name]
        assert chosen["layers"] == ([1, 3] if name == "ProtBert" else [3])
        assert result["parameters"] == limbeck.load(folders[name]).parameters
        assert result["trainable"] == (PROMPT if name == "ProtBert" else LORA)
        for epoch, course in zip(chosen["epochs"], chosen["validation"], strict=True):
            assert epoch == int(np.argmax(course))
        json.dumps(result, allow_nan=False)


def test_a_seed_gives_the_same_result(tuned: dict[str, FineTuning], folders: dict[str, str]) -> None:
    settings = Settings(method="lora", epochs=3, batch=8, learning_rate=2e-2, **F32)
    again = finetune(TASKS["classes"], parts("classes"), encoder=folders["ESM-2"], settings=settings)
    assert tuned["ESM-2"].result | {"seconds": 0} == again.result | {"seconds": 0}
    for model, same in zip(tuned["ESM-2"].models, again.models, strict=True):
        assert all(np.array_equal(value, same.weights[key]) for key, value in model.weights.items())
    first, second = (model.weights for model in again.models)
    assert not any(np.array_equal(value, second[key]) for key, value in first.items())


def test_saved_adapters_give_the_same_bits_and_hold_no_weights_of_the_encoder(
    tuned: dict[str, FineTuning], folders: dict[str, str], tmp_path: Path
) -> None:
    # One is longer than a window of ESM-2.
    texts = [*proteins(6, 9)[0], protein(200)]
    for name, found in tuned.items():
        model, folder = found.models[0], tmp_path / name
        model.save(folder)
        again = load_finetuned(folder)
        assert [s.tobytes() for s in again.scores(texts)] == [s.tobytes() for s in model.scores(texts)]
        assert again.predict(texts) == model.predict(texts)
        assert {path.name for path in folder.iterdir()} == {
            "adapters.json", "adapters.safetensors", "head.safetensors", "head.json",
        }  # fmt: skip
        saved = load_file(folder / "adapters.safetensors")
        assert sum(value.size for value in saved.values()) == found.result["trainable"]
        assert again.encoder().fingerprint != limbeck.load(folders[name]).fingerprint


def test_model_predicts_what_was_scored(tuned: dict[str, FineTuning]) -> None:
    truth = parts("classes").score
    shares = [(np.array(model.predict(truth.sequences)) == truth.labels).mean() for model in tuned["ESM-2"].models]
    assert np.mean(shares) == pytest.approx(tuned["ESM-2"].result["value"], abs=1e-4)
    assert 40 < np.mean(tuned["ProtT5"].models[0].predict(truth.sequences)) < 70  # in the assay's own unit
    wanted = after("ADGKNRTW", proteins(16, 2)[0])
    marks = tuned["ProtBert"].models[0].predict(wanted.sequences)
    hits = np.concatenate([np.array(list(m)) == np.array(list(w)) for m, w in zip(marks, wanted.labels, strict=True)])
    assert hits.mean() == pytest.approx(tuned["ProtBert"].result["value"], abs=1e-4)


def test_adapters_of_another_encoder_are_refused(
    tuned: dict[str, FineTuning], folders: dict[str, str], tmp_path: Path
) -> None:
    tuned["ESM-2"].models[0].save(tmp_path / "model")
    other = tiny.write_esm2(tmp_path / "other", layers=4)
    shutil.copytree(folders["ESM-2"], tmp_path / "moved")
    with pytest.raises(InputError, match="is not the encoder that was tuned: its fingerprint is") as caught:
        load_finetuned(tmp_path / "model", encoder=other)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="the encoder that was tuned, is not here; say where it is by encoder="):
        load_finetuned(tmp_path / "model", encoder=tmp_path / "nowhere")
    texts = proteins(3, 9)[0]
    moved = load_finetuned(tmp_path / "model", encoder=tmp_path / "moved")
    assert [s.tobytes() for s in moved.scores(texts)] == [
        s.tobytes() for s in load_finetuned(tmp_path / "model").scores(texts)
    ]


@pytest.mark.parametrize("file", ["adapters.json", "adapters.safetensors", "head.safetensors", "head.json"])
def test_a_damaged_folder_is_one_line(file: str, tuned: dict[str, FineTuning], tmp_path: Path) -> None:
    tuned["ESM-2"].models[0].save(tmp_path / "model")
    path = tmp_path / "model" / file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError) as caught:
        load_finetuned(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_adapters_that_do_not_fit_the_network_are_refused(tuned: dict[str, FineTuning]) -> None:
    model = tuned["ESM-2"].models[0]
    other = dict(list(model.weights.items())[1:])
    changed = type(model)(model.config, other, model.kind, model.names, model.weight, model.bias)
    with pytest.raises(InputError, match="what was learned does not fit the network"):
        changed.encoder()


def test_the_command_adds_a_row(folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Task.parts

    def few(*arguments: Any) -> Parts:
        found = whole(*arguments)
        return Parts(found.fit.take(range(40)), found.choose.take(range(20)), found.score.take(range(20)))

    monkeypatch.setattr(Task, "parts", few)
    command = ["benchmark", "-o", str(tmp_path), "--quick", "--task", "structural_class", "--no-default", "--no-floor"]
    tiny_encoder = ["--encoder", f"tiny={folders['ESM-2']}@2", "--finetune", "lora"]
    assert main([*command, *tiny_encoder, "-q"]) == 0
    rows = json.loads((tmp_path / "benchmark.json").read_text())["encoders"]
    assert list(rows) == ["tiny", "tiny, fine-tuned (lora)"]
    score = rows["tiny, fine-tuned (lora)"]["scores"]["structural_class"]
    assert score["chosen"]["layers"] == [2]
    assert 0 < score["trainable"] < score["parameters"] == rows["tiny"]["parameters"]
    kept = sorted((tmp_path / "cache").iterdir())
    assert main([*command, *tiny_encoder, "-q"]) == 0
    assert sorted((tmp_path / "cache").iterdir()) == kept


def test_where_layers_compete_the_default_one_is_tuned(folders: dict[str, str]) -> None:
    auto, chosen = (choices(folders["ESM-2"], options) for options in (["auto"], ["2"]))
    assert len(auto) > 1
    assert _default(folders["ESM-2"], auto, None).chosen_layers == (3,)
    assert _default(folders["ESM-2"], chosen, None) is chosen[0].encoder


def test_the_command_says_if_there_is_nothing_to_tune(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["benchmark", "-o", str(tmp_path), "--quick", "--task", "structural_class", "--no-default", "--no-floor"]
    assert main([*command, "--encoder", "composition", "--finetune", "lora", "-q"]) != 0
    shown = capsys.readouterr().err
    assert "composition has no network to fine-tune; give a student or a transformers encoder" in shown
    assert len(shown.strip().splitlines()) == 1
