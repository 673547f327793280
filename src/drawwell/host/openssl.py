"""Having OpenSSL take no other key exchange than the post-quantum one, which Python cannot ask it for.

OpenSSL reads its configuration once, when it is loaded, and passes over a group that it does not know. So the process
is begun anew with $OPENSSL_CONF set, and then believed only when its own first handshake message says so.
"""

import os
import ssl
import sys
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

from drawwell.errors import ConfigError
from drawwell.wire.hello import X25519MLKEM768, group_name, offered_groups

CONFIGURATION: Final = os.path.join(os.path.dirname(__file__), "post-quantum.cnf")
FIRST_VERSION: Final = (3, 5)
"""The first OpenSSL with X25519MLKEM768 (its NEWS for 3.5)."""
_VARIABLE: Final = "OPENSSL_CONF"

Exec = Callable[[str, list[str], dict[str, str]], NoReturn]


def offered() -> tuple[str, ...]:
    """Return the key-exchange groups that this process offers and takes, the preferred first."""
    return tuple(map(group_name, offered_groups(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))))


def check_post_quantum(version: tuple[int, ...] = ssl.OPENSSL_VERSION_INFO) -> None:
    """Check that this OpenSSL has X25519MLKEM768.

    Raises:
        ConfigError: it is too old.
    """
    if version[:2] < FIRST_VERSION:
        raise ConfigError(
            f"[tls] require_pq needs OpenSSL 3.5 or later, and this Python has {ssl.OPENSSL_VERSION}",
            hint="Use a Python with a newer OpenSSL, or set require_pq = false: TLS 1.3 with x25519 is served then.",
        )


def require_post_quantum(
    *,
    version: tuple[int, ...] = ssl.OPENSSL_VERSION_INFO,
    groups: Callable[[], tuple[str, ...]] = offered,
    environ: Mapping[str, str] = os.environ,
    restart: Exec = os.execve,
) -> None:
    """Return when X25519MLKEM768 is the only group; begin this process anew where that brings it about.

    Raises:
        ConfigError: this OpenSSL has no such group, or does not take our configuration.
    """
    if groups() == (group_name(X25519MLKEM768),):
        return
    check_post_quantum(version)
    if environ.get(_VARIABLE) == CONFIGURATION:
        raise ConfigError(
            f"OpenSSL offers {', '.join(groups())} though {_VARIABLE} names {CONFIGURATION}",
            hint="Set require_pq = false, or report this with the output of 'drawwell --version'.",
        )
    restart(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**environ, _VARIABLE: CONFIGURATION})
