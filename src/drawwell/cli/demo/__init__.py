"""``drawwell demo``: run a demonstration with a simulated OneRNG."""

import argparse
from contextlib import suppress
from typing import Any

from drawwell.cli.output import Output


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "demo", parents=[common], help="run a 15-second demonstration", allow_abbrev=False
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=9.0,
        metavar="N",
        help="how many seconds the consumers draw; at least 2 (default: 9)",
    )
    parser.add_argument(
        "--feed-kernel", action="store_true",
        help="at the end, feed this machine's real kernel once from /dev/hwrng; needs root",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _seconds(text: str) -> float:
    """Parse the duration; consumers reach their rate limits only after 2 s."""
    with suppress(ValueError):
        if 2 <= float(text) <= 86400:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 2 to 86400")


def _run(args: argparse.Namespace, out: Output) -> int:
    out.say("running a simulated OneRNG, a broker and two consumers in this process")
    import asyncio
    import tempfile

    from drawwell.cli.demo.demonstration import Demo
    from drawwell.cli.run import set_up_logging

    set_up_logging(verbose=False, quiet=True)
    with tempfile.TemporaryDirectory(prefix="drawwell-demo-") as folder:
        demo = Demo(folder, args.seconds, out)
        asyncio.run(demo.run())
        proof = demo.prove(feed_kernel=args.feed_kernel)
    held = sum(finding["holds"] for finding in proof["findings"])
    out.result(proof, f"{held} of {len(proof['findings'])} checks passed; the source was simulated")
    return 0 if proof["proved"] else 1
