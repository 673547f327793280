"""The settings of the broker, its noise sources and its consumers."""

import os
from dataclasses import field
from typing import Final

from drawwell.config.drivers import DRIVERS, ONE_SHOT, ONERNG, STREAM, defaults, reads
from drawwell.config.fields import Section, setting
from drawwell.config.values import (
    CONSUMER,
    NAME,
    PATH,
    Choice,
    Duration,
    Flag,
    Mark,
    Number,
    Rate,
    Size,
    Text,
    Texts,
    Whole,
)
from drawwell.units import Allowance

MAX_SOURCES: Final = 32
"""The most names that fit into a receipt of 16,384 bytes (crypto/receipt_form.py)."""
PACKED_BITS: Final = "packed-bits"
TALK = r"(send|expect) ([0-9a-fA-F]{2} ?)+|(skip|knock) [1-9][0-9]{0,6}|wait [0-9.]+(ms|s)"
TALK_RANGE = "a step such as 'send 0d0a', 'expect 4f4b', 'skip 16', 'knock 110' or 'wait 100ms'"


class BrokerSection(Section):
    """The broker: its name, its reservoir and its directories."""

    name: str = setting(
        NAME,
        default_is="the host name",
        what="The broker's name in reports, in receipts and in its certificate.",
        why="Set it if several brokers serve the same consumers: a receipt then shows which broker signed it.",
        example='"well-1"',
    )
    min_sources: int = setting(
        Whole(1, MAX_SOURCES),
        1,
        what="The number of devices that each byte comes from. The broker XORs the conditioned output of this many "
        "sources. It serves nothing while fewer sources are healthy.",
        why="With 2 or more, a faulty or malicious device does no harm as long as one of the others is good. "
        "Two devices together are as fast as the slower one.",
        example="2",
    )
    reservoir: int = setting(
        Size(4096, 2**30),
        "256KiB",
        what="The amount of full entropy that the broker keeps ready.",
        why="A large reservoir covers a replug or a burst of draws. A small one limits what can be stolen from it.",
        example='"1MiB"',
    )
    low_mark: int | str = setting(
        Mark(),
        "50%",
        what="The sources start to fill the reservoir when it drops below this level.",
        why="A higher mark keeps more bytes in reserve. A lower mark lets the device rest longer.",
        example='"64KiB"',
    )
    high_mark: int | str = setting(
        Mark(),
        "100%",
        what="The sources stop filling the reservoir when it reaches this level.",
        why="A mark below 100% leaves room for the block in progress, so that none of it is discarded.",
        example='"90%"',
    )
    max_draw: int = setting(
        Size(1, 65536),  # 2^19 bits, the most that one DRBG request returns (SP 800-90A r1, table 3)
        "64KiB",
        what="The largest single draw.",
        why="It limits how much one request can take away from other consumers. Larger needs take several draws.",
        example='"16KiB"',
    )
    reseed_interval: float = setting(
        Duration(1, 30 * 86400),
        "1h",
        what="The longest time before a consumer's DRBG is reseeded from the reservoir.",
        why="A shorter interval makes a stolen DRBG state useless sooner, but uses more of the reservoir.",
        example='"10min"',
    )
    state_dir: str = setting(
        PATH,
        default_is="$STATE_DIRECTORY under systemd, /var/lib/drawwell as root, else $XDG_STATE_HOME/drawwell",
        what="The directory for quotas, consumers, certificates and identities. Entropy is never written to it.",
        why="Quotas are written here before bytes are served, so use a local disk.",
        example='"/srv/drawwell"',
    )
    run_dir: str = setting(
        PATH,
        default_is="$RUNTIME_DIRECTORY under systemd; /run/drawwell for root, and also for users without their own "
        "broker if a broker serves there; else $XDG_RUNTIME_DIR/drawwell, else /tmp/drawwell-UID",
        what="The directory for the sockets.",
        why="Mount this directory into a container to let the container draw.",
        example='"/run/drawwell-test"',
    )

    deposits: bool = setting(
        Flag(),
        False,
        what="Accept deposits from noise sources that run in separate processes ('drawwell source run').",
        why="Then no process has access to both the device and the network. A broker without a [[source]] table "
        "waits for the first source process to connect.",
        example="true",
    )
    source_user: str = setting(
        Text(r"[A-Za-z0-9_][A-Za-z0-9_.$-]{0,31}", "a user's name or number"),
        default_is="drawwell-source if that user exists, else none",
        what="The user account of the source processes. This user, root and the broker's own user may deposit.",
        why="A process that may deposit determines the bytes of all consumers, so use a dedicated account.",
        example='"drawwell-source"',
    )
    source_uid: int | None = field(default=None)
    """The user ID of `source_user`, set when the configuration is loaded."""

    @property
    def link_socket(self) -> str:
        """The socket of the link process, which connects to remote brokers."""
        return f"{self.run_dir}/link.sock"

    @property
    def feed_report(self) -> str:
        """The report of the kernel feed, in a directory of the feed's user."""
        return f"{self.run_dir}-kernel/feed.json"

    @property
    def source_socket(self) -> str:
        """The socket for deposits."""
        return f"{self.run_dir}/source.sock"

    @property
    def low_mark_bytes(self) -> int:
        """The low mark in bytes."""
        return _mark_bytes(self.low_mark, self.reservoir)

    @property
    def high_mark_bytes(self) -> int:
        """The high mark in bytes."""
        return _mark_bytes(self.high_mark, self.reservoir)


