import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import limbeck
from limbeck.errors import InputError
from limbeck.landscapes.assay import Assay
from limbeck.landscapes.leaks import SKETCH, corpus_leaks, nearest_identity, one_apart, train_test_leaks
from limbeck.landscapes.sketch import LEAST_LETTERS, CorpusSketch, HashSet, K, kmer_hashes, protein_hashes
from limbeck.landscapes.splits import Split
from limbeck.residues import RESIDUES

WILD = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVV"


def random_proteins(count, length, seed=0):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list(RESIDUES), length)) for _ in range(count)]


def mutated(sequence, places, seed=0):
    rng = np.random.default_rng(seed)
    letters = list(sequence)
    for place in places:
        letters[place] = rng.choice([r for r in RESIDUES if r != letters[place]])
    return "".join(letters)


def codes(rows):
    return np.array([list(row.encode()) for row in rows], np.uint8)


def assay_of(rows, parents=None, wild_types=None, layout="substitutions"):
    parents = np.array(parents or [""] * len(rows), dtype=object)
    return Assay("test", rows, np.arange(len(rows), dtype=float), parents, wild_types or {}, layout)


def split_of(train, valid, test):
    rows = [np.array(part, np.intp) for part in (train, valid, test)]
    return Split("random", "?", *rows, units=np.arange(len(test)), unit="variant")


# --- train and test


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_one_apart_is_what_comparing_all_pairs_finds(data):
    width = data.draw(st.integers(1, 6))
    rows = st.lists(st.text("ACD-", min_size=width, max_size=width), min_size=1, max_size=12)
    test, train = codes(data.draw(rows)), codes(data.draw(rows))
    expected = [(train != row).sum(axis=1).min() <= 1 for row in test]
    assert one_apart(test, train).tolist() == expected


def test_leaks_of_a_split_are_counted_against_training_and_validation():
    variants = [
        WILD,
        mutated(WILD, [3]),
        mutated(WILD, [3, 40, 50]),
        mutated(WILD, [3], seed=5),
        mutated(WILD, [9, 20, 30]),
    ]
    rows = [*variants, variants[1], mutated(WILD, [60])]
    assay = assay_of(rows, ["wt"] * len(rows), {"wt": WILD})
    exact, near = train_test_leaks(assay, split_of([0, 2], [1], [3, 4, 5, 6]))
    assert (exact.kind, exact.count, exact.of, exact.share) == ("exact duplicates", 1, 4, 0.25)
    assert exact.examples == [f"{WILD[3]}4{rows[5][3]}"]
    assert (near.kind, near.count, near.of) == ("one residue apart", 3, 4)
    assert "3 of 4 test variants (75.0 %)" in near.sentence
    assert exact.split == "random"
    assert exact.encoder is None


def test_a_stop_codon_hides_what_follows_it():
    early = WILD[:20] + "*" + "-" * (len(WILD) - 21)
    truncated = WILD[:20].ljust(len(WILD), "-")
    assay = assay_of([early, truncated], layout="aligned")
    exact = train_test_leaks(assay, split_of([0], [], [1]))[0]
    assert exact.count == 1


def test_no_leak_is_said_in_words():
    rows = random_proteins(6, 50)
    found = train_test_leaks(assay_of(rows, layout="padded"), split_of([0, 1, 2], [3], [4, 5]))
    assert [leak.count for leak in found] == [0, 0, 0]
    assert [leak.kind for leak in found] == ["exact duplicates", "one residue apart", "near duplicates"]
    assert all("No test variants" in leak.sentence for leak in found)
    assert all(leak.examples == [] for leak in found)


def test_natural_proteins_are_near_duplicates_by_identity():
    base = random_proteins(30, 200)
    close, far = mutated(base[3], range(0, 200, 25)), mutated(base[5], range(0, 200, 3))
    rows = [*base, close, far]
    found = train_test_leaks(assay_of(rows, layout="padded"), split_of(range(30), [], [30, 31]))
    near = next(leak for leak in found if leak.kind == "near duplicates")
    assert (near.count, near.of) == (1, 2)
    assert near.examples[0].startswith(close[:20])


@pytest.mark.parametrize("identity", [1.0, 0.97, 0.9])
def test_identity_is_estimated_without_alignment(identity):
    train = random_proteins(50, 400)
    rng = np.random.default_rng(1)
    test = [mutated(s, rng.choice(400, round((1 - identity) * 400), replace=False)) for s in train[:20]]
    # A residue put in front moves every position.
    found, which = nearest_identity(["M" + s for s in test], train)
    assert which.tolist() == list(range(20))
    assert found == pytest.approx(np.full(20, identity), abs=0.03)


