"""Requests made from the server's own OpenAPI description, right ones and wrong ones: it answers all as it says."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from limbeck.serving.landscape import Landscape
from limbeck.serving.settings import Settings
from serving_fixture import FakeIndex, LikelihoodEncoder, running, save_model

POSTS = ("/embed", "/search", "/predict", "/saturate", "/v1/embeddings")
GETS = ("/healthz", "/readyz", "/metrics", "/v1/models")
EXAMPLES = 12
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schema") / "model"
    save_model(folder)
    encoder = LikelihoodEncoder()
    index = FakeIndex(encoder, {"P1": "MKTAYIAK", "P2": "WWW"})
    limits = Settings(max_length=2000, max_body=1_000_000, queue_tokens=100_000)
    with running(encoder, limits, index=index, landscape=Landscape(folder)) as server:
        yield schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def test_all_paths_are_described(api):
    described = {(o.ok().path, o.ok().method.upper()) for o in api.get_all_operations()}
    assert described == {*((path, "POST") for path in POSTS), *((path, "GET") for path in GETS)}


def try_all(operation, mode, extra, examples):
    """Statuses of the answers."""
    statuses = set()

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode))
    def run(case):
        if mode is GenerationMode.POSITIVE and isinstance(case.body, dict) and "model" in case.body:
            # Any other name is rightly not found.
            case.body["model"] = "fake"
        response = case.call()
        # A request of too many sequences is wrong, and too large besides.
        case.validate_response(response, checks=CHECKS if response.status_code == 413 else [*CHECKS, *extra])
        statuses.add(response.status_code)

    run()
    return statuses


@pytest.mark.parametrize("path", POSTS)
def test_right_requests_are_answered_as_described(api, path):
    assert 200 in try_all(api[path]["POST"], GenerationMode.POSITIVE, [], EXAMPLES)


@pytest.mark.parametrize("path", POSTS)
def test_wrong_requests_are_refused_as_described(api, path):
    try_all(api[path]["POST"], GenerationMode.NEGATIVE, [checks.negative_data_rejection], EXAMPLES)


@pytest.mark.parametrize("path", GETS)
def test_what_is_asked_for_without_a_body(api, path):
    assert try_all(api[path]["GET"], GenerationMode.POSITIVE, [], 1) == {200}
