"""The tutorials run to their end and print what they show; and the commands in all pages have the options they use."""

import doctest
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from limbeck import cli

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(page: Path) -> list[list[str]]:
    """The calls of limbeck in the shell blocks of a page, without what the shell does with them."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.split(r"\s(?:&&|\|\|?|;|>|2>)\s", line.split(" # ")[0])]
    return [shlex.split(part)[1:] for part in parts if part.strip().startswith("limbeck ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_have_these_options(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in commands(page):
        try:
            cli.parser().parse_args(arguments)
        except SystemExit as end:
            if end.code:
                pytest.fail(f"limbeck {shlex.join(arguments)}: {capsys.readouterr().err}")


def test_commands_are_found() -> None:
    assert len(commands(ROOT / "README.md")) > 20
    assert ["search", "query.fasta", "--index", "proteins.index", "-k", "10", "-o", "hits.tsv"] in commands(
        ROOT / "docs/search.md"
    )


def masked(text: str) -> str:
    """Without what differs between machines: figures, times, lines of progress, and the precision that is fast."""
    text = re.sub(r"^[^:]+: [\d.,]+ (% )?of [\d,]+ .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^(speed|time|spent on) .*", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"\b(f32|bf16)\b", "precision", text)
    return re.sub(r"[-+]?\d[\d,.]*", "0", text)


def test_a_notebook_runs_what_its_tutorial_says(monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    from notebooks import notebook

    for tutorial in TUTORIALS:
        book = notebook(tutorial)
        nbformat.validate(book)
        text = tutorial.read_text(encoding="utf-8")
        code = [cell for cell in book.cells if cell.cell_type == "code"]
        assert len(code) == text.count("\n```sh\n") + text.count("\n```python\n")
        assert all(cell.source.removeprefix("%%bash -e\n") in text for cell in code)
        assert sum("shown" in cell.metadata for cell in code) == text.count("\n```text\n")
        assert not any("](../" in cell.source for cell in book.cells)


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda tutorial: tutorial.stem)
def test_tutorial_prints_what_it_shows(tutorial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a notebook, so that the notebook runs, too."""
    client = pytest.importorskip("nbclient")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    from notebooks import notebook

    for folder in ("datasets", "examples"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    book = notebook(tutorial)
    client.NotebookClient(book, timeout=3600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    same = doctest.OutputChecker().check_output
    for cell in book.cells:
        if "shown" in cell.metadata:
            printed = "".join(
                output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs
            )
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert same(masked(cell.metadata.shown), masked(printed), flags), f"{cell.source}\n\n{printed}"
