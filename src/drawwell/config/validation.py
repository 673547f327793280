"""Rules for combinations of settings; the setting to correct is first."""

import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from drawwell.config.broker_side import MAX_SOURCES, ConsumerSection, SourceSection
from drawwell.config.drivers import DRIVERS, ONLY_FOR
from drawwell.config.model import DEFAULT, Config
from drawwell.config.values import HostPort
from drawwell.units import format_size

SEED_BYTES: Final = 48
"""The size of the DRBG seed that a draw can need in addition (SP 800-90A r1, 8.6.7)."""
OVERFLOW_UID: Final = 65534
"""The ID that the kernel shows for unmapped users (user_namespaces(7))."""
OS_GENERATORS: Final = ("/dev/random", "/dev/urandom")


class BrokenRule(NamedTuple):
    """A broken rule. It is ignored if one of `places` already has a fault."""

    places: tuple[str, ...]
    message: str


def broken_rules(config: Config) -> Iterator[BrokenRule]:
    """Yield every broken rule of a complete configuration."""
    for rule in _RULES:
        yield from rule(config)


def _reservoir(config: Config) -> Iterator[BrokenRule]:
    broker = config.broker
    low, high = broker.low_mark_bytes, broker.high_mark_bytes
    marks = ("broker.low_mark", "broker.high_mark", "broker.reservoir")
    if high > broker.reservoir:
        yield BrokenRule((marks[1], marks[2]), f"{format_size(high)} is larger than the reservoir")
    if low >= high:
        shares = isinstance(broker.low_mark, str) and isinstance(broker.high_mark, str)
        places = marks[:2] if shares else marks
        yield BrokenRule(places, f"{format_size(low)} is not below the high mark of {format_size(high)}")
    elif broker.max_draw + SEED_BYTES > low:
        yield BrokenRule(
            ("broker.max_draw", *marks),
            f"{format_size(broker.max_draw)} plus a seed of {SEED_BYTES}B exceeds the low mark of "
            f"{format_size(low)}: a draw could starve while the sources rest",
        )


def _sources(config: Config) -> Iterator[BrokenRule]:
    for index, source in enumerate(config.sources):
        where = f"source[{index}]"
        yield from _needs(where, source)
        for key, drivers in ONLY_FOR.items():
            place = f"{where}.{key}"
            if source.driver not in drivers and config.origin(place) != DEFAULT:
                message = f"is not valid for driver {source.driver}, only for {' and '.join(drivers)}"
                yield BrokenRule((place, f"{where}.driver"), message)
        if _is_os_generator(source) and not source.allow_os_generator:
            yield BrokenRule(
                (f"{where}.path", f"{where}.allow_os_generator"),
                f"{source.path} is the operating system's generator, not an independent source. "
                "Set allow_os_generator = true to use it anyway",
            )
    if len(config.sources) > MAX_SOURCES:
        yield BrokenRule(("source",), f"a receipt has room for only {MAX_SOURCES} sources")
    if 0 < len(config.sources) < config.broker.min_sources and not config.broker.deposits:
        yield BrokenRule(
            ("broker.min_sources", "source"),
            f"{config.broker.min_sources} sources are needed; configured: {len(config.sources)}",
        )


def _needs(where: str, source: SourceSection) -> Iterator[BrokenRule]:
    driver = f"{where}.driver"
    if not source.min_entropy:
        yield BrokenRule(
            (f"{where}.min_entropy", driver),
            f"is required for driver {source.driver}: drawwell cannot assess the source",
        )
    for key in DRIVERS[source.driver].required:
        if getattr(source, key) in {"", "auto", ()}:
            yield BrokenRule((f"{where}.{key}", driver), f"is required for driver {source.driver}")


def _is_os_generator(source: SourceSection) -> bool:
    may_be = "allow_os_generator" in DRIVERS[source.driver].settings
    return may_be and os.path.normpath(source.path) in OS_GENERATORS


def _doors(config: Config) -> Iterator[BrokenRule]:
    if config.tls.listen and not config.serves:
        yield BrokenRule(("tls.listen", "source"), "a door needs a source: add a [[source]], or remove [tls]")
    if config.http.listen and not config.serves:
        yield BrokenRule(
            ("http.listen", "source"), "a door needs a source: add a [[source]], or remove [http]"
        )
    if config.origin("enrol.listen") != DEFAULT and config.enrol.listen:
        if not config.tls.listen:
            yield BrokenRule(
                ("enrol.listen", "tls.listen"), "enrolment needs the TLS door: set listen in [tls]"
            )
        if config.pki.ca:
            yield BrokenRule(
                ("enrol.listen", "pki.ca"), "enrolment needs the built-in CA: remove this key or [pki]"
            )
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
            yield BrokenRule((where + ".listen", "source"), "a door needs a source: add a [[source]]")
        if egd.consumer not in known:
            yield BrokenRule(
                (f"{where}.consumer", "consumer"),
                f"consumer {egd.consumer!r} does not exist: add a [[consumer]] with that name",
            )
            continue
        place, consumer = known[egd.consumer]
        if consumer.draw_class not in {"both", egd.draw_class}:
            yield BrokenRule(
                (f"{where}.class", f"consumer[{place}].class"),
                f"consumer {consumer.name} may draw only class {consumer.draw_class}",
            )
        if isinstance(egd.listen, HostPort) and not (consumer.rate or consumer.quota):
            yield BrokenRule(
                (f"{where}.consumer", f"consumer[{place}].rate", f"consumer[{place}].quota"),
                f"any local user can draw from a port: give consumer {consumer.name} a rate or a quota",
            )


