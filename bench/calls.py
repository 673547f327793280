"""Count the Python calls of one 32-byte draw at the TLS door.

One consumer makes 2,000 draws in sequence, after 200 to warm up. Audit and quota are on, and
every thread of the broker is profiled. The code is not compiled.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from rig.load import connect_drawwell, draw_of, exchange_once
from rig.processes import free_port, running, wait_for_path, wait_for_port
from rig.site import Site

from drawwell.entropy.blocks import DrawClass

DRAWS: Final = 2000
WARM_UP: Final = 200


def counted(folder: Path, draw_class: DrawClass, draws: int) -> dict[str, dict[str, int]]:
    """Count the broker's calls in `draws` draws."""
    site, port, target = Site(folder), free_port(), folder / "counts.json"
    rig = [sys.executable, "-m", "rig.counted", str(target)]
    argv = [*rig, "broker", "-q", "-c", site.configuration(port)]
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    with running(argv, stderr=None, env=environment) as process:
        wait_for_port(process, port)
        site.wait_until_full()
        link = connect_drawwell(site.client_context(site.names[0]), port)
        exchange = draw_of(32, draw_class)
        for _ in range(WARM_UP):
            exchange_once(link, exchange)
        process.send_signal(signal.SIGUSR1)
        for _ in range(draws):
            exchange_once(link, exchange)
        process.send_signal(signal.SIGUSR2)
        wait_for_path(process, target)
        link.close()
    document: dict[str, dict[str, int]] = json.loads(target.read_text())
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer draws")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--all", action="store_true", help="name every function with its calls for each draw")
    args = parser.parse_args()
    draws = DRAWS // 10 if args.quick else DRAWS
    found: dict[str, Any] = {}
    for draw_class in (DrawClass.DRBG, DrawClass.FULL):
        with tempfile.TemporaryDirectory() as folder:
            document = counted(Path(folder), draw_class, draws)
        found[draw_class] = {
            "calls": sum(document["calls"].values()) / draws,
            "changes of file": sum(document["changes"].values()) / draws,
        }
        if args.all:
            for name, times in sorted(document["calls"].items(), key=lambda item: -item[1]):
                if times >= draws / 10:
                    print(f"{times / draws:6.1f}  {name}")
    if args.json:
        print(
            json.dumps({"title": "Python calls of one draw", "python": sys.version, "rows": found}, indent=1)
        )
        return
    for name, row in found.items():
        print(f"class {name}: {row['calls']:.1f} calls, {row['changes of file']:.1f} changes of file a draw")


if __name__ == "__main__":
    main()
