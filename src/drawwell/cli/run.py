"""``drawwell run``: run the daemon in the foreground."""

import argparse
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from drawwell.cli.output import Output

if TYPE_CHECKING:
    import asyncio

    from drawwell.service.systemd import Manager


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "run",
        parents=[common],
        help="run all roles in the configuration until Ctrl-C",
        allow_abbrev=False,
    )
    add_options(parser)
    add_supervised(parser)
    parser.set_defaults(run=lambda args, out: serve(args, out, consumers=True))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every daemon."""
    parser.add_argument("-v", "--verbose", action="store_true", help="log more detail")


def add_supervised(parser: argparse.ArgumentParser) -> None:
    """Add the option of daemons that serve guests."""
    parser.add_argument(
        "--supervised", action="store_true",
        help="restart the process if it dies, and keep guests' connections open (for systems without systemd)",
    )  # fmt: skip


def serve(args: argparse.Namespace, out: Output, *, consumers: bool, apart: bool = False) -> int:
    """Run the roles until a signal arrives."""
    from drawwell.config.load import load
    from drawwell.host.memory import lock_memory
    from drawwell.host.openssl import require_post_quantum
    from drawwell.roles.run import RunProcess, run_until_signal
    from drawwell.roles.runnable import require_runnable
    from drawwell.service.loops import loop_factory
    from drawwell.service.systemd import Manager

    set_up_logging(verbose=args.verbose, quiet=out.quiet)
    if args.supervised:
        return supervise(sys.argv[1:])
    config = load(args.config)
    require_runnable(config, apart=apart)
    if config.tls.require_pq:
        require_post_quantum()
    manager = Manager(os.environ)
    if not (consumers or config.serves) and manager.listens:
        return idle(manager, out, "nothing to serve: the configuration has an [[upstream]] and no [[source]]")
    process = RunProcess(
        config,
        lambda: load(args.config),
        consumers=consumers,
        apart=apart,
        manager=manager,
        note=lock_memory(),
    )
    if os.geteuid() == 0 and consumers and config.serves and config.tls.listen:
        out.say(
            "running as root in one process: code with access to the device and CAP_SYS_ADMIN also uses the "
            "network. To avoid this, install the package: its units run each part as its own user"
        )

    def started() -> None:
        if process.station:
            doors = ", ".join(process.station.report().doors)
            names = ", ".join(process.station.broker.sources) or "the first source that connects"
            out.say(f"starting with {names}, serving on {doors}; Ctrl-C stops")
        else:
            sinks = ", ".join(f"{sink.kind} {sink.path}".strip() for sink in config.sinks)
            into = " and ".join(part for part in (sinks, "this kernel" if config.kernel.feed else "") if part)
            out.say(f"feeding {into} from {', '.join(each.url for each in config.upstreams)}; Ctrl-C stops")

    # a process that feeds the kernel loads only the standard library (law 10)
    run_until_signal(process, started, None if consumers else loop_factory(os.environ))
    out.say("stopped")
    return 0


def supervise(argv: list[str]) -> int:
    """Run the same command line in a child process; restart it if it dies."""
    from drawwell.service.supervisor import Supervisor

    unsupervised = [word for word in argv if word != "--supervised"]
    return Supervisor([sys.executable, "-m", "drawwell", *unsupervised], os.environ).run()


def idle(manager: "Manager", out: Output, why: str) -> int:
    """Exit with 0 because the configuration gives this unit nothing to do."""
    manager.notify(READY="1", STATUS=why)
    out.say(why)
    return 0


def run_until_stopped(
    role: "Callable[[asyncio.Event], Awaitable[None]]",
    out: Output,
    factory: "Callable[[], asyncio.AbstractEventLoop] | None" = None,
) -> int:
    """Run a role until SIGINT or SIGTERM; ignore SIGHUP."""
    import asyncio
    import signal

    from drawwell.service import loops

    async def live() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        await role(stop)

    loops.run(live(), factory)
    out.say("stopped")
    return 0


def set_up_logging(*, verbose: bool, quiet: bool) -> None:
    """Log to standard error with a prefix, or to the journal with fields."""
    from drawwell.service.journal import JournalHandler, goes_to_journal

    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    plain: logging.Handler = logging.StreamHandler(sys.stderr)
    plain.setFormatter(logging.Formatter("drawwell: %(message)s"))
    journal = goes_to_journal(sys.stderr, os.environ)
    logging.basicConfig(level=level, handlers=[JournalHandler(plain) if journal else plain])
    logging.getLogger("asyncio").setLevel(logging.WARNING)
