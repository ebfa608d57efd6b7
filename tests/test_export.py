"""A student's folder in limbeck, transformers and sentence-transformers; nested dimensions; the licence rule."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)

import limbeck  # noqa: E402
from limbeck.distillation.card import (  # noqa: E402
    Budget,
    Teacher,
    licence_of,
    model_card,
    with_stated_licences,
)
from limbeck.distillation.config import StudentConfig, TrainingConfig  # noqa: E402
from limbeck.distillation.corpus import Corpus  # noqa: E402
from limbeck.distillation.export import add_hub_files, copy_student, export, nested_dimensions, run_record  # noqa: E402
from limbeck.distillation.nested import MatryoshkaDimensions, prefixes, reverse_distilled  # noqa: E402
from limbeck.distillation.network import Student  # noqa: E402
from limbeck.distillation.projection import fit_projection, principal_components  # noqa: E402
from limbeck.encoders.registry import Options  # noqa: E402
from limbeck.encoders.student import load_student  # noqa: E402
from limbeck.errors import InputError  # noqa: E402
from limbeck.hub.tokenizer import tokenizer  # noqa: E402
from limbeck.residues import RESIDUES, InvalidResidue, clean, to_ids  # noqa: E402
from tiny_encoders import protein  # noqa: E402

SHAPE = StudentConfig(width=24, inner=20, kernel=5, dilations=(1, 3), states=40)
CONFIG = TrainingConfig(steps=6, batch_residues=1024, student=SHAPE)
LETTERS = RESIDUES + "XUOBZJ*-. " + (RESIDUES + "XUOBZJ").lower()
SEQUENCES = [protein(length, seed, RESIDUES + "X") for seed, length in enumerate([1, 2, 33, 150, 7])]
SEQUENCES += ["acX-U*", "mkuO-BzJ.*W**-", "M\nK T"]


@pytest.fixture(scope="module", autouse=True)
def _offline(tmp_path_factory):
    """No network; compiled graphs and copies of the folder's code go where the test's files go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMBECK_CACHE", str(tmp_path_factory.mktemp("graphs")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        modules = str(tmp_path_factory.mktemp("modules"))
        patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", modules)
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "proteins.fasta"
    path.write_text("".join(f">p{n}\n{protein(60 + n, n)}\n" for n in range(90)))
    return Corpus(path)


@pytest.fixture(scope="module")
def student(corpus):
    torch.manual_seed(0)
    network = Student(SHAPE)
    with torch.no_grad():
        # Sharp assignments, as a trained student has: else all contexts are alike and mistakes would drown.
        network.contexts.weight.mul_(6)
    fit_projection(network, corpus)
    return network.eval()


def written(student, folder, pooling="combined", **more):
    facts = {"name": "tiny", "version": "1", "license": "CC0-1.0", "card": "# tiny\n"}
    export(student, folder, pooling=pooling, **facts, **more)
    return folder


@pytest.fixture(scope="module")
def folder(student, tmp_path_factory):
    return written(student, tmp_path_factory.mktemp("models") / "tiny-student", nested=(4, 12))


@pytest.fixture(scope="module")
def tokens(folder):
    return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)


@pytest.fixture(scope="module")
def model(folder):
    return transformers.AutoModel.from_pretrained(folder, trust_remote_code=True).eval()


def close(a, b):
    np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


# -- transformers ------------------------------------------------------------------------------------------------------


def test_transformers_gives_limbecks_numbers(folder, tokens, model):
    encoder = limbeck.load(folder, precision="f32")
    batch = tokens(SEQUENCES, padding=True, return_tensors="pt")
    with torch.inference_mode():
        output = model(**batch)
    close(output.pooler_output.numpy(), encoder.encode(SEQUENCES))
    features, log_p = encoder.encode_residues(SEQUENCES), encoder.log_probabilities(SEQUENCES)
    for row, length in enumerate(batch["attention_mask"].sum(1)):
        close(output.last_hidden_state[row, :length].numpy(), features[row])
        close(output.log_probabilities[row, :length].numpy(), log_p[row])


