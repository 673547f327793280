"""Families of samples, and the functions that read them from a report."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Part = Mapping[str, Any]
"""A report, or a part of one, in the form that `as_json` returns."""
Read = Callable[[Part], float | None]
Samples = Callable[[Part], Iterable["Sample"]]


class SeriesKind(StrEnum):
    """The types that a series can have (OpenMetrics 1.0, section 5)."""

    GAUGE = "gauge"
    COUNTER = "counter"
    INFO = "info"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Sample:
    """One value and its labels; `suffix` marks a part of a histogram."""

    value: float
    labels: tuple[tuple[str, str], ...] = ()
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """A family of samples.

    `name` ends with the unit and lacks the suffix of its kind. `names` marks a series with
    consumers' names; unauthenticated readers do not receive it.
    """

    name: str
    kind: SeriesKind
    unit: str
    what: str
    labels: tuple[str, ...]
    read: Samples
    names: bool = False

    @property
    def full_name(self) -> str:
        """The name of the samples in a query."""
        suffix = {SeriesKind.COUNTER: "_total", SeriesKind.INFO: "_info"}.get(self.kind, "")
        return f"drawwell_{self.name}{suffix}"


def one(read: Read) -> Samples:
    """Read one value."""

    def samples(report: Part) -> Iterator[Sample]:
        yield Sample(float(read(report) or 0))

    return samples


def each(parts: str, label: str, name: Callable[[Part], str], read: Read) -> Samples:
    """Read a value from each part, labelled with the part's name; omit None."""

    def samples(report: Part) -> Iterator[Sample]:
        for part in report[parts]:
            value = read(part)
            if value is not None:
                yield Sample(float(value), ((label, name(part)),))

    return samples
