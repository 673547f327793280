"""Opens the doors' sockets; converts OSErrors to errors with a hint."""

import errno
import ipaddress
import os
import socket
import stat
import struct
import sys
from contextlib import suppress
from typing import Final

from drawwell.errors import ConfigError, DrawwellError, PermissionRefused
from drawwell.ownership import require_ours

BACKLOG: Final = 1024
"""Pending connections in the kernel, which also applies net.core.somaxconn."""
EVERYWHERE: Final = ("", "*")
_UCRED: Final = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7))."""


def credentials(sock: socket.socket) -> tuple[int, int, int]:
    """Return the peer's pid, uid and gid at the time of its connection."""
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid, gid


def listen_tcp(host: str, port: int) -> list[socket.socket]:
    """Listen on all addresses of `host`; ``*`` or ``""`` means every address.

    Raises:
        ConfigError: this machine does not have the address, or the port is in use.
        PermissionRefused: the port is below 1024, and this process may not use it.
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
    """Parse a loopback ``host:port``; `because` is the reason in the error.

    Raises:
        ConfigError: `where` is not a loopback address with a port.
    """
    host, colon, port = where.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535 or not local:
        raise ConfigError(
            f"this door cannot listen on {where}, which is not a loopback address: {because}",
            hint="Use a socket path, 127.0.0.1:PORT or [::1]:PORT.",
        )
    return host, int(port)


def listen_unix(path: str, mode: int) -> socket.socket:
    """Listen on a socket file; replace a file on which no process listens.

    Raises:
        ConfigError: a process listens on the file, the file is not a socket, or its directory
            is missing.
        PermissionRefused: the file cannot be created, or other users can change the path.
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
    """Check that `path` can be a socket; the directory `made` need not exist.

    Raises:
        ConfigError: the path is not a socket, or its directory is missing.
        PermissionRefused: other users can change the path's directories.
    """
    directory = os.path.dirname(path)
    require_ours(directory)
    if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ConfigError(
            f"cannot listen on {path}: it exists and is not a socket",
            hint="Move the file away, or configure another socket path.",
        )
    if directory != made and not os.path.isdir(directory):
        raise _fault(path, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), "")


def check_tcp(host: str) -> None:
    """Check that `host` is an address of this machine.

    Raises:
        ConfigError: this machine does not have the address.
    """
    try:
        for family, address in _addresses(host, 0):
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind(address)
    except OSError as error:
        raise _fault(host, error, "ip address") from None


def listens_at(sock: socket.socket, where: str) -> bool:
    """Return whether a stream socket listens at `where` (TCP: on its port)."""
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    name = sock.getsockname()
    return name == where if isinstance(name, str) else str(name[1]) == where.rpartition(":")[2]


def remove_socket_file(path: str, inode: int) -> None:
    """Remove `path` if it is still the file that we created."""
    try:
        if os.lstat(path).st_ino == inode:
            os.unlink(path)
    except OSError:
        return  # removed, or no longer ours


def describe(sock: socket.socket) -> str:
    """Format the address of a listening socket."""
    name = sock.getsockname()
    if isinstance(name, str):
        return name
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"{host}:{name[1]}"


def loopback_user(sock: socket.socket) -> int | None:
    """Return the user ID of a loopback peer, or None if it is unknown."""
    ends = [_as_listed(*sock.getpeername()[:2]), _as_listed(*sock.getsockname()[:2])]
    table = "/proc/self/net/tcp6" if sock.family == socket.AF_INET6 else "/proc/self/net/tcp"  # proc(5)
    with suppress(OSError), open(table, encoding="ascii") as lines:
        for fields in map(str.split, lines):
            if fields[1:3] == ends:
                return int(fields[7])
    return None


def _as_listed(host: str, port: int) -> str:
    """Format an address as in /proc/net: 32-bit words in native byte order."""
    packed = ipaddress.ip_address(host).packed
    parts = (int.from_bytes(packed[at : at + 4], sys.byteorder) for at in range(0, len(packed), 4))
    return f"{''.join(f'{part:08X}' for part in parts)}:{port:04X}"


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
            pass  # a process listens, but is too busy to answer
    raise ConfigError(
        f"cannot listen on {path}: another process listens there",
        hint=f"Find the process with 'ss -lxp src {path}' and stop it, or configure another socket path.",
    )


def _fault(where: str, error: OSError, find: str) -> DrawwellError:
    reason = (error.strerror or str(error)).lower()
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"cannot listen on {where}: in use",
            hint=f"Find the process with '{find}', or configure another address.",
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return PermissionRefused(
            f"cannot listen on {where}: {reason}",
            hint="Use a port above 1023, or set run_dir in [broker] to a directory that this user can write to.",
        )
    return ConfigError(
        f"cannot listen on {where}: {reason}",
        hint="Configure an address of this machine (see 'ip address'), * for all, or a path in an existing directory.",
    )