def test_padding_changes_nothing_in_transformers(tokens, model):
    with torch.inference_mode():
        together = model(**tokens(SEQUENCES, padding=True, return_tensors="pt")).pooler_output
        wider = model(**tokens(SEQUENCES, padding="max_length", max_length=200, return_tensors="pt")).pooler_output
        alone = [model(**tokens(s, return_tensors="pt")).pooler_output[0] for s in SEQUENCES]
    close(together.numpy(), torch.stack(alone).numpy())
    close(wider.numpy(), torch.stack(alone).numpy())


def test_attention_mask_and_padding_id_both_say_what_is_padding(tokens, model):
    batch = tokens(SEQUENCES, padding=True, return_tensors="pt")
    hidden = torch.where(batch["attention_mask"].bool(), batch["input_ids"], 3)
    with torch.inference_mode():
        by_id = model(batch["input_ids"]).pooler_output
        by_mask = model(hidden, batch["attention_mask"]).pooler_output
        ignored = model(hidden).pooler_output
    close(by_id.numpy(), by_mask.numpy())
    assert (by_id - ignored).abs().max() > 1e-2


def test_mean_pooling_is_exported_too(student, tmp_path, tokens):
    folder = written(student, tmp_path / "mean-student", pooling="mean")
    model = transformers.AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    with torch.inference_mode():
        pooled = model(**tokens(SEQUENCES, padding=True, return_tensors="pt")).pooler_output
    close(pooled.numpy(), limbeck.load(folder, precision="f32").encode(SEQUENCES))


