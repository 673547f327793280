"""Run drawwell and count its Python calls between SIGUSR1 and SIGUSR2.

Every thread is counted. Arguments: the file for the counts, then drawwell's own arguments. A
change of file means that a call of drawwell code is in another file than the previous one.
"""

import json
import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import drawwell
from drawwell.cli import main

counts: Counter[str] = Counter()
changes: Counter[str] = Counter()
counting = False
OURS = os.path.dirname(drawwell.__file__)
last = [""]


def count(frame: FrameType, event: str, _argument: Any) -> None:
    if not counting or event != "call":
        return
    here = frame.f_code.co_filename
    counts[f"{here}:{frame.f_code.co_qualname}"] += 1
    if here.startswith(OURS) and here != last[0]:
        changes[here] += 1
        last[0] = here


def start(_signal: int, _frame: FrameType | None) -> None:
    global counting  # noqa: PLW0603 - one program, one switch
    counting = True


def stop(_signal: int, _frame: FrameType | None) -> None:
    global counting  # noqa: PLW0603 - as in start
    counting = False
    unfinished = target.with_suffix(".new")
    unfinished.write_text(json.dumps({"calls": counts, "changes": changes}))
    unfinished.rename(target)


target = Path(sys.argv[1])
signal.signal(signal.SIGUSR1, start)
signal.signal(signal.SIGUSR2, stop)
threading.setprofile(count)
sys.setprofile(count)
sys.exit(main(sys.argv[2:]))
