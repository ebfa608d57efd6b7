"""Bodies of requests and answers: what :mod:`~limbeck.serving.api` takes and gives, as OpenAPI describes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

__all__ = [
    "EmbedAnswer",
    "EmbedRequest",
    "OpenAIAnswer",
    "OpenAIModels",
    "OpenAIProblem",
    "OpenAIRequest",
    "PredictAnswer",
    "PredictRequest",
    "Problem",
    "Protein",
    "SaturateAnswer",
    "SaturateRequest",
    "SearchAnswer",
    "SearchRequest",
    "State",
]

_ABSENT: Any = None
"""Of a field that may be left out, but not be null."""

MOST = 16_384
"""Sequences of one request; what they may count is bounded besides."""

Residues = Annotated[
    str,
    Field(
        min_length=1,
        description="One-letter codes in the letters of `limbeck embed`: the 20 residues, X, U, O, B, Z, J, a stop *, "
        "gaps - and ., either case, white space.",
        examples=["MKTAYIAKQR"],
        # Tested by limbeck.residues, whose message says which letter it is.
        json_schema_extra={"pattern": r"^[-*.\s]*[A-Za-z][-A-Za-z*.\s]*$"},
    ),
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str = Field(description="One line that says what is wrong, where, and what to do.")


class State(BaseModel):
    """How the server is."""

    status: Literal["ok", "stopping"]


class Protein(_Strict):
    """A protein with a name of the client's own."""

    id: str | None = Field(None, max_length=1000, description="Comes back with the answer.")
    sequence: Residues


Proteins = Annotated[list[Residues | Protein], Field(min_length=1, max_length=MOST)]


# --- embed


class EmbedRequest(_Strict):
    """Proteins to turn into vectors."""

    sequences: Proteins
    per_residue: bool = Field(False, description="One vector for each residue instead of one for each protein.")
    encoding: Literal["float", "base64"] = Field(
        "float", description="Numbers as JSON, or base64 of little-endian float32, row by row."
    )
    dimension: int | None = Field(
        None, ge=1, description="Leading numbers of a protein's vector to give, where they serve alone."
    )


class Embedding(BaseModel):
    """The vector of a protein, or those of its residues."""

    id: str | None
    length: int = Field(description="Residues, after gaps, white space and a final stop are taken out.")
    embedding: list[float] | list[list[float]] | str


class EmbedAnswer(BaseModel):
    """Vectors, in the order of the request."""

    encoder: str
    encoder_version: str
    encoder_fingerprint: str
    pooling: str
    precision: str
    level: Literal["proteins", "residues"]
    dimension: int
    embeddings: list[Embedding]


# --- search


class SearchRequest(_Strict):
    """Proteins whose neighbours are wanted."""

    sequences: Proteins
    k: int = Field(10, ge=1, le=1000, description="Neighbours of each.")


class Hit(BaseModel):
    """A neighbour."""

    id: str
    similarity: float
    label: str | None = None
    reliability: float | None = Field(
        None, description="Probability that the query has this label, where the index is calibrated."
    )


class Annotation(BaseModel):
    """A label that neighbours vote for."""

    label: str
    reliability: float | None = Field(description="Probability that it is right, where the index is calibrated.")


class Neighbours(BaseModel):
    """Neighbours of a protein, nearest first."""

    id: str | None
    length: int
    hits: list[Hit]
    annotations: list[Annotation] = Field(description="Labels transferred from them; none without labels.")


class SearchAnswer(BaseModel):
    """Neighbours, in the order of the request."""

    encoder: str
    index: str
    results: list[Neighbours]


# --- predict


class PredictRequest(_Strict):
    """Variants to score: their sequences, or their mutations."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"oneOf": [{"required": ["sequences"]}, {"required": ["mutations"]}]},
    )

    sequences: Annotated[list[Residues], Field(min_length=1, max_length=MOST)] = Field(default=_ABSENT)
    mutations: Annotated[list[Annotated[str, Field(max_length=2000)]], Field(min_length=1, max_length=MOST)] = Field(
        default=_ABSENT,
        description="Of the model's wild type: `A108D`, `A108D:K120R`, `p.Ala108Asp`, `A108del`, `WT`.",
        examples=[["A108D:K120R", "WT"]],
    )


class Prediction(BaseModel):
    """The score of a variant."""

    variant: str = Field(description="Its mutations, or its sequence where there is no wild type.")
    prediction: float
    sd: float | None = Field(description="Standard deviation of a new measurement, where the model has one.")
    mutations: int | None
    note: str = Field(description="What training never showed; empty if nothing.")


class PredictAnswer(BaseModel):
    """Scores, in the order of the request."""

    model: str
    assay: str
    predictions: list[Prediction]


# --- saturate


class SaturateRequest(_Strict):
    """A protein whose single mutants are wanted."""

    sequence: Residues = Field(default=_ABSENT, description="By default the landscape model's wild type.")
    by: Literal["model", "likelihood"] = Field(
        default=_ABSENT,
        description="The landscape model's predictions, or log-likelihood ratios of the encoder, which is not trained "
        "on any assay. By default the model if one is served.",
    )
    picture: bool = Field(False, description="Also a heat map as SVG.")


class Picture(BaseModel):
    """A heat map, for the page."""

    svg: str
    numbers: dict[str, Any]
    low: str
    high: str
    centre: str


class SaturateAnswer(BaseModel):
    """All single mutants of a protein."""

    by: Literal["model", "likelihood"]
    name: str = Field(description="Of the model or the encoder.")
    meaning: str = Field(description="What a value is, in a sentence.")
    centre: float = Field(description="Value of the protein itself.")
    positions: list[int]
    wild_type: str
    residues: str = Field(description="Rows of `values`.")
    values: list[list[float | None]] = Field(description="Residues by positions; null at the protein's own residue.")
    picture: Picture | None = None


# --- OpenAI's shape


class OpenAIRequest(BaseModel):
    """A request as OpenAI's clients send it; what it has besides is passed over."""

    model_config = ConfigDict(strict=True)

    input: Residues | Annotated[list[Residues], Field(min_length=1, max_length=MOST)] = Field(
        description="A sequence, or several. Tokens (lists of numbers) are refused."
    )
    model: str = Field(description="Name of the encoder that is served, as `/v1/models` gives it.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _no_tokens(cls, value: Any) -> Any:
        if isinstance(value, list) and any(isinstance(item, (int, list)) for item in value):
            # Some clients send numbers of words by default.
            raise PydanticCustomError("tokens", "token arrays cannot be read as residues; send each sequence as text")
        return value


class OpenAIEmbedding(BaseModel):
    """One vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class OpenAIUsage(BaseModel):
    """Residues."""

    prompt_tokens: int
    total_tokens: int


class OpenAIAnswer(BaseModel):
    """Vectors, in the order of the request."""

    object: Literal["list"]
    data: list[OpenAIEmbedding]
    model: str
    usage: OpenAIUsage


class OpenAIModel(BaseModel):
    """The encoder."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class OpenAIModels(BaseModel):
    """What is served."""

    object: Literal["list"]
    data: list[OpenAIModel]


class OpenAIError(BaseModel):
    """Why a request was not answered."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIProblem(BaseModel):
    """An error in OpenAI's shape."""

    error: OpenAIError
