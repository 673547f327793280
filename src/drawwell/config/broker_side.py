"""The settings of whoever serves: the broker, its noise sources and its consumers."""
# ruff: noqa: RUF009  `setting` makes a field

import os
from dataclasses import dataclass, field
from typing import Final

from drawwell.config.devices import ONE_SHOT, STREAM
from drawwell.config.drivers import DRIVERS, ONERNG, defaults, reads
from drawwell.config.fields import setting
from drawwell.config.values import (
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
"""So many fit into a receipt of 16,384 bytes, whatever it says of them (crypto/receipt_form.py)."""
PACKED_BITS: Final = "packed-bits"
TALK = r"(send|expect) ([0-9a-fA-F]{2} ?)+|(skip|knock) [1-9][0-9]{0,6}|wait [0-9.]+(ms|s)"
TALK_RANGE = "a step such as 'send 0d0a', 'expect 4f4b', 'skip 16', 'knock 110' or 'wait 100ms'"


@dataclass(frozen=True, slots=True)
class BrokerSection:
    """The broker: its name, its reservoir and where it keeps what it must remember."""

    name: str = setting(
        NAME,
        default_is="the host's name",
        what="The broker's name in reports, receipts and its certificate.",
        why="Set it when several brokers serve the same consumers, so that a receipt tells them apart.",
        example='"well-1"',
    )
    min_sources: int = setting(
        Whole(1, MAX_SOURCES),
        1,
        what="How many different devices go into each byte: it is the XOR of conditioned output of that many sources, "
        "and nothing is served while fewer are healthy.",
        why="With 2 or more, a stick that fails or lies does no harm while another one in the same byte is good. "
        "Two devices give as much as the slower one.",
        example="2",
    )
    reservoir: int = setting(
        Size(4096, 2**30),
        "256KiB",
        what="How much full entropy is kept ready.",
        why="A larger one rides out a replug or a burst of draws; a smaller one holds less that could be stolen.",
        example='"1MiB"',
    )
    low_mark: int | str = setting(
        Mark(),
        "50%",
        what="The sources start to fill the reservoir when it holds less than this.",
        why="A higher mark keeps more in hand; a lower one lets the device rest longer.",
        example='"64KiB"',
    )
    high_mark: int | str = setting(
        Mark(),
        "100%",
        what="The sources stop filling the reservoir when it holds this much.",
        why="Below 100% leaves room for the block that is under way, so that none of it is thrown away.",
        example='"90%"',
    )
    max_draw: int = setting(
        Size(1, 65536),  # 2^19 bits, the most that one DRBG request returns (SP 800-90A r1, table 3)
        "64KiB",
        what="The largest single draw.",
        why="It bounds what one request may take from the others; a consumer that needs more asks again.",
        example='"16KiB"',
    )
    reseed_interval: float = setting(
        Duration(1, 30 * 86400),
        "1h",
        what="How old a consumer's DRBG may grow before it is seeded anew from the reservoir.",
        why="A shorter interval limits what a stolen state is worth and takes more from the reservoir.",
        example='"10min"',
    )
    state_dir: str = setting(
        PATH,
        default_is="$STATE_DIRECTORY under systemd, /var/lib/drawwell as root, else $XDG_STATE_HOME/drawwell",
        what="Where quotas, consumers, certificates and identities are kept. No entropy is ever written there.",
        why="Quotas are written here before anything is served, so it belongs on a local disk.",
        example='"/srv/drawwell"',
    )
    run_dir: str = setting(
        PATH,
        default_is="$RUNTIME_DIRECTORY under systemd, /run/drawwell as root and, while a broker serves"
        " there, for users who have none of their own, else $XDG_RUNTIME_DIR/drawwell, else /tmp/drawwell-UID",
        what="Where the sockets are made.",
        why="Containers draw through a socket of this directory when it is mounted into them.",
        example='"/run/drawwell-test"',
    )

    deposits: bool = setting(
        Flag(),
        False,
        what="Take deposits of noise sources that run in processes of their own ('drawwell source run').",
        why="So device and network are never in one process's hands; without a [[source]] of its own the broker "
        "then waits for the first to come.",
        example="true",
    )
    source_user: str = setting(
        Text(r"[A-Za-z0-9_][A-Za-z0-9_.$-]{0,31}", "a user's name or number"),
        default_is="drawwell-source where there is such a user, else none",
        what="The account that such sources run under. It may deposit, and so may root and the broker's own user.",
        why="Whoever may deposit decides what everybody is served: make an account for this and nothing else.",
        example='"drawwell-source"',
    )
    source_uid: int | None = field(default=None)
    """The number of `source_user` on this machine; found when the configuration is read."""

    @property
    def link_socket(self) -> str:
        """Where the process that holds the links to other machines' brokers hands on what it draws."""
        return f"{self.run_dir}/link.sock"

    @property
    def feed_report(self) -> str:
        """Where the process that feeds the kernel says what it did: it is another user, and has another directory."""
        return f"{self.run_dir}-kernel/feed.json"

    @property
    def source_socket(self) -> str:
        """Where sources deposit."""
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


@dataclass(frozen=True, slots=True)
class SourceSection:
    """A noise source, one table each. With no [[source]] and no [[upstream]], the first OneRNG found is used."""

    name: str = setting(
        NAME,
        default_is="the driver's name",
        what="The source's name in reports and on the command line.",
        why="Give names when there are two of a kind.",
        example='"stick-1"',
    )
    driver: str = setting(
        Choice(tuple(DRIVERS)),
        ONERNG,
        what=f"How the source is read: {reads()}.",
        why="Driver chardev takes /dev/hwrng, TrueRNG, NeuG and the like; replay is for tests and no noise source.",
        example='"chardev"',
    )
    path: str = setting(
        Text(r"auto|/.*", '"auto" or an absolute path'),
        default_is=defaults("path", lambda kind: f'"{kind.path}"' if kind.path else ""),
        what="The device, FIFO or file. auto takes the one OneRNG that is plugged in.",
        why="Name a path under /dev/serial/by-path when there are several: it survives replugging and renumbering.",
        example='"/dev/hwrng"',
    )
    command: tuple[str, ...] = setting(
        Texts(
            Text(range="any text that is not empty"), "a program and its arguments, one text each", at_least=1
        ),
        default_is="none, must be given for exec",
        what="The program whose standard output is the noise, with its arguments. No shell is involved.",
        why="For devices that come with a reader of their own, such as infnoise.",
        example='["infnoise", "--raw"]',
    )
    manner: str = setting(
        Choice((STREAM, ONE_SHOT)),
        STREAM,
        what="How the program works: it goes on and on (stream), or prints some bytes and ends, and is run again and "
        "again (one-shot).",
        why="Tools of smart cards and TPMs, such as pkcs11-tool and tpm2_getrandom, give so many bytes a run.",
        example='"one-shot"',
    )
    every: float = setting(
        Duration(0.01, 3600),
        "1s",
        what="How often a one-shot program is run at most.",
        why="A chip that others need too is not kept busy; with less, the source gives more.",
        example='"100ms"',
    )
    start: tuple[str, ...] = setting(
        Texts(Text(TALK, TALK_RANGE), "a list of steps, one text each"),
        [],
        default_is="no conversation",
        what="What is done before the first sample is read, step by step: 'send HEX' and 'expect HEX' bytes, 'skip N' "
        "bytes, 'wait TIME', and on a terminal 'knock BAUD', which opens and closes it at that speed.",
        why="Some devices must be told to send, or in which mode: a TrueRNGpro changes its mode by knocks.",
        example='["knock 110", "knock 300", "knock 110", "knock 19200"]',
    )
    min_entropy: float | None = setting(
        Number(0.01, 8),
        default_is=defaults("min_entropy", lambda kind: str(kind.min_entropy) if kind.min_entropy else ""),
        what="The assessed min-entropy of one sample byte, in bits, in the worst case.",
        why="It sets the cutoffs of the health tests and what each sample counts for. Claim too much and bytes are "
        "served that hold less than they should; take it from an assessment of your device.",
        example="4.0",
    )
    samples: str | None = setting(
        Choice(("bytes", PACKED_BITS)),
        default_is=defaults("samples", lambda kind: f'"{PACKED_BITS if kind.one_bit_samples else "bytes"}"'),
        what="What a byte of the source is: one sample, or eight samples of one bit, for which bits are tested, too.",
        why="A bias of single bits is found much sooner by the tests of bits.",
        example='"packed-bits"',
    )
    mode: str = setting(
        Text(r"cmd[0-7]", "cmd0 to cmd7"),
        "cmd1",
        what="The OneRNG's mode: cmd1 is raw avalanche noise without the device's whitener.",
        why="The whitener adds no entropy and hides bias from the health tests.",
        example='"cmd0"',
    )
    verify_firmware: str = setting(
        Choice(("require", "report", "off")),
        "require",
        what="What to do about the OneRNG's firmware image: refuse a device whose image signature is not verified, "
        "use it and say so in every report, or do not ask for the image.",
        why="With report a device with firmware of your own can be used; off saves the seconds that the dump takes.",
        example='"report"',
    )
    firmware_key: str | None = setting(
        PATH,
        default_is="the vendor's key, which is built in",
        what="The file of the RSA key that the OneRNG's firmware image must be signed by, instead of the vendor's.",
        why="For firmware that you built and signed yourself. With the published test key of the simulated device "
        "everything that is verified is called simulated, and earns no credit.",
        example='"/etc/drawwell/firmware.asc"',
    )
    stall: float = setting(
        Duration(0.1, 3600),
        "5s",
        what="How long the source may be silent before it counts as gone and is opened again.",
        why="Raise it for a slow source that is silent between bursts.",
        example='"30s"',
    )
    allow_os_generator: bool = setting(
        Flag(),
        False,
        what="Allow /dev/random or /dev/urandom as this source.",
        why="The operating system's generator is no independent source; every report will say that it is used.",
        example="true",
    )
    hwrng: str = setting(
        Text(r"[A-Za-z0-9._-]{0,63}", "the start of a generator's name in rng_available"),
        "",
        what="Which generator /dev/hwrng must be, by the start of its name; empty takes whatever the kernel took.",
        why="The kernel exchanges it by itself. The source then begins anew under its true name, or, with this "
        "set, stays off until the one you named is back.",
        example='"chaoskey"',
    )
    loop: bool = setting(
        Flag(),
        False,
        what="Begin a replayed file again at its end.",
        why="For tests; the repeat test is expected to fail such a source.",
        example="true",
    )


@dataclass(frozen=True, slots=True)
class AuditSection:
    """The audit log: who drew how much, of which class and when, with serial numbers. It never holds a byte drawn."""

    path: str | None = setting(
        Text(r"(/.*)?", 'an absolute path, or ""'),
        default_is="audit.jsonl in state_dir",
        what="The file, one JSON object a line, mode 0600; beyond 16 MiB it is put aside, and 8 older ones are kept. "
        "What operators did is in a second one, audit-operators.jsonl next to it.",
        why='Put it where your logs are kept, or set it to "" and the lines go to the log (drawwell.audit).',
        example='"/var/log/drawwell/audit.jsonl"',
    )

    @property
    def operators_path(self) -> str:
        """The file of what operators did, next to the log; a device takes both."""
        path = self.path or ""
        name, ending = os.path.splitext(path)
        return (
            path
            if not path or (os.path.exists(path) and not os.path.isfile(path))
            else f"{name}-operators{ending}"
        )


@dataclass(frozen=True, slots=True)
class ConsumerSection:
    """A consumer and what it may have. ``local`` (root and the broker's own user) exists without being written.

    Consumers that join by invitation are kept in the state and need no table here.
    """

    name: str = setting(
        NAME,
        required=True,
        what="The consumer's name: in reports, and as its client certificate gives it.",
        why="Identity comes from the door, never from the consumer's own words.",
        example='"web01"',
    )
    rate: Allowance | None = setting(
        Rate(),
        default_is="none",
        what="How fast it may draw.",
        why="It keeps one consumer from starving the others.",
        example='"4KiB/s"',
    )
    quota: Allowance | None = setting(
        Rate(),
        default_is="none",
        what="How much it may draw in all in each period.",
        why="A bound that survives restarts: what was drawn is remembered on disk.",
        example='"10MiB/day"',
    )
    draw_class: str = setting(
        Choice(("full", "drbg", "both")),
        "both",
        key="class",
        what="The classes it may ask for: full entropy, its own DRBG seeded from the reservoir, or both.",
        why="Class full is limited by the hardware; a consumer that wants much is better served with drbg only.",
        example='"drbg"',
    )
    user: str = setting(
        Text(r"[A-Za-z0-9_][A-Za-z0-9_.$-]{0,31}", "a user's name or number"),
        default_is="none: not known on the Unix door",
        what="The user that is this consumer on the Unix door.",
        why="One user, one consumer: it needs no key and no password.",
        example='"www-data"',
    )
    weight: int = setting(
        Whole(1, 1000),
        1,
        what="Its share against the other consumers when the reservoir runs short.",
        why="Give more to a consumer that must not wait.",
        example="4",
    )
    stream: bool = setting(
        Flag(),
        False,
        what="Serve it a stream of bytes when it comes over TLS without speaking our protocol.",
        why="For socat and other programs that only read: they get full entropy, or class drbg where that is all "
        "they may have, as fast as their rate allows.",
        example="true",
    )
    uid: int | None = field(default=None)
    """The number of `user` on this machine; found when the configuration is read."""
