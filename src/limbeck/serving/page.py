"""A page to paste a protein into; it uses the paths that any client uses."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from fastapi import FastAPI, Response
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from limbeck.landscapes.pictures import SHADES
from limbeck.serving.service import Service
from limbeck.version import __version__

__all__ = ["FILES", "add_page"]

FILES = ("/", "/page.css", "/page.js")


def add_page(app: FastAPI, service: Service) -> None:
    """Add the page and what it loads."""
    content = _content(service)

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(_environment().get_template("page.html").render(content), media_type="text/html")

    @app.get("/page.css", include_in_schema=False)
    async def style() -> Response:
        return Response(_environment().get_template("page.css").render(shades=_shades()), media_type="text/css")

    @app.get("/page.js", include_in_schema=False)
    async def script() -> Response:
        text = resources.files(__package__).joinpath("static/page.js").read_bytes()
        return Response(text, media_type="text/javascript")


@cache
def _environment() -> Environment:
    packages = ("limbeck.serving", "limbeck.landscapes", "limbeck")
    loader = ChoiceLoader([PackageLoader(package) for package in packages])
    # The style sheet has nothing to escape; the page has names of models.
    return Environment(
        loader=loader, autoescape=lambda name: name != "page.css", undefined=StrictUndefined, trim_blocks=True
    )


def _shades() -> list[str]:
    return [*(f"h{i}n" for i in range(SHADES, 0, -1)), "h0", *(f"h{i}p" for i in range(1, SHADES + 1))]


def _content(service: Service) -> dict[str, Any]:
    encoder = service.encoder
    scans = []
    if service.landscape is not None:
        scans.append(("model", f"by {service.landscape.name}"))
    if service.has_likelihoods:
        scans.append(("likelihood", f"by likelihoods of {encoder.name}"))
    return {
        "encoder": encoder.name,
        "facts": f"{encoder.dimension} numbers, {encoder.precision}, licence {encoder.license}",
        "index": None if service.index is None else f"{service.index.name}, {len(service.index):,} proteins",
        "assay": None if service.landscape is None else service.landscape.assay,
        "scans": scans,
        "needs_key": bool(service.settings.keys),
        "max_length": service.settings.max_length,
        "shades": _shades(),
        "version": __version__,
    }
