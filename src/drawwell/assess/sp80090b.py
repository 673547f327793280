"""SP 800-90B, section 3.1.3: the initial entropy estimate by the ten non-IID estimators."""

from typing import TYPE_CHECKING

from drawwell.assess.results import NonIidResult, ProgressCallback

if TYPE_CHECKING:
    import numpy as np


def assess(
    samples: "bytes | bytearray | memoryview | np.ndarray[tuple[int], np.dtype[np.uint8]]",
    bits_per_sample: int | None = None,
    *,
    progress: ProgressCallback | None = None,
    threads: int = 2,
) -> NonIidResult:
    """Estimate the min-entropy of raw noise, one sample a byte.

    Raises:
        BadData: empty, too short, one symbol only, or wider than declared.
        MissingExtra: NumPy is not installed.
    """
    raise NotImplementedError
