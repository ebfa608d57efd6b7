"""OpenAI's shape of embeddings, so that its clients work."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response

from limbeck.serving import bodies
from limbeck.serving.answers import POST_PROBLEMS, problems, written
from limbeck.serving.refusals import Refusal
from limbeck.serving.service import Service
from limbeck.serving.vectors import as_json, packed, plain

__all__ = ["add_openai"]


def add_openai(app: FastAPI, service: Service, security: dict[str, Any]) -> None:
    """Add ``/v1/embeddings`` and ``/v1/models``."""
    name = service.encoder.name

    @app.get(
        "/v1/models", tags=["openai"], response_model=bodies.OpenAIModels, **security,
        responses=problems(401, model=bodies.OpenAIProblem),
    )  # fmt: skip
    async def models() -> dict[str, Any]:
        """The encoder that is served."""
        return {"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "limbeck"}]}

    @app.post(
        "/v1/embeddings", tags=["openai"], response_model=bodies.OpenAIAnswer, **security,
        responses=problems(*POST_PROBLEMS, 404, model=bodies.OpenAIProblem),
    )  # fmt: skip
    async def embeddings(body: bodies.OpenAIRequest) -> Response:
        """One vector for each sequence. Vectors are those of `/embed`: they are not of unit length."""
        if body.model != name:
            raise Refusal(404, f"model: {body.model[:100]!r} is not served, {name!r} is", parameter="model")
        texts = [body.input] if isinstance(body.input, str) else body.input
        places = ["input"] if isinstance(body.input, str) else [f"input[{i}]" for i in range(len(texts))]
        sequences = service.cleaned(texts, places)
        dimension = service.check_dimension(body.dimensions, "dimensions")
        vectors = await service.vectors(sequences, dimension)
        shape = packed if body.encoding_format == "base64" else plain
        residues = sum(map(len, sequences))

        def content() -> bytes:
            rows = [{"object": "embedding", "index": i, "embedding": shape(v)} for i, v in enumerate(vectors)]
            usage = {"prompt_tokens": residues, "total_tokens": residues}
            return as_json({"object": "list", "data": rows, "model": name, "usage": usage})

        return await written(vectors.size, content)
