"""``drawwell assess``: assess the min-entropy of samples with SP 800-90B."""

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
"""The exit code if a result needs attention."""
_SIGNS = {"good": "+", "note": "·", "bad": "!"}


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "assess",
        parents=[common],
        allow_abbrev=False,
        help="assess the min-entropy of samples with SP 800-90B",
        description="Assess raw samples, one per byte, with the estimators of SP 800-90B. The samples come from a "
        "file, or are captured from a source before conditioning; without --keep, they stay in memory. "
        "'drawwell assess conditioning N_IN N_OUT NW H_IN' instead calculates the output entropy of a "
        "conditioning component.",
        epilog="Exit codes: 0 no problem; 1 a problem, such as a result below the claim or a failed health test;"
        " 65 the data cannot be assessed; 69 no source or no NumPy.",
    )
    parser.add_argument(
        "input", nargs="?", metavar="FILE|-|SOURCE",
        help="a file, standard input, a source name or a device node (default: the only source), or 'conditioning'",
    )  # fmt: skip
    parser.add_argument(
        "more",
        nargs="*",
        metavar="FILE|NUMBER",
        help="more files, summarised in one table; with 'conditioning': n_in, n_out, nw and h_in in bits",
    )
    parser.add_argument(
        "--format", metavar="FORMAT",
        help="file format: bytes, hex, bits (characters 0 and 1), column (decimal numbers), csv:N "
            "(column number or name), u16le, u16be, u32le or u32be. Wider samples are reduced to their best eight "
            "bits (SP 800-90B 6.4). Samples written as text (hex, bits, column, csv) require this option",
    )  # fmt: skip
    parser.add_argument(
        "--bits",
        type=int,
        metavar="N",
        help="bits per sample, 1 to 8 (default: up to the highest bit in use)",
    )
    parser.add_argument(
        "--claim", type=min_entropy, metavar="H",
        help="claimed bits of min-entropy per sample (default: min_entropy of the source)",
    )  # fmt: skip
    parser.add_argument(
        "--samples", default=1_000_000, type=samples, metavar="N",
        help="number of samples to capture from a source (default: 1,000,000)",
    )  # fmt: skip
    parser.add_argument(
        "--iid", action="store_true", help="also run the IID tests: chi-square, repeats, permutations"
    )
    parser.add_argument(
        "--restart",
        metavar="FILE",
        help="also assess this restart matrix of 1000 rows with 1000 samples, one per byte",
    )
    parser.add_argument(
        "--report", action="append", default=[], metavar="FILE",
        help="write a report for a browser (.html) or with all figures (.json); can be used twice",
    )  # fmt: skip
    parser.add_argument(
        "--keep", metavar="FILE", help="save the captured samples to a new file with mode 0600"
    )
    parser.add_argument(
        "--h-prime", type=min_entropy, metavar="H",
        help="with 'conditioning': assessed min-entropy per output bit, for a component that is not vetted",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def min_entropy(text: str) -> float:
    """Parse bits of min-entropy per sample."""
    value = float(text)
    if not 0 < value <= 8:
        raise ValueError(text)
    return value


def samples(text: str) -> int:
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
    """Assess several files and summarise them in one table."""
    from drawwell.cli.assess.input import is_file, take_file
    from drawwell.cli.assess.run import assess_taken

    _need_numpy()
    paths = [args.input, *args.more]
    if alone := [name for name in ("report", "keep", "restart") if getattr(args, name)]:
        raise UsageError(f"--{alone[0]} needs a single file", hint="Assess each file separately.")
    if others := [path for path in paths if not is_file(path)]:
        raise UsageError(f"{others[0]} is not a file", hint="Use several files, or a single source.")
    taken = [take_file(path, args.format) for path in paths]  # read all files before the first assessment
    found = [assess_taken(each, out, bits=args.bits, claim=args.claim, iid=args.iid) for each in taken]
    rows = [("FILE", "SAMPLES", "BITS", "MIN-ENTROPY", "RESULT")]
    for path, each in zip(paths, found, strict=True):
        bad = sum(finding.level == "bad" for finding in each.findings)
        result = each.non_iid
        numbers = (f"{result.samples:,}", str(result.bits_per_sample), f"{result.min_entropy:.6f}")
        rows.append((path, *numbers, f"problems: {bad}" if bad else "no problems"))
    out.result({"files": [as_json(each) for each in found]}, out.style.table(rows))
    return EXIT_BAD if any(finding.level == "bad" for each in found for finding in each.findings) else 0


def _check_names(paths: Sequence[str]) -> None:
    for path in paths:
        if not path.endswith((".html", ".json")):
            raise UsageError(
                f"--report {path}: must end in .html or .json", hint="Example: --report out.html."
            )


def _need_numpy() -> None:
    """Raise MissingExtra if NumPy is missing, before a slow capture."""
    from drawwell.assess import sp80090b  # noqa: F401  raises MissingExtra


def _write(path: str, found: "Assessment", out: Output) -> None:
    import json

    from drawwell.assess.report.page import page_of
    from drawwell.cli.assess.input import write_whole

    write_whole(
        path, page_of(found) if path.endswith(".html") else json.dumps(as_json(found), indent=2) + "\n"
    )
    out.say(f"wrote the report to {path}")


def text_of(found: "Assessment", style: Style = PLAIN) -> str:
    """Format the result as text."""
    from drawwell.assess.report.findings import bits_text

    result = found.non_iid
    simulated = " (simulated)" if found.subject.identity and found.subject.identity.simulated else ""
    figure = f"min-entropy {result.min_entropy:.6f} bits per sample"
    if result.ceiling:
        figure += f"; an ideal source of this length scores about {result.ceiling.min_entropy:.2f}"
    if found.claim is not None:
        figure += f"; the claim is {found.claim:g}"
    what = f"{result.samples:,} samples of {bits_text(result)}"
    lines = [f"{found.subject.name}{simulated}: {what}, SHA-256 {found.subject.sha256}", figure, ""]
    lines += [style.table(_rows(found), drop=("SECTION",)), ""]
    lines += [style.wrap(f"{_SIGNS[e.level]} {e.words}", "  ") for e in found.findings]  # wording: in JSON
    return "\n".join(lines)


def _rows(found: "Assessment") -> list[tuple[str, ...]]:
    result = found.non_iid
    columns = [column for column in (result.bit_string, result.literal) if column]
    heads = ["BITS PER BIT", "BITS PER SAMPLE"][-len(columns) :]
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
            "conditioning needs three integers and h_in",
            hint="For SHA-512 of 120 bytes with 6 bits each: drawwell assess conditioning 960 512 512 720.",
        ) from None
    try:
        found = assess_conditioning(n_in, n_out, nw, h_in, args.h_prime)
    except ValueError as error:
        raise UsageError(str(error), hint="All sizes and entropies are in bits.") from None
    lines = [f"output entropy  {found.output_entropy:.17g} bits of {n_out}"]
    if found.shortfall_log2 is not None:
        lines.append(
            f"                2^{found.shortfall_log2:.4f} of {found.close_to} below {found.close_to}"
        )
    kind = "vetted" if found.h_prime is None else "not vetted"
    lines.append(f"may be claimed  {found.h_out:.17g} bits ({kind})")
    if found.full_entropy:
        lines.append("full entropy    h_in is at least n_out + 64 (SP 800-90C)")
    out.result(as_json(found), "\n".join(lines))
    return 0