def _mark_bytes(mark: int | str, reservoir_bytes: int) -> int:
    return mark if isinstance(mark, int) else reservoir_bytes * int(mark[:-1]) // 100


class SourceSection(Section):
    """A noise source. By default, drawwell uses the first OneRNG found."""

    name: str = setting(
        NAME,
        default_is="the driver's name",
        what="The source's name in reports and on the command line.",
        why="Name the sources if two of them use the same driver.",
        example='"stick-1"',
    )
    driver: str = setting(
        Choice(tuple(DRIVERS)),
        ONERNG,
        what=f"How the source is read: {reads()}.",
        why="Driver chardev reads /dev/hwrng, TrueRNG, NeuG and similar devices. Driver replay is only for tests.",
        example='"chardev"',
    )
    path: str = setting(
        Text(r"auto|/.*", '"auto" or an absolute path'),
        default_is=defaults("path", lambda kind: f'"{kind.path}"' if kind.path else ""),
        what='The device, FIFO or file to read. "auto" finds the OneRNG if exactly one is plugged in.',
        why="With several OneRNGs, use a path under /dev/serial/by-path: replugging does not change it.",
        example='"/dev/hwrng"',
    )
    command: tuple[str, ...] = setting(
        Texts(Text(range="any non-empty string"), "a program and its arguments, one string each", at_least=1),
        default_is="none; required for driver exec",
        what="The program that writes noise to its standard output, with its arguments. No shell is used.",
        why="For devices that have their own reader program, such as infnoise.",
        example='["infnoise", "--raw"]',
    )
    manner: str = setting(
        Choice((STREAM, ONE_SHOT)),
        STREAM,
        what="How the program runs: continuously (stream), or once for each batch of bytes (one-shot).",
        why="Smart card and TPM tools, such as pkcs11-tool and tpm2_getrandom, print a fixed number of bytes and exit.",
        example='"one-shot"',
    )
    every: float = setting(
        Duration(0.01, 3600),
        "1s",
        what="The shortest time between two starts of a one-shot program.",
        why="A longer time leaves a shared chip free for other programs. A shorter time makes the source faster.",
        example='"100ms"',
    )
    start: tuple[str, ...] = setting(
        Texts(Text(TALK, TALK_RANGE), "a list of steps, one string each"),
        [],
        default_is="no steps",
        what="The steps before the first sample is read: 'send HEX', 'expect HEX', 'skip N' (bytes), 'wait TIME' and, "
        "on a terminal, 'knock BAUD', which opens and closes the terminal at that speed.",
        why="Some devices need a command to start or to select a mode. A TrueRNGpro changes its mode after knocks.",
        example='["knock 110", "knock 300", "knock 110", "knock 19200"]',
    )
    min_entropy: float | None = setting(
        Number(0.01, 8),
        default_is=defaults("min_entropy", lambda kind: str(kind.min_entropy) if kind.min_entropy else ""),
        what="The min-entropy of one sample byte in bits, as assessed for the worst case.",
        why="This value determines the cutoffs of the health tests and how many bits each sample counts. If it is too "
        "high, bytes with too little entropy are served. Take it from an assessment of your device.",
        example="4.0",
    )
    samples: str | None = setting(
        Choice(("bytes", PACKED_BITS)),
        default_is=defaults("samples", lambda kind: f'"{PACKED_BITS if kind.one_bit_samples else "bytes"}"'),
        what='Whether a byte from the source is one sample ("bytes") or eight one-bit samples ("packed-bits").',
        why="With packed-bits, health tests also run on single bits and detect a bias of bits much sooner.",
        example='"packed-bits"',
    )
    mode: str = setting(
        Text(r"cmd[0-7]", "cmd0 to cmd7"),
        "cmd1",
        what="The OneRNG's mode. cmd1 is raw avalanche noise without the device's whitener.",
        why="The whitener does not add entropy, and it hides bias from the health tests.",
        example='"cmd0"',
    )
    verify_firmware: str = setting(
        Choice(("require", "report", "off")),
        "require",
        what='How to check the signature of the OneRNG\'s firmware image: refuse a device that fails ("require"), '
        'use the device and report the failure ("report"), or do not read the image ("off").',
        why='Use "report" for a device with firmware of your own. "off" saves the seconds that reading the '
        "image takes.",
        example='"report"',
    )
    firmware_key: str | None = setting(
        PATH,
        default_is="the built-in key of the vendor",
        what="The file with the RSA key that must have signed the OneRNG's firmware image.",
        why="For firmware that you built and signed yourself. A device that is verified with the published test key "
        "of the simulator counts as simulated and earns no credit.",
        example='"/etc/drawwell/firmware.asc"',
    )
    stall: float = setting(
        Duration(0.1, 3600),
        "5s",
        what="How long the source can be silent before drawwell treats it as disconnected and reopens it.",
        why="Raise the time for a slow source that is silent between bursts.",
        example='"30s"',
    )
    allow_os_generator: bool = setting(
        Flag(),
        False,
        what="Allow /dev/random or /dev/urandom as this source.",
        why="The operating system's generator is not an independent source. Every report will show that it is used.",
        example="true",
    )
    hwrng: str = setting(
        Text(r"[A-Za-z0-9._-]{0,63}", "the start of a generator's name in rng_available"),
        "",
        what="The generator that /dev/hwrng must be: the start of its name. Empty accepts the kernel's choice.",
        why="The kernel can switch to another generator. Without this setting, the source restarts under the new "
        "name. With this setting, the source stays off until the generator that you named is back.",
        example='"chaoskey"',
    )
    loop: bool = setting(
        Flag(),
        False,
        what="Restart a replayed file from the beginning when it ends.",
        why="For tests only. The repeat test is expected to fail such a source.",
        example="true",
    )


