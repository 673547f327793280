"""Defaults that depend on the machine or on other settings."""

import os
import pwd
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from drawwell.config.broker_side import BrokerSection, ConsumerSection, SourceSection
from drawwell.config.drivers import DRIVERS
from drawwell.config.model import DEFAULT, Config
from drawwell.config.values import HostPort

ENROL_PORT: Final = 55001
SYSTEM_RUN_DIR: Final = "/run/drawwell"
"""The directory of root's sockets, also for users without a broker of their own."""
SOURCE_USER: Final = "drawwell-source"
"""The package's user account for noise sources."""
KERNEL_USER: Final = "drawwell-kernel"
"""The package's user account for the kernel feed."""
BROKER_USER: Final = "drawwell"
"""The package's user account for the broker and the link."""
LOCAL: Final = "local"
"""The consumer for root and the broker's own user."""


def uid_of(user: str) -> int | None:
    if user.isdecimal():
        return int(user) if len(user) <= 10 else None
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Facts for the defaults; `uid_of` returns a user's ID, or None."""

    host_name: str
    uid: int
    home: str
    environ: Mapping[str, str]
    uid_of: Callable[[str], int | None] = uid_of
    exists: Callable[[str], bool] = os.path.exists

    @classmethod
    def here(cls) -> "HostFacts":
        """Return the facts of this machine and process."""
        return cls(os.uname().nodename, os.geteuid(), os.path.expanduser("~"), dict(os.environ))


def complete(config: Config, machine: HostFacts) -> Config:
    """Return the configuration with all defaults filled in."""
    broker = _broker(config.broker, machine)
    elsewhere = config.upstreams or broker.deposits
    sources = config.sources or (() if elsewhere else (SourceSection(),))
    consumers = tuple(
        replace(
            each,
            name=each.name or "",
            match=each.match or "",
            user=each.user or "",
            uid=_uid(each.user, machine),
        )
        for each in config.consumers
    )
    if (sources or broker.deposits) and all(each.name != LOCAL for each in consumers):
        consumers = (*consumers, ConsumerSection(name=LOCAL, match="", user=""))
    listen = config.enrol.listen
    if config.origin("enrol.listen") == DEFAULT and config.tls.listen and not config.pki.ca:
        listen = HostPort(config.tls.listen.host, ENROL_PORT)
    pki, ssh, audit, signer = config.pki, config.ssh, config.audit, config.signer
    return replace(
        config,
        broker=broker,
        sources=tuple(map(_source, sources)),
        unix=replace(config.unix, path=config.unix.path or os.path.join(broker.run_dir, "draw.sock")),
        control=replace(
            config.control, path=config.control.path or os.path.join(broker.run_dir, "control.sock")
        ),
        tls=replace(config.tls, names=config.tls.names or (_host_name(machine),)),
        enrol=replace(config.enrol, listen=listen),
        pki=replace(pki, ca=pki.ca or "", certificate=pki.certificate or "", key=pki.key or ""),
        signer=replace(
            signer,
            socket=signer.socket or f"{broker.run_dir}-signer/signer.sock",
            dir=signer.dir or f"{broker.state_dir}-signer",
        ),
        ssh=replace(
            ssh,
            user=ssh.user or "",
            uid=_uid(ssh.user, machine),
            path=ssh.path or os.path.join(broker.run_dir, "ssh.sock"),
        ),
        audit=replace(
            audit, path=os.path.join(broker.state_dir, "audit.jsonl") if audit.path is None else audit.path
        ),
        fleet=replace(
            config.fleet,
            name=config.fleet.name or "",
            owner=config.fleet.owner or _owner_file(broker, machine),
        ),
        consumers=consumers,
        kernel=replace(config.kernel, uid=machine.uid_of(KERNEL_USER)),
        upstreams=tuple(replace(each, identity=each.identity or "") for each in config.upstreams),
        sinks=tuple(replace(each, path=each.path or "") for each in config.sinks),
    )


def _owner_file(broker: BrokerSection, machine: HostFacts) -> str:
    return os.path.join(machine.environ.get("CREDENTIALS_DIRECTORY") or broker.state_dir, "fleet-owner")


def _host_name(machine: HostFacts) -> str:
    return re.sub(r"[^A-Za-z0-9._-]|^[^A-Za-z0-9]+", "", machine.host_name)[:63] or "broker"


def _broker(broker: BrokerSection, machine: HostFacts) -> BrokerSection:
    return replace(
        broker,
        name=broker.name or _host_name(machine),
        state_dir=broker.state_dir or _state_dir(machine),
        run_dir=broker.run_dir or _run_dir(machine),
        source_user=broker.source_user or "",
        source_uid=_uid(broker.source_user or SOURCE_USER, machine),
    )


def _state_dir(machine: HostFacts) -> str:
    if given := machine.environ.get("STATE_DIRECTORY", "").split(":")[0]:
        return given
    if machine.uid == 0:
        return "/var/lib/drawwell"
    base = machine.environ.get("XDG_STATE_HOME", "")
    return os.path.join(base if base.startswith("/") else f"{machine.home}/.local/state", "drawwell")


def _run_dir(machine: HostFacts) -> str:
    if given := machine.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]:
        return given
    if machine.uid == 0:
        return SYSTEM_RUN_DIR
    base = machine.environ.get("XDG_RUNTIME_DIR", "")
    # under /tmp, the directory gets mode 0700, and another user's directory is refused
    own = os.path.join(base, "drawwell") if base.startswith("/") else f"/tmp/drawwell-{machine.uid}"  # noqa: S108
    # check for sockets too: the directory might be a leftover
    served = any(machine.exists(f"{SYSTEM_RUN_DIR}/{name}.sock") for name in ("draw", "link"))
    return SYSTEM_RUN_DIR if served and not machine.exists(own) else own


def _source(source: SourceSection) -> SourceSection:
    kind = DRIVERS[source.driver]
    return replace(
        source,
        name=source.name or source.driver,
        path=source.path or kind.path,
        command=source.command or (),
        min_entropy=kind.min_entropy if source.min_entropy is None else source.min_entropy,
    )


def _uid(user: str | None, machine: HostFacts) -> int | None:
    return machine.uid_of(user) if user else None
