"""What must hold between settings. Each rule names the places that it compares, the faulty one first."""

import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from drawwell.config.broker_side import MAX_SOURCES, SourceSection
from drawwell.config.drivers import DRIVERS, ONLY_FOR
from drawwell.config.model import DEFAULT, Config
from drawwell.config.values import HostPort
from drawwell.units import format_size

SEED_BYTES: Final = 48
"""What a draw may need beside its own bytes: a seed of its DRBG (SP 800-90A r1, 8.6.7)."""
NOBODY: Final = 65534
"""Who has no number here: users of another user namespace, all of them (user_namespaces(7))."""
OS_GENERATORS: Final = ("/dev/random", "/dev/urandom")


class BrokenRule(NamedTuple):
    """A broken rule; with a fault at one of its `places` already, it says nothing new."""

    places: tuple[str, ...]
    message: str


def broken_rules(config: Config) -> Iterator[BrokenRule]:
    """Every rule that does not hold, for a complete configuration."""
    for rule in _RULES:
        yield from rule(config)


def _reservoir(config: Config) -> Iterator[BrokenRule]:
    broker = config.broker
    low, high = broker.low_mark_bytes, broker.high_mark_bytes
    marks = ("broker.low_mark", "broker.high_mark", "broker.reservoir")
    if high > broker.reservoir:
        yield BrokenRule((marks[1], marks[2]), f"{format_size(high)} is more than the reservoir holds")
    if low >= high:
        shares = isinstance(broker.low_mark, str) and isinstance(broker.high_mark, str)
        places = marks[:2] if shares else marks
        yield BrokenRule(places, f"{format_size(low)} is not below the high mark of {format_size(high)}")
    elif broker.max_draw + SEED_BYTES > low:
        yield BrokenRule(
            ("broker.max_draw", *marks),
            f"{format_size(broker.max_draw)} and a seed of {SEED_BYTES}B must fit under the low mark "
            f"of {format_size(low)}, or a draw could starve while the sources rest",
        )


def _sources(config: Config) -> Iterator[BrokenRule]:
    for index, source in enumerate(config.sources):
        where = f"source[{index}]"
        yield from _needs(where, source)
        for key, drivers in ONLY_FOR.items():
            place = f"{where}.{key}"
            if source.driver not in drivers and config.origin(place) != DEFAULT:
                message = f"means nothing to driver {source.driver}: it is for {' and '.join(drivers)} only"
                yield BrokenRule((place, f"{where}.driver"), message)
        if _is_os_generator(source) and not source.allow_os_generator:
            yield BrokenRule(
                (f"{where}.path", f"{where}.allow_os_generator"),
                f"{source.path} is the operating system's generator, no source of its own: "
                "say allow_os_generator = true if you mean it",
            )
    if len(config.sources) > MAX_SOURCES:
        yield BrokenRule(("source",), f"a receipt names every source, and has room for {MAX_SOURCES}")
    if 0 < len(config.sources) < config.broker.min_sources and not config.broker.deposits:
        yield BrokenRule(
            ("broker.min_sources", "source"),
            f"{config.broker.min_sources} is more than the sources there are",
        )


def _needs(where: str, source: SourceSection) -> Iterator[BrokenRule]:
    driver = f"{where}.driver"
    if not source.min_entropy:
        yield BrokenRule(
            (f"{where}.min_entropy", driver),
            f"must be given for driver {source.driver}: nobody else can assess it",
        )
    for key in DRIVERS[source.driver].required:
        if getattr(source, key) in {"", "auto", ()}:
            yield BrokenRule((f"{where}.{key}", driver), f"must be given for driver {source.driver}")


def _is_os_generator(source: SourceSection) -> bool:
    may_be = "allow_os_generator" in DRIVERS[source.driver].settings
    return may_be and os.path.normpath(source.path) in OS_GENERATORS


def _doors(config: Config) -> Iterator[BrokenRule]:
    if config.tls.listen and not config.serves:
        yield BrokenRule(
            ("tls.listen", "source"), "a door needs a source behind it: add a [[source]], or drop [tls]"
        )
    if config.http.listen and not config.serves:
        yield BrokenRule(
            ("http.listen", "source"), "a door needs a source behind it: add a [[source]], or drop [http]"
        )
    if config.origin("enrol.listen") != DEFAULT and config.enrol.listen:
        if not config.tls.listen:
            yield BrokenRule(
                ("enrol.listen", "tls.listen"), "machines join for the TLS door: set listen in [tls] too"
            )
        if config.pki.ca:
            yield BrokenRule(("enrol.listen", "pki.ca"), "only the built-in CA enrols: drop this, or [pki]")
    written = [key for key in ("ca", "certificate", "key") if getattr(config.pki, key)]
    missing = [key for key in ("ca", "certificate", "key") if not getattr(config.pki, key)]
    if written and missing:
        places = (f"pki.{written[0]}", *(f"pki.{key}" for key in missing))
        yield BrokenRule(places, f"your own PKI also needs {' and '.join(missing)}")


def _egds(config: Config) -> Iterator[BrokenRule]:
    known = {consumer.name: (index, consumer) for index, consumer in enumerate(config.consumers)}
    for index, egd in enumerate(config.egds):
        where = f"egd[{index}]"
        if not config.serves:
            yield BrokenRule(
                (where + ".listen", "source"), "a door needs a source behind it: add a [[source]]"
            )
        if egd.consumer not in known:
            yield BrokenRule(
                (f"{where}.consumer", "consumer"),
                f"there is no consumer {egd.consumer!r}: add a [[consumer]] of that name",
            )
            continue
        place, consumer = known[egd.consumer]
        if consumer.draw_class not in {"both", egd.draw_class}:
            yield BrokenRule(
                (f"{where}.class", f"consumer[{place}].class"),
                f"consumer {consumer.name} may draw class {consumer.draw_class} only",
            )
        if isinstance(egd.listen, HostPort) and not (consumer.rate or consumer.quota):
            yield BrokenRule(
                (f"{where}.consumer", f"consumer[{place}].rate", f"consumer[{place}].quota"),
                f"any local user can draw at a port: give consumer {consumer.name} a rate or a quota",
            )