def test_a_crowd_of_relatives_is_represented():
    crowd = [mutated(WILD, [i % 60, (7 * i) % 60], seed=i) for i in range(400)]
    found, _ = nearest_identity([mutated(WILD, [65])], crowd)
    assert found[0] > 0.9


def test_proteins_too_short_for_a_word_are_like_nothing():
    found, which = nearest_identity(["AC", "ACDEFG"], ["AC", "WWW"])
    assert found.tolist() == [0, 0]
    assert which.tolist() == [-1, -1]


# --- the corpus


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=200), st.integers(1, 3))
def test_a_set_of_hashes_holds_what_was_put_in(numbers, rest):
    hashes = np.array(numbers, np.uint64)
    found = HashSet.of(hashes, 8, rest)
    shift = 64 - 8 - 8 * rest
    assert found.values.tolist() == sorted({n >> shift for n in numbers})
    assert found.holds(hashes).all()
    others = hashes ^ np.uint64(1 << 63)
    assert found.holds(others).tolist() == [int(o) >> shift in {n >> shift for n in numbers} for o in others]


def test_a_bucket_that_would_overflow_is_refused():
    with pytest.raises(ValueError, match="too many"):
        HashSet.of(np.arange(1000, dtype=np.uint64) << np.uint64(32), 4, 4)


def test_kmers_are_those_of_each_protein_alone():
    sequences = random_proteins(40, 300)
    together, owners = kmer_hashes(sequences)
    for i, sequence in enumerate(sequences):
        assert sorted(together[owners == i]) == sorted(kmer_hashes([sequence])[0])


def test_about_one_kmer_in_64_is_kept_and_none_of_few_letters():
    sequences = random_proteins(200, 500)
    kept, _ = kmer_hashes(sequences)
    assert len(kept) == pytest.approx(200 * (500 - K + 1) / 64, rel=0.1)
    assert len(kmer_hashes(["QA" * 5000])[0]) == 0
    assert LEAST_LETTERS == 4


def test_an_unknown_residue_breaks_kmers():
    sequence = random_proteins(1, 400)[0]
    broken = "X".join(sequence[i : i + K - 1] for i in range(0, 400, K - 1))
    assert len(kmer_hashes([broken])[0]) == 0
    assert len(kmer_hashes(["A", ""])[0]) == 0


def test_a_sketch_knows_its_proteins_with_and_without_the_first_methionine():
    corpus = random_proteins(500, 250)
    sketch = CorpusSketch.of(corpus, {"name": "toy"})
    assert sketch.contains(corpus).all()
    assert sketch.contains(["M" + s.removeprefix("M") for s in corpus]).all()
    assert not sketch.contains([s[1:] for s in corpus if s[0] != "M"]).any()
    assert protein_hashes(["MACD"]) == protein_hashes(["ACD"])


def test_containment_is_the_share_of_kmers_in_the_corpus():
    corpus = random_proteins(300, 2000)
    sketch = CorpusSketch.of(corpus, {"name": "toy"})
    half = [s[:1000] + t for s, t in zip(corpus[:30], random_proteins(30, 1000, seed=9), strict=True)]
    shares, looked_up = sketch.containment([*corpus[:30], *half, *random_proteins(30, 2000, seed=10), "ACD"])
    assert (shares[:30] == 1).all()
    assert shares[30:60].mean() == pytest.approx(0.5, abs=0.06)
    assert shares[60:90].max() == 0
    assert np.isnan(shares[90])
    assert looked_up[90] == 0
    assert sketch.near([*corpus[:2], "ACD"]).tolist() == [True, True, False]


def test_a_sketch_is_read_as_it_was_written(tmp_path):
    corpus = random_proteins(100, 200)
    sketch = CorpusSketch.of(corpus, {"name": "toy"})
    sketch.save(tmp_path / "corpus.safetensors")
    read = CorpusSketch.read(tmp_path / "corpus.safetensors")
    assert read.notes == {"name": "toy", "proteins": "100"}
    assert (read.proteins.values == sketch.proteins.values).all()
    assert (read.kmers.values == sketch.kmers.values).all()
    assert not list(tmp_path.glob("*.partial"))


def test_a_damaged_sketch_is_refused_in_one_line(tmp_path):
    path = tmp_path / SKETCH
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="get the model again") as error:
        CorpusSketch.read(path)
    assert "\n" not in str(error.value)


class Pretend:
    """An encoder of which only the name matters."""

    parameters = 1

    def __init__(self, name):
        self.name = str(name)


