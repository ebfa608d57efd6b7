"""What the paths of both shapes share: statuses for OpenAPI, and long answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import Response

from limbeck.serving import bodies

__all__ = ["POST_PROBLEMS", "problems", "written"]

POST_PROBLEMS = (400, 401, 408, 413, 415, 422, 429, 500, 503, 504)
"""Statuses that any request with a body may get."""

INLINE = 20_000
"""Numbers up to which an answer is written at once; a larger one is written aside, and holds nobody up."""

_REASONS = {
    400: "A sequence, a variant or an option cannot be used.",
    401: "A key is needed.",
    404: "What is asked for is not served.",
    408: "The body took too long to arrive.",
    413: "The body, a protein or the answer is too large.",
    415: "The body is not JSON, or is compressed.",
    422: "The body has not the shape that is described here.",
    429: "The queue is full; `Retry-After` says when to come again.",
    500: "An error of the server's own.",
    503: "The server is stopping, or not ready.",
    504: "Not answered in time.",
}


def problems(*statuses: int, model: type[Any] = bodies.Problem) -> dict[int | str, dict[str, Any]]:
    """The answers other than 200, for OpenAPI."""
    return {status: {"model": model, "description": _REASONS[status]} for status in statuses}


async def written(numbers: int, make: Callable[[], bytes], media_type: str = "application/json") -> Response:
    """A response whose content is made in a thread if it is long."""
    content = make() if numbers <= INLINE else await asyncio.to_thread(make)
    return Response(content, media_type=media_type)
