"""The application: its paths, and what each does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.routing import Route

from limbeck.errors import InputError
from limbeck.serving import bodies, page
from limbeck.serving.answers import POST_PROBLEMS, problems, written
from limbeck.serving.gate import App, Gate
from limbeck.serving.openai import add_openai
from limbeck.serving.refusals import Refusal, refused
from limbeck.serving.service import Service
from limbeck.serving.vectors import ARROW, as_arrow, as_json, packed, plain
from limbeck.version import __version__

__all__ = ["make_app"]

_FREE = (*page.FILES, "/healthz", "/readyz", "/openapi.json")


def make_app(service: Service) -> App:
    """The ASGI application that serves ``service``."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="limbeck",
        version=__version__,
        summary=f"Vectors of proteins by {service.encoder.name}",
        lifespan=lifespan,
        # Those pages load scripts of others.
        docs_url=None,
        redoc_url=None,
        # Where a path is wrong, it is wrong.
        redirect_slashes=False,
    )
    app.state.service = service
    security: dict[str, Any] = {}
    if service.settings.keys:
        from fastapi import Depends

        # The gate checks the key, before the body; this tells OpenAPI.
        security = {"dependencies": [Depends(HTTPBearer(auto_error=False))]}
    _add_state(app, service, security)
    _add_embed(app, service, security)
    _add_search(app, service, security)
    _add_landscape(app, service, security)
    add_openai(app, service, security)
    page.add_page(app, service)
    _add_handlers(app)
    routes = [route for route in app.routes if isinstance(route, Route)]
    gate = Gate(
        app,  # type: ignore[arg-type]
        service.settings,
        service.metrics,
        paths=[route.path for route in routes],
        posts=[route.path for route in routes if "POST" in (route.methods or ())],
        free=_FREE,
    )
    service.metrics.watch("limbeck_requests_in_work", "Requests that are in work.", lambda: float(gate.running))
    return gate


def named(sequences: Sequence[str | bodies.Protein]) -> tuple[list[str | None], list[str], list[str]]:
    """Ids, texts, and what to call each in a message."""
    ids = [None if isinstance(s, str) else s.id for s in sequences]
    texts = [s if isinstance(s, str) else s.sequence for s in sequences]
    return ids, texts, [f"sequences[{i}]" for i in range(len(texts))]


def _add_state(app: FastAPI, service: Service, security: dict[str, Any]) -> None:
    @app.get("/healthz", tags=["state"], response_model=bodies.State)
    async def healthz() -> dict[str, str]:
        """Whether the process answers at all."""
        return {"status": "stopping" if service.stopping else "ok"}

    @app.get("/readyz", tags=["state"], response_model=bodies.State, responses=problems(503))
    async def readyz() -> dict[str, str]:
        """Whether it takes requests: not before the encoder is ready, and not once it is told to stop."""
        if service.stopping or not service.ready:
            raise Refusal(503, "the server is stopping" if service.stopping else "the server is not ready")
        return {"status": "ok"}

    @app.get(
        "/metrics", tags=["state"], response_class=Response, **security,
        responses={200: {"content": {"text/plain": {}}}, **problems(401)},
    )  # fmt: skip
    async def metrics(request: Request) -> Response:
        """Counts as Prometheus reads them."""
        content, kind = service.metrics.text(request.headers.get("accept", ""))
        return Response(content, headers={"content-type": kind})


def _add_embed(app: FastAPI, service: Service, security: dict[str, Any]) -> None:
    arrow = {"content": {ARROW: {"schema": {"type": "string", "format": "binary"}}}}

    @app.post(
        "/embed", tags=["proteins"], response_model=bodies.EmbedAnswer, **security,
        responses={200: arrow, **problems(*POST_PROBLEMS)},
    )  # fmt: skip
    async def embed(body: bodies.EmbedRequest, request: Request) -> Response:
        """One vector for each protein, or for each residue: as JSON, or with `Accept:
        application/vnd.apache.arrow.stream` as the table that `limbeck embed` writes."""
        encoder = service.encoder
        ids, texts, places = named(body.sequences)
        sequences = service.cleaned(texts, places)
        if body.per_residue and body.dimension is not None:
            raise Refusal(400, "dimension: only protein vectors can be cut; leave dimension or per_residue out")
        dimension = service.check_dimension(body.dimension, "dimension")
        if body.per_residue:
            vectors = await service.residues(sequences)
        else:
            vectors = list(await service.vectors(sequences, dimension))
        about = {
            "encoder": encoder.name,
            "encoder_version": encoder.version,
            "encoder_fingerprint": encoder.fingerprint,
            "pooling": encoder.pooling,
            "precision": encoder.precision,
            "level": "residues" if body.per_residue else "proteins",
        }
        lengths = [len(sequence) for sequence in sequences]
        numbers = sum(vector.size for vector in vectors)
        if ARROW in request.headers.get("accept", ""):
            metadata = {**about, "dimension": str(dimension), "limbeck_version": __version__}
            return await written(numbers, lambda: as_arrow(ids, lengths, vectors, dimension, metadata), ARROW)
        shape = packed if body.encoding == "base64" else plain

        def content() -> bytes:
            rows = [
                {"id": id, "length": length, "embedding": shape(vector)}
                for id, length, vector in zip(ids, lengths, vectors, strict=True)
            ]
            return as_json({**about, "dimension": dimension, "embeddings": rows})

        return await written(numbers, content)