def test_wild_types_and_variants_are_found_in_the_training_corpus(tmp_path):
    corpus = random_proteins(50, 400)
    CorpusSketch.of(corpus, {"name": "toy"}).save(tmp_path / SKETCH)
    wild = mutated(corpus[0], [10])
    rows = [wild, corpus[0], mutated(wild, [20])]
    assay = assay_of(rows, ["p"] * 3, {"p": wild})
    exact, near = corpus_leaks(assay, Pretend(tmp_path))
    assert (exact.count, exact.of) == (1, 3)
    assert exact.examples == [f"{wild[10]}11{corpus[0][10]}"]
    assert (near.count, near.of, near.examples) == (1, 1, ["p"])
    assert near.sentence.startswith("A near duplicate of the wild type 'p' was in the training corpus")
    assert "50 proteins" in near.sentence
    assert exact.split is None


@pytest.mark.parametrize(
    ("wild", "start", "count"),
    [
        (random_proteins(1, 400)[0], "The wild type 'p' was in ", 1),
        (random_proteins(1, 400, seed=7)[0], "The wild type 'p' was not in the training corpus", 0),
        ("ACDEFGHIKL", "The wild type 'p' was not in the training corpus", 0),
    ],
)
def test_one_wild_type_is_spoken_of_by_name(tmp_path, wild, start, count):
    CorpusSketch.of(random_proteins(50, 400), {"name": "toy"}).save(tmp_path / SKETCH)
    _, near = corpus_leaks(assay_of([wild], ["p"], {"p": wild}), Pretend(tmp_path))
    assert near.count == count
    assert near.sentence.startswith(start)
    assert ("cannot tell" in near.sentence) == (len(wild) == 10)


def test_proteins_without_a_wild_type_are_looked_up_one_by_one(tmp_path):
    corpus = random_proteins(50, 400)
    CorpusSketch.of(corpus, {"name": "toy"}).save(tmp_path / SKETCH)
    rows = [corpus[4], mutated(corpus[5], [1, 2]), *random_proteins(3, 400, seed=8), "ACDEFGHIKL".ljust(400, "-")]
    exact, near = corpus_leaks(assay_of(rows, layout="padded"), Pretend(tmp_path))
    assert (exact.count, near.count, near.of) == (1, 2, 6)
    assert near.sentence.endswith("1 are too short to tell.")


def test_an_unknown_corpus_is_said_to_be_unknown(tmp_path):
    assay = assay_of(random_proteins(3, 50), layout="padded")
    (esm,) = corpus_leaks(assay, Pretend("facebook/esm2_t6_8M_UR50D"))
    assert (esm.count, esm.of) == (0, 3)
    assert np.isnan(esm.share)
    assert "not known here" in esm.sentence
    assert "UniRef50" in esm.sentence
    (other,) = corpus_leaks(assay, Pretend(tmp_path))
    assert other.sentence == f"The training corpus of {tmp_path} is not known here."


@pytest.mark.parametrize("name", ["composition", "random-student"])
def test_encoders_that_learned_nothing_have_no_corpus(name):
    assert corpus_leaks(assay_of(random_proteins(3, 50), layout="padded"), limbeck.load(name)) == []


TEM_1 = (
    "MSIQHFRVALIPFFAAFCLPVFAHPETLVKVKDAEDQLGARVGYIELDLNSGKILESFRPEERFPMMSTFKVLLCGAVLSRVDAGQEQLGRRIHYSQNDLVEYSPVTEKHLTDGMTVRELCSAAITM"
    "SDNTAANLLLTTIGGPKELTAFLHNMGDHVTRLDRWEPELNEAIPNDERDTTMPAAMATTLRKLLTGELLTLASRQQLIDWMEADKVAGPLLRSALPAGWFIADKSGAGERGSRGIIAALGPDGKPS"
    "RIVVIYTTGSQATMDERNRQIAEIGASLIKHW"
)


@pytest.mark.parametrize("name", ["limbeck-9m", "limbeck-contexts"])
def test_the_shipped_models_know_their_corpus(name):
    rows = [TEM_1, mutated(TEM_1, [100])]
    exact, near = corpus_leaks(assay_of(rows, ["TEM-1"] * 2, {"TEM-1": TEM_1}), Pretend(name))
    assert (exact.count, exact.of) == (1, 2)
    assert near.count == 1
    assert name in near.sentence


def test_the_shipped_sketch_does_not_know_random_proteins():
    sketch = CorpusSketch.read(limbeck_folder() / SKETCH)
    strangers = random_proteins(300, 300)
    assert not sketch.contains(strangers).any()
    assert sketch.near(strangers).mean() < 0.01
    assert (limbeck_folder() / SKETCH).stat().st_size <= 4_000_000


def limbeck_folder():
    from limbeck.encoders.student import DEFAULT_NAME, student_folder

    return student_folder(DEFAULT_NAME)
