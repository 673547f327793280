"""``drawwell assess``: how much min-entropy samples hold, by SP 800-90B, and a report that people like to read."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from drawwell.cli.output import Output
from drawwell.cli.style import PLAIN, Style
from drawwell.errors import UsageError
from drawwell.reports import as_json

if TYPE_CHECKING:
    from drawwell.assess.report import Assessment

CONDITIONING = "conditioning"
EXIT_BAD = 1
"""Something was found that the owner must act upon."""
_SIGNS = {"good": "+", "note": "·", "bad": "!"}


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add the noun."""
    parser = nouns.add_parser(
        "assess",
        parents=[common],
        allow_abbrev=False,
        help="how much min-entropy samples hold, by SP 800-90B, with a report",
        description="Judge raw samples, one a byte, by the estimators of SP 800-90B: those of a file, or a fresh"
        " capture of a source before conditioning, kept in memory only. 'drawwell assess conditioning N_IN N_OUT NW"
        " H_IN' gives the output entropy of a conditioning component instead.",
        epilog="Exit codes: 0 nothing bad was found, 1 something was (less than the claim, a health test fired), 65"
        " the data cannot be judged, 69 no source or no NumPy.",
    )
    parser.add_argument(
        "input", nargs="?", metavar="FILE|-|SOURCE",
        help="a file, standard input, a source's name, or a device node (default: the only source); or the word"
        " 'conditioning'",
    )  # fmt: skip
    parser.add_argument(
        "more",
        nargs="*",
        metavar="FILE|NUMBER",
        help="more files, for one table of all; with 'conditioning': n_in, n_out, nw and h_in, all in bits",
    )
    parser.add_argument(
        "--format", metavar="FORM",
        help="what the files are: bytes, hex, bits (0 and 1 as characters), column (a decimal number a line), csv:N"
        " (column N, or its name), u16le, u16be, u32le or u32be; samples wider than a byte are reduced to their eight"
        " best bits (SP 800-90B 6.4). Text is refused until this says how to read it",
    )  # fmt: skip
    parser.add_argument(
        "--bits",
        type=int,
        metavar="N",
        help="width of a sample, 1 to 8 (default: the highest bit that occurs)",
    )
    parser.add_argument(
        "--claim", type=min_entropy, metavar="H",
        help="bits of min-entropy a sample that are claimed (default: as the source is configured)",
    )  # fmt: skip
    parser.add_argument(
        "--samples", default=1_000_000, type=samples, metavar="N",
        help="how many to capture from a source (default: 1,000,000)",
    )  # fmt: skip
    parser.add_argument(
        "--iid", action="store_true", help="run the IID track too: chi-square, repeats, permutations"
    )
    parser.add_argument(
        "--restart",
        metavar="FILE",
        help="judge this restart matrix too: 1000 rows of 1000 samples, one a byte",
    )
    parser.add_argument(
        "--report", action="append", default=[], metavar="FILE",
        help="write the report: a page for the browser (.html), or every figure (.json); may be given twice",
    )  # fmt: skip
    parser.add_argument(
        "--keep", metavar="FILE", help="keep the captured samples in this new file, mode 0600"
    )
    parser.add_argument(
        "--h-prime", type=min_entropy, metavar="H",
        help="with 'conditioning': the component is not vetted, and a bit of its output was assessed at this",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def min_entropy(text: str) -> float:
    """Read bits of min-entropy a sample."""
    value = float(text)
    if not 0 < value <= 8:
        raise ValueError(text)
    return value


def samples(text: str) -> int:
    """Read a number of samples."""
    value = int(text.replace(",", "").replace("_", ""))
    if value < 1:
        raise ValueError(text)
    return value


def _run(args: argparse.Namespace, out: Output) -> int:
    if args.input == CONDITIONING:
        return _conditioning(args, out)
    if args.more:
        return _assess_many(args, out)
    return _assess(args, out)


def _assess(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.assess.input import keep, take, take_file
    from drawwell.cli.assess.run import assess_taken

    _check_names(args.report)
    _need_numpy()
    restart = take_file(args.restart, args.format).data if args.restart else None
    taken = take(args, out)
    if args.keep:
        keep(args.keep, taken.data)
    found = assess_taken(taken, out, bits=args.bits, claim=args.claim, iid=args.iid, restart=restart)
    for path in args.report:
        _write(path, found, out)
    out.result(as_json(found), text_of(found, out.style))
    return EXIT_BAD if any(finding.level == "bad" for finding in found.findings) else 0


def _assess_many(args: argparse.Namespace, out: Output) -> int:
    """Judge several files and put them into one table; what is found of each stands in its own assessment."""
    from drawwell.cli.assess.input import is_file, take_file
    from drawwell.cli.assess.run import assess_taken

    _need_numpy()
    paths = [args.input, *args.more]
    if alone := [name for name in ("report", "keep", "restart") if getattr(args, name)]:
        raise UsageError(f"--{alone[0]} is about one file", hint="Judge that file by itself.")
    if others := [path for path in paths if not is_file(path)]:
        raise UsageError(
            f"{others[0]} is no file", hint="Several arguments are files; a source is judged by itself."
        )
    taken = [take_file(path, args.format) for path in paths]  # all of them are read before any is judged
    found = [assess_taken(each, out, bits=args.bits, claim=args.claim, iid=args.iid) for each in taken]
    rows = [("FILE", "SAMPLES", "BITS", "MIN-ENTROPY", "FOUND")]
    for path, each in zip(paths, found, strict=True):
        bad = sum(finding.level == "bad" for finding in each.findings)
        result = each.non_iid
        numbers = (f"{result.samples:,}", str(result.bits_per_sample), f"{result.min_entropy:.6f}")
        rows.append((path, *numbers, f"{bad} bad" if bad else "nothing bad"))
    out.result({"files": [as_json(each) for each in found]}, out.style.table(rows))
    return EXIT_BAD if any(finding.level == "bad" for each in found for finding in each.findings) else 0


def _check_names(paths: Sequence[str]) -> None:
    for path in paths:
        if not path.endswith((".html", ".json")):
            raise UsageError(
                f"--report {path}: neither .html nor .json", hint="Name it out.html or out.json."
            )


def _need_numpy() -> None:
    """Say what is missing before a capture that takes a minute."""
    from drawwell.assess import sp80090b  # noqa: F401  raises MissingExtra


def _write(path: str, found: "Assessment", out: Output) -> None:
    import json

    from drawwell.assess.report.page import page_of
    from drawwell.cli.assess.input import write_whole

    write_whole(
        path, page_of(found) if path.endswith(".html") else json.dumps(as_json(found), indent=2) + "\n"
    )
    out.say(f"the report is in {path}")


def text_of(found: "Assessment", style: Style = PLAIN) -> str:
    """The result for people."""
    from drawwell.assess.report.findings import bits_words

    result = found.non_iid
    simulated = " (simulated)" if found.subject.identity and found.subject.identity.simulated else ""
    figure = f"min-entropy {result.min_entropy:.6f} bits a sample"
    if result.ceiling:
        figure += f"; an ideal source of this length scores about {result.ceiling.min_entropy:.2f}"
    if found.claim is not None:
        figure += f"; claimed are {found.claim:g}"
    what = f"{result.samples:,} samples of {bits_words(result)}"
    lines = [f"{found.subject.name}{simulated}: {what}, SHA-256 {found.subject.sha256}", figure, ""]
    lines += [style.table(_rows(found), drop=("SECTION",)), ""]
    lines += [style.wrap(f"{_SIGNS[finding.level]} {finding.words}", "  ") for finding in found.findings]
    return "\n".join(lines)


def _rows(found: "Assessment") -> list[tuple[str, ...]]:
    result = found.non_iid
    columns = [column for column in (result.bit_string, result.literal) if column]
    heads = ["BITS A BIT", "BITS A SAMPLE"][-len(columns) :]
    rows: list[tuple[str, ...]] = [("ESTIMATOR", "SECTION", *heads)]
    for title, section in dict.fromkeys((e.title, e.section) for column in columns for e in column.estimates):
        cells = []
        for column in columns:
            values = [e.min_entropy for e in column.estimates if e.title == title]
            cells.append("-" if not values or values[0] is None else f"{values[0]:.9f}")
        rows.append((title.removesuffix(" Estimate"), section, *cells))
    return rows


def _conditioning(args: argparse.Namespace, out: Output) -> int:
    from drawwell.assess.conditioning import assess_conditioning

    try:
        n_in, n_out, nw = (int(text) for text in args.more[:3])
        (h_in,) = (float(text) for text in args.more[3:])
    except ValueError:
        raise UsageError(
            "conditioning takes three whole numbers and h_in",
            hint="For SHA-512 of 120 bytes at 6 bits each: drawwell assess conditioning 960 512 512 720.",
        ) from None
    try:
        found = assess_conditioning(n_in, n_out, nw, h_in, args.h_prime)
    except ValueError as error:
        raise UsageError(str(error), hint="All sizes and entropies are in bits.") from None
    lines = [f"output entropy  {found.output_entropy:.17g} bits of {n_out}"]
    if found.shortfall_log2 is not None:
        lines.append(f"                short of {found.close_to} by 2^{found.shortfall_log2:.4f} of it")
    kind = "vetted" if found.h_prime is None else "not vetted"
    lines.append(f"may be claimed  {found.h_out:.17g} bits ({kind})")
    if found.full_entropy:
        lines.append("full entropy    h_in is at least n_out + 64 (SP 800-90C)")
    out.result(as_json(found), "\n".join(lines))
    return 0
