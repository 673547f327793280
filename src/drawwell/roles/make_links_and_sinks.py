"""Makes links and sinks from the configuration."""

import os
import ssl

from drawwell.config.addresses import SshAddress
from drawwell.config.consumer_side import SinkSection, UpstreamSection
from drawwell.config.values import HostPort
from drawwell.errors import StateUnavailable
from drawwell.host.clock import clock_is_set
from drawwell.links.identity import CA, CERTIFICATE, KEY, load_all
from drawwell.links.ssh import SshLink
from drawwell.links.tls import TlsLink
from drawwell.links.unix import UnixLink
from drawwell.ownership import rights_of_owner
from drawwell.ports import Sink, Upstream
from drawwell.sinks.fifo import FifoSink
from drawwell.sinks.file import FileSink
from drawwell.sinks.stdout import StdoutSink
from drawwell.wire.contexts import client_context


def make_upstream(section: UpstreamSection, links_dir: str) -> Upstream:
    """Return the link for an [[upstream]], with an identity in `links_dir`.

    Raises:
        StateUnavailable: the identity does not exist.
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
    """Return a ``tls`` upstream's directory; StateUnavailable if missing."""
    if section.identity.startswith("/"):
        return section.identity
    if section.identity:
        return os.path.join(links_dir, section.identity)
    wanted = section.url.removeprefix("tls://")
    for identity in load_all(links_dir):
        if wanted in identity.addresses:
            return identity.directory
    raise StateUnavailable(
        f"no identity for {section.url} in {links_dir}", hint="Join that broker with 'drawwell join'."
    )


def tls_link(directory: str, address: HostPort, server_name: str | None = None) -> TlsLink:
    """Return a link with the identity in `directory`, read at each connection.

    `server_name` is the name in the broker's certificate, by default the address's host.
    """

    def context() -> ssl.SSLContext:
        certificate, key, ca = (os.path.join(directory, name) for name in (CERTIFICATE, KEY, CA))
        with rights_of_owner(directory):
            return client_context(certificate, key, ca, dated=clock_is_set())

    return TlsLink(address.host, address.port, context=context, server_name=server_name)


def make_sink(section: SinkSection) -> Sink:
    """Return the sink of a [[sink]]."""
    match section.kind:
        case "fifo":
            return FifoSink(section.path, chunk_bytes=section.chunk)
        case "file":
            return FileSink(section.path, chunk_bytes=section.chunk)
    return StdoutSink(chunk_bytes=section.chunk)
