"""The Python in the README and the docs runs as it stands."""

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import limbeck
from limbeck import encoders

ROOT = Path(__file__).parents[1]
PROTEINS = {"P47358": "MATKVVFSLLPLLNRFDK", **{f"P{n}": "MKTAYIAKQRQISFVK"[n:] for n in range(9)}}


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def proteins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A FASTA file in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "proteins.fasta"
    path.write_text("".join(f">{id}\n{sequence}\n" for id, sequence in PROTEINS.items()))
    return path


def test_readme(proteins: Path) -> None:
    scope = {"sequences": list(PROTEINS.values()), "melting_temperatures": np.arange(40.0, 50.0)}
    for block in python_blocks("README.md"):
        exec(block, scope)
    assert [r.shape[0] for r in scope["residues"]] == [10]
    assert scope["id"] == list(PROTEINS)[-1]
    assert scope["model"].predict(["MKTAYIAK"]).shape == (1,)


def test_reading_outputs(proteins: Path) -> None:
    for output in ("proteins.h5", "proteins.parquet", "proteins.npz"):
        limbeck.embed(proteins, output, encoder="composition", progress=False)
    limbeck.embed(proteins, "residues.npz", encoder="one-hot", per_residue=True, progress=False)
    expected = limbeck.load("composition").encode(list(PROTEINS.values()))
    h5, parquet, npz = python_blocks("docs/embedding.md")
    for block in (h5, parquet, npz):
        scope: dict[str, object] = {}
        exec(block, scope)
        assert list(scope["ids"]) == list(PROTEINS)
        assert scope["encoder"] == "composition"
        if block is h5:
            np.testing.assert_array_equal(scope["vector"], expected[0])
        else:
            np.testing.assert_array_equal(scope["vectors"], expected)
    assert scope["residues"].shape == (len(PROTEINS["P6"]), 20)


def test_a_new_encoder_is_one_new_file(proteins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (module,) = python_blocks("docs/encoders.md")
    folder = tmp_path / "encoders"
    folder.mkdir()
    (folder / "hydropathy.py").write_text(module)
    monkeypatch.setattr(encoders, "__path__", [*encoders.__path__, str(folder)])
    encoders._families.cache_clear()
    try:
        assert "hydropathy" in [info.name for info in encoders.available()]
        vectors = limbeck.load("hydropathy").encode(["AI", "X"])
        np.testing.assert_allclose(vectors, [[3.15], [0]], rtol=1e-6)
        summary = limbeck.embed(proteins, "hydropathy.h5", encoder="hydropathy", progress=False)
        assert summary.dimension == 1
    finally:
        encoders._families.cache_clear()


@pytest.mark.slow
def test_landscape_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with gzip.open(ROOT / "datasets/dms_nn4dms/pab1.csv.gz", "rt") as file:
        lines = [line for line in file if not line.startswith('"') and "*" not in line][:101]
    wild_type = "".join((ROOT / "datasets/dms_nn4dms/pab1.fasta").read_text().splitlines()[1:])
    (tmp_path / "assay.csv").write_text("wild_type," + lines[0] + "".join(f"{wild_type},{line}" for line in lines[1:]))
    (tmp_path / "new_variants.csv").write_text("mutant\nG126W\nN127P\n")
    scope: dict[str, Any] = {}
    (block,) = python_blocks("docs/landscape.md")
    exec(block, scope)
    assert "random" in set(scope["comparison"].verdicts["split"])
    assert len(scope["table"]) == 2
    assert np.isfinite(scope["table"]["sd"]).all()


def test_verdict_page(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = python_blocks("docs/verdict.md")
    exec(block, {})
    # Both rank all variants rightly.
    assert "not needed" in capsys.readouterr().out.splitlines()[-1]


def test_few_labels_page() -> None:
    scope: dict[str, Any] = {}
    for block in python_blocks("docs/few-labels.md"):
        exec(block, scope)
    assert np.isfinite(scope["ratios"]).all()
    for name in ("augmented", "in_context", "ranker"):
        assert np.isfinite(scope[name].predict(scope["variants"])).all()


def test_choosing_data_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from limbeck.distillation.corpus import write_corpus

    monkeypatch.chdir(tmp_path)
    # Families of two, of whom some are held out.
    sequences = ["".join(np.random.default_rng(n).choice(list("ACDEFGHIKLMNPQRSTVWY"), 60)) for n in range(40)]
    profile = np.full((60, 20), 0.05)
    write_corpus(tmp_path / "corpus.h5", [(f"p{n}", f"f{n // 2}", s, profile) for n, s in enumerate(sequences)])
    scope: dict[str, Any] = {}
    (block,) = python_blocks("docs/choosing-data.md")
    exec(block, scope)
    assert scope["chosen"].shape == (40,)
    assert 5 < scope["chosen"].sum() < 15


def test_student_folder_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    from limbeck import cli

    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "limbeck-9m", "-o", "my-student"]) == 0
    scope: dict[str, Any] = {}
    (block,) = python_blocks("docs/student-folder.md")
    exec(block, scope)
    assert scope["output"].pooler_output.shape == (2, 384)
    assert scope["output"].log_probabilities.shape == (2, 10, 20)


