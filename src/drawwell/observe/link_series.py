"""The series of a process with links to brokers on other machines."""

from typing import Final

from drawwell.observe.family import Part, Read, Samples, Series, SeriesKind, each, one
from drawwell.observe.series import SERIES

_LABELS: Final = ("upstream",)
_SHARED: Final = {"build", "ready", "not_ready", "uptime_seconds"}


def _each_link(read: Read) -> Samples:
    return each("upstreams", "upstream", lambda upstream: str(upstream["url"]), read)


OWN: Final = (
    Series(
        "link_ready", SeriesKind.GAUGE, "", "1 while a broker on another machine can serve draws.", _LABELS,
        _each_link(lambda upstream: upstream["ready"]),
    ),
    Series(
        "link_certificate_expiry_seconds", SeriesKind.GAUGE, "seconds",
        "Time until the certificate for a broker on another machine expires.", _LABELS,
        _each_link(lambda upstream: upstream["certificate_left_s"]),
    ),
    Series("link_draws", SeriesKind.COUNTER, "", "Draws through the links.", (), one(lambda link: link["draws"])),
    Series(
        "link_drawn_bytes", SeriesKind.COUNTER, "bytes", "Bytes drawn through the links.", (),
        one(lambda link: link["drawn_bytes"]),
    ),
)  # fmt: skip
"""The series that a broker does not have."""
LINK_SERIES: Final = (*(series for series in SERIES if series.name in _SHARED), *OWN)
EVERY_SERIES: Final = (*SERIES, *OWN)


def series_of(report: Part) -> tuple[Series, ...]:
    """Return the series of a `BrokerReport` or `LinkReport` in JSON form."""
    return LINK_SERIES if "upstreams" in report else SERIES
