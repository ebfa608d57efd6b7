"""What every request passes before it is looked at: key, limits, time, and whether its client is still there."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

from starlette.datastructures import Headers, MutableHeaders

from limbeck.serving.metrics import Metrics
from limbeck.serving.refusals import GONE, Refusal, refused
from limbeck.serving.settings import Settings

__all__ = ["Gate"]

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[dict[str, Any], Receive, Send], Coroutine[Any, Any, None]]

BODIES = 16
"""How many of the largest bodies may be in memory at once."""

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}

_log = logging.getLogger("limbeck.serving")


class _Gone(Exception):
    """The client has closed the connection."""


class _Answer:
    """Sends a response with the headers that all have, and knows how far it came."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=list(message.get("headers", [])))
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            message = {**message, "headers": headers.raw}
        await self._send(message)


class Gate:
    """An ASGI application around another.

    Args:
        app: gets requests whose body has arrived whole. It is cancelled when the client goes or time is up.
        settings: the limits.
        metrics: count each request.
        paths: by which requests are counted; all others count as one.
        posts: paths that take a body.
        free: paths that need no key.
    """

    def __init__(
        self,
        app: App,
        settings: Settings,
        metrics: Metrics,
        *,
        paths: Iterable[str],
        posts: Iterable[str],
        free: Iterable[str],
    ) -> None:
        self.running = 0
        """Requests that are in work."""
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._paths = frozenset(paths)
        self._posts = frozenset(posts)
        self._free = frozenset(free)
        self._keys = [key.encode() for key in settings.keys]
        self._bytes = 0

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        started = time.monotonic()
        answer = _Answer(send)
        status = 500
        self.running += 1
        try:
            await self._pass(scope, receive, answer)
            status = answer.status or 500
        except _Gone:
            status = GONE
        except Refusal as refusal:
            status = refusal.status
            await _refuse(refusal, scope, receive, answer)
        except Exception:
            _log.exception("%s %s failed", scope["method"], path)
            await _refuse(Refusal(500, "internal error; the server's log has more"), scope, receive, answer)
        finally:
            self.running -= 1
            self._metrics.request(path, status, time.monotonic() - started)

    async def _pass(self, scope: dict[str, Any], receive: Receive, answer: _Answer) -> None:
        headers = Headers(scope=scope)
        if self._keys and scope["path"] not in self._free:
            self._check_key(headers.get("authorization", ""))
        if scope["method"] != "POST" or scope["path"] not in self._posts:
            await self._app(scope, receive, answer)
            return
        if self.running > self._settings.max_requests:
            raise Refusal(429, "too many requests at once; try again later", retry_after=1)
        _check_kind(headers)
        size = 0
        try:
            # Bodies of many clients must not fill the memory before any is looked at.
            chunks: list[bytes] = []
            async with _time_limit(self._settings.body_seconds, 408, "the body took too long to arrive"):
                async for chunk in self._body(headers, receive):
                    size += len(chunk)
                    self._bytes += len(chunk)
                    if self._bytes > BODIES * self._settings.max_body:
                        raise Refusal(429, "too many large requests at once; try again later", retry_after=1)
                    chunks.append(chunk)
            body = b"".join(chunks)
            del chunks
            await self._run(scope, body, receive, answer)
        finally:
            self._bytes -= size

    def _check_key(self, authorization: str) -> None:
        scheme, _, key = authorization.partition(" ")
        # Headers are read as Latin-1; compare all keys, so that time does not tell which one it was.
        given = key.strip().encode("latin-1", "replace")
        right = [hmac.compare_digest(given, known) for known in self._keys]
        if scheme.lower() != "bearer" or not any(right):
            raise Refusal(401, "a key is needed: send the header Authorization: Bearer KEY")

    async def _body(self, headers: Headers, receive: Receive) -> Any:
        most = self._settings.max_body
        too_large = Refusal(413, f"the body is larger than {most} bytes; split the request")
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > most:
            raise too_large
        total = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            chunk = message.get("body", b"")
            total += len(chunk)
            if total > most:
                raise too_large
            yield chunk
            more = message.get("more_body", False)

    async def _run(self, scope: dict[str, Any], body: bytes, receive: Receive, answer: _Answer) -> None:
        """Run the application until it is done, the client has gone, or time is up."""
        gone = asyncio.create_task(_disconnected(receive))
        work: asyncio.Task[None] = asyncio.create_task(self._app(scope, _replay(body, gone), answer))
        try:
            done, _ = await asyncio.wait(
                {work, gone}, timeout=self._settings.timeout, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            finished = work.done()
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        if finished:
            work.result()
        elif done:
            raise _Gone
        else:
            raise Refusal(504, f"not answered within {self._settings.timeout:g} seconds; send less, or try again later")


def _check_kind(headers: Headers) -> None:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, "the body must be JSON, with the header Content-Type: application/json")
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refusal(415, "the body must not be compressed; leave Content-Encoding out")


class _time_limit:
    """``asyncio.timeout`` whose end is a refusal."""

    def __init__(self, seconds: float, status: int, message: str) -> None:
        self._timeout = asyncio.timeout(seconds)
        self._refusal = Refusal(status, message)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        try:
            await self._timeout.__aexit__(*error)
        except TimeoutError:
            raise self._refusal from None


def _replay(body: bytes, gone: asyncio.Task[None]) -> Receive:
    """Receive a body once, then wait for the client to go."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.shield(gone)
        return {"type": "http.disconnect"}

    return receive


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(refusal: Refusal, scope: dict[str, Any], receive: Receive, answer: _Answer) -> None:
    if answer.status is None:
        # A client that has gone meanwhile needs no answer.
        with suppress(OSError):
            await refused(scope["path"], refusal)(scope, receive, answer)  # type: ignore[arg-type]
