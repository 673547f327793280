"""The settings of the broker's doors."""

from dataclasses import field

from drawwell.config.fields import Section, setting
from drawwell.config.values import (
    CONSUMER,
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


class UnixSection(Section):
    """The Unix door, for local draws. The kernel identifies the user."""

    path: str = setting(
        PATH,
        default_is="draw.sock in run_dir",
        what="The socket to draw from.",
        why="Change the path if a container expects another one.",
        example='"/run/drawwell/web/draw.sock"',
    )
    mode: int = setting(
        FileMode(),
        "0666",
        what="The socket's permissions.",
        why="The setting user in [[consumer]] decides who may draw. A stricter mode also prevents other users from "
        "connecting.",
        example='"0660"',
    )


class ControlSection(Section):
    """The control socket. Root and the broker's user send commands to it."""

    path: str = setting(
        PATH,
        default_is="control.sock in run_dir",
        what="The socket that the command line uses.",
        why="Rarely changed, because every drawwell command on this machine must find the socket.",
        example='"/run/drawwell/control.sock"',
    )


class HealthSection(Section):
    """Local health checks, metrics and status page, without a certificate."""

    listen: HostPort | str | None = setting(
        LocalListen(),
        "",
        what="The address that serves /healthz, /readyz, /metrics and /ui over HTTP, without consumers' names.",
        why="For a supervisor, a Prometheus or a browser on this machine.",
        example='"127.0.0.1:55080"',
    )
    observers: tuple[str, ...] = setting(
        Texts(CONSUMER, "a list of consumers' names"),
        [],
        what="The consumers that may read the metrics and the status page over TLS, including consumers' names.",
        why="For a monitoring system on another machine, which joins like any other consumer.",
        example='["prometheus"]',
    )


class HttpSection(Section):
    """The HTTP API on a Unix socket. The TLS door serves the API, too."""

    listen: str = setting(
        Text(r"(/.*)?", 'an absolute path, or ""'),
        "",
        what="The socket for HTTP clients on this machine.",
        why="For programs that already have an HTTP client. The kernel identifies the user.",
        example='"/run/drawwell/http.sock"',
    )
    mode: int = setting(
        FileMode(),
        "0666",
        what="The socket's permissions.",
        why="The setting user in [[consumer]] decides who may draw. A stricter mode also prevents other users from "
        "connecting.",
        example='"0660"',
    )


class EgdSection(Section):
    """An EGD door, for QEMU's virtio-rng, ekeyd-egd-linux and older programs.

    The EGD protocol cannot name a consumer or a class.
    """

    listen: HostPort | str | None = setting(
        LocalListen(),
        required=True,
        what="A socket path, or a loopback address with a port.",
        why="A socket's permissions decide who may draw. On a port, every local user may draw.",
        example='"/run/drawwell/guest1.sock"',
    )
    consumer: str = setting(
        NAME,
        required=True,
        what="The consumer for all peers at this door: the name of a [[consumer]], or local.",
        why="Give each guest its own door and consumer. A port needs a consumer with a rate or a quota.",
        example='"guest1"',
    )
    draw_class: str = setting(
        Choice(("full", "drbg")),
        "full",
        key="class",
        what="The class that this door serves. EGD peers cannot request a class.",
        why="Choose drbg for a guest that reads large amounts and must not wait for the hardware.",
        example='"drbg"',
    )
    mode: int = setting(
        FileMode(),
        "0660",
        what="The socket's permissions.",
        why="Any user that can open the socket draws as this consumer. Grant access to the user that runs the guest.",
        example='"0600"',
    )


class SshSection(Section):
    """The SSH door: a socket for 'drawwell serve-stdio', which sshd starts."""

    user: str = setting(
        Text(r"[A-Za-z0-9_][A-Za-z0-9_.$-]{0,31}", "a user's name or number"),
        default_is="none; SSH is not used",
        what="The account that all SSH consumers log in to. This user, root and the broker's own user can use the "
        "socket.",
        why="Create a dedicated account, because it can act as every consumer that has an SSH key.",
        example='"drawwell-ssh"',
    )
    path: str = setting(
        PATH,
        default_is="ssh.sock in run_dir",
        what="The socket that serve-stdio uses.",
        why="Rarely changed, because serve-stdio must find the socket.",
        example='"/run/drawwell/ssh.sock"',
    )
    uid: int | None = field(default=None)
    """The user ID of `user`, set when the configuration is loaded."""


class TlsSection(Section):
    """The TLS door, for other machines: TLS 1.3 with a client certificate."""

    listen: HostPort | None = setting(
        Listen(),
        "",
        what="The address and port for consumers on other machines.",
        why='The door is closed unless this is set. "*" means all addresses of this machine.',
        example='"*:55000"',
    )
    names: tuple[str, ...] = setting(
        Texts(
            Text(r"[A-Za-z0-9*:][A-Za-z0-9.:_-]{0,252}", "a DNS name or an IP address"),
            "a list of DNS names and IP addresses",
            at_least=1,
        ),
        default_is="the host name",
        what="The names in the broker's certificate. Invitations contain the first name.",
        why="Consumers refuse a broker if its certificate does not contain the name that they connect to.",
        example='["well.example.org", "192.0.2.7"]',
    )
    require_pq: bool = setting(
        Flag(),
        False,
        what="Accept only the key exchange X25519MLKEM768 in all TLS connections of this process. Needs OpenSSL 3.5.",
        why="Traffic that is recorded today stays secret even from a future quantum computer. Machines with an older "
        "OpenSSL cannot connect.",
        example="true",
    )
    max_sessions: int = setting(
        Whole(1, 100_000),
        4096,
        what="The highest number of open connections. Each needs about 30 KiB of memory and a file descriptor.",
        why="For thousands of machines that stay connected, raise this and LimitNOFILE in the systemd unit.",
        example="20_000",
    )

    @property
    def addresses(self) -> tuple[str, ...]:
        """The door's addresses, as ``host:port``; empty while it is closed."""
        host = f"[{self.names[0]}]" if ":" in self.names[0] else self.names[0]
        return (f"{host}:{self.listen.port}",) if self.listen else ()


class EnrolSection(Section):
    """The enrolment listener, open only while an invitation is valid."""

    listen: HostPort | None = setting(
        Listen(),
        default_is="port 55001 at the address of [tls]; none without [tls] or with your own [pki]",
        what="The address and port where invited machines join.",
        why='Change it if the port is in use. Set it to "" if you do not use invitations.',
        example='"*:55001"',
    )


class SignerSection(Section):
    """The signer: the process that holds the CA key and the receipt key."""

    socket: str = setting(
        PATH,
        default_is="signer.sock in a directory next to run_dir",
        what="The signer's socket. Only root and the broker's user can request signatures.",
        why="If two brokers run on one machine, each needs its own signer.",
        example='"/run/well2-signer/signer.sock"',
    )
    dir: str = setting(
        PATH,
        default_is="a directory next to state_dir",
        what="The directory for the signer's keys and log. The broker's user must not have access.",
        why="Use an encrypted volume if you have one.",
        example='"/srv/drawwell-signer"',
    )


class PkiSection(Section):
    """Certificates from your own CA instead of the built-in CA.

    All three files are required. SIGHUP reloads them.
    """

    ca: str = setting(
        PATH,
        default_is="the built-in CA",
        what="The PEM file with the CA certificates that issue the consumers' certificates.",
        why="For a site with its own CA.",
        example='"/etc/pki/drawwell/ca.pem"',
    )
    certificate: str = setting(
        PATH,
        default_is="issued by the built-in CA",
        what="The PEM file with the broker's certificate and any intermediate certificates.",
        why="Consumers must be able to verify the certificate against their CA. Required with ca.",
        example='"/etc/pki/drawwell/well.pem"',
    )
    key: str = setting(
        PATH,
        default_is="generated at the first start",
        what="The path of the PEM file with the broker's private key.",
        why="Your own certificate needs its own key. Required with ca.",
        example='"/etc/pki/drawwell/well.key"',
    )
    identity: str = setting(
        Choice(("uri", "dns", "cn")),
        "uri",
        what="The field of a client certificate that contains the consumer's name: URI or DNS in subjectAltName, or "
        "the CN.",
        why="Choose uri for SPIFFE, and dns or cn for existing certificates.",
        example='"dns"',
    )
