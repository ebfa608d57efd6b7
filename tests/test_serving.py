"""The server over real connections: right answers, clear refusals, limits, and clients that go away."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest

import limbeck
from fake_encoder import FakeEncoder, random_proteins, write_fasta
from limbeck.errors import InputError
from limbeck.landscapes import predict as predict_file
from limbeck.landscapes import saturate as saturate_file
from limbeck.residues import RESIDUES
from limbeck.search import build_index, open_index
from limbeck.serving.landscape import Landscape
from limbeck.serving.settings import Settings, read_keys
from limbeck.serving.start import open_service
from limbeck.serving.vectors import ARROW
from serving_fixture import FIRST, WILD, FakeIndex, GatedEncoder, LikelihoodEncoder, running, save_model

PROTEINS = [sequence for _, sequence in random_proteins(30)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving") / "model"
    save_model(folder)
    return folder


@pytest.fixture(scope="module")
def server(model):
    encoder = LikelihoodEncoder()
    index = FakeIndex(encoder, {f"P{i}": protein for i, protein in enumerate(PROTEINS)})
    settings = Settings(max_length=500, max_body=200_000, max_numbers=10_000, queue_tokens=20_000)
    with running(encoder, settings, dimensions=[4], index=index, landscape=Landscape(model)) as server:
        yield server


def unpacked(text, shape=(-1,)):
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(shape)


# --- embed


def test_embed_gives_the_encoders_vectors(server):
    body = {
        "sequences": [PROTEINS[0], {"id": "a", "sequence": PROTEINS[1]}, {"sequence": f" {PROTEINS[2].lower()}*\n"}]
    }
    expected = FakeEncoder().encode(PROTEINS[:3])
    answer = server.post("/embed", body).json()
    assert [row["id"] for row in answer["embeddings"]] == [None, "a", None]
    assert [row["length"] for row in answer["embeddings"]] == [len(p) for p in PROTEINS[:3]]
    assert (answer["encoder"], answer["dimension"], answer["level"]) == ("fake", 8, "proteins")
    np.testing.assert_allclose([row["embedding"] for row in answer["embeddings"]], expected, rtol=1e-6)
    packed = server.post("/embed", {**body, "encoding": "base64"}).json()
    rows = np.stack([unpacked(row["embedding"]) for row in packed["embeddings"]])
    np.testing.assert_array_equal(rows, np.array([r["embedding"] for r in answer["embeddings"]], np.float32))
    short = server.post("/embed", {**body, "dimension": 4}).json()
    np.testing.assert_array_equal([r["embedding"] for r in short["embeddings"]], rows[:, :4])


def test_embed_gives_residues(server):
    expected = FakeEncoder().encode_residues(PROTEINS[:2])
    body = {"sequences": PROTEINS[:2], "per_residue": True}
    answer = server.post("/embed", body).json()
    packed = server.post("/embed", {**body, "encoding": "base64"}).json()
    for row, other, features in zip(answer["embeddings"], packed["embeddings"], expected, strict=True):
        np.testing.assert_allclose(row["embedding"], features, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(unpacked(other["embedding"], (other["length"], 8)), features, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("per_residue", [False, True])
def test_embed_gives_arrow(server, per_residue):
    body = {"sequences": [{"id": "a", "sequence": "MKT"}, "WW"], "per_residue": per_residue}
    response = server.post("/embed", body, headers={"accept": ARROW})
    assert response.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(response.content).read_all()
    assert table["id"].to_pylist() == ["a", None]
    assert table["length"].to_pylist() == [3, 2]
    assert table.schema.metadata[b"encoder"] == b"fake"
    encoder = FakeEncoder()
    expected = encoder.encode_residues(["MKT", "WW"]) if per_residue else encoder.encode(["MKT", "WW"])
    for row, vectors in zip(table["embedding"].to_pylist(), expected, strict=True):
        np.testing.assert_allclose(row, vectors, rtol=1e-6)


def test_concurrent_clients_get_their_own_answers(server):
    expected = FakeEncoder().encode(PROTEINS)

    def ask(number):
        chosen = [(number * 7 + i) % len(PROTEINS) for i in range(1 + number % 5)]
        response = server.post("/embed", {"sequences": [PROTEINS[i] for i in chosen]})
        vectors = np.array([row["embedding"] for row in response.json()["embeddings"]])
        np.testing.assert_allclose(vectors, expected[chosen], rtol=1e-5, atol=1e-6)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(80)))


# --- OpenAI's shape


def test_openai_shape(server):
    assert [m["id"] for m in server.client.get("/v1/models").json()["data"]] == ["fake"]
    expected = FakeEncoder().encode(PROTEINS[:2])
    one = server.post("/v1/embeddings", {"input": PROTEINS[0], "model": "fake"}).json()
    two = server.post(
        "/v1/embeddings",
        {"input": PROTEINS[:2], "model": "fake", "encoding_format": "base64", "dimensions": 4, "user": "me", "new": 1},
    ).json()
    np.testing.assert_allclose(one["data"][0]["embedding"], expected[0], rtol=1e-6)
    np.testing.assert_allclose(np.stack([unpacked(d["embedding"]) for d in two["data"]]), expected[:, :4], rtol=1e-6)
    assert [d["index"] for d in two["data"]] == [0, 1]
    assert two["usage"] == {n: sum(map(len, PROTEINS[:2])) for n in ("prompt_tokens", "total_tokens")}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"input": "MKT", "model": "ada"}, 404, "'ada' is not served"),
        ({"input": [1, 2], "model": "fake"}, 422, "token arrays"),
        ({"input": [[1, 2]], "model": "fake"}, 422, "token arrays"),
        ({"input": "", "model": "fake"}, 422, "input"),
        ({"input": [], "model": "fake"}, 422, "input"),
        ({"input": ["MK", "M1"], "model": "fake"}, 400, "input[1]: character '1' at position 2"),
        ({"input": "MKT", "model": "fake", "dimensions": 5}, 400, "choose from: 4, 8"),
        ({"input": "MKT"}, 422, "model"),
    ],
)
def test_openai_errors(server, body, status, message):
    response = server.post("/v1/embeddings", body)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert message in error["message"]


# --- search


def test_search(server):
    body = {"sequences": [{"id": "q", "sequence": PROTEINS[4]}, PROTEINS[5]], "k": 3}
    answer = server.post("/search", body).json()
    assert answer["index"] == "toy"
    assert [len(result["hits"]) for result in answer["results"]] == [3, 3]
    assert [result["hits"][0]["id"] for result in answer["results"]] == ["P4", "P5"]
    assert answer["results"][0]["id"] == "q"
    assert answer["results"][0]["annotations"] == [{"label": "<b>", "reliability": 0.25}]
    assert answer["results"][0]["hits"][0]["similarity"] == pytest.approx(1, abs=1e-5)


def test_search_of_an_index_is_that_of_the_index(tmp_path):
    write_fasta(tmp_path / "proteins.fasta", random_proteins(30))
    labels = "".join(f"P{i},{'AB'[i % 2]}\n" for i in range(30))
    (tmp_path / "labels.csv").write_text("id,label\n" + labels)
    folder = tmp_path / "proteins.index"
    build_index(
        [tmp_path / "proteins.fasta"], folder, labels=tmp_path / "labels.csv", label_column="label",
        loading={"encoder": "composition"}, progress=False,
    )  # fmt: skip
    service = open_service(None, Settings(), index=folder)
    assert service.encoder.name == "composition"
    expected = open_index(folder).search(service.encoder.encode(PROTEINS[:3]), 4)
    with running(service=service) as server:
        results = server.post("/search", {"sequences": PROTEINS[:3], "k": 4}).json()["results"]
        assert "proteins.index, 30 proteins" in server.client.get("/").text
    for result, hits in zip(results, expected, strict=True):
        assert [(h["id"], h["label"]) for h in result["hits"]] == [(h.id, h.label) for h in hits]
        np.testing.assert_allclose([h["similarity"] for h in result["hits"]], [h.similarity for h in hits], atol=1e-6)
        assert result["annotations"][0]["label"] in "AB"
    with pytest.raises(InputError, match="encoder"):
        open_service("dipeptides", Settings(), index=folder)


# --- variants


def test_predictions_are_those_of_the_command(server, model, tmp_path):
    mutations = [f"M{FIRST}A", f"K{FIRST + 1}W:T{FIRST + 2}A", "WT", "", f"Q{FIRST + 8}del"]
    answer = server.post("/predict", {"mutations": mutations}).json()
    (tmp_path / "v.csv").write_text("id,mutant\n" + "".join(f"{i},{m}\n" for i, m in enumerate(mutations)))
    expected = predict_file(model, tmp_path / "v.csv").table
    found = answer["predictions"]
    assert (answer["model"], answer["assay"]) == ("one-hot, ridge", "toy")
    assert [row["variant"] for row in found] == expected["variant"].tolist()
    assert [row["note"] for row in found] == expected["note"].tolist()
    np.testing.assert_allclose([row["prediction"] for row in found], expected["prediction"])
    np.testing.assert_allclose([row["sd"] for row in found], expected["sd"])
    sequence = "A" + WILD[1:]
    by_sequence = server.post("/predict", {"sequences": [sequence, WILD]}).json()["predictions"]
    assert [row["variant"] for row in by_sequence] == [f"M{FIRST}A", "WT"]
    # Another number of rows may round the last bit differently.
    for key, value in found[0].items():
        assert by_sequence[0][key] == (pytest.approx(value) if isinstance(value, float) else value)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"mutations": ["WT", "A1W"]}, 400, "mutations[1]: mutation 'A1W': the wild type has positions 21 to 34"),
        ({"mutations": ["WT", 'foo, "bar']}, 400, "mutations[1]: mutation 'foo' is not understood"),
        ({"mutations": ["A\nB"]}, 400, "mutations[0]: has the character '\\n'"),
        ({"sequences": ["M1"]}, 400, "sequences[0]: character '1'"),
        ({"sequences": ["MK"], "mutations": ["WT"]}, 422, "either"),
        ({}, 422, "either"),
        ({"mutations": None}, 422, "mutations"),
        ({"mutations": []}, 422, "mutations"),
    ],
)
def test_variants_that_cannot_be_used(server, body, status, message):
    response = server.post("/predict", body)
    assert (response.status_code, set(response.json())) == (status, {"detail"})
    assert message in response.json()["detail"]
    assert "/" not in response.json()["detail"]


def cells(answer):
    """Values by mutation."""
    return {
        f"{wild}{position}{residue}": value
        for residue, row in zip(answer["residues"], answer["values"], strict=True)
        for wild, position, value in zip(answer["wild_type"], answer["positions"], row, strict=True)
        if value is not None
    }


def test_scan_by_the_model_is_that_of_the_command(server, model):
    expected = saturate_file(model, doubles=0).singles
    answer = server.post("/saturate", {}).json()
    found = cells(answer)
    assert (answer["by"], answer["wild_type"], answer["positions"][0]) == ("model", WILD, FIRST)
    assert len(found) == 19 * len(WILD)
    np.testing.assert_allclose([found[v] for v in expected["variant"]], expected["prediction"])
    relative = server.post("/saturate", {"sequence": "MKTAYIAKQAQISF"}).json()
    assert relative["centre"] == pytest.approx(found[f"R{FIRST + 9}A"])
    stranger = server.post("/saturate", {"sequence": "W" * 14})
    assert (stranger.status_code, "no variant" in stranger.json()["detail"]) == (400, True)


def test_scan_by_likelihood(server):
    sequence = "MKXW"
    answer = server.post("/saturate", {"sequence": sequence, "by": "likelihood", "picture": True}).json()
    (table,) = LikelihoodEncoder().log_probabilities([sequence])
    found = cells(answer)
    assert answer["by"] == "likelihood"
    assert "fitted to no assay" in answer["meaning"]
    assert not any(name.startswith("X") for name in found)
    assert found["M1W"] == pytest.approx(table[0, RESIDUES.index("W")] - table[0, RESIDUES.index("M")], abs=1e-6)
    assert len(found) == 19 * 3
    assert answer["picture"]["svg"].count("<svg") == 1
    # The page's policy forbids both.
    assert "style=" not in answer["picture"]["svg"]
    assert "<script" not in answer["picture"]["svg"]


def test_what_is_not_served_is_said():
    with running(FakeEncoder()) as plain:
        for path, body in [
            ("/search", {"sequences": ["MK"]}),
            ("/predict", {"mutations": ["WT"]}),
            ("/saturate", {"sequence": "MK"}),
            ("/saturate", {"sequence": "MK", "by": "model"}),
        ]:
            response = plain.post(path, body)
            assert (response.status_code, "serve" in response.json()["detail"]) == (404, True)
        assert "Nothing is served that this page could show" in plain.client.get("/").text


# --- bodies


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"sequences": ["MK", "M1"]}, 400, "sequences[1]: character '1' at position 2 is not a residue"),
        ({"sequences": ["MK", "-*"]}, 400, "sequences[1]: has no residues"),
        ({"sequences": ["A" * 501]}, 413, "sequences[0]: has 501 residues, the server takes 500"),
        ({"sequences": ["A" * 500] * 40}, 413, "counts 20640 tokens"),
        ({"sequences": ["A" * 500] * 3, "per_residue": True}, 413, "12000 numbers"),
        ({"sequences": ["MK"], "dimension": 4, "per_residue": True}, 400, "only protein vectors"),
        ({"sequences": ["MK"], "dimension": 3}, 400, "choose from: 4, 8"),
        ({"sequences": []}, 422, "sequences: list should have at least 1 item"),
        ({"sequences": ["MK", 5]}, 422, "sequences[1]: input should be a valid string"),
        ({"sequences": [{"sequence": 5}]}, 422, "sequences[0].sequence: input should be a valid string"),
        ({"sequences": [{"sequence": "MK", "name": "a"}]}, 422, "sequences[0].name: there is no such field"),
        ({"sequences": "MK"}, 422, "sequences: input should be a valid list"),
        ({"sequences": ["MK"], "pooling": "max"}, 422, "pooling: there is no such field"),
        ({"sequences": ["MK"], "per_residue": 1}, 422, "per_residue"),
        ([], 422, "the body"),
        (5, 422, "the body"),
    ],
)
def test_bodies_that_cannot_be_used(server, body, status, message):
    response = server.post("/embed", body)
    assert (response.status_code, set(response.json())) == (status, {"detail"})
    assert message in response.json()["detail"]
    assert "\n" not in response.json()["detail"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"sequences": ["\\ud800"]}',
        b'{"sequences": [{"id": "\\udfff", "sequence": "A"}]}',
        b'{"sequences": ["MK"], "dimension": 1e400}', b'{"sequences": ["MK"], "dimension": ' + b"9" * 5000 + b"}",
        b'{"sequences": ["M\\u0000K"]}', b'{"sequences": ["\xc3\x89"]}', b"NaN",
    ],
)  # fmt: skip
def test_malformed_bodies(server, content):
    for path in ("/embed", "/v1/embeddings"):
        response = server.client.post(path, content=content, headers={"content-type": "application/json"})
        assert response.status_code in (400, 422)
        assert set(response.json()) <= {"detail", "error"}
        assert "Traceback" not in response.text
    assert server.post("/embed", {"sequences": ["MK"]}).status_code == 200


def test_only_plain_json_is_taken(server):
    body = json.dumps({"sequences": ["MK"]}).encode()
    for headers in (
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ):
        assert server.client.post("/embed", content=body, headers=headers).status_code == 415
    kind = {"content-type": "Application/JSON; charset=utf-8"}
    assert server.client.post("/embed", content=body, headers=kind).status_code == 200


def test_large_bodies_are_refused_while_they_arrive(server):
    kind = {"content-type": "application/json"}
    declared = server.client.post("/embed", content=b" " * 200_001, headers=kind)
    assert declared.status_code == 413
    line = 'limbeck_requests_total{path="/embed",status="413"}'
    before = server.metric(line)
    # No length is declared; a client may see its connection end before it has sent all.
    with contextlib.suppress(httpx.TransportError):
        response = server.client.post("/embed", content=(b" " * 10_000 for _ in range(100)), headers=kind)
        assert response.status_code == 413
    wait_for(lambda: server.metric(line) == before + 1)
    assert server.post("/embed", {"sequences": ["MK"]}).status_code == 200


def test_paths_and_methods_that_are_none(server):
    assert server.client.get("/nowhere").status_code == 404
    assert server.post("/nowhere", {}).status_code == 404
    response = server.client.get("/embed")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert server.client.get("/v1/nowhere").json()["error"]["type"] == "invalid_request_error"


# --- state and page


def test_state_and_metrics(server):
    assert server.client.get("/healthz").json() == {"status": "ok"}
    assert server.client.get("/readyz").status_code == 200
    before = server.metric('limbeck_requests_total{path="/embed",status="200"}')
    server.post("/embed", {"sequences": ["MK"]})
    # A request is counted once its answer is on its way, which its client may read first.
    seen = before
    for _ in range(100):
        seen = server.metric('limbeck_requests_total{path="/embed",status="200"}')
        if seen != before:
            break
        time.sleep(0.05)
    assert seen == before + 1
    assert server.metric("limbeck_queue_tokens") == 0
    server.client.get("/some/path/of/a/scanner")
    assert "scanner" not in server.client.get("/metrics").text
    openmetrics = server.client.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert openmetrics.text.endswith("# EOF\n")


def test_page_loads_nothing_of_others(server):
    page = server.client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    texts = [page.text, server.client.get("/page.css").text, server.client.get("/page.js").text]
    assert all("http://" not in text and "https://" not in text for text in texts)
    # What the policy forbids would not work.
    assert "style=" not in page.text
    assert "onclick" not in page.text
    assert page.text.count("<script") == 1


def test_names_are_escaped_in_the_page():
    encoder = LikelihoodEncoder(name="<script>alert(1)</script>")
    with running(encoder) as server:
        text = server.client.get("/").text
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)" in text


def test_a_key_is_asked_for():
    with running(settings=Settings(keys=("first", "second"))) as server:
        body = {"sequences": ["MK"]}
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "first"},
            {"authorization": "Bearer é".encode()},
        ):
            response = server.post("/embed", body, headers=headers)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert server.post("/embed", body, headers={"authorization": "Bearer second"}).status_code == 200
        assert server.post("/v1/embeddings", {}).json()["error"]["code"] == "invalid_api_key"
        assert server.client.get("/metrics").status_code == 401
        assert [server.client.get(path).status_code for path in ("/healthz", "/readyz", "/", "/page.js")] == [200] * 4
        assert 'id="key"' in server.client.get("/").text
        assert "HTTPBearer" in server.client.get("/openapi.json").text


def test_keys_of_a_file(tmp_path):
    (tmp_path / "keys").write_text("# mine\n\n one \ntwo\n")
    assert read_keys(tmp_path / "keys") == ("one", "two")
    (tmp_path / "none").write_text("# nothing\n")
    (tmp_path / "odd").write_text("ké\n")
    for name, message in [("none", "has no key"), ("odd", "printable ASCII"), ("missing", "cannot be read")]:
        with pytest.raises(InputError, match=message):
            read_keys(tmp_path / name)


def test_settings_that_no_protein_fits():
    with pytest.raises(InputError, match="--queue-tokens 100 is less"):
        Settings(queue_tokens=100)
    with pytest.raises(InputError, match="--timeout must be above 0"):
        Settings(timeout=0)


# --- load


def wait_for(condition):
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not happen")


def test_a_full_queue_answers_429_and_recovers():
    encoder = GatedEncoder()
    with running(encoder, Settings(max_length=100, queue_tokens=200)) as server, ThreadPoolExecutor(2) as pool:
        encoder.gate.clear()
        waiting = [pool.submit(server.post, "/embed", {"sequences": ["A" * 80]}) for _ in range(2)]
        wait_for(lambda: server.metric("limbeck_queue_requests") == 2)
        response = server.post("/embed", {"sequences": ["A" * 80]})
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) >= 1
        assert server.client.get("/healthz").status_code == 200
        encoder.gate.set()
        assert [w.result().status_code for w in waiting] == [200, 200]
        assert server.post("/embed", {"sequences": ["A" * 80]}).status_code == 200
        assert server.metric("limbeck_queue_tokens") == 0


def test_too_many_requests_at_once_answer_429():
    encoder = GatedEncoder()
    with running(encoder, Settings(max_requests=2)) as server, ThreadPoolExecutor(2) as pool:
        encoder.gate.clear()
        waiting = [pool.submit(server.post, "/embed", {"sequences": ["MK"]}) for _ in range(2)]
        wait_for(lambda: server.metric("limbeck_queue_requests") == 2)
        assert server.post("/embed", {"sequences": ["MK"]}).status_code == 429
        encoder.gate.set()
        assert [w.result().status_code for w in waiting] == [200, 200]


def test_what_takes_too_long_answers_504():
    encoder = GatedEncoder()
    with running(encoder, Settings(timeout=0.05)) as server:
        encoder.gate.clear()
        assert server.post("/embed", {"sequences": ["MK"]}).status_code == 504
        encoder.gate.set()
        wait_for(lambda: server.metric("limbeck_queue_tokens") == 0)


def request_bytes(body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = f"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + body


def test_a_client_that_goes_leaves_the_queue():
    encoder = GatedEncoder()
    with running(encoder, Settings(max_length=100, queue_tokens=200)) as server:
        encoder.gate.clear()
        body = json.dumps({"sequences": ["A" * 80]}).encode()
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
        for client in clients:
            client.sendall(request_bytes(body))
        wait_for(lambda: server.metric("limbeck_queue_requests") == 2)
        for client in clients:
            client.close()
        wait_for(lambda: server.metric("limbeck_queue_requests") == 0)
        assert server.metric("limbeck_queue_tokens") == 0
        assert server.metric('limbeck_requests_total{path="/embed",status="499"}') == 2
        encoder.gate.set()
        assert server.post("/embed", {"sequences": ["A" * 80]}).status_code == 200


def test_a_client_that_goes_before_its_body_is_whole():
    with running() as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(request_bytes(b'{"sequences": [', 1000))
        wait_for(lambda: server.metric("limbeck_requests_in_work") == 2)
        client.close()
        wait_for(lambda: server.metric("limbeck_requests_in_work") == 1)
        assert server.post("/embed", {"sequences": ["MK"]}).status_code == 200


def test_a_body_that_does_not_arrive_answers_408():
    with running(settings=Settings(body_seconds=0.05)) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(request_bytes(b"{", 1000))
            client.settimeout(20)
            assert b" 408 " in client.recv(1000).split(b"\r\n")[0]
        assert server.post("/embed", {"sequences": ["MK"]}).status_code == 200


def test_an_encoder_that_fails_shows_no_traceback(caplog):
    class Failing(FakeEncoder):
        def forward(self, windows):
            if "WWWW" in windows:
                raise RuntimeError("secret detail")
            return super().forward(windows)

    with running(Failing()) as server:
        response = server.post("/embed", {"sequences": ["WWWW"]})
        assert (response.status_code, response.json()) == (500, {"detail": "internal error; the server's log has more"})
        wait_for(lambda: "secret detail" in caplog.text)
        assert server.post("/embed", {"sequences": ["MK"]}).status_code == 200


def test_numbers_that_are_not_finite_are_an_error():
    class Overflowing(FakeEncoder):
        def forward(self, windows):
            return [f * np.float32(np.inf if len(f) == 5 else 1) for f in super().forward(windows)]

    with running(Overflowing()) as server, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        response = server.post("/embed", {"sequences": ["MKTAY"]})
        assert (response.status_code, "not finite" in response.json()["detail"]) == (500, True)
        assert server.post("/embed", {"sequences": ["MK"]}).status_code == 200


def test_small_requests_pass_a_huge_one():
    encoder = GatedEncoder()
    with running(encoder, Settings(batch_tokens=256)) as server, ThreadPoolExecutor(2) as pool:
        encoder.gate.clear()
        huge = pool.submit(server.post, "/embed", {"sequences": ["A" * 50] * 500})
        wait_for(lambda: server.metric("limbeck_queue_requests") == 1)
        small = pool.submit(server.post, "/embed", {"sequences": ["CC"]})
        wait_for(lambda: server.metric("limbeck_queue_requests") == 2)
        encoder.gate.set()
        assert small.result().status_code == huge.result().status_code == 200
    with_small = next(i for i, call in enumerate(encoder.calls) if "CC" in call)
    # The first call is the server's own, the second was in work.
    assert with_small <= 2 + 1
    assert len(encoder.calls) > 50


def test_the_default_encoder_is_served_as_it_encodes():
    encoder = limbeck.load(threads=1)
    proteins = [sequence for _, sequence in random_proteins(8, longest=60)]
    with running(encoder) as server:
        answer = server.post("/embed", {"sequences": proteins, "encoding": "base64"}).json()
    found = np.stack([unpacked(row["embedding"]) for row in answer["embeddings"]])
    expected = encoder.encode(proteins)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_the_page_of_the_documentation():
    page = (Path(__file__).parents[1] / "docs" / "serving.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    scope: dict = {}
    with running() as server:
        exec(block.replace("http://127.0.0.1:8000", server.url), scope)
    np.testing.assert_allclose(scope["vectors"], FakeEncoder().encode(["MKTAYIAKQR", "GSHMLEDP"]), rtol=1e-6)


def test_threads_end_with_the_server():
    before = set(threading.enumerate())
    with running() as server:
        server.post("/embed", {"sequences": ["MK"]})
        assert any(thread.name.startswith("limbeck-worker") for thread in set(threading.enumerate()) - before)
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("limbeck-worker")]
