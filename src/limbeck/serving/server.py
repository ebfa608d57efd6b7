"""Listening, and stopping gracefully."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import uvicorn

from limbeck.errors import InputError
from limbeck.serving.api import make_app
from limbeck.serving.service import Service

__all__ = ["claim", "serve"]

AFTER_GRACE = 5
"""Seconds in which refusals of what could not be answered in time must have been sent."""


def claim(host: str, port: int) -> socket.socket:
    """A socket with its address, which takes connections only once requests can be answered.

    Raises:
        InputError: if the address cannot be had.
    """
    # The resolver would take the remainder of a larger number.
    if not 0 <= port <= 65535:
        raise InputError(f"there is no port {port}; choose one of 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            # A server that has just stopped must not keep its port from the next.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
        return listener
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot listen at {host}, port {port} ({reason}); choose another --port or --host") from None


def serve(service: Service, listener: socket.socket, say: Callable[[str], None]) -> None:
    """Answer requests until SIGTERM or SIGINT, then finish those that are there, within ``settings.grace`` seconds.

    Args:
        service: what to serve.
        listener: from :func:`claim`.
        say: told the address once requests are taken.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    config = uvicorn.Config(
        make_app(service),
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(service.settings.grace) + AFTER_GRACE,
    )
    # uvicorn raises the signal again when all is done; to have stopped gracefully is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _nothing)
    _Server(config, service, say).run(sockets=[listener])


def _nothing(number: int, frame: Any) -> None:
    """A signal that has been heeded."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service, say: Callable[[str], None]) -> None:
        super().__init__(config)
        self._service = service
        self._say = say

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            name = f"[{host}]" if ":" in host else host
            self._say(f"{self._service.encoder.name} is served at http://{name}:{port}/")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.stop()
        timer = asyncio.get_running_loop().call_later(self._service.settings.grace, self._service.abandon)
        await super().shutdown(sockets)
        timer.cancel()
