"""From the configuration's words to links and sinks."""

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
        with rights_of_owner(directory):
            return client_context(certificate, key, ca, dated=clock_is_set())

    return TlsLink(address.host, address.port, context=context)


def make_sink(section: SinkSection) -> Sink:
    """Return the sink of one [[sink]]."""
    match section.kind:
        case "fifo":
            return FifoSink(section.path, chunk_bytes=section.chunk)
        case "file":
            return FileSink(section.path, chunk_bytes=section.chunk)
    return StdoutSink(chunk_bytes=section.chunk)
