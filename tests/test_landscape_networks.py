"""Networks trained on a landscape alone: the shared computation is the definition, and fits can be trusted."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

torch = pytest.importorskip("torch")

from safetensors.numpy import load_file, save_file  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from limbeck.errors import InputError  # noqa: E402
from limbeck.landscapes.models import ranker  # noqa: E402
from limbeck.landscapes.networks import (  # noqa: E402
    PUBLISHED,
    BiLSTM,
    CNNEnsemble,
    DilatedCNN,
    LinearMaxPoolCNN,
    MaxPoolCNN,
    matrix_rate,
    training,
)
from limbeck.landscapes.networks.convolutions import ConvolutionalNetwork  # noqa: E402
from limbeck.landscapes.networks.residues import RESIDUES, encode  # noqa: E402
from limbeck.landscapes.networks.training import Settings, rows_of_step, steps_of  # noqa: E402
from limbeck.landscapes.networks.windows import Windows, offsets  # noqa: E402
from limbeck.losses import LOSSES  # noqa: E402

ALPHABET = RESIDUES + "X-"
SMALL = {"channels": (8,), "kernels": (3,), "batch_size": 8, "epochs": 4, "device": "cpu"}


def assay(count: int = 40, width: int = 30, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Single and double mutants of one protein, whose score adds up over positions."""
    draw = np.random.default_rng(seed)
    wild_type = draw.integers(20, size=width)
    effects = draw.normal(size=(width, 20))
    rows, scores = [], []
    for _ in range(count):
        variant = wild_type.copy()
        for position in draw.choice(width, draw.integers(1, 3), replace=False):
            variant[position] = draw.integers(20)
        rows.append("".join(RESIDUES[i] for i in variant))
        scores.append(effects[np.arange(width), variant].sum())
    return rows, np.array(scores)


