"""What a server answers when it does not answer: a status and one line."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

__all__ = ["GONE", "Refusal", "refused"]

GONE = 499
"""Stands in the metrics for a request whose client went away."""

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """A request that is not answered, with the status that says why.

    Args:
        status: of HTTP.
        message: one line that says what is wrong, where, and what to do.
        retry_after: seconds after which the same request may succeed.
        parameter: of the body, where one is at fault.
    """

    def __init__(
        self, status: int, message: str, *, retry_after: int | None = None, parameter: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after
        self.parameter = parameter


def refused(path: str, refusal: Refusal) -> JSONResponse:
    """The response; under ``/v1/`` in the shape that OpenAI's clients read."""
    headers = {}
    if refusal.retry_after is not None:
        headers["retry-after"] = str(refusal.retry_after)
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    content: dict[str, Any] = {"detail": refusal.message}
    if path.startswith("/v1/"):
        kind = _OPENAI_TYPES.get(refusal.status, "server_error" if refusal.status >= 500 else "invalid_request_error")
        code = "invalid_api_key" if refusal.status == 401 else None
        content = {
            "error": {"message": refusal.message, "type": kind, "param": refusal.parameter, "code": code},
        }
    return JSONResponse(content, refusal.status, headers)
