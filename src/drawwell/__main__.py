"""Run the program as ``python -m drawwell``."""

import signal
import sys


def main() -> int:
    """Run the command line; exit cleanly on a signal, without a traceback."""
    interrupts = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    if interrupts:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # while modules are imported
    from drawwell.cli import main as run  # noqa: PLC0415

    if interrupts:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return run()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _end(number: int, _frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
