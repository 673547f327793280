"""A signal during the start reaches the supervised child."""

import subprocess
import sys

from drawwell.testing.waiting import DEADLINE_S

STORY = """
import os, signal
from drawwell.service.supervisor import Supervisor
fork = os.fork
def interrupted():
    child = fork()
    if child:
        os.kill(os.getpid(), signal.SIGTERM)
    return child
os.fork = interrupted
print(Supervisor(["sleep", "3600"], os.environ).run())
"""


def test_a_signal_during_the_start_ends_the_child() -> None:
    """SIGTERM right after the fork is passed on, and the supervisor ends."""
    done = subprocess.run(
        [sys.executable, "-c", STORY], capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    assert done.stdout.split() == ["143"]
