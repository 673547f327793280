"""The command-line program: parses the arguments and runs the command.

Each command imports its modules when it runs, so ``--version`` loads very little.
"""

import os
import signal
import sys
from collections.abc import Sequence

from drawwell import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line, print its errors, and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv == ["--version"]:
        print(f"drawwell {__version__}")
        return 0
    from drawwell.cli.errors import as_ours
    from drawwell.cli.output import Output
    from drawwell.cli.parser import parse
    from drawwell.cli.style import style_for
    from drawwell.host.memory import keep_memory_private

    keep_memory_private()
    out = Output(as_json="--json" in argv)
    try:
        args = parse(argv)
        out = Output(
            as_json=args.json,
            quiet=args.quiet,
            style=style_for(sys.stdout, os.environ, wide=args.wide, color=args.color),
            live_style=style_for(sys.stderr, os.environ, wide=False, color=args.color),
        )
        return int(args.run(args, out))
    except KeyboardInterrupt:
        out.clear_progress()
        return 128 + signal.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001  users see an error, never a traceback
        return out.error(as_ours(error))
