"""Input and output in S3: a server of its kind in this process, the real command, a real cluster."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

import limbeck
from fake_encoder import random_proteins, write_fasta

pytestmark = pytest.mark.slow
pytest.importorskip("ray")
server = pytest.importorskip("moto.server")
boto3 = pytest.importorskip("boto3")

PROTEINS = random_proteins(300, seed=5)
# A space and signs that mean something in a URI.
NAMES = ["a.fasta", "deep/b 100%+#?.fa", "deep/c.fasta"]
CUTS = [(0, 120), (120, 130), (130, 300)]


class Gate:
    """Before the server: parts wait while it is shut, but for so many."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._open = threading.Event()
        self._open.set()
        self._passes = itertools.count()
        self._free = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        begins_a_part = environ["REQUEST_METHOD"] == "POST" and environ["QUERY_STRING"] == "uploads"
        if begins_a_part and "/part-" in environ["PATH_INFO"] and next(self._passes) >= self._free:
            self._open.wait(timeout=300)
        return self._application(environ, start_response)

    @contextmanager
    def shut(self, free: int) -> Iterator[None]:
        self._passes, self._free = itertools.count(), free
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()


class Store:
    """A server of S3 with the bucket ``proteins``, and how the command finds it."""

    def __init__(self, url: str, gate: Gate) -> None:
        self.url, self.gate = url, gate
        settings = {
            "AWS_ACCESS_KEY_ID": "an-id",
            "AWS_SECRET_ACCESS_KEY": "a-key",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": url,
            # There is no machine of Amazon's to ask.
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        foreign = ("AWS_", "RAY_ADDRESS")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self.environment = {**kept, **settings}
        self.system = fs.S3FileSystem(
            access_key="an-id",
            secret_key="a-key",
            region="us-east-1",
            endpoint_override=url,
            allow_bucket_creation=True,
        )

    def names(self, folder: str) -> dict[str, Any]:
        """When each file was written, by its name."""
        found = self.system.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
        return {info.base_name: info.mtime_ns for info in found if info.type == fs.FileType.File}

    def start(self, *arguments: str, **environment: str | None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "limbeck.cli", "embed", *arguments, "--engine", "ray"]
        # Many small parts, so that it can be stopped between two of them.
        options = ["--encoder", "composition", "--block-residues", "400", "--workers", "1"]
        merged = {name: value for name, value in {**self.environment, **environment}.items() if value is not None}
        return subprocess.Popen([*command, *options], env=merged, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments: str, **environment: str | None) -> tuple[int, str]:
        process = self.start(*arguments, **environment)
        try:
            error = process.communicate(timeout=300)[1]
        finally:
            process.kill()
        return process.returncode, error


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        inner: Any = running._server
        inner.app = Gate(inner.app)
        found = Store("http://{}:{}".format(*running.get_host_and_port()), inner.app)
        found.system.create_dir("proteins")
        yield found
    finally:
        running.stop()


@pytest.fixture(scope="module")
def single(store: Store, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """What one machine gives, of the files that are put into the bucket."""
    folder = tmp_path_factory.mktemp("single")
    (folder / "deep").mkdir()
    for name, (start, end) in zip(NAMES, CUTS, strict=True):
        path = write_fasta(folder / name, PROTEINS[start:end])
        with store.system.open_output_stream(f"proteins/in/{name}") as stream:
            stream.write(path.read_bytes())
    limbeck.embed([folder / n for n in NAMES], folder / "single.parquet", encoder="composition", progress=False)
    return pq.read_table(folder / "single.parquet")


def assert_same(store: Store, folder: str, single: pa.Table) -> None:
    assert {"_SUCCESS", "_limbeck.json", "_plan.parquet"} < store.names(folder).keys()
    found = pq.read_table(folder, filesystem=store.system)
    assert found["row"].to_pylist() == list(range(len(PROTEINS)))
    assert found.drop_columns(["row"]).equals(single)


def test_an_interrupted_run_goes_on(store: Store, single: pa.Table) -> None:
    arguments = ["s3://proteins/in/", "-o", "s3://proteins/out"]
    process = store.start(*arguments)
    try:
        # It cannot be done before it is stopped, however fast.
        with store.gate.shut(free=3):
            end = time.monotonic() + 300
            while len([name for name in store.names("proteins/out") if name.startswith("part-")]) < 3:
                assert process.poll() is None, process.stderr
                assert time.monotonic() < end
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert "the same command goes on from here" in error
    there = store.names("proteins/out")
    assert "_SUCCESS" not in there
    code, error = store.run(*arguments)
    assert code == 0, error
    assert "parts were there already" in error
    now = store.names("proteins/out")
    assert len(now) > len(there)
    assert {name: now[name] for name in there} == there
    assert_same(store, "proteins/out", single)


def test_an_endpoint_in_the_uri(store: Store, single: pa.Table) -> None:
    place = store.url.removeprefix("http://")
    query = f"?scheme=http&endpoint_override={place}&region=us-east-1"
    arguments = [f"s3://proteins/in{query}", "-o", f"s3://proteins/deep/other{query}"]
    code, error = store.run(*arguments, AWS_ENDPOINT_URL=None)
    assert code == 0, error
    assert_same(store, "proteins/deep/other", single)


@pytest.mark.parametrize(
    ("places", "environment", "message"),
    [
        (["s3://nowhere/in", "-o", "s3://proteins/x"], {}, "s3://nowhere/in: there is no bucket 'nowhere'; "),
        (["s3://proteins/in", "-o", "s3://nowhere/x"], {}, "s3://nowhere/x: there is no bucket 'nowhere'; "),
        (["s3://proteins/nothing", "-o", "s3://proteins/x"], {}, "s3://proteins/nothing: no such file or folder"),
        (["s3://i:k@proteins/in", "-o", "s3://proteins/x"], {}, "a key in a URI would be written into the dataset"),
        (["s3://proteins/in?endpoint=x", "-o", "s3://proteins/x"], {}, "give a path, or a URI like s3://"),
        # Nothing listens there.
        (
            ["s3://proteins/in", "-o", "s3://proteins/x"],
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
            "does not answer (",
        ),
    ],
)
@pytest.mark.usefixtures("single")
def test_one_line_says_what_is_wrong(
    store: Store, places: list[str], environment: dict[str, str | None], message: str
) -> None:
    code, error = store.run(*places, **environment)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert store.names("proteins/x") == {}


@pytest.mark.usefixtures("single")
def test_wrong_credentials(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        # From now on the server checks who asks; it knows nobody.
        patch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)
        code, error = store.run("s3://proteins/in", "-o", "s3://proteins/x")
    assert code == 2
    assert "s3://proteins/in: access is denied (" in error
    assert "; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_PROFILE\n" in error
    assert error.count("\n") == 1
    assert store.names("proteins/x") == {}


def test_no_credentials(store: Store) -> None:
    client = boto3.client(
        "s3", endpoint_url=store.url, region_name="us-east-1", aws_access_key_id="i", aws_secret_access_key="k"
    )
    client.put_object(Bucket="proteins", Key="private/a.fasta", Body=b">P0\nMKV\n", ACL="private")
    none = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "HOME": "/nowhere"}
    code, error = store.run("s3://proteins/private/a.fasta", "-o", "s3://proteins/x", **none)
    assert code == 2
    assert "s3://proteins/private/a.fasta: access is denied (" in error
    assert error.count("\n") == 1


def test_a_silent_endpoint_is_not_waited_for(store: Store) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = store.start("s3://proteins/in", "-o", "s3://proteins/x", AWS_ENDPOINT_URL=url)
        try:
            # By itself Arrow waits for 99 seconds.
            error = process.communicate(timeout=80)[1]
        finally:
            process.kill()
    assert process.returncode == 2
    assert "s3://proteins/in: does not answer (" in error