def _ssh(config: Config) -> Iterator[BrokenRule]:
    ssh = config.ssh
    if not ssh.user:
        return
    if not config.serves:
        yield BrokenRule(
            ("ssh.user", "source"), "a door needs a source behind it: add a [[source]], or drop [ssh]"
        )
    if ssh.uid is None:
        yield BrokenRule(("ssh.user",), f"there is no user {ssh.user!r} on this machine")
    elif ssh.uid == 0 or ssh.uid in {consumer.uid for consumer in config.consumers}:
        yield BrokenRule(
            ("ssh.user", "consumer"), "must be an account of its own: not root, and no consumer's user"
        )


def _source_user(config: Config) -> Iterator[BrokenRule]:
    user, uid = config.broker.source_user, config.broker.source_uid
    if user and uid is None:
        yield BrokenRule(("broker.source_user",), f"there is no user {user!r} on this machine")
    elif user and uid in {NOBODY, *(consumer.uid for consumer in config.consumers)}:
        yield BrokenRule(
            ("broker.source_user", "consumer"),
            "must be an account of its own: not nobody, and no consumer's user",
        )


def _shared_addresses(config: Config) -> Iterator[BrokenRule]:
    places = {
        "tls.listen": config.tls.listen,
        "enrol.listen": config.enrol.listen,
        "health.listen": config.health.listen,
        "http.listen": config.http.listen,
        "unix.path": config.unix.path,
        "control.path": config.control.path,
        "ssh.path": config.ssh.path,
        **({"broker.run_dir": config.broker.source_socket} if config.broker.deposits else {}),
        **{f"egd[{index}].listen": egd.listen for index, egd in enumerate(config.egds)},
    }
    # an enrolment listener that nobody wrote is compared last, so that the fault stands where one was written
    order = sorted(places, key=lambda place: config.origin(place) == DEFAULT, reverse=True)
    yield from _twice(config, ((place, str(places[place])) for place in order if places[place]), "address")


def _names(config: Config) -> Iterator[BrokenRule]:
    yield from _twice(
        config, ((f"source[{i}].name", each.name) for i, each in enumerate(config.sources)), "name"
    )
    yield from _twice(
        config, ((f"source[{i}].{key}", of) for i, each in enumerate(config.sources) for key, of in _device(each)),
        "device",
    )  # fmt: skip
    consumers = tuple(enumerate(config.consumers))
    yield from _twice(config, ((f"consumer[{i}].name", each.name) for i, each in consumers), "name")
    yield from _twice(
        config,
        ((f"consumer[{i}].user", str(each.uid)) for i, each in consumers if each.uid is not None),
        "user",
    )
    yield from _twice(
        config, ((f"upstream[{i}].url", each.url) for i, each in enumerate(config.upstreams)), "broker"
    )
    yield from _twice(
        config, ((f"sink[{i}].path", each.path) for i, each in enumerate(config.sinks) if each.path), "path"
    )


def _device(source: SourceSection) -> Iterator[tuple[str, str]]:
    """Yield the setting that names the device, and the device: every name of a node is the same node."""
    if source.command:
        yield "command", shlex.join(source.command)
    elif source.path:
        yield "path", source.path if source.path == "auto" else os.path.realpath(source.path)


def _twice(config: Config, values: Iterable[tuple[str, str]], what: str) -> Iterator[BrokenRule]:
    first: dict[str, str] = {}
    for place, value in values:
        if value in first:
            section = first[value].partition(".")[0]
            there = config.origins.get(first[value]) or config.origins.get(section, "there by default")
            yield BrokenRule((place, first[value]), f"{what} {value} is taken: {there}")
        else:
            first[value] = place


def _consumers(config: Config) -> Iterator[BrokenRule]:
    for index, consumer in enumerate(config.consumers):
        where = f"consumer[{index}]"
        if consumer.user and consumer.uid is None:
            yield BrokenRule((f"{where}.user",), f"there is no user {consumer.user!r} on this machine")
        rate, quota = consumer.rate, consumer.quota
        if rate and quota and quota.limit_bytes < rate.limit_bytes:
            yield BrokenRule(
                (f"{where}.quota", f"{where}.rate"),
                "less in all than one period of the rate: are the two swapped",
            )


def _sinks(config: Config) -> Iterator[BrokenRule]:
    for index, sink in enumerate(config.sinks):
        if sink.kind != "stdout" and not sink.path:
            yield BrokenRule(
                (f"sink[{index}].path", f"sink[{index}].kind"), f"must be given for kind {sink.kind}"
            )
        if sink.kind == "stdout" and sink.path:
            yield BrokenRule((f"sink[{index}].path", f"sink[{index}].kind"), "means nothing to kind stdout")


def _links(config: Config) -> Iterator[BrokenRule]:
    if config.upstreams and config.links.mix > len(config.upstreams):
        yield BrokenRule(("links.mix", "upstream"), f"{config.links.mix} is more than the brokers there are")


_RULES: Final[tuple[Callable[[Config], Iterator[BrokenRule]], ...]] = (
    _reservoir, _sources, _doors, _egds, _ssh, _source_user, _shared_addresses, _names, _consumers, _sinks, _links,
)  # fmt: skip
