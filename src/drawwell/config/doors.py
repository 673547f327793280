"""The settings of the broker's doors."""
# ruff: noqa: RUF009  `setting` makes a field

from dataclasses import dataclass, field

from drawwell.config.fields import setting
from drawwell.config.values import (
    NAME,
    PATH,
    Choice,
    FileMode,
    Flag,
    HostPort,
    Listen,
    LocalListen,
    Text,
    Texts,
    Whole,
)


@dataclass(frozen=True, slots=True)
class UnixSection:
    """The Unix door: draws by local programs and containers. Who asks is known by the user it runs as."""

    path: str = setting(
        PATH,
        default_is="draw.sock in run_dir",
        what="The socket to draw from.",
        why="Move it where a container expects it.",
        example='"/run/drawwell/web/draw.sock"',
    )
    mode: int = setting(
        FileMode(),
        "0666",
        what="The socket's permissions.",
        why="Who may draw is decided by user in [[consumer]], not here; a stricter mode also keeps strangers from "
        "connecting at all.",
        example='"0660"',
    )


@dataclass(frozen=True, slots=True)
class ControlSection:
    """The control socket: status and the operator's verbs, for root and the broker's own user."""

    path: str = setting(
        PATH,
        default_is="control.sock in run_dir",
        what="The socket that the command line talks to.",
        why="Seldom changed; every drawwell command on this machine must find it.",
        example='"/run/drawwell/control.sock"',
    )


@dataclass(frozen=True, slots=True)
class HealthSection:
    """Health, metrics and the status page without a certificate, on this machine only."""

    listen: HostPort | str | None = setting(
        LocalListen(),
        "",
        what="Where /healthz, /readyz, /metrics and /ui are answered over HTTP, without names of consumers.",
        why="For a supervisor, a Prometheus or a browser on this machine.",
        example='"127.0.0.1:55080"',
    )
    observers: tuple[str, ...] = setting(
        Texts(NAME, "a list of consumers' names"),
        [],
        what="Consumers that may read metrics and status page over TLS, with all names in them.",
        why="For a monitoring system on another machine; it joins like any other consumer.",
        example='["prometheus"]',
    )


@dataclass(frozen=True, slots=True)
class HttpSection:
    """The HTTP API on a Unix socket. Over TLS it is answered wherever [tls] listens, to the same certificates."""

    listen: str = setting(
        Text(r"(/.*)?", 'an absolute path, or ""'),
        "",
        what="The socket to make for HTTP clients of this machine.",
        why="For programs that have an HTTP client at hand and not ours; who asks is known by the user it runs as.",
        example='"/run/drawwell/http.sock"',
    )
    mode: int = setting(
        FileMode(),
        "0666",
        what="The socket's permissions.",
        why="Who may draw is decided by user in [[consumer]], not here; a stricter mode also keeps strangers from "
        "connecting at all.",
        example='"0660"',
    )


@dataclass(frozen=True, slots=True)
class EgdSection:
    """An EGD door: QEMU's virtio-rng, ekeyd-egd-linux and old programs. The protocol has no names and no classes."""

    listen: HostPort | str | None = setting(
        LocalListen(),
        required=True,
        what="The socket to make, or a loopback address and a port.",
        why="A socket's permissions decide who may draw; at a port any local user may.",
        example='"/run/drawwell/guest1.sock"',
    )
    consumer: str = setting(
        NAME,
        required=True,
        what="Which consumer everybody at this door is: one of [[consumer]], or local.",
        why="Give each guest a door and a consumer of its own; a port needs one with a rate or a quota.",
        example='"guest1"',
    )
    draw_class: str = setting(
        Choice(("full", "drbg")),
        "full",
        key="class",
        what="The class that is served, as nobody can ask for one here.",
        why="Take drbg for a guest that reads much and must not wait for the hardware.",
        example='"drbg"',
    )
    mode: int = setting(
        FileMode(),
        "0660",
        what="The socket's permissions.",
        why="Whoever may open the socket is the consumer: give it to the user that the guest runs as.",
        example='"0600"',
    )


