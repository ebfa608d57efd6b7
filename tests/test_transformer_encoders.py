"""Every family against its own classes in transformers, run on one protein at a time without padding."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import tiny_encoders as tiny
from limbeck import InputError, load
from limbeck.encoders import available
from limbeck.encoders.checkpoint import card_license
from limbeck.encoders.tokens import load_tokenizer, sentencepiece_pieces
from limbeck.encoders.transformer import resolve_device
from limbeck.residues import RESIDUES, clean
from tiny_encoders import protein

torch.set_num_threads(1)

SEQUENCES = ["M", protein(5), "mkuO-XBzJ*", protein(40, letters=RESIDUES + "X"), protein(90), protein(128)]


def by_list(tokens, before, after, mark=""):
    """Ids by hand: the place of each letter in a list of tokens."""
    return lambda folder, text: [*before, *(tokens.index(mark + letter) for letter in text), *after]


def by_tokenizer(kind, spell=str, **options):
    return lambda folder, text: getattr(transformers, kind).from_pretrained(folder, **options)(spell(text))["input_ids"]


ANKH3 = [*tiny.ANKH_TOKENS, "[NLU]"]
FAMILIES = {
    # How to write a checkpoint, the class, how to write a protein, fixed tokens before and after it.
    "ESM-2": (tiny.write_esm2, "EsmModel", by_tokenizer("EsmTokenizer"), 1, 1),
    "ESM-1b": (tiny.write_esm1b, "EsmModel", by_tokenizer("EsmTokenizer"), 1, 1),
    "ESM C": (tiny.write_esmc, "EsmcModel", by_tokenizer("EsmcTokenizer"), 1, 1),
    "ProtT5": (tiny.write_prott5, "T5EncoderModel", by_list(tiny.PROTT5_PIECES, [], [1], "▁"), 0, 1),
    "ProtBert": (
        tiny.write_protbert,
        "BertModel",
        by_tokenizer("BertTokenizer", " ".join, do_lower_case=False),
        1,
        1,
    ),
    "Ankh": (tiny.write_ankh, "T5EncoderModel", by_list(tiny.ANKH_TOKENS, [], [1]), 0, 1),
    "Ankh3": (
        lambda folder: tiny.write_ankh(folder, prefix=True),
        "T5EncoderModel",
        by_list(ANKH3, [ANKH3.index("[NLU]")], [1]),
        1,
        1,
    ),
    "RoBERTa": (tiny.write_roberta, "RobertaModel", by_list(tiny.LETTERED_TOKENS, [0], [2]), 1, 1),
    "mT5": (tiny.write_mt5, "MT5EncoderModel", by_list(tiny.ANKH_TOKENS, [], [1]), 0, 1),
}


class Reference:
    """What a user of transformers gets, and cuts by hand."""

    def __init__(self, name, folder):
        _, kind, self.write, self.before, self.after = FAMILIES[name]
        self.folder = folder
        self.model = getattr(transformers, kind).from_pretrained(folder, dtype=torch.float32).eval()

    def states(self, sequence):
        ids = torch.tensor([self.write(self.folder, clean(sequence))])
        with torch.no_grad():
            states = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
        return [state[0, self.before : ids.shape[1] - self.after].numpy() for state in states.hidden_states]


# What a family inherits from another, or shares with it, is held to transformers' numbers and not tested twice.
LIKE_ANOTHER = {"ESM-1b", "Ankh3", "mT5"}


def written(name, folder):
    FAMILIES[name][0](folder)
    return folder, Reference(name, folder)


@pytest.fixture(scope="module", params=FAMILIES)
def every(request, tmp_path_factory):
    return written(request.param, tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture(scope="module", params=[name for name in FAMILIES if name not in LIKE_ANOTHER])
def checkpoint(request, tmp_path_factory):
    return written(request.param, tmp_path_factory.mktemp("weights") / "tiny")


@pytest.mark.parametrize("layer", [None, 0, -2, (3, 0, 1), "all"])
def test_features_are_transformers_hidden_states(every, layer):
    folder, reference = every
    encoder = load(folder, layer=layer)
    chosen = {None: [3], "all": [1, 2, 3]}.get(layer, [layer] if isinstance(layer, int) else layer)
    assert encoder.dimension == 16 * len(chosen)
    features, vectors = encoder.encode_residues(SEQUENCES), encoder.encode(SEQUENCES)
    for sequence, residues, vector in zip(SEQUENCES, features, vectors, strict=True):
        states = reference.states(sequence)
        expected = np.concatenate([states[i] for i in chosen], axis=1)
        assert residues.dtype == vector.dtype == np.float32
        scale = np.abs(expected).max()
        np.testing.assert_allclose(residues, expected, atol=1e-5 * scale)
        np.testing.assert_allclose(vector, expected.mean(axis=0), atol=1e-5 * scale)


def test_alone_and_together(checkpoint):
    encoder = load(checkpoint[0], layer=(1, 3))
    for sequence, features in zip(SEQUENCES, encoder.encode_residues(SEQUENCES), strict=True):
        (alone,) = encoder.encode_residues([sequence])
        np.testing.assert_allclose(alone, features, atol=1e-5 * np.abs(alone).max())


def test_unusual_letters(checkpoint):
    encoder = load(checkpoint[0])
    np.testing.assert_array_equal(encoder.encode(["MBUZO-j*"]), encoder.encode(["MXCXKX"]))


def test_windows_of_a_long_protein(checkpoint):
    folder, reference = checkpoint
    encoder = load(folder)
    encoder.max_length, encoder.overlap = 64, 16
    long = protein(100)
    # Windows start at 0 and 36; the seam lies in the middle of the overlap, at 50.
    first, last = reference.states(long[:64])[-1], reference.states(long[36:])[-1]
    expected = np.concatenate([first[:50], last[14:]])
    np.testing.assert_allclose(encoder.encode_residues([long])[0], expected, atol=1e-5 * np.abs(expected).max())


def test_bf16_is_near_f32(checkpoint):
    exact, rounded = load(checkpoint[0], precision="f32"), load(checkpoint[0], precision="bf16")
    assert exact.fingerprint == rounded.fingerprint
    assert rounded.precision == "bf16"
    for one, other in zip(exact.encode(SEQUENCES), rounded.encode(SEQUENCES), strict=True):
        assert other.dtype == np.float32
        assert 0 < np.linalg.norm(one - other) < 0.1 * np.linalg.norm(one)


def test_buffers_keep_their_precision(checkpoint):
    exact, rounded = (load(checkpoint[0], precision=p)._model for p in ("f32", "bf16"))
    assert {p.dtype for p in rounded.parameters()} == {torch.bfloat16}
    for (name, one), (other_name, other) in zip(exact.named_buffers(), rounded.named_buffers(), strict=True):
        assert name == other_name
        assert other.dtype == one.dtype
        assert torch.equal(one, other)


def test_nothing_above_the_last_layer_is_computed(checkpoint):
    encoder = load(checkpoint[0], layer=(0, 1))
    (block,) = encoder._blocks
    done = []
    for module in encoder._model.modules():
        module.register_forward_hook(lambda module, *_: done.append(module))
    encoder.encode(["MKV"])
    assert done[-1] in set(block.modules())
    encoder = load(checkpoint[0], layer=0)
    (block,) = encoder._blocks
    done.clear()
    for module in block.modules():
        module.register_forward_hook(lambda module, *_: done.append(module))
    encoder.encode(["MKV"])
    assert done == []


def test_fingerprint_follows_layers(checkpoint):
    folder, _ = checkpoint
    prints = [load(folder, layer=layer).fingerprint for layer in (None, 1, (2, 1), (1, 2))]
    assert len(set(prints)) == len(prints)
    assert prints[0] == load(folder, layer=(-1,)).fingerprint


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        (4, "there is no layer 4; choose 0 to 3"),
        (-5, "there is no layer -5"),
        ("last", "there is no layer 'last'"),
        ((1, 9), "there is no layer 9"),
        ((3, -1), "a layer is named twice in 3,-1"),
        ((), "no layer is named"),
        (True, "there is no layer True"),
        (1.0, r"there is no layer 1\.0"),
    ],
)
def test_unknown_layers(tmp_path, layer, problem):
    folder = tiny.write_esm2(tmp_path / "tiny")
    with pytest.raises(InputError, match=problem) as caught:
        load(folder, layer=layer)
    assert "\n" not in str(caught.value)


def test_unirep_takes_several_layers(tmp_path):
    weights = tiny.write_unirep(tmp_path / "unirep.safetensors")
    parts = [load(weights, layer=layer).encode_residues(SEQUENCES) for layer in (4, 1)]
    encoder = load(weights, layer=(4, 1))
    for features, *single in zip(encoder.encode_residues(SEQUENCES), *parts, strict=True):
        np.testing.assert_array_equal(features, np.concatenate(single, axis=1))
    assert encoder.fingerprint != load(weights, layer=(1, 4)).fingerprint
    with pytest.raises(InputError, match="there is no layer 0; choose 1 to 4"):
        load(weights, layer=(0, 1))


def drop_tensor(folder):
    weights = load_file(folder / "model.safetensors")
    del weights[
        next(n for n in sorted(weights) if re.search(r"(layers?|block)\.1\..*weight", n) and "decoder" not in n)
    ]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def drop_tokenizer(folder):
    for name in ("tokenizer.json", "vocab.txt", "spiece.model"):
        (folder / name).unlink(missing_ok=True)


def shorten(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (drop_tensor, "the weights lack '.*1.*'"),
        (shorten, "the weights cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
        (lambda folder: (folder / "config.json").write_text("{"), "not readable as JSON"),
        (lambda folder: (folder / "config.json").write_text("{}"), "config.json"),
    ],
)
def test_damaged_folder(checkpoint, tmp_path, damage, problem):
    broken = shutil.copytree(checkpoint[0], tmp_path / "broken")
    damage(broken)
    with pytest.raises(InputError, match=problem) as caught:
        load(broken)
    assert "broken" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folder_without_a_tokenizer(checkpoint, tmp_path):
    folder, reference = checkpoint
    broken = shutil.copytree(folder, tmp_path / "broken")
    drop_tokenizer(broken)
    if type(reference.model).__name__ == "EsmcModel":
        # Its vocabulary is fixed, and transformers knows it without a file.
        np.testing.assert_array_equal(load(broken).encode(["MKV"]), load(folder).encode(["MKV"]))
        return
    with pytest.raises(InputError, match=r"tokenizer|vocab\.txt") as caught:
        load(broken)
    assert "\n" not in str(caught.value)


def test_parameters_are_those_of_the_encoder(checkpoint):
    folder, reference = checkpoint
    wanted = {n: p.numel() for n, p in reference.model.named_parameters() if not n.startswith(("pooler", "contact"))}
    contact = sum(p.numel() for n, p in reference.model.named_parameters() if n.startswith("contact"))
    assert load(folder).parameters == sum(wanted.values()) + contact


# ESM


def test_esm_position_limit(tmp_path):
    assert load(tiny.write_esm1b(tmp_path / "tiny", residues=1022)).max_length == 1022


def test_esmfold_is_no_encoder(tmp_path):
    folder = tiny.write_esm2(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text()) | {"is_folding_model": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="ESMFold predicts structures"):
        load(folder)


def test_f16_that_overflows_is_an_error(tmp_path):
    folder = tiny.write_esm2(tmp_path / "tiny")
    f16, f32 = load(folder, precision="f16").encode(SEQUENCES), load(folder, precision="f32").encode(SEQUENCES)
    np.testing.assert_allclose(f16, f32, atol=0.02 * np.abs(f32).max())
    weights = load_file(folder / "model.safetensors")
    weights["esm.encoder.layer.1.output.dense.weight"] *= 1e6
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="do not fit into f16; use precision bf16 or f32"):
        load(folder, precision="f16").encode(["MKVLAA"])


# ESM C


@pytest.mark.parametrize("name", ["EvolutionaryScale/esmc-300m-2024-12", "biohub/esmc-6b-2024-12"])
def test_esmc_in_the_format_of_its_own_package(name):
    with pytest.raises(InputError, match=r"a pickle for the esm package.* take biohub/ESMC-(300M|6B)"):
        load(name)


def test_esmc_window(tmp_path):
    assert load(tiny.write_esmc(tmp_path / "tiny", residues=5000)).max_length == 2046


# ProtT5 and Ankh


def test_t5_has_no_f16(tmp_path):
    folder = tiny.write_prott5(tmp_path / "tiny")
    with pytest.raises(InputError, match="no precision 'f16'; choose from: auto, f32, bf16"):
        load(folder, precision="f16")
    assert load(folder).max_length == 2046


def test_prott5_with_the_file_of_a_fast_tokenizer(tmp_path):
    folder = tiny.write_prott5(tmp_path / "tiny")
    expected = load(folder).encode(SEQUENCES)
    load_tokenizer(folder).save_pretrained(folder)
    (folder / "spiece.model").unlink()
    assert (folder / "tokenizer.json").is_file()
    np.testing.assert_array_equal(load(folder).encode(SEQUENCES), expected)


def test_whole_t5_gives_its_encoder(tmp_path):
    whole = tiny.write_prott5(tmp_path / "whole", whole=True, num_decoder_layers=1)
    reference = Reference("ProtT5", whole)
    np.testing.assert_allclose(load(whole).encode_residues(["MKVLA"])[0], reference.states("MKVLA")[-1], atol=1e-4)


def test_sentencepiece_model_is_read_as_its_own_format(tmp_path):
    protocol = pytest.importorskip("transformers.utils.sentencepiece_model_pb2_new")
    model = protocol.ModelProto()
    for index, text in enumerate(tiny.PROTT5_PIECES):
        model.pieces.add(piece=text, score=-index / 8, type=1)
    model.trainer_spec.vocab_size = 300
    model.normalizer_spec.precompiled_charsmap = bytes(500)
    expected = [(piece.piece, piece.score) for piece in model.pieces]
    assert sentencepiece_pieces(model.SerializeToString()) == expected
    assert sentencepiece_pieces(tiny.sentencepiece_model(tiny.PROTT5_PIECES)) == expected


@pytest.mark.parametrize("content", [b"", b"\x0a", b"\x0a\x50abc", b"version https://git-lfs", b"\xff" * 40])
def test_damaged_sentencepiece_model(tmp_path, content):
    folder = tiny.write_prott5(tmp_path / "tiny")
    (folder / "spiece.model").write_bytes(content)
    with pytest.raises(InputError, match="the tokenizer cannot be loaded") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


# ProtBert


def test_protbert_window_ends_where_training_did(tmp_path):
    folder = tiny.write_protbert(tmp_path / "tiny")
    assert load(folder).max_length == 498


# AutoModel


def test_automodel_window(tmp_path):
    assert load(tiny.write_roberta(tmp_path / "tiny")).max_length == 128


def test_tokenizer_that_merges_residues(tmp_path):
    folder = tiny.write_roberta(tmp_path / "tiny")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "MK|."}, "behavior": "Isolated", "invert": False}
    content["model"]["vocab"]["MK"] = content["model"]["vocab"].pop("X")
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="does not give each of the 20 residues one token of its own"):
        load(folder)


def test_code_that_comes_with_weights_is_not_run(tmp_path):
    folder = tiny.write_roberta(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    with pytest.raises(InputError, match=r"config\.json cannot be used") as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_model_that_is_no_encoder_of_residues(tmp_path):
    folder = tiny.write_roberta(tmp_path / "tiny")
    shape = {"vocab_size": 25, "n_positions": 132, "n_embd": 16, "n_layer": 3, "n_head": 2}
    transformers.GPT2Model(transformers.GPT2Config(**shape)).save_pretrained(folder)
    # A causal model is an encoder too, as long as padding on the right changes nothing.
    assert load(folder, layer=(1, 3)).encode(["MKV"]).shape == (1, 32)
    shape = {"image_size": 8, "patch_size": 4, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    transformers.ViTModel(transformers.ViTConfig(**shape, intermediate_size=16)).save_pretrained(folder)
    with pytest.raises(InputError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


# What all share


def test_resolve_device():
    assert resolve_device("cpu") == torch.device("cpu")
    for name in ("cuda:99", "nonsense"):
        with pytest.raises(InputError, match=f"device '{name}' is not on this machine"):
            resolve_device(name)


@pytest.mark.parametrize(
    ("front", "license"),
    [
        ("license: mit", "MIT"),
        ("tags:\n- a\nlicense: 'afl-3.0'\nlanguage: en", "AFL-3.0"),
        ("license:\n- mit\n- other\ntags:\n- b", "MIT AND other"),
        ("license:\ntags:\n- mit", None),
        ("tags:\n- mit", None),
    ],
)
def test_license_of_the_card(tmp_path, front, license):
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\nA model.\n")
    assert card_license(tmp_path) == license


# From the models' own configs: vocabulary, width, width of the feed-forward part, layers, heads (of 64 or 128).
PUBLISHED = {
    "facebook/esm2_t6_8M_UR50D": (33, 320, 1280, 6, 20),
    "facebook/esm2_t33_650M_UR50D": (33, 1280, 5120, 33, 20),
    "facebook/esm1b_t33_650M_UR50S": (33, 1280, 5120, 33, 20),
    "facebook/esm1v_t33_650M_UR90S_1": (33, 1280, 5120, 33, 20),
    "biohub/ESMC-300M": (64, 960, 2560, 30, 15),
    "biohub/ESMC-600M": (64, 1152, 3072, 36, 18),
    "biohub/ESMC-6B": (64, 2560, 6912, 80, 40),
    "Rostlab/prot_t5_xl_uniref50": (128, 1024, 16384, 24, 32),
    "Rostlab/prot_bert": (30, 1024, 4096, 30, 16),
    "ElnaggarLab/ankh-base": (144, 768, 3072, 48, 12),
    "ElnaggarLab/ankh-large": (144, 1536, 3840, 48, 16),
    "ElnaggarLab/ankh3-large": (256, 1536, 3840, 48, 16),
}


def published_model(name):
    vocabulary, width, wide, layers, heads = PUBLISHED[name]
    if "t5" in name or "ankh" in name:
        gates = {"feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 64} if "ankh" in name else {}
        sizes = {"d_model": width, "d_ff": wide, "d_kv": 64 if gates else 128, "num_layers": layers, "num_heads": heads}
        return transformers.T5EncoderModel(transformers.T5Config(vocab_size=vocabulary, **sizes, **gates))
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": wide,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }
    if "ESMC" in name:
        return transformers.EsmcModel(transformers.EsmcConfig(**sizes))
    if "bert" in name:
        config = transformers.BertConfig(max_position_embeddings=40000, **sizes)
        return transformers.BertModel(config, add_pooling_layer=False)
    positions = "rotary" if "esm2" in name else "absolute"
    config = transformers.EsmConfig(
        position_embedding_type=positions,
        emb_layer_norm_before="esm1b" in name,
        max_position_embeddings=1026,
        mask_token_id=32,
        pad_token_id=1,
        **sizes,
    )
    return transformers.EsmModel(config, add_pooling_layer=False)


@pytest.mark.parametrize("name", PUBLISHED)
def test_listed_sizes_follow_from_the_configs(name):
    with torch.device("meta"):
        model = published_model(name)
    (info,) = [info for info in available() if info.name == name]
    assert info.dimension == model.config.hidden_size
    assert info.parameters == sum(p.numel() for p in model.parameters())
