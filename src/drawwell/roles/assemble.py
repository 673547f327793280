"""From the configuration's words to drivers, rules and sinks."""

import os
import ssl

from drawwell.config.addresses import SshAddress
from drawwell.config.drawing import SinkSection, UpstreamSection
from drawwell.config.kinds import HostPort
from drawwell.config.model import Config
from drawwell.config.serving import SourceSection
from drawwell.drivers.chardev import CharDeviceSource
from drawwell.drivers.execute import ExecSource
from drawwell.drivers.onerng import OneRngSource
from drawwell.drivers.replay import ReplaySource
from drawwell.entropy.health import NoiseClaim
from drawwell.errors import ConfigError, StateUnavailable, UsageError
from drawwell.links.identity import CA, CERTIFICATE, KEY, load_all
from drawwell.links.ssh import SshLink
from drawwell.links.tls import TlsLink
from drawwell.links.unix import UnixLink
from drawwell.ports import NoiseSource, Sink, Upstream
from drawwell.sinks.fifo import FifoSink
from drawwell.sinks.file import FileSink
from drawwell.sinks.stdout import StdoutSink
from drawwell.wire.contexts import client_context

ONERNG_MIN_ENTROPY = 6.0
"""Bits a byte, until the owner has assessed his own stick; its documented bias gives 6.9 and more."""


def make_driver(section: SourceSection) -> tuple[NoiseSource, NoiseClaim]:
    """Return the driver of one [[source]], and what its noise is assessed at."""
    one_bit_samples = section.driver == "onerng"  # packed by the byte: what is claimed holds for every bit
    claim = NoiseClaim(
        ONERNG_MIN_ENTROPY if section.min_entropy is None else section.min_entropy, bits=one_bit_samples
    )
    return _driver(section), claim


def _driver(section: SourceSection) -> NoiseSource:
    name, path = section.name, section.path
    match section.driver:
        case "onerng":
            return OneRngSource(
                name, path=path, mode=section.mode, verify=section.verify_firmware, stall_s=section.stall
            )
        case "chardev":
            return CharDeviceSource(
                name,
                path,
                stall_s=section.stall,
                allow_os_generator=section.allow_os_generator,
            )
        case "exec":
            return ExecSource(name, section.command, stall_s=section.stall)
        case "replay":
            return ReplaySource(name, path, loop=section.loop)
    raise ConfigError(f"source {name}: no driver is called {section.driver!r}")


def pick_source(config: Config, wanted: str | None) -> SourceSection:
    """Return the configured source with that name or path; a device node that nobody configured is a OneRNG.

    Raises:
        UsageError: nothing of that name, or several and none named.
    """
    for section in config.sources:
        if wanted in {section.name, section.path} or (wanted is None and len(config.sources) == 1):
            return section
    if wanted and wanted.startswith("/"):
        return SourceSection(name="onerng", path=wanted)
    names = ", ".join(section.name for section in config.sources) or "none"
    raise UsageError(
        f"no source {wanted!r}" if wanted else "which source?", hint=f"Configured sources: {names}."
    )


def make_upstream(section: UpstreamSection, links_dir: str) -> Upstream:
    """Return the link to one [[upstream]]; the identities that joined are below `links_dir`.

    Raises:
        StateUnavailable: no such identity.
    """
    address = section.address
    if isinstance(address, HostPort):
        return tls_link(identity_directory(section, links_dir), address)
    if isinstance(address, SshAddress):
        return SshLink(
            section.url, address.host, user=address.user, port=address.port, identity=section.identity
        )
    return UnixLink(address)


def identity_directory(section: UpstreamSection, links_dir: str) -> str:
    """Return where the identity is that a ``tls`` upstream is shown; raises as `make_upstream`."""
    if section.identity.startswith("/"):
        return section.identity
    if section.identity:
        return os.path.join(links_dir, section.identity)
    wanted = section.url.removeprefix("tls://")
    for identity in load_all(links_dir):
        if wanted in identity.addresses:
            return identity.directory
    raise StateUnavailable(
        f"no identity for {section.url} in {links_dir}", hint="Join that broker: 'drawwell join TOKEN'."
    )


def tls_link(directory: str, address: HostPort) -> TlsLink:
    """Return a link that shows the identity in `directory`, read anew for each connection."""

    def context() -> ssl.SSLContext:
        certificate, key, ca = (os.path.join(directory, name) for name in (CERTIFICATE, KEY, CA))
        return client_context(certificate, key, ca)

    return TlsLink(address.host, address.port, context=context)


def make_sink(section: SinkSection) -> Sink:
    """Return the sink of one [[sink]]."""
    match section.kind:
        case "fifo":
            return FifoSink(section.path, chunk_bytes=section.chunk)
        case "file":
            return FileSink(section.path, chunk_bytes=section.chunk)
    return StdoutSink(chunk_bytes=section.chunk)