@dataclass(frozen=True, slots=True)
class SshSection:
    """The SSH door: a socket for 'drawwell serve-stdio', which sshd runs for consumers with a public key."""

    user: str = setting(
        Text(r"[A-Za-z0-9_][A-Za-z0-9_.$-]{0,31}", "a user's name or number"),
        default_is="none: no consumer comes over SSH",
        what="The account that all SSH consumers log in to. Only it, root and the broker's own user use this socket.",
        why="Make an account for this and nothing else: it speaks for every consumer that has a key.",
        example='"drawwell-ssh"',
    )
    path: str = setting(
        PATH,
        default_is="ssh.sock in run_dir",
        what="The socket that serve-stdio talks to.",
        why="Seldom changed; serve-stdio must find it.",
        example='"/run/drawwell/ssh.sock"',
    )
    uid: int | None = field(default=None)
    """The number of `user` on this machine; found when the configuration is read."""


@dataclass(frozen=True, slots=True)
class TlsSection:
    """The TLS door: draws from other machines, TLS 1.3 with a client certificate, always."""

    listen: HostPort | None = setting(
        Listen(),
        "",
        what="Where consumers on other machines connect.",
        why='Shut until it is set; "*" is every address of this machine.',
        example='"*:55000"',
    )
    names: tuple[str, ...] = setting(
        Texts(
            Text(r"[A-Za-z0-9*:][A-Za-z0-9.:_-]{0,252}", "a DNS name or an IP address"),
            "a list of DNS names and IP addresses",
            at_least=1,
        ),
        default_is="the host's name",
        what="The names in the broker's own certificate; the first one is put into invitations.",
        why="Consumers refuse a broker whose certificate does not bear the name that they connect to.",
        example='["well.example.org", "192.0.2.7"]',
    )
    require_pq: bool = setting(
        Flag(),
        False,
        what="Take no other key exchange than X25519MLKEM768, in all TLS of this process. Needs OpenSSL 3.5 or later.",
        why="What is recorded today stays secret from a quantum computer of later; machines with an older OpenSSL are "
        "turned away.",
        example="true",
    )
    max_sessions: int = setting(
        Whole(1, 100_000),
        4096,
        what="The most connections at a time; each costs about 30 KiB of memory and a file descriptor.",
        why="Raise it, and LimitNOFILE in the unit, for thousands of machines that stay connected.",
        example="20_000",
    )


@dataclass(frozen=True, slots=True)
class EnrolSection:
    """The enrolment listener, open only until the last invitation ends."""

    listen: HostPort | None = setting(
        Listen(),
        default_is="port 55001 where [tls] listens; none without [tls] or with your own [pki]",
        what="Where a machine that was invited joins.",
        why='Move it when the port is taken; "" when invitations are not used.',
        example='"*:55001"',
    )


@dataclass(frozen=True, slots=True)
class SignerSection:
    """The signer: a process that holds the keys of CA and receipts, which `drawwell broker run` has not."""

    socket: str = setting(
        PATH,
        default_is="signer.sock in a directory next to run_dir",
        what="The socket at which it signs for the broker's user and root.",
        why="Two brokers on one machine need two signers.",
        example='"/run/well2-signer/signer.sock"',
    )
    dir: str = setting(
        PATH,
        default_is="a directory next to state_dir",
        what="Where it keeps keys and log. The broker's user must not be able to read it.",
        why="Put it on an encrypted volume where you have one.",
        example='"/srv/drawwell-signer"',
    )


@dataclass(frozen=True, slots=True)
class PkiSection:
    """Certificates of your own instead of the built-in CA. All three files or none; read again on SIGHUP."""

    ca: str = setting(
        PATH,
        default_is="the built-in CA",
        what="PEM file of the certificates that consumers' certificates must lead to.",
        why="For a site that runs its own CA.",
        example='"/etc/pki/drawwell/ca.pem"',
    )
    certificate: str = setting(
        PATH,
        default_is="made by the built-in CA",
        what="PEM file of the broker's certificate and what leads to its CA.",
        why="Consumers must be able to check it against the CA that they know; needed with ca.",
        example='"/etc/pki/drawwell/well.pem"',
    )
    key: str = setting(
        PATH,
        default_is="made at the first start",
        what="PEM file of the broker's private key. Only its path stands here.",
        why="A key of your own goes with a certificate of your own; needed with ca.",
        example='"/etc/pki/drawwell/well.key"',
    )
    identity: str = setting(
        Choice(("uri", "dns", "cn")),
        "uri",
        what="What in a client certificate names the consumer: a URI or DNS name of its subjectAltName, or its CN.",
        why="Take uri for SPIFFE, dns or cn for certificates that a site has already.",
        example='"dns"',
    )
