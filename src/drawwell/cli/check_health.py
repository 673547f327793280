"""``drawwell check-health``: a check plugin for Nagios and Icinga."""

import argparse
from typing import Any

from drawwell.cli.output import Output
from drawwell.errors import DrawwellError

_EPILOG = """\
The line ends with performance data. The exit codes are those of Nagios:
0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (no broker answers, or permission is denied).
"""


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Declare ``drawwell check-health``."""
    parser = nouns.add_parser(
        "check-health",
        parents=[common],
        help="print a line about this machine's broker or link for Nagios or Icinga",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli import client
    from drawwell.config.load import load
    from drawwell.observe.nagios import PluginState, plugin_line

    try:
        state, line = plugin_line(client.link_status(load(args.config)) or client.call(args, "status", {}))
    except DrawwellError as error:
        state, line = PluginState.UNKNOWN, f"DRAWWELL UNKNOWN - {error}"
    out.result({"state": state.name, "line": line}, line)
    return int(state)
