"""``limbeck serve`` as a process: it starts, stops gracefully, and says in one line why it cannot start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[1]
# A command of the package whose encoder takes its time: half a second a batch.
SLOW = """
import sys, threading
sys.path.insert(0, {tests!r})
from fake_encoder import FakeEncoder
import limbeck.serving.start as start
start.load = lambda name, **options: FakeEncoder(pause=float(name))
{serve}
"""
SERVE = """
import argparse, sys
from limbeck.commands import serve
from limbeck.errors import InputError
parser = argparse.ArgumentParser()
serve.add(parser.add_subparsers())
options = parser.parse_args(["serve", *sys.argv[1:]])
try:
    options.run(options)
except InputError as error:
    sys.exit(f"limbeck: {error}")
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")


def start(*arguments: str, code: str = SERVE) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    # Whoever runs the tests in the background may have told its children to ignore the signal.
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    )


@contextmanager
def serving(*arguments: str, code: str = SERVE):
    process = start("--port", "0", *arguments, code=code)
    try:
        line = process.stderr.readline()
        assert " is served at http://127.0.0.1:" in line
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_and_that_is_no_failure(number):
    with serving("--encoder", "composition") as (process, url):
        answer = httpx.post(f"{url}embed", json={"sequences": ["AAKK"]}, trust_env=False).json()
        assert answer["embeddings"][0]["embedding"][0] == 0.5
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_what_is_queued_is_finished_and_no_more_is_taken():
    code = SLOW.format(tests=str(ROOT / "tests"), serve=SERVE)
    with serving("--encoder", "0.3", "--batch-tokens", "40", code=code) as (process, url):
        answers: list[int] = []

        def ask(sequence: str) -> None:
            answers.append(
                httpx.post(f"{url}embed", json={"sequences": [sequence]}, timeout=20, trust_env=False).status_code
            )

        clients = [threading.Thread(target=ask, args=("A" * 20,)) for _ in range(4)]
        for client in clients:
            client.start()
        while _metric(url, "limbeck_queue_requests") < 4:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        for client in clients:
            client.join(20)
        assert answers == [200] * 4
        assert process.wait(20) == 0
        host, port = url.removeprefix("http://").strip("/").split(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)))


def test_what_cannot_be_finished_in_time_is_refused():
    code = SLOW.format(tests=str(ROOT / "tests"), serve=SERVE)
    with serving("--encoder", "0.5", "--batch-tokens", "40", "--grace", "0.2", code=code) as (process, url):
        found: list[httpx.Response] = []

        def ask() -> None:
            found.append(httpx.post(f"{url}embed", json={"sequences": ["A" * 20] * 50}, timeout=20, trust_env=False))

        client = threading.Thread(target=ask)
        client.start()
        while _metric(url, "limbeck_queue_requests") < 1:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        client.join(20)
        assert (found[0].status_code, found[0].json()["detail"][:22]) == (503, "the server is stopping")
        assert process.wait(20) == 0


def _metric(url: str, name: str) -> float:
    text = httpx.get(f"{url}metrics", trust_env=False).text
    return float(next(line for line in text.splitlines() if line.startswith(name + " ")).split()[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "{port}"], "cannot listen at 127.0.0.1, port {port}"),
        (["--port", "99999"], "no port 99999"),
        (["--encoder", "compositoin"], "composition"),
        (["--queue-tokens", "5"], "--queue-tokens 5 is less"),
        (["--max-body", "much"], "not understood"),
        (["--api-key-file", "none.txt"], "none.txt: keys cannot be read"),
        (["--encoder", "composition", "--port", "0", "--index", "none"], "none"),
        (["--encoder", "composition", "--port", "0", "--model", "none"], "none: no saved model"),
    ],
)
def test_why_it_cannot_start(arguments, message):
    import argparse

    from limbeck.commands import serve
    from limbeck.errors import InputError

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        parser = argparse.ArgumentParser()
        serve.add(parser.add_subparsers())
        options = parser.parse_args(["serve", *(a.format(port=port) for a in arguments)])
        with pytest.raises(InputError) as error:
            options.run(options)
    assert message.format(port=port) in str(error.value)
    assert "\n" not in str(error.value)
