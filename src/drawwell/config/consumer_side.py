"""The settings of the kernel feed, remote brokers and other sinks."""

from dataclasses import field

from drawwell.config.addresses import SshAddress, parse_ssh_address
from drawwell.config.fields import Section, setting
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


class KernelSection(Section):
    """The kernel feed of this machine. It needs CAP_SYS_ADMIN."""

    feed: bool = setting(
        Flag(),
        False,
        what="Feed the random number generator of the running kernel. If drawwell-kernel.service is enabled, it feeds "
        "the kernel unless this key is set to false.",
        why="The kernel mixes your source into the random bytes of all programs. This never weakens them.",
        example="true",
    )
    credit: float | None = setting(
        Number(0, 8),
        default_is="8.0 if every source is a noise device and all readable firmware is verified; 0.0 for a FIFO, "
        "driver exec, an unknown serial device, virtio's /dev/hwrng, unverified firmware and an [[upstream]]",
        what="The bits of entropy that the kernel is credited per byte. Simulated bytes, replayed bytes and bytes "
        "from a generator always earn 0.",
        why="A kernel with the 256-bit pool uses the credit only until it is seeded, an older kernel all the time. "
        "Credit bytes of unknown origin only if you know their source and trust the path from it to this machine.",
        example="0.0",
    )
    interval: float = setting(
        Duration(1, 86400),
        "60s",
        what="The time between two feeds.",
        why="One feed fills a pool of 256 bits, so more frequent feeds only add load. An older kernel is fed when it "
        "requests entropy.",
        example='"5min"',
    )
    amount: int = setting(
        Size(32, 4096),
        64,
        key="bytes",
        what="The number of bytes in each feed.",
        why="A pool is full after 32 bytes; the rest is margin.",
        example="32",
    )
    uid: int | None = field(default=None)
    """The user ID of a separate feed unit, set when the configuration is loaded."""


class UpstreamSection(Section):
    """A remote broker to draw from. Draws use the first broker that answers.

    ``drawwell join`` writes this table.
    """

    url: str = setting(
        BrokerUrl(),
        required=True,
        what="The broker's address.",
        why="Add a second broker, and draws continue when the first is down.",
        example='"tls://well.example.org:55000"',
    )
    identity: str = setting(
        Text(r"/.*|[A-Za-z0-9][A-Za-z0-9._:-]*", "the name of a link, or the absolute path of a directory"),
        default_is="tls: the link that joined the broker at this url; ssh: the configuration of ssh; unix: none",
        what="The identity to present: the name of a link that join created, or a directory with ca.pem, cert.pem and "
        "key.pem. For ssh, a file with a private key.",
        why="Needed if the link was joined under another name, or if your own PKI issued the certificate.",
        example='"well-1"',
    )
    prefer: str = setting(
        Text(r"[A-Za-z0-9._-]{0,63}", "the name of a broker"),
        "",
        what="The name of the broker to try first, if the url leads to a fleet.",
        why="Name the broker at this site. Otherwise, consumers spread over all brokers of the fleet.",
        example='"site-a"',
    )

    @property
    def joined(self) -> bool:
        """Whether the link uses a client certificate, which must be renewed."""
        return self.url.startswith("tls://")

    @property
    def address(self) -> HostPort | SshAddress | str:
        """The host and port (tls), the SSH address (ssh) or the path (unix)."""
        scheme, _, rest = self.url.partition("://")
        if scheme == "tls":
            return parse_host_port(rest)
        return parse_ssh_address(rest) if scheme == "ssh" else rest


class LinksSection(Section):
    """How the brokers in [[upstream]] are combined."""

    mix: int = setting(
        Whole(1, 8),
        1,
        what="The number of brokers whose bytes are XORed in every draw. No two of them may share a device.",
        why="With 2, a dishonest, leaking or faulty broker neither knows nor controls the bytes. Every draw needs two "
        "brokers, and its receipt contains a receipt from each (docs/receipts.md).",
        example="2",
    )


class SinkSection(Section):
    """A sink for drawn bytes, other than the kernel."""

    kind: str = setting(
        Choice(("fifo", "file", "stdout")),
        required=True,
        what="The kind of sink: a FIFO, a file or standard output.",
        why="For programs that cannot draw by themselves.",
        example='"fifo"',
    )
    path: str = setting(
        PATH,
        default_is="none; required for fifo and file",
        what="The path of the FIFO or file.",
        why="A missing FIFO is created. Bytes are drawn only while a process reads the FIFO.",
        example='"/run/drawwell/noise.fifo"',
    )
    draw_class: str = setting(
        Choice(("full", "drbg")),
        "full",
        key="class",
        what="The class of the drawn bytes.",
        why="Choose drbg for a reader that needs megabytes.",
        example='"drbg"',
    )
    chunk: int = setting(
        Size(1, 65536),
        "4KiB",
        what="The number of bytes in each draw.",
        why="Small draws keep fewer bytes in flight. Large draws need less work per byte.",
        example='"512B"',
    )
