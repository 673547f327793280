"""Checks for all errors that would stop a run, without side effects.

`drawwell run` starts with these checks, and `drawwell config check` does nothing else.
"""

import os
import shutil
import stat
from collections.abc import Iterator

from drawwell.config.model import Config
from drawwell.config.values import HostPort
from drawwell.doors.sockets import check_tcp, check_unix
from drawwell.enrolment.key_files import RECEIPT_KEY, check_keys, read_receipt_key
from drawwell.errors import ConfigError
from drawwell.host.openssl import check_post_quantum
from drawwell.links.identity import CA, CERTIFICATE, KEY, LINKS
from drawwell.ownership import require_ours, rights_of_owner
from drawwell.roles.make_driver import make_driver
from drawwell.roles.make_links_and_sinks import identity_directory, make_upstream
from drawwell.state.inspection import require_openable
from drawwell.wire.contexts import server_context


def require_runnable(config: Config, *, apart: bool = False) -> None:
    """Raise the error with which a run of this configuration would fail.

    A broker is checked with the permissions of the user that owns its state.

    Args:
        config: The configuration to run.
        apart: Whether the broker's sources run in their own processes.

    Raises:
        ConfigError, PermissionRefused, StateUnavailable: the same as a run would raise.
    """
    if config.tls.require_pq:
        check_post_quantum()
    if not apart:
        _check_sources(config)
    with rights_of_owner(config.broker.state_dir):
        if config.serves or apart:
            _check_state(config)
            _check_doors(config)
        if config.has_sinks:
            _check_upstreams(config)
    _check_sinks(config)


def _check_sources(config: Config) -> None:
    for source in config.sources:
        make_driver(source)
        program = shutil.which(source.command[0]) if source.command else None
        for path in filter(None, (program, source.firmware_key)):
            require_ours(path)


def _check_state(config: Config) -> None:
    state = config.broker.state_dir
    require_ours(state, alone=True)
    for log in filter(None, (config.audit.path, config.audit.operators_path)):
        if os.path.exists(log):
            require_ours(log)
        else:
            require_ours(os.path.dirname(log), alone=True)
    receipt_key, pki = os.path.join(state, RECEIPT_KEY), os.path.join(state, "pki")
    require_ours(os.path.join(state, "broker.db"))
    require_openable(os.path.join(state, "broker.db"))
    require_ours(os.path.join(pki, "server-key.pem"), secret=True)
    if os.path.exists(receipt_key):
        read_receipt_key(receipt_key)
    if not config.pki.ca:
        check_keys(pki)


def _check_doors(config: Config) -> None:
    require_ours(config.broker.run_dir)
    for place in _listens_at(config):
        if isinstance(place, HostPort):
            check_tcp(place.host)
        else:
            check_unix(place, made=config.broker.run_dir)
    if config.tls.listen and config.pki.ca:
        server_context(config.pki.certificate, config.pki.key, config.pki.ca)


def _listens_at(config: Config) -> Iterator[HostPort | str]:
    network = (config.tls.listen, config.enrol.listen, config.http.listen, config.health.listen)
    yield from filter(None, (*network, *(egd.listen for egd in config.egds)))
    yield from (config.unix.path, config.control.path)
    if config.ssh.user:
        yield config.ssh.path
    if config.broker.deposits:
        yield config.broker.source_socket


def _check_upstreams(config: Config) -> None:
    links_dir = os.path.join(config.broker.state_dir, LINKS)
    for upstream in config.upstreams:
        make_upstream(upstream, links_dir)
        if isinstance(upstream.address, HostPort):
            directory = identity_directory(upstream, links_dir)
            with rights_of_owner(directory):
                for name in (CERTIFICATE, CA):
                    require_ours(os.path.join(directory, name))
                require_ours(os.path.join(directory, KEY), secret=True)


def _check_sinks(config: Config) -> None:
    for sink in config.sinks:
        if not sink.path:
            continue
        require_ours(os.path.dirname(os.path.realpath(sink.path)), alone=True)
        is_fifo = stat.S_ISFIFO(os.stat(sink.path).st_mode) if os.path.exists(sink.path) else None
        if sink.kind == "fifo" and is_fifo is False:
            raise ConfigError(f"{sink.path} is not a FIFO", hint="Set an unused path.")
