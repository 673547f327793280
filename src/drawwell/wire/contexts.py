"""TLS contexts of both ends, created from files.

They require TLS 1.3, certificates on both sides, and ALPN. Session tickets are disabled,
because a resumed session would bypass the registry.
"""

import ssl
from typing import Final

from drawwell.errors import ConfigError
from drawwell.ownership import require_ours
from drawwell.wire.http_session import HTTP_ALPN
from drawwell.wire.limits import ALPN

X509_V_FLAG_NO_CHECK_TIME: Final = 0x200000
"""From openssl/x509_vfy.h; the ssl module does not define it."""


def server_context(certificate: str, key: str, ca: str, *, renews: bool = False) -> ssl.SSLContext:
    """Create a broker's context from PEM files: chain, key, consumers' CAs.

    If `renews` is true, OpenSSL does not check the dates of a client's certificate. The
    registry checks them after the handshake, because an expired certificate can be renewed.

    Raises:
        ConfigError: a file cannot be read or parsed, or key and certificate do not match.
        PermissionRefused: other users can write one of the files, or read the key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    if renews:
        context.verify_flags |= ssl.VerifyFlags(X509_V_FLAG_NO_CHECK_TIME)
    context.num_tickets = 0
    context.set_alpn_protocols([ALPN, HTTP_ALPN])
    return _completed(context, certificate, key, ca)


def client_context(certificate: str, key: str, ca: str, *, dated: bool = True) -> ssl.SSLContext:
    """Create a consumer's context from PEM files: chain, key, broker's CA.

    Only the subject alternative names of the broker's certificate count. If `dated` is false,
    dates are not checked, because the machine's clock is not set.

    Raises:
        ConfigError, PermissionRefused: for the same reasons as `server_context`.
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
    """Return an empty passphrase, to keep OpenSSL from prompting for one."""
    return ""


def _fault(what: str, where: str, error: OSError) -> ConfigError:
    reason = error.strerror or str(error)
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "not PEM").replace("_", " ").lower()
    return ConfigError(
        f"cannot use {what} {where}: {reason[:1].lower()}{reason[1:]}",
        hint="Configure PEM files that this user can read: a certificate, its key without passphrase, and the CA.",
    )
