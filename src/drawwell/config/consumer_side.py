"""The settings of whoever draws: the kernel's feed, brokers elsewhere and other sinks."""

from dataclasses import dataclass, field

from drawwell.config.addresses import SshAddress, parse_ssh_address
from drawwell.config.fields import setting
from drawwell.config.values import (
    PATH,
    BrokerUrl,
    Choice,
    Duration,
    Flag,
    HostPort,
    Number,
    Size,
    Text,
    Whole,
    parse_host_port,
)


@dataclass(frozen=True, slots=True)
class KernelSection:
    """The feed of this machine's kernel; it needs CAP_SYS_ADMIN."""

    feed: bool = setting(
        Flag(),
        False,
        what="Feed the running kernel's generator. A drawwell-kernel.service that is enabled feeds it unless this is "
        "written as false.",
        why="It mixes a source that you chose into what every program on this machine gets. It never makes it worse.",
        example="true",
    )
    credit: float | None = setting(
        Number(0, 8),
        default_is="8.0 while every source is a noise device whose firmware, if it can show any, is verified; 0.0 for "
        "a FIFO, driver exec, an unknown serial device, virtio's /dev/hwrng, unverified firmware and an [[upstream]]",
        what="How many bits of entropy per byte the kernel is told to believe. Simulated and replayed bytes and those "
        "of a generator are credited 0 whatever this says.",
        why="A kernel with the 256-bit pool acts on it until it is seeded, an older one as long as it asks. Credit "
        "bytes of unknown origin only if you know their source, and trust the way from it as you trust this machine.",
        example="0.0",
    )
    interval: float = setting(
        Duration(1, 86400),
        "60s",
        what="How often the kernel is fed.",
        why="A pool of 256 bits is full with one feed: feeding it faster adds load and nothing else. An older kernel "
        "is fed when it asks.",
        example='"5min"',
    )
    amount: int = setting(
        Size(32, 4096),
        64,
        key="bytes",
        what="How many bytes each feed is.",
        why="The pool is full with 32 bytes; more is margin.",
        example="32",
    )
    uid: int | None = field(default=None)
    """The number of the user that feeds it where that is a unit of its own; found when the configuration is read."""


@dataclass(frozen=True, slots=True)
class UpstreamSection:
    """A broker to draw from, one table each; the first that answers is used. ``drawwell join`` writes one."""

    url: str = setting(
        BrokerUrl(),
        required=True,
        what="The broker's address.",
        why="Name a second broker and draws go on when the first is down.",
        example='"tls://well.example.org:55000"',
    )
    identity: str = setting(
        Text(r"/.*|[A-Za-z0-9][A-Za-z0-9._:-]*", "the name of a link, or the absolute path of a directory"),
        default_is="the one that joined the broker of that url; what ssh's own configuration says; none for unix",
        what="Which identity to show: the name of a link made by join, or a directory with ca.pem, cert.pem, key.pem; "
        "for ssh the file of a private key.",
        why="Needed when the link was joined under another name, or the certificate is your own PKI's.",
        example='"well-1"',
    )

    @property
    def remote(self) -> bool:
        """Is the broker reached over the network?"""
        return not self.url.startswith("unix://")

    @property
    def joined(self) -> bool:
        """Is the broker shown a certificate, which must be kept renewed?"""
        return self.url.startswith("tls://")

    @property
    def address(self) -> HostPort | SshAddress | str:
        """Host and port of a ``tls`` broker, where an ``ssh`` one is, path of a ``unix`` one."""
        scheme, _, rest = self.url.partition("://")
        if scheme == "tls":
            return parse_host_port(rest)
        return parse_ssh_address(rest) if scheme == "ssh" else rest


@dataclass(frozen=True, slots=True)
class LinksSection:
    """How the brokers of [[upstream]] are used together."""

    mix: int = setting(
        Whole(1, 8),
        1,
        what="So many brokers' bytes are XORed in every draw, each broker on its own hardware.",
        why="With 2, a broker that lies, leaks or is broken learns and fixes nothing; a draw then needs both.",
        example="2",
    )


@dataclass(frozen=True, slots=True)
class SinkSection:
    """Where else to pour what is drawn, one table each. The kernel has its own table, [kernel]."""

    kind: str = setting(
        Choice(("fifo", "file", "stdout")),
        required=True,
        what="A FIFO for a program that reads one, a file, or standard output.",
        why="For programs that cannot draw themselves.",
        example='"fifo"',
    )
    path: str = setting(
        PATH,
        default_is="none, must be given for fifo and file",
        what="The FIFO or the file.",
        why="A FIFO is made if it is not there; nothing is drawn until somebody reads it.",
        example='"/run/drawwell/noise.fifo"',
    )
    draw_class: str = setting(
        Choice(("full", "drbg")),
        "full",
        key="class",
        what="The class of what is poured.",
        why="Take drbg for a reader that wants megabytes.",
        example='"drbg"',
    )
    chunk: int = setting(
        Size(1, 65536),
        "4KiB",
        what="How much is drawn at a time.",
        why="Smaller keeps less in flight; larger costs less per byte.",
        example='"512B"',
    )