def test_serving_page(monkeypatch: pytest.MonkeyPatch) -> None:
    httpx = pytest.importorskip("httpx")
    testing = pytest.importorskip("fastapi.testclient")
    from limbeck.serving.api import make_app
    from limbeck.serving.settings import Settings
    from limbeck.serving.start import open_service

    scope: dict[str, Any] = {}
    (block,) = python_blocks("docs/serving.md")
    with testing.TestClient(make_app(open_service("composition", Settings()))) as client:
        monkeypatch.setattr(httpx, "post", client.post)
        exec(block, scope)
    expected = limbeck.load("composition").encode(["MKTAYIAKQR", "GSHMLEDP"])
    np.testing.assert_array_equal(scope["vectors"], expected)


@pytest.mark.slow
def test_fine_tuning_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, but with few proteins: the whole takes a quarter of an hour."""
    pytest.importorskip("torch")
    from limbeck.benchmarks.task import Parts, Task

    whole = Task.parts

    def few(*arguments: Any) -> Parts:
        parts = whole(*arguments)
        return Parts(parts.fit.take(range(40)), parts.choose.take(range(20)), parts.score.take(range(20)))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Task, "parts", few)
    scope: dict[str, Any] = {}
    (block,) = python_blocks("docs/fine-tuning.md")
    exec(block, scope)
    assert len(scope["found"].models) == 2
    assert scope["model"].predict(["MKTAYIAKQRQISFVKSHFSRQ"])[0] in "abcdefg"


def test_formats_page(proteins: Path) -> None:
    pytest.importorskip("anndata")
    for block in python_blocks("docs/formats.md"):
        scope: dict[str, Any] = {}
        exec(block, scope)
    assert scope["ids"].tolist() == list(PROTEINS)
    assert scope["vectors"].shape == (len(PROTEINS), 20)
    assert [id for id, _ in limbeck.read_embeddings("frame.h5")] == ["P47358", "P1"]
    assert [id for id, _ in limbeck.read_embeddings("records.parquet")] == list(PROTEINS)


def test_no_page_is_forgotten() -> None:
    """Two are run in the tests of their verbs (search, propose), tutorials in test_tutorials.py, the others here."""
    pages = [str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").glob("*.md"))]
    assert [page for page in pages if python_blocks(page)] == [
        f"docs/{name}.md"
        for name in (
            "choosing-data",
            "embedding",
            "encoders",
            "few-labels",
            "fine-tuning",
            "formats",
            "landscape",
            "propose",
            "search",
            "serving",
            "student-folder",
            "verdict",
        )
    ]