@st.composite
def assays(draw: st.DrawFn) -> list[str]:
    """Rows of one to three wild types, with substitutions, unknown residues, deletions that shift the rest, padding,
    rows that have nothing in common with the others, and rows without residues."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    letters = draw(st.sampled_from([ALPHABET, "AC", "ACX-"]))
    width = draw(st.integers(1, 24))
    wild_types = ["".join(random.choice(list(letters), width)) for _ in range(draw(st.integers(1, 3)))]
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        row = list(random.choice(wild_types))
        for position in random.integers(width, size=random.integers(0, 4)):
            row[position] = random.choice(list(letters))
        if random.random() < 0.2:
            del row[random.integers(width)]
        if random.random() < 0.2:
            row = row[: random.integers(width + 1)]
        if random.random() < 0.1:
            row = list(random.choice(list(ALPHABET), width))
        rows.append("".join(row).ljust(width, "-"))
    return rows


@st.composite
def networks(draw: st.DrawFn) -> ConvolutionalNetwork:
    depth = draw(st.integers(1, 3))
    channels = draw(st.lists(st.integers(1, 6), min_size=depth, max_size=depth))
    kernels = draw(st.lists(st.integers(1, 5), min_size=depth, max_size=depth))
    dilations = draw(st.lists(st.integers(1, 3), min_size=depth, max_size=depth))
    dense = draw(st.sampled_from([None, 7]))
    network = ConvolutionalNetwork(channels, kernels, dilations, dense, draw(st.integers(0, 1000))).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return network


def by_definition(network: ConvolutionalNetwork, row: str, kernels: list[int], dilations: list[int]) -> float:
    """The paper's network in plain numpy: one-hot, convolutions with "SAME" padding, masked maximum, output."""
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    features = np.zeros((len(row), 21))
    for position, letter in enumerate(row):
        if letter != "X":
            features[position, (RESIDUES + "-").index(letter)] = 1
    for depth, (kernel, dilation) in enumerate(zip(kernels, dilations, strict=True)):
        reach = (kernel - 1) * dilation
        padded = np.pad(features, ((reach // 2, reach - reach // 2), (0, 0)))
        filters = state[f"filters.{depth}"]
        features = np.array(
            [
                sum(padded[position + place * dilation] @ filters[:, place] for place in range(kernel))
                for position in range(len(row))
            ]
        )
        features = np.maximum(0, features + state[f"filter_biases.{depth}"])
    if "dense.weight" in state:
        features = np.maximum(0, features @ state["dense.weight"].T + state["dense.bias"])
    shown = [position for position, letter in enumerate(row) if letter != "-"]
    pooled = features[shown].max(axis=0) if shown else np.zeros(features.shape[1])
    return float((pooled @ state["output.weight"].T + state["output.bias"]).item())


def gradients(network: ConvolutionalNetwork, batch: object, weights: torch.Tensor) -> list[torch.Tensor]:
    network.zero_grad()
    (network(batch) * weights).sum().backward()
    return [parameter.grad.clone() for parameter in network.parameters()]


@settings(max_examples=60, deadline=None)
@given(rows=assays(), network=networks(), seed=st.integers(0, 100))
def test_distinct_windows_give_the_scores_and_gradients_of_every_position(rows, network, seed):
    codes = encode(rows)
    draw = np.random.default_rng(seed)
    chosen = draw.integers(len(rows), size=draw.integers(1, 2 * len(rows)))
    shared = Windows(codes, network.layers).batch(chosen)
    torch.testing.assert_close(network(shared), network(codes[chosen]), rtol=1e-9, atol=1e-9)
    weights = torch.from_numpy(draw.normal(size=len(chosen)))
    pairs = zip(gradients(network, shared, weights), gradients(network, codes[chosen], weights), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(rows=assays(), seed=st.integers(0, 100), dense=st.sampled_from([None, 3]))
def test_every_position_is_computed_as_the_paper_defines_it(rows, seed, dense):
    kernels, dilations = [5, 2], [2, 3]
    network = ConvolutionalNetwork([4, 3], kernels, dilations, dense, seed).double()
    with torch.no_grad():
        found = network(encode(rows)).numpy()
    expected = [by_definition(network, row, kernels, dilations) for row in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(rows=assays(), kernel=st.integers(1, 6), dilation=st.integers(1, 3))
def test_windows_are_counted_once(rows, kernel, dilation):
    layer = offsets(kernel, dilation)
    batch = Windows(encode(rows), [layer]).batch(np.arange(len(rows)))
    inside = {
        tuple(row[position + offset] if 0 <= position + offset < len(row) else "X" for offset in layer)
        for row in rows
        for position in range(len(row))
        if row[position] != "-"
    }
    found = {tuple(("X" + RESIDUES + "-")[code] for code in part) for part in batch.parts[0]}
    assert len(found) == len(batch.parts[0])
    assert inside <= found


def test_variants_of_one_protein_share_nearly_all_windows():
    rows, _ = assay(count=64, width=200)
    batch = Windows(encode(rows), [offsets(5, 1), offsets(5, 1)]).batch(np.arange(64))
    assert batch.share < 0.1
    assert batch.pooling.looked_up < 0.2 * batch.positions


def test_parameters_are_those_of_the_paper(monkeypatch):
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", lambda weights, **_: weights)

    def count(model):
        return sum(value.numel() for value in model.build().parameters())

    assert count(MaxPoolCNN.published("fluorescence")) == 109_569
    assert count(LinearMaxPoolCNN.published("fluorescence")) == 2_209_793
    assert count(MaxPoolCNN.published("stability")) == count(DilatedCNN.published("stability")) == 10_597_377
    assert round(count(LinearMaxPoolCNN.published("stability")) / 1e6, 2) == 12.70
    assert round(count(MaxPoolCNN.published("beta-lactamase")) / 1e6, 2) == 3.87
    assert round(sum(map(count, CNNEnsemble.published("stability")._members())) / 1e6, 1) == 33.9
    assert round(sum(map(count, CNNEnsemble.published("beta-lactamase")._members())) / 1e6, 2) == 7.73


def test_published_settings_train_on_everything_to_the_end():
    for task, name in [(task, name) for task, names in PUBLISHED.items() for name in names]:
        arguments = PUBLISHED[task][name]
        assert arguments["patience"] is None
        assert arguments["held_out"] == 0
        assert not arguments["standardise"]
    with pytest.raises(ValueError, match="no DilatedCNN for 'fluorescence'"):
        DilatedCNN.published("fluorescence")
    with pytest.raises(ValueError, match="no task 'solubility'"):
        CNNEnsemble.published("solubility")


def test_weights_start_as_in_the_papers_code():
    network = ConvolutionalNetwork([1024, 512], [9, 7], [1, 1], 2048, 0)
    for filters, inputs in zip(network.filters, (21 * 9, 1024 * 7), strict=True):
        assert filters.std().item() == pytest.approx(inputs**-0.5, rel=0.01)
        assert filters.abs().max().item() <= 2 * inputs**-0.5 / 0.8796 + 1e-6
    assert all((bias == 0).all() for bias in network.filter_biases)
    bound = (6 / (512 + 2048)) ** 0.5
    assert 0.99 * bound < network.dense.weight.abs().max().item() <= bound
    assert network.dense.bias.std().item() == pytest.approx(1e-6, rel=0.1)


@given(rows=st.integers(1, 30), batch_size=st.integers(1, 40), epochs=st.integers(1, 5))
def test_batches_go_over_the_ends_of_epochs_and_leave_nothing_out(rows, batch_size, epochs):
    how = Settings(batch_size, epochs, (), ())
    batches = [rows_of_step(step, rows, how) for step in range(steps_of(rows, how))]
    assert all(len(batch) == batch_size for batch in batches[:-1])
    seen = np.concatenate(batches).reshape(epochs, rows)
    assert (np.sort(seen, axis=1) == np.arange(rows)).all()


def test_a_step_is_adam_with_decoupled_weight_decay():
    rows, scores = assay(count=8)
    model = MaxPoolCNN(
        channels=(4,),
        kernels=(3,),
        batch_size=8,
        epochs=1,
        learning_rates=(1e-2, 1e-3),
        weight_decays=(0.1, 0.5),
        patience=None,
        held_out=0,
        standardise=False,
        device="cpu",
    )
    start = model.build()
    (start(encode(rows)) - torch.from_numpy(scores).float()).square().mean().backward()
    fitted = dict(model.fit(rows, scores).network_.named_parameters())
    for name, value in start.named_parameters():
        rate, decay = (1e-3, 0.5) if name.startswith("output") else (1e-2, 0.1)
        expected = value - rate * value.grad / (value.grad.abs() + 1e-8) - rate * decay * value
        torch.testing.assert_close(fitted[name], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        MaxPoolCNN(**SMALL, patience=2),
        DilatedCNN(**{**SMALL, "channels": (8, 4), "kernels": (3, 3)}, dilations=(1, 2), patience=2),
        LinearMaxPoolCNN(**SMALL, dense=6),
        BiLSTM(embedding=4, hidden=5, batch_size=8, epochs=6, device="cpu"),
        CNNEnsemble((("MaxPoolCNN", SMALL), ("LinearMaxPoolCNN", {**SMALL, "dense": 6}))),
        MaxPoolCNN(**SMALL, loss="pairwise"),
        BiLSTM(embedding=4, hidden=5, batch_size=8, epochs=6, loss="listwise", device="cpu"),
    ],
    ids=lambda model: type(model).__name__,
)
def test_every_network_is_a_regressor_that_can_be_kept(model, tmp_path):
    rows, scores = assay()
    with pytest.raises(NotFittedError):
        model.predict(rows)
    fitted = clone(model).fit(rows[:30], scores[:30])
    predicted, std = fitted.predict(rows, return_std=True)
    again = clone(model).fit(np.array(rows[:30]), scores[:30]).predict(rows)
    assert (again == predicted).all()
    assert predicted.shape == std.shape == (40,)
    assert predicted.dtype == np.float64
    assert (std > 0).all()
    if getattr(model, "loss", "squared") == "squared":
        assert scores[:30].min() <= predicted.min() < predicted.max() <= scores[:30].max()

    save_file(fitted.state(), tmp_path / "weights.safetensors")
    arguments = json.loads(json.dumps(model.get_params(deep=False)))
    restored = type(model)(**arguments).restore(load_file(tmp_path / "weights.safetensors"))
    for one, other in zip(restored.predict(rows, return_std=True), (predicted, std), strict=True):
        assert (one == other).all()
    with pytest.raises(InputError, match="columns"):
        restored.predict(["A" * 29])
    with pytest.raises(InputError, match="row 1: 'B' is no residue"):
        clone(model).fit(["A" * 30, "AAB" + "A" * 27, "A" * 30], [1.0, 2.0, 3.0], (rows, scores))


@pytest.mark.parametrize("patience", [None, 1])
@pytest.mark.parametrize("kind", [MaxPoolCNN, BiLSTM])
def test_an_interrupted_fit_goes_on_to_the_same_weights(kind, patience, tmp_path, monkeypatch):
    rows, scores = assay()
    arguments = SMALL if kind is MaxPoolCNN else {"hidden": 4, "batch_size": 8, "epochs": 4, "device": "cpu"}
    model = kind(**arguments, patience=patience, random_state=3)
    whole = clone(model).fit(rows, scores).state()

    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    step, calls = training.train_step, itertools.count()

    def interrupted(*given):
        if next(calls) in (3, 7):
            raise KeyboardInterrupt
        return step(*given)

    monkeypatch.setattr(training, "train_step", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            clone(model).fit(rows, scores, checkpoint=tmp_path)
    resumed = clone(model).fit(rows, scores, checkpoint=tmp_path).state()
    assert resumed.keys() == whole.keys()
    assert all((resumed[name] == whole[name]).all() for name in whole)

    monkeypatch.setattr(training, "train_step", None)
    finished = clone(model).fit(rows, scores, checkpoint=str(tmp_path)).state()
    assert all((finished[name] == whole[name]).all() for name in whole)


def test_a_folder_of_checkpoints_serves_many_fits(tmp_path, monkeypatch):
    rows, scores = assay()
    for model, values in [(MaxPoolCNN(**SMALL), scores), (MaxPoolCNN(**SMALL, random_state=1), scores + 1)]:
        kept = clone(model).fit(rows, values, checkpoint=tmp_path).predict(rows)
        assert (kept == clone(model).fit(rows, values).predict(rows)).all()
    assert len(list(tmp_path.iterdir())) == 2

    held = (rows[30:], scores[30:])
    alone = MaxPoolCNN(**SMALL).fit(rows[:30], scores[:30], held, checkpoint=tmp_path)
    monkeypatch.setattr(training, "train_step", None)
    ensemble = CNNEnsemble((("MaxPoolCNN", SMALL),)).fit(rows[:30], scores[:30], held, checkpoint=tmp_path)
    assert (ensemble.predict(rows) == alone.predict(rows)).all()


def test_a_damaged_checkpoint_is_named(tmp_path):
    rows, scores = assay()
    MaxPoolCNN(**SMALL).fit(rows, scores, checkpoint=tmp_path)
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read"):
        MaxPoolCNN(**SMALL).fit(rows, scores, checkpoint=tmp_path)


def test_early_stopping_keeps_the_best_epoch():
    rows, scores = assay(count=60)
    held = (rows[40:], scores[40:])
    how = {**SMALL, "batch_size": 40, "learning_rates": (0.1, 0.1)}
    errors = [
        MaxPoolCNN(**{**how, "epochs": epochs}, patience=None).fit(rows[:40], scores[:40], held).residual_
        for epochs in range(1, 13)
    ]
    stopped = MaxPoolCNN(**{**how, "epochs": 12}, patience=2).fit(rows[:40], scores[:40], held)
    worse = [epoch for epoch in range(2, 12) if min(errors[epoch - 1 : epoch + 1]) >= min(errors[: epoch - 1])]
    last = worse[0] + 1 if worse else 12
    assert stopped.epoch_ == int(np.argmin(errors[:last])) + 1
    assert stopped.residual_ == errors[stopped.epoch_ - 1]
    assert stopped.epoch_ < 12


@pytest.mark.parametrize("loss", ["pairwise", "listwise"])
def test_ranking_losses_are_those_of_the_linear_ranker(loss):
    draw = np.random.default_rng(0)
    scores, at = np.round(draw.normal(size=12)), draw.normal(size=12)
    scores = (scores - scores.mean()) / scores.std()
    predicted = torch.from_numpy(at).requires_grad_()
    LOSSES[loss](predicted, torch.from_numpy(scores)).backward()
    _, slope, _ = ranker.LOSSES[loss](at, scores)
    # Each over its own number: of pairs that score differently, or one for the list.
    pairs = (scores[:, None] > scores).sum()
    np.testing.assert_allclose(predicted.grad, slope * 12 / pairs if loss == "pairwise" else slope / 12, atol=1e-12)
    least = LOSSES[loss](torch.from_numpy(scores) * (1 if loss == "listwise" else 100), torch.from_numpy(scores))
    assert float(least) == pytest.approx(0.0, abs=1e-6)
    assert float(LOSSES["pairwise"](torch.ones(1), torch.ones(1))) == 0.0


@pytest.mark.parametrize("loss", ["pairwise", "listwise"])
def test_a_ranking_network_has_the_units_of_the_scores_and_keeps_its_order(loss):
    rows, scores = assay(count=80)
    how = {**SMALL, "epochs": 30, "learning_rates": (0.02, 0.02), "patience": None, "held_out": 0.0, "loss": loss}
    model = MaxPoolCNN(**how).fit(rows[:60], scores[:60])
    predicted = model.predict(rows)
    assert spearmanr(predicted[:60], scores[:60])[0] > 0.8
    # The line of least squares: it meets the mean, and what is left has nothing more of it.
    left = scores[:60] - predicted[:60]
    assert left.mean() == pytest.approx(0.0, abs=1e-6)
    assert left @ predicted[:60] == pytest.approx(0.0, abs=1e-3)
    # A scale that keeps the order changes nothing but the units.
    if loss == "pairwise":
        stretched = MaxPoolCNN(**how).fit(rows[:60], np.exp(scores[:60])).predict(rows)
        assert spearmanr(stretched, predicted)[0] == pytest.approx(1.0)
    with pytest.raises(InputError, match="no loss 'hinge'; choose from: squared, pairwise, listwise"):
        MaxPoolCNN(loss="hinge").fit(rows, scores)


def test_a_stop_codon_ends_the_protein_and_an_unknown_residue_does_not():
    network = ConvolutionalNetwork([6], [3], [1], None, 0)
    with torch.no_grad():
        stop, end, unknown, alone, empty = network(encode(["AC*--", "AC---", "ACX--", "X----", "-----"])).tolist()
    assert stop == end
    assert unknown != end
    assert alone != empty
    assert np.isfinite(empty)


def test_an_lstm_reads_rows_of_several_lengths_as_pytorch_reads_packed_ones():
    network = BiLSTM(embedding=4, hidden=5, device="cpu").build()
    rows = ["".join(np.random.default_rng(length).choice(list("ACDEF"), length)) for length in (1, 2, 7, 12, 12)]
    padded = [row.ljust(12, "-") for row in rows]
    reference = torch.nn.LSTM(4, 5, batch_first=True, bidirectional=True)
    ways = {"": network.forwards, "_reverse": network.backwards}
    reference.load_state_dict(
        {f"{name}{way}": v for way, lstm in ways.items() for name, v in lstm.state_dict().items()}
    )
    for row, found in zip(rows, network(encode(padded)).detach(), strict=True):
        states = reference(network.embedding(torch.from_numpy(encode([row]).astype(int))))[0][0]
        expected = network.output(torch.cat([states.mean(dim=0), states.max(dim=0).values]))
        np.testing.assert_allclose(found.item(), expected.item(), atol=1e-6)


def test_an_lstm_reads_the_protein_and_not_its_gaps():
    network = BiLSTM(device="cpu").build()
    with torch.no_grad():
        gapped = network(encode(["A-CD-E--", "ACDE----", "--------"]))
        plain = network(encode(["ACDE"]))
    torch.testing.assert_close(gapped[:2], plain.expand(2))
    assert torch.isfinite(gapped).all()


def test_an_ensemble_is_the_mean_of_its_members():
    rows, scores = assay()
    held = (rows[30:], scores[30:])
    model = CNNEnsemble((("MaxPoolCNN", SMALL), ("MaxPoolCNN", SMALL))).fit(rows[:30], scores[:30], held)
    assert [member.random_state for member in model.members_] == [0, 1]
    each = np.array(
        [MaxPoolCNN(**SMALL, random_state=i).fit(rows[:30], scores[:30], held).predict(rows) for i in (0, 1)]
    )
    mean, std = model.predict(rows, return_std=True)
    np.testing.assert_array_equal(mean, each.mean(axis=0))
    residual = ((each.mean(axis=0)[30:] - scores[30:]) ** 2).mean()
    np.testing.assert_allclose(std, np.sqrt(each.var(axis=0) + residual))


def test_no_standard_deviation_without_rows_to_measure_it_on():
    rows, scores = assay()
    model = MaxPoolCNN(**SMALL, patience=None, held_out=0).fit(rows, scores)
    with pytest.raises(InputError, match="no standard deviation"):
        model.predict(rows, return_std=True)


@pytest.mark.parametrize("kind", [MaxPoolCNN, LinearMaxPoolCNN])
def test_operations_are_those_that_pytorch_counts(kind):
    rows, _ = assay(count=16)
    model = kind(channels=(32, 64), kernels=(3, 5), batch_size=16, epochs=10, device="cpu")
    network = model.build()
    with FlopCounterMode(display=False) as counter:
        network(encode(rows))
    # The output is one product for each row.
    assert model.operations(16, 30) / 30 == pytest.approx(counter.get_total_flops(), rel=0.01)
    with FlopCounterMode(display=False) as counter:
        network(Windows(encode(rows), network.layers).batch(np.arange(16))).sum().backward()
    estimate = model.estimate(rows)
    assert estimate.steps == 10
    assert estimate.products / 10 == pytest.approx(counter.get_total_flops(), rel=0.15)
    assert estimate.operations < 0.5 * model.operations(16, 30)
    assert estimate.seconds(1e9) > estimate.seconds(1e12) > 0


def test_a_machine_multiplies_matrices():
    assert 1e8 < matrix_rate() < 1e15


def test_a_batch_without_shared_windows_is_computed_at_every_position(monkeypatch):
    rows, scores = assay()
    model = MaxPoolCNN(channels=(8, 8), kernels=(3, 3), batch_size=8, epochs=2, device="cpu")
    shared = clone(model).fit(rows, scores).predict(rows)
    monkeypatch.setattr("limbeck.landscapes.networks.models.LARGEST_TABLE", 0)
    np.testing.assert_allclose(clone(model).fit(rows, scores).predict(rows), shared, rtol=1e-3)


def test_wrong_numbers_of_learning_rates_and_broken_losses_are_named():
    rows, scores = assay()
    with pytest.raises(ValueError, match="must have 2 entries"):
        MaxPoolCNN(**SMALL, learning_rates=(1e-3,)).fit(rows, scores)
    with pytest.raises(InputError, match="no longer a number"):
        MaxPoolCNN(**SMALL, learning_rates=(1e30, 1e30), standardise=False).fit(rows, scores * 1e30)
