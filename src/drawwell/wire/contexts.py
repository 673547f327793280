"""What both ends demand of TLS. Reads the files that it is named: ssl takes a key from nowhere else.

TLS 1.3 only, both sides with a certificate, ALPN, no session tickets (a resumed session would skip the registry).
"""

import ssl
from typing import Final

from drawwell.errors import ConfigError
from drawwell.ownership import require_ours
from drawwell.wire.http_session import HTTP_ALPN
from drawwell.wire.limits import ALPN

X509_V_FLAG_NO_CHECK_TIME: Final = 0x200000
"""openssl/x509_vfy.h; ssl has no name for it."""


def server_context(certificate: str, key: str, ca: str, *, renews: bool = False) -> ssl.SSLContext:
    """Make a broker's context from three PEM files: its chain, its key, the CAs of its consumers.

    Where the broker `renews` certificates, a client's dates are not judged by OpenSSL but by the registry, after
    the handshake: one that ran out may still ask for a new one. Everything else about it is judged here.

    Raises:
        ConfigError: a file cannot be read, is not what it should be, or key and certificate do not match.
        PermissionRefused: others may change one of them, or read the key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    if renews:
        context.verify_flags |= ssl.VerifyFlags(X509_V_FLAG_NO_CHECK_TIME)
    context.num_tickets = 0
    context.set_alpn_protocols([ALPN, HTTP_ALPN])
    return _completed(context, certificate, key, ca)


def client_context(certificate: str, key: str, ca: str, *, dated: bool = True) -> ssl.SSLContext:
    """Make a consumer's context from three PEM files: its chain, its key, the CA of its broker.

    The broker's name is looked for among its certificate's subject alternative names, and nowhere else. Unless it is
    `dated`, dates are not judged: for a machine whose clock is not set.

    Raises:
        ConfigError, PermissionRefused: as for `server_context`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    if not dated:
        context.verify_flags |= ssl.VerifyFlags(X509_V_FLAG_NO_CHECK_TIME)
    context.set_alpn_protocols([ALPN])
    return _completed(context, certificate, key, ca)


def _completed(context: ssl.SSLContext, certificate: str, key: str, ca: str) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    for path in (certificate, ca):
        require_ours(path)
    require_ours(key, secret=True)
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise _fault("CA file", ca, error) from None
    for path in (certificate, key):
        _readable(path)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        raise _fault("certificate and key", f"{certificate}, {key}", error) from None
    return context


def _readable(path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise _fault("file", path, error) from None


def _no_password() -> str:
    """Keep OpenSSL from asking for a passphrase on the terminal: an empty one opens no encrypted key."""
    return ""


def _fault(what: str, where: str, error: OSError) -> ConfigError:
    reason = error.strerror or str(error)
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "not PEM").replace("_", " ").lower()
    return ConfigError(
        f"{what} {where}: {reason[:1].lower()}{reason[1:]}",
        hint="Name PEM files that this user may read: a certificate, its own key without passphrase, and the CA.",
    )
