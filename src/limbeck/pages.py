"""Pages that need nothing but themselves: no network, no font, the same look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from limbeck.errors import InputError
from limbeck.files import whole

__all__ = ["write_page"]


def write_page(output: Path, package: str, template: str, content: Mapping[str, Any]) -> None:
    """Fill a template of a package and write the page when it is whole.

    Args:
        output: the page (HTML).
        package: whose ``templates`` folder has the template; it may include the shared ones of ``limbeck``.
        template: file name.
        content: what the template shows; text is escaped.

    Raises:
        InputError: if the page cannot be written.
    """
    loader = ChoiceLoader([PackageLoader(package), PackageLoader("limbeck")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.get_template(template).render(content)
    try:
        with whole(output) as partial:
            partial.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}") from None
