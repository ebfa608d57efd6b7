"""``limbeck serve``."""

from __future__ import annotations

import argparse
import ipaddress
from typing import Any

from limbeck.commands.shared import LANDSCAPE, need, say

__all__ = ["add", "run"]

SERVE = ("fastapi", "uvicorn", "prometheus_client", "jinja2")


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "serve",
        help="answer requests for vectors, neighbours and predictions over HTTP",
        description="Serve an encoder over HTTP, and an index and a landscape model if they are given:\n"
        "/embed, /search, /predict, /saturate, OpenAI's /v1/embeddings, /metrics, /openapi.json, and a page at /.\n"
        "SIGTERM and Ctrl-C finish what is there, then stop.",
        epilog="examples:\n"
        "  limbeck serve\n"
        "  limbeck serve --encoder facebook/esm2_t6_8M_UR50D --port 8080\n"
        "  limbeck serve --index proteins.index --model report/model\n"
        "  limbeck serve --host 0.0.0.0 --api-key-file keys.txt\n"
        "\n"
        "  curl localhost:8000/embed -H 'Content-Type: application/json' -d '{\"sequences\": [\"MKTAYIAKQR\"]}'\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help="a name from `limbeck encoders`, a hub name, or the path of a model (default: limbeck's own)",
    )
    parser.add_argument("--precision", default="auto", help="auto, f32, bf16, f16 or int8, where an encoder has it")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument("--threads", metavar="N", type=int, help="most processor threads (default: all)")
    parser.add_argument("--index", metavar="FOLDER", help="an index of that encoder's vectors, for /search")
    parser.add_argument("--model", metavar="MODEL", help="the folder `model` of a landscape report, for /predict")

    group = parser.add_argument_group("address")
    group.add_argument("--host", default="127.0.0.1", help="where to listen (default: 127.0.0.1, this machine only)")
    group.add_argument("--port", type=int, default=8000, help="0 takes any that is free (default: 8000)")
    group.add_argument(
        "--api-key-file", metavar="FILE", help="keys, one a line, of which each request must bring one as a bearer"
    )

    group = parser.add_argument_group("limits")
    group.add_argument(
        "--max-length", type=int, default=10_000, metavar="N", help="residues of a protein (default: 10000)"
    )
    group.add_argument("--max-body", default="10M", metavar="SIZE", help="of a request (default: 10M)")
    group.add_argument(
        "--max-requests", type=int, default=1024, metavar="N", help="in work at once; more get 429 (default: 1024)"
    )
    group.add_argument(
        "--queue-tokens", type=int, default=2**18, metavar="N",
        help="residues that wait, each protein counting 16 more; beyond them requests get 429 (default: 262144)",
    )  # fmt: skip
    group.add_argument(
        "--batch-tokens", type=int, default=4096, metavar="N",
        help="residues encoded together: more for throughput, fewer for a shorter wait (default: 4096)",
    )  # fmt: skip
    group.add_argument(
        "--timeout", type=float, default=120.0, metavar="S", help="seconds to an answer, or it is 504 (default: 120)"
    )
    group.add_argument(
        "--grace", type=float, default=30.0, metavar="S",
        help="seconds that a server told to stop gives the requests it has (default: 30)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    need("serve", *SERVE)
    if options.model is not None:
        need("landscape", *LANDSCAPE)
    from limbeck.embedding.memory import parse_size
    from limbeck.serving.server import claim, serve
    from limbeck.serving.settings import Settings, read_keys
    from limbeck.serving.start import open_service

    settings = Settings(
        max_length=options.max_length,
        max_body=parse_size(options.max_body),
        max_requests=options.max_requests,
        queue_tokens=options.queue_tokens,
        batch_tokens=options.batch_tokens,
        timeout=options.timeout,
        grace=options.grace,
        keys=read_keys(options.api_key_file) if options.api_key_file else (),
    )
    listener = claim(options.host, options.port)
    with listener:
        service = open_service(
            options.encoder,
            settings,
            index=options.index,
            model=options.model,
            precision=options.precision,
            device=options.device,
            threads=options.threads,
        )
        if not settings.keys and not _is_local(listener.getsockname()[0]):
            say("whoever reaches this address can use the server; --api-key-file asks for a key")
        serve(service, listener, say)


def _is_local(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
