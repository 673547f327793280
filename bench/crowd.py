"""Let 1,000 consumers connect and draw at once.

The figures are how many consumers are served, how soon, and how equally. Each has its own
certificate and repeatedly draws 32 bytes. If entropybroker is installed, it gets the same
crowd; so does a bare server, on asyncio and on uvloop, because the loop decides whose requests
are read first.
"""

import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from peers import CROWD, CROWD_S, crowd
from rig import entropybroker
from rig.peers import bare_asyncio
from rig.processes import CLIENT_CORE, raise_file_limit, stay_on
from rig.report import Report, arguments
from rig.site import Site


def main() -> None:
    args = arguments(__doc__ or "")
    report = Report("a crowd at once")
    raise_file_limit()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        site = Site(Path(folder), 100 if args.quick else CROWD)
        ours = servers.enter_context(site.broker())
        theirs = None
        if entropybroker.installed():
            theirs = servers.enter_context(entropybroker.broker(site.folder))
        loops = ["asyncio", "uvloop"] if find_spec("uvloop") else ["asyncio"]
        bare = {loop: servers.enter_context(bare_asyncio(site, loop)) for loop in loops}
        site.wait_until_full()
        stay_on(CLIENT_CORE)
        crowd(report, site, ours, theirs, seconds=1.0 if args.quick else CROWD_S, bare=bare)
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