def test_weights_are_computed_in_single_precision(model):
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_saved_by_transformers_it_is_still_limbecks(folder, model, tokens, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    tokens.save_pretrained(tmp_path / "saved")
    assert limbeck.load(tmp_path / "saved").fingerprint == limbeck.load(folder).fingerprint
    again = transformers.AutoModel.from_pretrained(tmp_path / "saved", trust_remote_code=True)
    torch.testing.assert_close(again.center, model.center, rtol=0, atol=0)


def test_the_folders_code_needs_nothing_of_limbeck(folder):
    code = (folder / "modeling_limbeck.py").read_text()
    imported = set(re.findall(r"^\s*(?:from|import) (\w+)", code, re.MULTILINE))
    assert imported == {"__future__", "dataclasses", "typing", "torch", "transformers"}


def test_without_trust_nothing_of_the_folder_runs(folder):
    with pytest.raises(ValueError, match="trust_remote_code"):
        transformers.AutoModel.from_pretrained(folder, trust_remote_code=False)


# -- tokenizer ---------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.text(LETTERS + "\t\r\n\v\f", min_size=1, max_size=40))
def test_tokenizer_follows_the_one_rule(text):
    ids = TOKENIZER.encode(text).ids
    assert ids == to_ids(clean(text)).tolist()


@pytest.mark.parametrize("text", ["MK7V", "MKé", "M?K", "M<K", "M\u2028K"])
def test_tokenizer_refuses_what_limbeck_refuses(text):
    with pytest.raises(InvalidResidue):
        clean(text)
    with pytest.raises(Exception, match="UNK"):
        TOKENIZER.encode(text)


def test_tokenizer_has_no_special_tokens_but_padding(tokens):
    assert tokens.all_special_tokens == ["<pad>"]
    assert tokens("MKV")["input_ids"] == to_ids("MKV").tolist()
    assert tokens.decode(tokens("mkU")["input_ids"]) == "MKC"
    assert len(tokens("A" * 5000)["input_ids"]) == 5000


TOKENIZER = pytest.importorskip("tokenizers").Tokenizer.from_str(json.dumps(tokenizer()))


# -- sentence-transformers ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sentences(folder):
    library = pytest.importorskip("sentence_transformers")
    return library.SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")


def test_sentence_transformers_gives_limbecks_vectors(folder, sentences):
    close(sentences.encode(SEQUENCES), limbeck.load(folder, precision="f32").encode(SEQUENCES))


def test_sentence_transformers_cuts_as_limbeck_does(folder, sentences):
    cut = load_student(folder, Options(precision="f32", dimension=4)).encode(SEQUENCES)
    close(sentences.encode(SEQUENCES, truncate_dim=4), cut)


# -- the folder --------------------------------------------------------------------------------------------------------


def test_every_file_is_there_and_whole(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "README.md", "config.json", "config_sentence_transformers.json", "model.safetensors", "modeling_limbeck.py",
        "modules.json", "sentence_bert_config.json", "special_tokens_map.json", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    for path in folder.glob("*.json"):
        assert isinstance(json.loads(path.read_text()), dict | list)


def test_an_older_folder_gains_the_other_libraries(folder, tmp_path):
    old = tmp_path / "old-student"
    old.mkdir()
    config = json.loads((folder / "config.json").read_text())
    kept = {key: config[key] for key in ("model_type", "name", "version", "license", "pooling", "limbeck")}
    (old / "config.json").write_text(json.dumps(kept))
    (old / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    before = limbeck.load(old).fingerprint
    add_hub_files(old)
    assert limbeck.load(old).fingerprint == before == limbeck.load(folder).fingerprint
    assert type(transformers.AutoModel.from_pretrained(old, trust_remote_code=True)).__name__ == "LimbeckModel"
    with pytest.raises(InputError, match="does not describe a limbeck student"):
        add_hub_files(tmp_path)


def test_run_record_has_what_a_repetition_needs(student, corpus, tmp_path):
    teacher = Teacher("one-hot", "Apache-2.0", "abc")
    run = run_record(
        options=CONFIG,
        corpus="proteins.fasta",
        corpus_fingerprint=corpus.fingerprint,
        proteins=len(corpus),
        residues=int(corpus.offsets[-1]),
        held_out=int(corpus.is_validation.sum()),
        teachers=[teacher],
        command=["limbeck", "distill", "proteins.fasta"],
        device="cpu",
    )
    folder = written(student, tmp_path / "student", run=run)
    read = json.loads((folder / "training.json").read_text())
    assert read["options"]["seed"] == CONFIG.seed
    assert read["options"]["student"]["width"] == SHAPE.width
    assert read["corpus"]["fingerprint"] == corpus.fingerprint
    assert read["teachers"][0]["fingerprint"] == "abc"
    assert read["versions"]["torch"] == torch.__version__
    assert read["versions"]["limbeck"] == limbeck.__version__
    assert (read["command"][1], read["device"]) == ("distill", "cpu")


# -- nested dimensions -------------------------------------------------------------------------------------------------


def test_projection_orders_the_numbers_by_variance(student, corpus):
    """On the proteins that it was fitted on, each number of a vector varies at least as much as the next."""
    training = np.flatnonzero(~corpus.is_validation)
    encoder_input = [to_ids(corpus.sequence(p)).astype(np.int64) for p in training]
    with torch.no_grad():
        vectors = torch.stack(
            [student(torch.from_numpy(ids)[None], torch.ones(1, len(ids), 1)).vectors[0] for ids in encoder_input]
        )
    spread = vectors.std(0).numpy()
    assert (np.diff(spread) <= 1e-3 * spread[0]).all()
    assert spread[0] > 1.5 * spread[-1]


def test_components_have_a_sign_of_their_own():
    roots = torch.rand(30, 12, generator=torch.Generator().manual_seed(0))
    _, components, deviations = principal_components(roots, 5)
    assert (components.gather(1, components.abs().argmax(1, keepdim=True)) > 0).all()
    assert (deviations.diff() <= 0).all()
    torch.testing.assert_close(((roots - roots.mean(0)) @ components.T).std(0, correction=0), deviations)


def test_a_prefix_is_the_head_of_the_whole_vector(folder):
    whole = load_student(folder, Options(precision="f32"))
    cut = load_student(folder, Options(precision="f32", dimension=12))
    assert cut.dimension == 12
    np.testing.assert_array_equal(cut.encode(SEQUENCES), whole.encode(SEQUENCES)[:, :12])
    assert cut.fingerprint != whole.fingerprint
    assert load_student(folder, Options(dimension=24)).fingerprint == whole.fingerprint
    with pytest.raises(InputError, match="only protein vectors can be cut"):
        cut.encode_residues(SEQUENCES)


def test_dimensions_that_are_not_promised_are_refused(folder):
    with pytest.raises(InputError, match="has no dimension 5; choose from: 4, 12, 24"):
        load_student(folder, Options(dimension=5))
    with pytest.raises(InputError, match="with pooling mean has no dimension 4; choose from: 24"):
        load_student(folder, Options(dimension=4, pooling="mean"))


def test_what_the_configuration_promises():
    assert nested_dimensions(384, "combined") == [64, 128, 256, 384]
    assert nested_dimensions(128, "combined") == [64, 128]
    assert nested_dimensions(384, "mean") == [384]
    assert nested_dimensions(384, "combined", ()) == [384]


def test_matryoshka_scores_each_prefix_alike():
    vectors = torch.arange(12.0).reshape(2, 6)
    nested = MatryoshkaDimensions((2, 6))
    loss = nested.mean(lambda d: vectors[:, :d].sum(1))
    torch.testing.assert_close(loss, torch.tensor([(1 + 15) / 2, (13 + 51) / 2]))
    assert prefixes(200).dimensions == (64, 128, 200)
    with pytest.raises(InputError, match="ascending"):
        MatryoshkaDimensions((64, 32))
    with pytest.raises(InputError, match="positive"):
        MatryoshkaDimensions(())


@pytest.fixture(scope="module")
def pair():
    """Representations of 80 proteins in which the large one shares directions with the small one and has its own."""
    rng = np.random.default_rng(0)
    small = rng.normal(size=(80, 5)) * [3, 2, 1, 1, 0.5] + 1
    own = rng.normal(size=(80, 9)) * np.arange(9, 0, -1)
    return small, small @ rng.normal(size=(5, 12)) + own @ rng.normal(size=(9, 12)) - 2


def test_reverse_distilled_starts_with_the_small_representation(pair):
    vectors = reverse_distilled(*pair).transform(*pair)
    assert vectors.shape == (80, 12)
    np.testing.assert_array_equal(vectors[:, :5], pair[0])


def test_reverse_distilled_prefixes_are_nested(pair):
    full = reverse_distilled(*pair)
    for dimension in (5, 8, 12):
        cut = reverse_distilled(*pair, dimension).transform(*pair)
        np.testing.assert_allclose(cut, full.transform(*pair, dimension), atol=1e-9)


def test_reverse_distilled_error_is_the_best_of_its_rank_and_falls(pair):
    """Eckart and Young: no m directions leave less of the residuals than the singular values beyond the m-th."""
    small, large = pair
    x = np.column_stack([small, np.ones(len(small))])
    residual = large - x @ np.linalg.lstsq(x, large, rcond=None)[0]
    values = np.linalg.svd(residual, compute_uv=False)
    fitted = reverse_distilled(small, large)
    errors = []
    for kept in range(8):
        rebuilt = fitted.reconstruct(fitted.transform(small, large, 5 + kept))
        errors.append(np.square(large - rebuilt).sum())
        assert errors[-1] == pytest.approx(np.square(values[kept:]).sum())
    assert (np.diff(errors) < 0).all()


def test_reverse_distilled_adds_what_the_small_one_does_not_tell(pair):
    vectors = reverse_distilled(*pair).transform(*pair)
    centred = vectors - vectors.mean(0)
    np.testing.assert_allclose(centred[:, :5].T @ centred[:, 5:], 0, atol=1e-8)


def test_reverse_distilled_of_a_linear_map_adds_nothing(pair):
    small, _ = pair
    doubled = np.column_stack([small, small[:, :2]])  # two directions twice: the regression must not blow up
    assert reverse_distilled(doubled, small @ np.ones((5, 9)), 9).dimension == 7
    assert np.abs(reverse_distilled(doubled, small).regression).max() < 10


def test_reverse_distilled_refuses_what_does_not_fit(pair):
    small, large = pair
    with pytest.raises(InputError, match="a row for each protein"):
        reverse_distilled(small[:-1], large)
    with pytest.raises(InputError, match="at least two"):
        reverse_distilled(small[:1], large[:1])
    with pytest.raises(InputError, match="dimension must be at least 5"):
        reverse_distilled(small, large, 4)
    with pytest.raises(InputError, match=r"expected representations of shapes \(n, 5\) and \(n, 12\)"):
        reverse_distilled(small, large).transform(large, small)
    with pytest.raises(InputError, match="between 1 and 12"):
        reverse_distilled(small, large).transform(small, large, 13)
    with pytest.raises(InputError, match="between 5 and 12"):
        reverse_distilled(small, large).reconstruct(large[:, :4])


# -- licences and the card ---------------------------------------------------------------------------------------------

MIT, NC, GPL = Teacher("esm2", "MIT"), Teacher("nc", "CC-BY-NC-4.0"), Teacher("gpl", "GPL-3.0-only")
NONE, ND, OWN = Teacher("file", "unknown"), Teacher("nd", "CC-BY-ND-4.0"), Teacher("esmc", "Cambrian")


@pytest.mark.parametrize("wanted", [None, "unknown"])
def test_a_licence_that_nobody_asked_for_is_not_given(wanted):
    assert licence_of([MIT, NC, GPL, NONE, ND, OWN], wanted) == "unknown"


@pytest.mark.parametrize(
    ("teacher", "wanted"),
    [
        (MIT, "CC-BY-4.0"), (MIT, "GPL-3.0-only"), (NC, "CC-BY-NC-4.0"), (NC, "CC-BY-NC-SA-4.0"),
        (GPL, "GPL-3.0-or-later"), (OWN, "Cambrian"),
    ],
)  # fmt: skip
def test_a_licence_that_keeps_the_teachers_terms_is_given(teacher, wanted):
    assert licence_of([MIT, teacher], wanted) == wanted


@pytest.mark.parametrize(
    ("teacher", "wanted", "message"),
    [
        (NONE, "MIT", "file cannot be labelled MIT: it has no licence note; state its licence with --teacher-license"),
        (NONE, "CC-BY-NC-4.0", "no licence note"),
        (Teacher("library", "see its file"), "MIT", "no licence note"),
        (NC, "MIT", "CC-BY-NC-4.0, is for non-commercial use; use --license CC-BY-NC-4.0"),
        (NC, "GPL-3.0-only", "for non-commercial use"),
        (GPL, "Apache-2.0", "passed on to what is made from it; use --license GPL-3.0-only"),
        (Teacher("sa", "CC-BY-NC-SA-4.0"), "CC-BY-NC-4.0", "passed on"),
        (ND, "CC-BY-ND-4.0", "permits no derivatives; leave --license out"),
        (OWN, "MIT", "none whose terms limbeck knows; use --license Cambrian"),
    ],
)
def test_a_licence_that_drops_the_teachers_terms_is_refused(teacher, wanted, message):
    with pytest.raises(InputError, match=re.escape(message)) as error:
        licence_of([MIT, teacher], wanted)
    assert "\n" not in str(error.value)


def test_a_missing_note_can_be_stated():
    stated = with_stated_licences([MIT, NONE], ["file=CC-BY-4.0", "esm2=mit"])
    assert stated == [MIT, Teacher("file", "CC-BY-4.0", stated_by_user=True)]
    assert licence_of(stated, "MIT") == "MIT"
    for entry, message in [
        ("file", "takes NAME=LICENCE"),
        ("other=MIT", "'other', which is no teacher"),
        ("nc=MIT", "teacher nc itself states CC-BY-NC-4.0, not MIT"),
    ]:
        with pytest.raises(InputError, match=message):
            with_stated_licences([MIT, NONE, NC], [entry])


def card(corpus, license="unknown", teachers=(), **more):
    return model_card("tiny", license, corpus, "proteins.fasta", teachers, CONFIG, {"profile": 1.25}, **more)


@pytest.mark.parametrize(
    ("license", "expected"),
    [
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("GPL-3.0-only", {"license": "gpl-3.0"}),
        ("unknown", {"license": "unknown"}),
        ("My terms: #1", {"license": "other", "license_name": "my-terms-1"}),
    ],
)
def test_front_matter_is_what_the_hub_reads(corpus, license, expected):
    yaml = pytest.importorskip("yaml")
    _, block, _ = card(corpus, license).split("---\n", 2)
    facts = yaml.safe_load(block)
    assert facts.pop("tags")
    assert facts == {"library_name": "transformers", "pipeline_tag": "feature-extraction"} | expected


def test_card_states_what_it_was_given_and_nothing_else(corpus):
    text = card(
        corpus,
        "CC-BY-NC-4.0",
        [NC, NONE, Teacher("t|x", "MIT", "f00d", stated_by_user=True)],
        nested=[4, 12, 24],
        objectives=["contexts", "contrast"],
        budget=Budget(6144, 0.5, "2 cores", 1.5e12),
        scores={"fold, 1-NN": 0.0876},
    )
    for part in (
        f"{len(corpus)} proteins", corpus.fingerprint, "| nc | CC-BY-NC-4.0 | not recorded |",
        "| file | none stated |", r"| t\|x | MIT (as the user states) | f00d |", "file has no licence note",
        "nc (CC-BY-NC-4.0): its licence is for non-commercial use", "Objectives: contexts, contrast.", "| 6,144 |",
        "0.5 hours on 2 cores", "1.5e+12", "| fold, 1-NN | 0.0876 |", "The first 4 or 12 numbers",
        "| 24 numbers, pooled", f"{SHAPE.radius} residues on either side", "| profile | 1.2500 |",
    ):  # fmt: skip
        assert part in text, part
    bare = card(corpus)
    for absent in ("hours", "point operations", "serve alone:", "non-commercial", "0.0876"):
        assert absent not in bare, absent
    assert "The run measured none." in bare
    assert "pretrained from scratch" in bare
    assert "Nobody has put this model under a licence" in bare


def test_the_cards_code_runs(corpus, folder, monkeypatch):
    pytest.importorskip("sentence_transformers")
    monkeypatch.chdir(folder.parent)
    blocks = re.findall(r"^```python\n(.*?)^```", card(corpus), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    for block in blocks:
        exec(block.replace('"folder"', repr(str(Path(folder.name)))), {})


def test_the_shipped_model_can_be_copied_for_other_libraries(tmp_path):
    folder = copy_student("limbeck-9m", tmp_path / "copy")
    assert (folder / "modeling_limbeck.py").is_file()
    assert limbeck.load(folder).fingerprint == limbeck.load("limbeck-9m").fingerprint
    assert limbeck.load(folder, dimension=64).dimension == 64
    with pytest.raises(InputError, match="already holds a model; choose another folder"):
        copy_student("limbeck-9m", folder)
    with pytest.raises(InputError, match="is not a complete student"):
        copy_student(str(tmp_path), tmp_path / "other")