def _add_search(app: FastAPI, service: Service, security: dict[str, Any]) -> None:
    @app.post(
        "/search", tags=["proteins"], response_model=bodies.SearchAnswer, **security,
        responses=problems(*POST_PROBLEMS, 404),
    )  # fmt: skip
    async def search(body: bodies.SearchRequest) -> Response:
        """The nearest proteins of the index that is served."""
        ids, texts, places = named(body.sequences)
        sequences = service.cleaned(texts, places)
        found = await service.neighbours(sequences, body.k)
        assert service.index is not None  # or there were no neighbours
        results = [
            {
                "id": id,
                "length": len(sequence),
                "hits": [
                    {"id": h.id, "similarity": h.similarity, "label": h.label, "reliability": h.reliability}
                    for h in hits
                ],
                "annotations": [{"label": a.label, "reliability": a.reliability} for a in annotations],
            }
            for id, sequence, (hits, annotations) in zip(ids, sequences, found, strict=True)
        ]
        content = {"encoder": service.encoder.name, "index": service.index.name, "results": results}
        return await written(body.k * len(found), lambda: as_json(content))


def _add_landscape(app: FastAPI, service: Service, security: dict[str, Any]) -> None:
    @app.post(
        "/predict", tags=["variants"], response_model=bodies.PredictAnswer, **security,
        responses=problems(*POST_PROBLEMS, 404),
    )  # fmt: skip
    async def predict(body: bodies.PredictRequest) -> Response:
        """Scores of variants by the landscape model that is served."""
        if (body.sequences is None) == (body.mutations is None):
            raise Refusal(422, "give either sequences or mutations")
        if body.sequences is not None:
            service.cleaned(body.sequences, [f"sequences[{i}]" for i in range(len(body.sequences))])
            found = await service.predictions("sequences", body.sequences)
        else:
            found = await service.predictions("mutations", body.mutations)
        landscape = service.landscape
        assert landscape is not None  # or there were no predictions
        content = {"model": landscape.name, "assay": landscape.assay, "predictions": found}
        return await written(len(found), lambda: as_json(content))

    @app.post(
        "/saturate", tags=["variants"], response_model=bodies.SaturateAnswer, **security,
        responses=problems(*POST_PROBLEMS, 404),
    )  # fmt: skip
    async def saturate(body: bodies.SaturateRequest) -> Response:
        """All single mutants of a protein: the landscape model's predictions, or the encoder's likelihoods."""
        sequence = None if body.sequence is None else service.cleaned([body.sequence], ["sequence"])[0]
        scan = await service.scan(sequence, body.by)
        return await written(scan.values.size, lambda: as_json(scan.answer(picture=body.picture)))


def _add_handlers(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refusal(request: Request, error: Refusal) -> Response:
        return refused(request.url.path, error)

    @app.exception_handler(InputError)
    async def input_error(request: Request, error: InputError) -> Response:
        return refused(request.url.path, Refusal(400, str(error)))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return refused(request.url.path, _in_one_line(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        response = refused(request.url.path, Refusal(error.status_code, str(error.detail)))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def failure(request: Request, error: Exception) -> Response:
        # It is raised again after this answer, and logged by the gate.
        return refused(request.url.path, Refusal(500, "internal error; the server's log has more"))


def _in_one_line(errors: Sequence[Any]) -> Refusal:
    """What is wrong with a body, and where."""
    if errors[0]["type"] == "json_invalid":
        return Refusal(422, f"the body is no JSON ({errors[0]['ctx']['error']} at character {errors[0]['loc'][-1]})")
    first = _place(errors[0]["loc"])
    # A text or an object may stand in some places: tell what is wrong with what stands there.
    same = [error for error in errors if _place(error["loc"]).startswith(first)]
    error = max(same, key=lambda error: len(_place(error["loc"])))
    place = _place(error["loc"])
    message = str(error["msg"])[:300]
    if error["type"] == "extra_forbidden":
        message = "there is no such field"
    message = message[0].lower() + message[1:]
    return Refusal(422, f"{place}: {message}" if place else f"the body: {message}", parameter=place or None)


def _place(location: Sequence[str | int]) -> str:
    """``sequences[3].id`` for where an error lies; kinds that a union tried are left out."""
    text = ""
    for part in location[1:]:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in ("str", "Protein") and not part.startswith(("list[", "function-", "constrained-")):
            text += f".{part[:60]!s}" if text else part[:60]
    return text