class AuditSection(Section):
    """The audit log of draws: consumer, size, class and time, never bytes."""

    path: str | None = setting(
        Text(r"(/.*)?", 'an absolute path, or ""'),
        default_is="audit.jsonl in state_dir",
        what="The log file, with one JSON object per line and mode 0600. It is rotated at 16 MiB, and 8 old files are "
        "kept. Operators' actions go to a second file in the same directory, audit-operators.jsonl.",
        why='Choose the directory of your other logs. With "", the lines go to the logger drawwell.audit instead.',
        example='"/var/log/drawwell/audit.jsonl"',
    )

    @property
    def operators_path(self) -> str:
        """The file for operators' actions, or `path` itself if it is a device."""
        path = self.path or ""
        name, ending = os.path.splitext(path)
        return (
            path
            if not path or (os.path.exists(path) and not os.path.isfile(path))
            else f"{name}-operators{ending}"
        )


class ConsumerSection(Section):
    """A consumer and its limits.

    The consumer ``local``, for root and the broker's own user, always exists. Consumers that
    join by invitation are in the state directory and need no table here.
    """

    name: str = setting(
        CONSUMER,
        default_is="none; required without match",
        what="The consumer's name in reports and in its client certificate.",
        why="The door identifies the consumer; a consumer cannot choose its name.",
        example='"web01"',
    )
    match: str = setting(
        Text(r"[!-~]{1,255}", "a pattern of 1 to 255 printable characters without a space"),
        default_is="none; the table is for one consumer, by name",
        what="A pattern for identities in certificates of your own PKI. Each identity that matches becomes a separate "
        "consumer with the limits of this table. The wildcards *, ? and […] match within one part of an identity: "
        "between slashes of a URI, or between dots of a DNS name. A table with the consumer's name has priority. "
        "If two patterns match, the first in the file applies.",
        why="One table is enough for a thousand workloads with certificates from SPIFFE or from a site's CA. The "
        "consumer's name is the URI itself, or the DNS name or the CN with the prefix dns: or cn:.",
        example='"spiffe://example.org/ns/*/sa/link"',
    )
    rate: Allowance | None = setting(
        Rate(),
        default_is="none",
        what="The highest rate at which the consumer may draw.",
        why="A limit keeps one consumer from starving the others.",
        example='"4KiB/s"',
    )
    quota: Allowance | None = setting(
        Rate(),
        default_is="none",
        what="The total amount that the consumer may draw in each period.",
        why="Unlike a rate, a quota survives restarts: the amount drawn is stored on disk.",
        example='"10MiB/day"',
    )
    draw_class: str = setting(
        Choice(("full", "drbg", "both")),
        "both",
        key="class",
        what="The classes that the consumer may request: full entropy, its own DRBG seeded by the reservoir, or both.",
        why="The hardware limits class full. Choose drbg for a consumer that draws large amounts.",
        example='"drbg"',
    )
    user: str = setting(
        Text(r"[A-Za-z0-9_][A-Za-z0-9_.$-]{0,31}", "a user's name or number"),
        default_is="none; the consumer cannot use the Unix door",
        what="The Unix user that is this consumer at the Unix door.",
        why="Each user is at most one consumer, and needs neither a key nor a password.",
        example='"www-data"',
    )
    weight: int = setting(
        Whole(1, 1000),
        1,
        what="The consumer's share, relative to other consumers, when the reservoir is low.",
        why="Give a larger weight to a consumer that must not wait.",
        example="4",
    )
    stream: bool = setting(
        Flag(),
        False,
        what="Send a stream of bytes if the consumer connects over TLS without drawwell's protocol.",
        why="For socat and other programs that only read. They receive full entropy, or class drbg if the consumer "
        "is limited to it, as fast as the consumer's rate allows.",
        example="true",
    )
    uid: int | None = field(default=None)
    """The user ID of `user`, set when the configuration is loaded."""
