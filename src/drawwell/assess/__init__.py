"""Pure: statistical assessment of bytes, never on the draw path.

As a library::

    from drawwell.assess import assess

    result = assess(open("noise.bin", "rb").read())
    print(result.min_entropy, "bits per sample")

Imports are lazy: the block tests of ``fips140`` need only the standard library. ``assess``
needs NumPy, and is fast only with Numba: ``pip install drawwell[assess]``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drawwell.assess.results import (
        Ceiling,
        Column,
        Estimate,
        NonIidResult,
        Progress,
        ProgressCallback,
    )
    from drawwell.assess.sp80090b import assess

__all__ = [
    "Ceiling",
    "Column",
    "Estimate",
    "NonIidResult",
    "Progress",
    "ProgressCallback",
    "assess",
]


def __getattr__(name: str) -> Any:
    if name == "assess":
        from drawwell.assess.sp80090b import assess  # noqa: PLC0415

        return assess
    if name in __all__:
        from drawwell.assess import results  # noqa: PLC0415

        return getattr(results, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
