"""``limbeck speed``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from limbeck.commands.shared import say

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "speed",
        help="show where the time of limbeck embed goes on this machine",
        description="Embed proteins into a file that is thrown away, and show where each microsecond goes: reading,\n"
        "packing, the network (by operator), pooling, writing; the machine's rates, and the share of its limit.",
        epilog="examples:\n"
        "  limbeck speed proteins.fasta\n"
        "  limbeck speed proteins.fasta --json speed.json --start-up\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("inputs", nargs="+", metavar="FILE", help="proteins, as for limbeck embed")
    parser.add_argument("--encoder", metavar="NAME", help="as for limbeck embed (default: limbeck's own)")
    parser.add_argument("--precision", default="auto", help="as for limbeck embed (default: auto)")
    parser.add_argument("--threads", metavar="N", type=int, help="most processor threads (default: all)")
    parser.add_argument("--memory", metavar="SIZE", help="the most memory to take, like 4G")
    parser.add_argument("--batch-tokens", metavar="N", type=int, help="most tokens in a batch")
    parser.add_argument(
        "--start-up",
        action="store_true",
        help="also time Python's start to the first batch, without and with the cache",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all numbers to a file, too")


def run(options: argparse.Namespace) -> None:
    import limbeck
    from limbeck.encoders.student import DEFAULT_NAME
    from limbeck.files import whole
    from limbeck.profiling import profile, start_up

    encoder = limbeck.load(options.encoder, precision=options.precision, threads=options.threads)
    found = profile(
        options.inputs,
        encoder,
        threads=options.threads,
        batch_tokens=options.batch_tokens,
        memory=options.memory,
    )
    say(str(found))
    result = found.as_dict()
    if options.start_up:
        for name, cached in (("first start", False), ("later starts", True)):
            result[name] = start_up(options.encoder or DEFAULT_NAME, options.precision, cached=cached)
            parts = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in result[name].items())
            say(f"{name:<17} {parts}")
    if options.json:
        with whole(options.json) as partial:
            partial.write_text(json.dumps(result, indent=1) + "\n")
