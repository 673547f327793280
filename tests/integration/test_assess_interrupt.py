"""An interrupt ends a running assessment with all threads."""

import signal
import subprocess
import sys

from drawwell.testing.waiting import DEADLINE_S

SCRIPT = """
from drawwell.assess import assess
data = bytes((each * each >> 7) & 255 for each in range(300_000))
assess(data[:5000])
print("started", flush=True)
assess(data * 20)
print("finished")
"""


def test_interrupt_ends_a_running_assessment():
    """Ctrl-C ends the process with the signal, without output or traceback."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == -signal.SIGINT
    assert output == ""
    assert errors.endswith("KeyboardInterrupt\n")
