"""Restrict OpenSSL to the post-quantum key exchange.

OpenSSL reads its configuration once, at load time, and ignores unknown groups. The process
therefore restarts with $OPENSSL_CONF set and then checks its own first handshake message.
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
    """Return this process's key-exchange groups in order of preference."""
    return tuple(map(group_name, offered_groups(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))))


def check_post_quantum(version: tuple[int, ...] = ssl.OPENSSL_VERSION_INFO) -> None:
    """Check that this OpenSSL has X25519MLKEM768.

    Raises:
        ConfigError: the version is too old.
    """
    if version[:2] < FIRST_VERSION:
        raise ConfigError(
            f"[tls] require_pq requires OpenSSL 3.5 or later, but this Python has {ssl.OPENSSL_VERSION}",
            hint="Use a Python with a newer OpenSSL. To use TLS 1.3 with x25519 instead, set require_pq = false.",
        )


def require_post_quantum(
    *,
    version: tuple[int, ...] = ssl.OPENSSL_VERSION_INFO,
    groups: Callable[[], tuple[str, ...]] = offered,
    environ: Mapping[str, str] = os.environ,
    restart: Exec = os.execve,
) -> None:
    """Require X25519MLKEM768 as the only group; restart if needed.

    Raises:
        ConfigError: this OpenSSL lacks the group or ignores our configuration.
    """
    if groups() == (group_name(X25519MLKEM768),):
        return
    check_post_quantum(version)
    if environ.get(_VARIABLE) == CONFIGURATION:
        raise ConfigError(
            f"OpenSSL offers {', '.join(groups())} although {_VARIABLE} is {CONFIGURATION}",
            hint="Set require_pq = false, or report this with the output of 'drawwell --version'.",
        )
    restart(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**environ, _VARIABLE: CONFIGURATION})
