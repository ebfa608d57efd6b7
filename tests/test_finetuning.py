"""Fine-tuning of tiny students: what learns, what is kept, what is saved, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import limbeck
from finetuning_fixture import PARTS, QUICK, TASKS, after, parts, proteins, task
from limbeck.benchmarks.finetuning import FineTuned, FineTuning, Settings, finetune, finetune_tasks, load_finetuned
from limbeck.benchmarks.finetuning.examples import Examples
from limbeck.benchmarks.finetuning.network import StudentBody, Tuned, adapt, merged, prompt
from limbeck.benchmarks.finetuning.training import scored
from limbeck.benchmarks.task import Items, Parts
from limbeck.distillation.config import StudentConfig
from limbeck.distillation.export import export
from limbeck.distillation.network import Student
from limbeck.distillation.start import network_of
from limbeck.encoders.student import DEFAULT_NAME, student_files
from limbeck.errors import InputError
from tiny_encoders import protein

SHAPE = StudentConfig(width=12, inner=12, kernel=3, dilations=(1, 2), states=16)


def network(seed: int = 0) -> Student:
    torch.manual_seed(seed)
    student = Student(SHAPE)
    torch.nn.init.normal_(student.project.weight, std=0.2)
    return student.eval()


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    facts = {"name": "tiny", "version": "1", "license": "CC0-1.0", "card": "# tiny\n"}
    export(network(), folder, pooling="combined", nested=(), **facts)
    return str(folder)


@pytest.fixture(scope="module")
def tuned(student: str) -> dict[tuple[str, str], FineTuning]:
    return {
        (kind, method): finetune(
            TASKS[kind], parts(kind), encoder=student, settings=Settings(method=method, **QUICK), seeds=(0,)
        )
        for kind, method in (
            ("classes", "head"), ("classes", "lora"), ("classes", "full"), ("classes", "prompt"),
            ("values", "full"), ("labels", "lora"), ("residues", "lora"),
        )
    }  # fmt: skip


@pytest.mark.parametrize("change", [adapt, prompt])
def test_adapters_change_nothing_at_first_and_can_be_merged(change: Callable[[Student, int], Student]) -> None:
    plain = network()
    ids = torch.randint(0, 20, (3, 32), generator=torch.Generator().manual_seed(0))
    ids[0, 20:] = 21
    mask = (ids != 21)[..., None].float()
    adapted = change(network(), 2)
    with torch.no_grad():
        expected = plain(ids, mask)
        torch.testing.assert_close(adapted(ids, mask).vectors, expected.vectors)
        for name, parameter in adapted.named_parameters():
            if name.endswith(("up.weight", "prompt")):
                torch.nn.init.normal_(parameter, std=0.3)
        changed = adapted(ids, mask)
        assert (changed.vectors - expected.vectors).abs().max() > 0.01
        again = merged(adapted)(ids, mask)
        torch.testing.assert_close(again.vectors, changed.vectors, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(again.features, changed.features, atol=1e-5, rtol=1e-4)
    assert merged(adapted).state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("change", [adapt, prompt])
def test_adapters_alone_learn(change: Callable[[Student, int], Student]) -> None:
    tuned = Tuned(StudentBody(change(network(), 2), combined=True), 2)
    learning = {name for name, p in tuned.body.named_parameters() if p.requires_grad}
    assert learning
    assert all(".up." in name or ".down." in name or name.endswith("prompt") for name in learning)
    torch.nn.init.normal_(tuned.head.weight)
    for module in tuned.modules():
        if hasattr(module, "up"):
            torch.nn.init.normal_(module.up.weight)
    (batch,) = Examples([protein(32, seed=i) for i in range(2)], torch.zeros(2)).batches(2, 100)
    tuned(batch).square().sum().backward()
    # Every adapter is reached by the gradient: none is bypassed.
    assert all(float(p.grad.abs().max()) > 0 for p in tuned.body.parameters() if p.requires_grad)
    assert all(p.grad is None for p in tuned.body.parameters() if not p.requires_grad)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=12), st.integers(1, 5), st.integers(1, 200))
@settings(max_examples=30, deadline=None)
def test_batches_hold_every_protein_once_and_do_not_show(lengths: list[int], most: int, tokens: int) -> None:
    texts = [protein(n, seed=i) for i, n in enumerate(lengths)]
    rows = [np.arange(0, n, 2) for n in lengths]
    targets = torch.zeros(sum(map(len, rows)), dtype=torch.long)
    examples = Examples(texts, targets, rows)
    batches = list(examples.batches(most, tokens, np.random.default_rng(0)))
    assert sorted(np.concatenate([b.places for b in batches])) == list(range(len(targets)))
    assert max(len(b.ids) for b in batches) <= most
    model = Tuned(StudentBody(network(), combined=True), 2)
    together = scored(model, examples, Settings(batch=most, tokens=tokens))
    alone = torch.cat(
        [scored(model, Examples([t], torch.zeros(len(r)), [r]), Settings()) for t, r in zip(texts, rows, strict=True)]
    )
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_a_protein_without_a_residue_that_is_looked_at_is_passed_over() -> None:
    rows = [np.arange(3), np.arange(0), np.arange(2)]
    examples = Examples([protein(n) for n in (9, 60, 9)], torch.zeros(5), rows)
    # Alone in its batch it would have a loss that is no number.
    assert sorted(b.places.tolist() for b in examples.batches(1, 100)) == [[0, 1, 2], [3, 4]]


def test_result_has_the_form_of_a_score(tuned: dict[tuple[str, str], FineTuning]) -> None:
    for (kind, method), found in tuned.items():
        result = found.result
        expected = {
            "metric", "value", "interval", "replicates", "metrics", "kind", "question", "method", "chosen", "valid",
            "tried", "n", "units", "labels", "near", "unseen_labels", "residues", "in_mean", "stand_in", "seconds",
        }  # fmt: skip
        assert expected <= set(result)
        assert (result["kind"], result["method"]) == (kind, method)
        assert len(result["replicates"]) == 1000
        assert result["interval"][0] <= result["value"] <= result["interval"][1]
        json.dumps(result, allow_nan=False)


def test_trainable_share_is_told(tuned: dict[tuple[str, str], FineTuning]) -> None:
    shares = {m: tuned["classes", m].result["trainable"] for m in ("head", "lora", "full")}
    assert shares["head"] == 0
    assert shares["lora"] > 0
    assert shares["full"] < tuned["classes", "full"].result["parameters"]  # the profile's head does not take part


def test_a_prompt_is_less_than_a_hundredth_of_the_default_student_and_leaves_the_rest() -> None:
    config, weights = student_files(DEFAULT_NAME)
    student = Tuned(StudentBody(prompt(network_of(DEFAULT_NAME, config, weights), Settings().rank), combined=True), 2)
    assert 0 < student.trainable < 0.01 * sum(int(value.size) for value in weights.values())


def test_fine_tuning_learns_what_the_head_alone_cannot(student: str) -> None:
    three = Parts(*(after("ADGKNRTW", proteins(n, seed)[0]) for seed, n in enumerate((48, 12, 16))))
    found = {}
    for method, rate in (("head", None), ("lora", 3e-2), ("full", 1e-2)):
        how = Settings(method=method, epochs=8, patience=8, batch=8, learning_rate=rate)
        found[method] = finetune(TASKS["residues"], three, encoder=student, settings=how, seeds=(0,)).result["value"]
    assert found["lora"] > found["head"] + 0.05
    assert found["full"] > found["head"] + 0.1


@pytest.mark.parametrize("loss", ["pairwise", "listwise"])
def test_a_ranking_loss_learns_the_order_and_speaks_in_the_units_of_the_values(student: str, loss: str) -> None:
    settings = Settings(method="full", epochs=8, patience=8, batch=32, learning_rate=1e-2, loss=loss, precision="f32")
    fit = parts("values").fit
    # Chosen by what it learns from, so that some epoch is kept.
    found = finetune(TASKS["values"], Parts(fit, fit, fit), encoder=student, settings=settings, seeds=(0,))
    start, *later = found.result["chosen"]["validation"][0]
    assert max(later) > start + 0.05
    predicted, truth = found.models[0].predict(fit.sequences), np.asarray(fit.labels, float)
    slope, level = np.polyfit(predicted, truth, 1)
    assert slope == pytest.approx(1, abs=0.02)
    assert level == pytest.approx(0, abs=0.02 * np.abs(truth).max())


def test_a_prompt_learns_and_leaves_frozen_weights_as_they_are(student: str) -> None:
    settings = Settings(method="prompt", learning_rate=3e-2, precision="f32", **QUICK)
    three = Parts(*(after("ADGKNRTW", proteins(n, seed)[0]) for seed, n in enumerate((48, 12, 16))))
    found = finetune(TASKS["residues"], three, encoder=student, settings=settings, seeds=(0,))
    assert found.result["chosen"]["epochs"] != [0]
    before = student_files(student)[1]
    weights = found.models[0].weights
    changed = {name for name, value in weights.items() if not np.array_equal(value, before[name])}
    assert changed == {f"blocks.{i}.out.{name}" for i in range(2) for name in ("weight", "bias")}


def test_a_seed_gives_the_same_result(student: str) -> None:
    settings = Settings(method="lora", learning_rate=3e-2, **{**QUICK, "epochs": 2})
    three = Parts(*(after("ADGKNRTW", proteins(n, seed)[0]) for seed, n in enumerate((48, 12, 16))))
    first, again, other = (
        finetune(TASKS["residues"], three, encoder=student, settings=settings, seeds=(seed,)) for seed in (0, 0, 1)
    )
    assert first.result | {"seconds": 0} == again.result | {"seconds": 0}
    assert first.result["chosen"]["epochs"] != [0]
    assert first.result["chosen"]["validation"] != other.result["chosen"]["validation"]


def test_no_epoch_is_kept_that_validation_does_not_prefer(tuned: dict[tuple[str, str], FineTuning]) -> None:
    for (_, method), found in tuned.items():
        if method != "head":
            course = found.result["chosen"]["validation"][0]
            assert found.result["chosen"]["epochs"][0] == int(np.argmax(course))
            assert found.result["valid"] == pytest.approx(max(course), abs=1e-4)


@pytest.mark.parametrize("kind", ["classes", "values", "labels", "residues"])
def test_saved_model_gives_the_same_bits_in_another_process(
    kind: str, tuned: dict[tuple[str, str], FineTuning], tmp_path: Path
) -> None:
    model = next(found for (k, m), found in tuned.items() if k == kind and m != "head").models[0]
    sequences = proteins(6, 9)[0]
    model.save(tmp_path / "model")
    script = (
        "import sys, json\n"
        "from limbeck.benchmarks.finetuning import load_finetuned\n"
        "model = load_finetuned(sys.argv[1])\n"
        "found = [s.tobytes().hex() for s in model.scores(sys.argv[2:])], model.predict(sys.argv[2:])\n"
        "assert 'torch' not in sys.modules\n"
        "print(json.dumps(found))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "model"), *sequences]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    bits, predicted = json.loads(done.stdout)
    assert bits == [s.tobytes().hex() for s in model.scores(sequences)]
    assert predicted == model.predict(sequences)


def test_model_predicts_what_was_scored(tuned: dict[tuple[str, str], FineTuning]) -> None:
    found = tuned["classes", "full"]
    truth = parts("classes").score
    predicted = np.array(found.models[0].predict(truth.sequences))
    assert (predicted == truth.labels).mean() == pytest.approx(found.result["value"], abs=1e-4)
    values = tuned["values", "full"].models[0].predict(truth.sequences)
    assert 40 < np.mean(values) < 70  # in the assay's own unit
    texts = tuned["residues", "lora"].models[0].predict(truth.sequences)
    assert [len(t) for t in texts] == [len(s) for s in truth.sequences]
    assert all(set(t) <= set("HC") for t in texts)
    assert all(set(names) <= {"a", "b"} for names in tuned["labels", "lora"].models[0].predict(truth.sequences))


def test_saved_folder_is_a_student_of_its_own(tuned: dict[tuple[str, str], FineTuning], tmp_path: Path) -> None:
    model = tuned["classes", "full"].models[0]
    model.save(tmp_path / "model")
    encoder = limbeck.load(str(tmp_path / "model"), precision="f32")
    texts = proteins(3, 9)[0]
    scores = [v @ model.weight + model.bias for v in encoder.encode(texts)]
    np.testing.assert_array_equal(np.stack(scores), np.stack(model.scores(texts)))


@pytest.mark.parametrize("file", ["head.json", "head.safetensors", "model.safetensors", "config.json"])
def test_damaged_folder_is_one_line(file: str, tuned: dict[tuple[str, str], FineTuning], tmp_path: Path) -> None:
    tuned["classes", "lora"].models[0].save(tmp_path / "model")
    path = tmp_path / "model" / file
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError) as caught:
        load_finetuned(tmp_path / "model")
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(InputError):
        load_finetuned(tmp_path / "model")


def test_other_files_are_not_written_over(tuned: dict[tuple[str, str], FineTuning], tmp_path: Path) -> None:
    model: FineTuned = tuned["classes", "lora"].models[0]
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        model.save(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        model.save(tmp_path / "thesis.tex")
    model.save(tmp_path / "model")
    model.save(tmp_path / "model")
    assert load_finetuned(tmp_path / "model").about["task"] == "some_classes"


def test_results_are_kept_and_taken_up(student: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(method="head")
    first, again = (
        finetune_tasks(
            [TASKS["classes"]],
            lambda _: tmp_path,
            "full",
            encoder=student,
            settings=settings,
            cache=tmp_path / "cache",
            log=sys.stderr,
        )
        for _ in range(2)
    )
    assert first == again
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert "some_classes, head: accuracy" in capsys.readouterr().err


def refused(message: str, **changed: Any) -> None:
    given = {"task": TASKS["classes"], "parts": parts("classes"), "settings": Settings(method="head")} | changed
    with pytest.raises(InputError, match=message) as caught:
        finetune(given.pop("task"), given.pop("parts"), **given)
    assert "\n" not in str(caught.value)


def test_without_pytorch_it_says_what_to_install(student: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused(r"needs PyTorch; pip install 'limbeck\[train\]'", encoder=student)


def test_an_encoder_without_a_network_is_refused(student: str) -> None:
    refused("composition has no network to fine-tune; give a student or a transformers encoder", encoder="composition")
    refused("no encoder is called 'compositoin'; did you mean composition", encoder="compositoin")
    refused("has no choice of layers", encoder=student, layer=1)


def test_pairs_empty_parts_and_single_classes_are_refused(student: str) -> None:
    three = parts("classes")
    refused("one of pairs", encoder=student, task=task("pairs", "auroc"))
    refused("no protein in part 'choose'", encoder=student, parts=Parts(three.fit, three.choose.take([]), three.score))
    one = three.fit.take(np.flatnonzero(three.fit.labels == "with"))
    refused("a single class to learn, 'with'", encoder=student, parts=Parts(one, three.choose, three.score))


def test_labels_that_training_never_saw(student: str) -> None:
    three = parts("classes")
    other = Items(three.score.sequences, np.array(["new"] * len(three.score)))
    refused("no label of part 'score', such as 'new', is in 'fit'", encoder=student, parts=Parts(*PARTS[:2], other))
    mixed = Items(three.score.sequences, np.where(np.arange(len(three.score)) < 6, "new", three.score.labels))
    found = finetune(
        TASKS["classes"], Parts(three.fit, three.choose, mixed), encoder=student, settings=Settings(method="head")
    )
    assert found.result["unseen_labels"] == 6
    assert found.result["value"] <= 18 / 24  # those count as errors
    assert list(found.models[0].names) == ["with", "without"]


def test_a_loss_that_is_no_number_names_the_step(student: str) -> None:
    refused(
        r"no number at step \d+ \(epoch \d+\); lower the learning rate, now 1e\+30",
        encoder=student, settings=Settings(method="full", learning_rate=1e30, **QUICK),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "half"}, "no way 'half'"),
        ({"rank": 0}, "rank"),
        ({"learning_rate": -1.0}, "at least 0"),
        ({"loss": "hinge"}, "no loss 'hinge'"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings(**options)