def _ssh(config: Config) -> Iterator[BrokenRule]:
    ssh = config.ssh
    if not ssh.user:
        return
    if not config.serves:
        yield BrokenRule(("ssh.user", "source"), "a door needs a source: add a [[source]], or remove [ssh]")
    if ssh.uid is None:
        yield BrokenRule(("ssh.user",), f"user {ssh.user!r} does not exist on this machine")
    elif ssh.uid == 0 or ssh.uid in {consumer.uid for consumer in config.consumers}:
        yield BrokenRule(
            ("ssh.user", "consumer"), "must be a dedicated account, not root or a consumer's user"
        )


def _source_user(config: Config) -> Iterator[BrokenRule]:
    user, uid = config.broker.source_user, config.broker.source_uid
    if user and uid is None:
        yield BrokenRule(("broker.source_user",), f"user {user!r} does not exist on this machine")
    elif user and uid in {OVERFLOW_UID, *(consumer.uid for consumer in config.consumers)}:
        yield BrokenRule(
            ("broker.source_user", "consumer"),
            "must be a dedicated account, not nobody or a consumer's user",  # wording: a user's name
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
    # compare default addresses last, so that the fault is reported at a configured address
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
    for key in ("name", "match"):
        written = ((i, getattr(each, key)) for i, each in consumers)
        yield from _twice(config, ((f"consumer[{i}].{key}", text) for i, text in written if text), key)
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
    """Yield the device's key and name, with links to the device resolved."""
    if source.command:
        yield "command", shlex.join(source.command)
    elif source.path:
        yield "path", source.path if source.path == "auto" else os.path.realpath(source.path)


def _twice(config: Config, values: Iterable[tuple[str, str]], what: str) -> Iterator[BrokenRule]:
    first: dict[str, str] = {}
    for place, value in values:
        if value in first:
            section = first[value].partition(".")[0]
            there = config.origins.get(first[value]) or config.origins.get(section, "default")
            yield BrokenRule((place, first[value]), f"{what} {value} is already used ({there})")
        else:
            first[value] = place


def _consumers(config: Config) -> Iterator[BrokenRule]:
    for index, consumer in enumerate(config.consumers):
        where = f"consumer[{index}]"
        yield from _named(config, where, consumer)
        if consumer.user and consumer.uid is None:
            yield BrokenRule((f"{where}.user",), f"user {consumer.user!r} does not exist on this machine")
        rate, quota = consumer.rate, consumer.quota
        if rate and quota and quota.limit_bytes < rate.limit_bytes:
            yield BrokenRule(
                (f"{where}.quota", f"{where}.rate"),
                "is less than the rate allows in one of its periods. Are rate and quota swapped?",
            )


def _named(config: Config, where: str, consumer: ConsumerSection) -> Iterator[BrokenRule]:
    name, match = f"{where}.name", f"{where}.match"
    if not consumer.name and not consumer.match:
        yield BrokenRule((name, match), "is required, unless match is given")
    if consumer.name and consumer.match:
        yield BrokenRule((match, name), f"cannot be combined with the name {consumer.name}")
    if consumer.match and consumer.user:
        yield BrokenRule((f"{where}.user", match), "cannot be combined with match, which is for certificates")
    if consumer.match and not config.pki.ca:
        yield BrokenRule((match, "pki.ca"), "needs certificates of your own PKI: set ca in [pki]")


def _sinks(config: Config) -> Iterator[BrokenRule]:
    for index, sink in enumerate(config.sinks):
        if sink.kind != "stdout" and not sink.path:
            yield BrokenRule(
                (f"sink[{index}].path", f"sink[{index}].kind"), f"is required for kind {sink.kind}"
            )
        if sink.kind == "stdout" and sink.path:
            yield BrokenRule((f"sink[{index}].path", f"sink[{index}].kind"), "is not valid for kind stdout")


def _links(config: Config) -> Iterator[BrokenRule]:
    if config.upstreams and config.links.mix > len(config.upstreams):
        yield BrokenRule(("links.mix", "upstream"), f"{config.links.mix} exceeds the number of brokers")


_RULES: Final[tuple[Callable[[Config], Iterator[BrokenRule]], ...]] = (
    _reservoir, _sources, _doors, _egds, _ssh, _source_user, _shared_addresses, _names, _consumers, _sinks, _links,
)  # fmt: skip
