import builtins
import json
import os
import pickle
import shutil
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, EsmModel

from limbeck import InputError, load
from limbeck.encoders.esm import EsmEncoder
from limbeck.residues import RESIDUES, clean
from tiny_encoders import protein, write_esm2

torch.set_num_threads(1)

SEQUENCES = ["M", protein(5), "mkuO-XBzJ*", protein(40, letters=RESIDUES + "X"), protein(90), protein(128)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_esm2(tmp_path_factory.mktemp("esm2") / "tiny")


def transformers_states(folder, sequence):
    """What a user of transformers gets for one protein: each layer's residue states, special tokens cut off."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = EsmModel.from_pretrained(folder, add_pooling_layer=False).eval()
    with torch.no_grad():
        output = model(**tokenizer(clean(sequence), return_tensors="pt"), output_hidden_states=True)
    return [state[0, 1:-1].numpy() for state in output.hidden_states], output.last_hidden_state[0, 1:-1].numpy()


@pytest.mark.parametrize("config", [{}, {"position_embedding_type": "absolute"}, {"emb_layer_norm_before": True}])
def test_last_layer_is_transformers_own(tmp_path, config):
    folder = write_esm2(tmp_path / "tiny", **config)
    encoder = load(folder)
    features, vectors = encoder.encode_residues(SEQUENCES), encoder.encode(SEQUENCES)
    for sequence, residues, vector in zip(SEQUENCES, features, vectors, strict=True):
        _, last = transformers_states(folder, sequence)
        assert residues.dtype == vector.dtype == np.float32
        np.testing.assert_allclose(residues, last, atol=1e-5)
        np.testing.assert_allclose(vector, last.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("layer", [0, 1, 2, -2, -3, -4])
def test_middle_layers_are_transformers_hidden_states(folder, layer):
    features = load(folder, layer=layer).encode_residues(SEQUENCES)
    for sequence, residues in zip(SEQUENCES, features, strict=True):
        np.testing.assert_allclose(residues, transformers_states(folder, sequence)[0][layer], atol=1e-5)


@pytest.mark.parametrize("layer", [4, -5, "last"])
def test_unknown_layer(folder, layer):
    with pytest.raises(InputError, match=r"there is no layer .*; choose 0 to 3"):
        load(folder, layer=layer)


def test_token_ids_are_the_tokenizers_own(folder):
    sequences = [clean(s) for s in SEQUENCES]
    wanted = AutoTokenizer.from_pretrained(folder)(sequences, padding=True, return_tensors="np")
    ids, mask = EsmEncoder(str(folder), folder)._tokens.batch(sequences)
    np.testing.assert_array_equal(ids, wanted["input_ids"])
    np.testing.assert_array_equal(mask, wanted["attention_mask"])


def test_padding_does_not_leak(folder):
    encoder = load(folder)
    together = encoder.encode_residues(SEQUENCES)
    for sequence, features in zip(SEQUENCES, together, strict=True):
        np.testing.assert_allclose(encoder.encode_residues([sequence])[0], features, atol=1e-5)


def test_long_proteins_are_stitched_from_windows(folder):
    encoder = load(folder)
    assert (encoder.max_length, encoder.overlap) == (128, 32)
    long = protein(300)
    # Windows start at 0, 96 and 172 (the last moved back); a seam lies in the middle of each overlap.
    parts = [(0, 112, 0), (112, 198, 96), (198, 300, 172)]
    expected = np.concatenate(
        [transformers_states(folder, long[s : s + 128])[1][start - s : stop - s] for start, stop, s in parts]
    )
    np.testing.assert_allclose(encoder.encode_residues([long])[0], expected, atol=1e-5)
    np.testing.assert_allclose(encoder.encode([long])[0], expected.mean(axis=0), atol=1e-5)


def test_position_limit_of_the_published_models(tmp_path):
    assert load(write_esm2(tmp_path / "tiny", residues=1022)).max_length == 1022


def test_bf16_is_near_f32_and_returns_float32(folder):
    exact, rounded = load(folder, precision="f32"), load(folder, precision="bf16")
    assert (exact.precision, rounded.precision) == ("f32", "bf16")
    assert exact.fingerprint == rounded.fingerprint
    for one, other in zip(exact.encode(SEQUENCES), rounded.encode(SEQUENCES), strict=True):
        assert other.dtype == np.float32
        assert np.abs(one - other).max() > 0
        assert np.linalg.norm(one - other) < 0.05 * np.linalg.norm(one)


def test_bf16_keeps_the_rotary_frequencies(folder):
    encoder = load(folder, precision="bf16")
    frequencies = [m.inv_freq for m in encoder._model.modules() if hasattr(m, "inv_freq")]
    assert frequencies
    assert all(f.dtype == torch.float32 for f in frequencies)


def test_attention_is_sdpa_and_runs_on_the_cpu_in_f32_by_default(folder):
    encoder = load(folder, device="cpu")
    assert encoder._model.config._attn_implementation == "sdpa"
    assert encoder.precision == "f32"


def test_description(folder):
    encoder = load(folder)
    assert (encoder.name, encoder.dimension, encoder.layers, encoder.license) == (str(folder), 16, 3, "unknown")
    model = EsmModel.from_pretrained(folder, add_pooling_layer=False)
    assert encoder.parameters == sum(p.numel() for p in model.parameters())
    assert encoder.fingerprint == load(folder, layer=3).fingerprint == load(folder, layer=-1).fingerprint
    assert encoder.fingerprint != load(folder, layer=2).fingerprint


def test_fingerprint_follows_the_weights(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert load(copy).fingerprint == load(folder).fingerprint
    weights = load_file(copy / "model.safetensors")
    weights["esm.encoder.layer.0.intermediate.dense.bias"][0] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert load(copy).fingerprint != load(folder).fingerprint


def test_sharded_weights(folder, tmp_path):
    sharded = shutil.copytree(folder, tmp_path / "sharded")
    (sharded / "model.safetensors").unlink()
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, part in shards.items():
        save_file({n: weights[n] for n in part}, sharded / shard, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {n: shard for shard, part in shards.items() for n in part}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    np.testing.assert_array_equal(load(sharded).encode(SEQUENCES), load(folder).encode(SEQUENCES))
    (sharded / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"lacks model-00002-of-00002\.safetensors"):
        load(sharded)


def test_pickled_tensors_are_read(folder, tmp_path):
    pickled = write_esm2(tmp_path / "bin", safe=False)
    np.testing.assert_allclose(load(pickled).encode(SEQUENCES), load(folder).encode(SEQUENCES), atol=1e-6)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save", [torch.save, lambda trap, path: path.write_bytes(pickle.dumps(trap, protocol=2))])
def test_a_pickle_that_runs_code_is_refused(tmp_path, save):
    folder = write_esm2(tmp_path / "bin", safe=False)
    save({"esm.embeddings": Trap(tmp_path / "sprung")}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="the weights cannot be loaded"):
        load(folder)
    assert not (tmp_path / "sprung").exists()


def drop_tensor(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["esm.encoder.layer.1.output.dense.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def rewrite_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


def shorten(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (drop_tensor, "the weights lack 'encoder.layer.1.output.dense.bias'"),
        (lambda f: shorten(f / "model.safetensors"), "the weights cannot be loaded"),
        (lambda f: (f / "model.safetensors").unlink(), "has no weights"),
        (lambda f: (f / "vocab.txt").unlink(), "has no vocab.txt"),
        (
            lambda f: (f / "vocab.txt").write_text("<cls>\n<pad>\n<eos>\n<unk>\nL"),
            "does not give each of the 20 residues one token",
        ),
        (lambda f: (f / "config.json").write_text("{"), "not readable as JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "not a JSON object"),
        (lambda f: rewrite_config(f, model_type="bert"), "the weights lack"),
        (lambda f: rewrite_config(f, is_folding_model=True), "ESMFold predicts structures"),
        (lambda f: rewrite_config(f, intermediate_size=48), "the weights cannot be loaded"),
    ],
)
def test_damaged_folder(folder, tmp_path, damage, problem, capfd):
    broken = shutil.copytree(folder, tmp_path / "broken")
    damage(broken)
    with pytest.raises(InputError, match=problem) as caught:
        load(broken)
    assert str(broken) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("card", "license"),
    [
        ("---\nlicense: mit\n---\nA model.", "MIT"),
        ("---\ntags:\n- protein\nlicense: cc-by-nc-4.0\n---\n", "CC-BY-NC-4.0"),
        ("---\nlicense: openrail\n---\n", "openrail"),
        ("license: mit, says the text", "unknown"),
    ],
)
def test_license_is_the_model_cards(folder, tmp_path, card, license):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "README.md").write_text(card)
    assert load(copy).license == license


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub, and the network off."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def put(cache, name, folder):
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = cache / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    shutil.copytree(folder, place / "snapshots" / commit)
    return commit


def test_cached_model_loads_without_the_network(folder, cache):
    commit = put(cache, "facebook/esm2_t6_8M_UR50D", folder)
    encoder = load("facebook/esm2_t6_8M_UR50D")
    assert (encoder.name, encoder.version, encoder.license) == ("facebook/esm2_t6_8M_UR50D", commit, "MIT")
    assert encoder.fingerprint == load(folder).fingerprint
    np.testing.assert_array_equal(encoder.encode(SEQUENCES), load(folder).encode(SEQUENCES))


@pytest.mark.parametrize("missing", [None, "model.safetensors", "vocab.txt"])
def test_model_that_is_not_whole_in_the_cache_with_the_network_off(folder, cache, missing):
    name = "facebook/esm2_t6_8M_UR50D"
    if missing:
        put(cache, name, folder)
        next(cache.rglob(missing)).unlink()
    with pytest.raises(InputError) as caught:
        load(name)
    message = str(caught.value)
    assert ("not whole in the local cache" if missing else "the hub cannot be reached") in message
    assert f"`hf download {name} --local-dir esm2_t6_8M_UR50D`" in message
    assert "\n" not in message


@pytest.mark.parametrize("library", ["torch", "transformers"])
def test_missing_library_names_the_extra(folder, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=r"pip install 'limbeck\[transformers\]'"):
        load(folder)


def test_device_that_is_not_there(folder):
    with pytest.raises(InputError, match="device 'cuda:99' is not on this machine"):
        load(folder, device="cuda:99")


def test_nothing_is_printed(folder, capfd, monkeypatch):
    monkeypatch.setattr(builtins, "print", lambda *_, **__: pytest.fail("printed"))
    load(folder).encode(["MKV"])
    assert capfd.readouterr().out == ""


def test_log_probabilities_of_masked_residues(folder):
    from transformers import EsmForMaskedLM

    short, long = protein(9), protein(150)
    of_short, of_long = load(folder).log_probabilities([short, long])
    tokenizer, model = AutoTokenizer.from_pretrained(folder), EsmForMaskedLM.from_pretrained(folder).eval()
    columns = tokenizer.convert_tokens_to_ids(list(RESIDUES))

    def expected(window, place):
        tokens = tokenizer(window, return_tensors="pt")
        tokens["input_ids"][0, place + 1] = tokenizer.mask_token_id
        with torch.no_grad():
            return model(**tokens).logits[0, place + 1, columns].log_softmax(dim=-1)

    for place in range(9):
        np.testing.assert_allclose(of_short[place], expected(short, place), atol=1e-5)
    # Windows of 128 with the residue in the middle, as far as the ends allow.
    for place, start in ((0, 0), (75, 11), (149, 22)):
        np.testing.assert_allclose(of_long[place], expected(long[start : start + 128], place - start), atol=1e-5)


def test_a_checkpoint_without_a_head_names_no_masked_residues(folder, tmp_path):
    bare = shutil.copytree(folder, tmp_path / "bare")
    tensors = {n: t for n, t in load_file(bare / "model.safetensors").items() if not n.startswith("lm_head.")}
    save_file(tensors, bare / "model.safetensors", {"format": "pt"})
    encoder = load(bare)
    np.testing.assert_array_equal(encoder.encode([protein(9)]), load(folder).encode([protein(9)]))
    with pytest.raises(InputError, match=r"the weights lack 'lm_head\..*; copy the whole model"):
        encoder.log_probabilities([protein(9)])
    with pytest.raises(InputError, match=r"the weights lack 'lm_head"):
        encoder.check_likelihoods()
    load(folder).check_likelihoods()


def test_masked_residues_are_counted_as_they_are_named(folder):
    encoder, done = load(folder), []
    encoder.token_budget = 64
    encoder.log_probabilities([protein(30), protein(5)], lambda residues, tokens: done.append((residues, tokens)))
    assert sum(residues for residues, _ in done) == 35
    assert len(done) > 10
    assert all(residues <= tokens for residues, tokens in done)
