"""The files and units that ``fleet init`` and ``fleet join`` change."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from drawwell.cli.output import Output
from drawwell.errors import UsageError

if TYPE_CHECKING:
    from drawwell.config.model import Config
    from drawwell.fleet.shared_address import SharedAddress

PART: Final = "fleet"
OWNER_FILE: Final = "/etc/drawwell/fleet-owner"
_LONGEST_ROLE: Final = 63
"""The maximum length of a role's name in bytes: PostgreSQL's NAMEDATALEN - 1."""
_PASSFILE: Final = "fleet.pgpass"
_DROP_IN: Final = "/etc/systemd/system/drawwell-broker.service.d/fleet.conf"
BROKER_UNIT: Final = "drawwell-broker.service"
SIGNER_UNIT: Final = "drawwell-signer.service"
_DROP_IN_TEXT: Final = f"""# Written by 'drawwell fleet'.
[Unit]
After=postgresql.service
# restart until the database answers and, after a power failure, the name is free
StartLimitIntervalSec=0
[Service]
RestartSec=5
LoadCredential=fleet-owner:{OWNER_FILE}
# if that file is missing
SetCredential=fleet-owner:\\n
"""


def prepare(args: argparse.Namespace) -> tuple["Config", str]:
    """Return the configuration and the path of conf.d.

    Raises:
        UsageError: the user is not root or used -c, or no TLS door has the built-in CA.
    """
    from drawwell.cli.set_up import parts_directory
    from drawwell.config.load import load

    directory = parts_directory(args)
    if directory is None:
        raise UsageError(
            "only root can set up a fleet, in /etc/drawwell", hint="Run this as root, without -c."
        )
    config = load()
    if not config.tls.listen or config.pki.ca:
        raise UsageError(
            "this broker has no TLS door with the built-in CA",
            hint="Run 'drawwell init broker' first, or remove [pki].",
        )
    return config, directory


def require_psycopg() -> None:
    """Raise MissingExtra if psycopg is not installed."""
    from drawwell.errors import MissingExtra

    try:
        import drawwell.fleet.connection  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            f"a fleet requires psycopg: {error}",
            hint="Run 'apt install python3-psycopg' or \"pip install 'drawwell[fleet]'\".",
        ) from error


@contextmanager
def stopped_broker(config: "Config") -> Iterator[None]:
    """Stop the broker's unit; start it again if the block fails.

    Raises:
        UsageError: the running broker was not started by a unit.
    """
    from drawwell.cli.set_up import has_unit, is_running, start_again, stop
    from drawwell.roles.upstream import listens

    if not has_unit(BROKER_UNIT):
        if listens(config.control.path):
            raise UsageError("the broker is running", hint="Stop the broker first, and start it afterwards.")
        yield
        return
    was_running = is_running(BROKER_UNIT)
    stop(BROKER_UNIT)
    try:
        yield
    except BaseException:
        if was_running:
            start_again(BROKER_UNIT)
        raise


def keep_address(config: "Config", shared: "SharedAddress") -> str:
    """Write the store's password and CA; return the address with both paths."""
    from drawwell.state.files import make_private_directory, replace_file

    state = config.broker.state_dir
    make_private_directory(state)
    password_file, ca_file = _passfile(config), os.path.join(state, "fleet-store-ca.pem")
    if shared.password:
        replace_file(password_file, shared.password_line().encode())
    if shared.ca:
        replace_file(ca_file, shared.ca.encode(), 0o644)
    return shared.here(password_file, ca_file)


def _passfile(config: "Config") -> str:
    return os.path.join(config.broker.state_dir, _PASSFILE)


@contextmanager
def alone() -> Iterator[None]:
    """Let one command at a time set up a fleet on this machine."""
    import fcntl

    from drawwell.config.load import DIRECTORY

    descriptor = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def brokers_role(config: "Config") -> str:
    """Return the group of the brokers' roles, or "" without a fleet."""
    from drawwell.fleet.shared_address import read_address

    role = read_address(config.fleet.store).get("user", "")
    return role.removesuffix(f"_{config.broker.name}")


def require_short(role: str, broker: str) -> None:
    """Raise UsageError if a broker's name makes its role's name too long."""
    if len(f"{role}_{broker}") > _LONGEST_ROLE:
        raise UsageError(
            f"the name {broker} is too long: the broker's role in the database is called {role}_{broker}",
            hint=f"Choose a name of at most {_LONGEST_ROLE - len(role) - 1} characters.",
        )


def kept_password(config: "Config", role: str) -> str:
    """Return the stored password of a role, or ""."""
    from drawwell.fleet.shared_address import password_of
    from drawwell.state.files import read_secret

    path = _passfile(config)
    return password_of(read_secret(path).decode(), role) if os.path.exists(path) else ""


def write_tables(directory: str, verb: str, name: str, fleet: str, store: str, *, owns: bool) -> None:
    """Write conf.d/fleet.toml; same errors as `write_part`."""
    import json

    from drawwell.cli.set_up import MARK, has_unit, write_part

    owner = f'owner = "{OWNER_FILE}"\n' if owns and not has_unit(BROKER_UNIT) else ""
    write_part(
        directory,
        PART,
        f"{MARK.format(f'fleet {verb}')}'.\n"
        f'[broker]\nname = "{name}"\n\n[fleet]\nname = "{fleet}"\nstore = {json.dumps(store)}\n{owner}',
    )


def start(out: Output) -> None:
    """Start the units, or print the commands to run."""
    from drawwell.cli.set_up import enable_and_restart, has_unit, reload_units, restart_if_running
    from drawwell.ownership import make_directory
    from drawwell.state.files import replace_file

    if not has_unit(BROKER_UNIT):
        out.say("next, run 'drawwell signer run', then 'drawwell broker run'")
        return
    make_directory(os.path.dirname(_DROP_IN), 0o755)
    replace_file(_DROP_IN, _DROP_IN_TEXT.encode(), 0o644)
    reload_units()
    restart_if_running(SIGNER_UNIT)
    enable_and_restart(BROKER_UNIT)
    out.say(f"{BROKER_UNIT} is running as part of the fleet")


def keep_owner(address: str, store: str) -> None:
    """Write the owner's address, with the CA file of the brokers' address."""
    from psycopg.conninfo import make_conninfo

    from drawwell.fleet.shared_address import read_address
    from drawwell.state.files import replace_file

    ca = read_address(store).get("sslrootcert")
    whole = make_conninfo(address, sslrootcert=ca) if ca else address
    replace_file(OWNER_FILE, whole.encode() + b"\n")
