"""A tutorial as a notebook, so that both have one source.

``python docs/notebooks.py docs/tutorials/search.md`` writes ``search.ipynb`` into the working directory. It needs
limbeck[docs], and to be run where the tutorial is: at the root of a clone.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

__all__ = ["notebook"]

BLOCK = re.compile(r"^```(python|sh|text)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


def notebook(tutorial: Path) -> NotebookNode:
    """Python and shell blocks as cells to run, what the last one prints (``text``) in its metadata, all else as text.

    Links to other pages become plain text: a notebook is read away from them.
    """
    cells: list[NotebookNode] = []
    ran: list[NotebookNode] = []
    parts = BLOCK.split(tutorial.read_text(encoding="utf-8"))
    for index in range(0, len(parts), 3):
        if prose := re.sub(r"!?\[([^]]+)\]\((?!https?:)[^)]+\)", r"\1", parts[index]).strip():
            cells.append(new_markdown_cell(prose))
        if index + 1 == len(parts):
            break
        kind, code = parts[index + 1], parts[index + 2].rstrip()
        if kind == "text":
            ran[-1].metadata["shown"] = code
        else:
            ran.append(new_code_cell(f"%%bash -e\n{code}" if kind == "sh" else code))
            cells.append(ran[-1])
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # nbformat's own are random
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


if __name__ == "__main__":
    for name in sys.argv[1:]:
        nbformat.write(notebook(Path(name)), Path(name).with_suffix(".ipynb").name)
