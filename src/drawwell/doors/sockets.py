"""Opening what a door listens on, with an error that says what to do. OSError is translated here."""

import errno
import ipaddress
import os
import socket
import stat
import struct
from typing import Final

from drawwell.errors import ConfigError, DrawwellError, PermissionRefused
from drawwell.ownership import require_ours

BACKLOG: Final = 1024
"""Connections that the kernel may hold for us; it takes the lesser of this and net.core.somaxconn."""
EVERYWHERE: Final = ("", "*")
_UCRED: Final = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7))."""


def credentials(sock: socket.socket) -> tuple[int, int, int]:
    """Ask the kernel for pid, uid and gid of whoever is at the other end, as they were when he connected."""
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid, gid


def listen_tcp(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of `host`; ``*`` or ``""`` is all of them, IPv6 and IPv4.

    Raises:
        ConfigError: no such address here, or the port is taken.
        PermissionRefused: a port below 1024 without the right to it.
    """
    opened: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            both = host in EVERYWHERE and family == socket.AF_INET6
            opened.append(socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=both))
    except OSError as error:
        for sock in opened:
            sock.close()
        raise _fault(f"{host or '*'}:{port}", error, f"ss -ltnp 'sport = :{port}'") from None
    return opened


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    if host in EVERYWHERE:
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        return [(family, ("", port))]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, (str(address[0]), port)) for family, *_, address in found))


def loopback_address(where: str, because: str) -> tuple[str, int]:
    """Read the ``host:port`` of a door that must not be reached from elsewhere, `because` of what it does.

    Raises:
        ConfigError: not a loopback address and a port.
    """
    host, colon, port = where.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535 or not local:
        raise ConfigError(
            f"cannot serve on {where}, only on this machine: {because}",
            hint="Use a socket path, 127.0.0.1:PORT or [::1]:PORT.",
        )
    return host, int(port)


def listen_unix(path: str, mode: int) -> socket.socket:
    """Listen on a socket file; one that a dead process left is replaced, one that answers is not.

    Raises:
        ConfigError: somebody answers there, or something else lies there, or there is no such directory.
        PermissionRefused: no right to make it, or others may change what leads there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~mode)
    try:
        check_unix(path)
        _clear_stale(path)
        sock.bind(path)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _fault(path, error, f"ss -lxp src {path}") from None
    except DrawwellError:
        sock.close()
        raise
    finally:
        os.umask(before)
    sock.setblocking(False)
    return sock


def check_unix(path: str, *, made: str = "") -> None:
    """Check that a socket file may be made at `path`; its directory may be missing if it is `made`.

    Raises:
        ConfigError: another file is there, or there is no such directory.
        PermissionRefused: other users may change what leads there.
    """
    directory = os.path.dirname(path)
    require_ours(directory)
    if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ConfigError(
            f"cannot listen on {path}: it exists and is no socket",
            hint="Move the file away or set another socket path.",
        )
    if directory != made and not os.path.isdir(directory):
        raise _fault(path, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), "")


def check_tcp(host: str) -> None:
    """Check that `host` is an address of this machine, whichever ports of it are free.

    Raises:
        ConfigError: it is not.
    """
    try:
        for family, address in _addresses(host, 0):
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind(address)
    except OSError as error:
        raise _fault(host, error, "ip address") from None


def listens_at(sock: socket.socket, where: str) -> bool:
    """Is that a listening stream socket at `where`, a path or ``host:port``? Of the latter the port is compared."""
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    name = sock.getsockname()
    return name == where if isinstance(name, str) else str(name[1]) == where.rpartition(":")[2]


def remove_socket_file(path: str, inode: int) -> None:
    """Remove `path` where it still is the file that we made."""
    try:
        if os.lstat(path).st_ino == inode:
            os.unlink(path)
    except OSError:
        return  # gone already, or not ours to remove any more


def describe(sock: socket.socket) -> str:
    """Write the address of a listening socket as people type it."""
    name = sock.getsockname()
    if isinstance(name, str):
        return name
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"{host}:{name[1]}"


def _clear_stale(path: str) -> None:
    if not os.path.lexists(path):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except (TimeoutError, BlockingIOError):
            pass  # a listener that is too busy to answer is a listener
    raise ConfigError(
        f"cannot listen on {path}: another process answers there",
        hint=f"Stop it (find it with: ss -lxp src {path}) or set another socket path.",
    )


def _fault(where: str, error: OSError, find: str) -> DrawwellError:
    reason = (error.strerror or str(error)).lower()
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"cannot listen on {where}: in use", hint=f"Find who has it with: {find}; or set another one."
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return PermissionRefused(
            f"cannot listen on {where}: {reason}",
            hint="Use a port above 1023, or set [broker] run_dir to a directory that this user may write.",
        )
    return ConfigError(
        f"cannot listen on {where}: {reason}",
        hint="Set an address that this machine has (ip address), or * for all; or a path whose directory exists.",
    )
