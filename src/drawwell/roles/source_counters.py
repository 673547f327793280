"""Counters of one source across reconnects."""

from dataclasses import dataclass

from drawwell.entropy.blocks import TestedBlock


@dataclass(slots=True)
class SourceCounters:
    """Bytes and bits since the role was created.

    `reading_s` is the time spent on reading blocks that passed the tests.
    """

    raw_bytes: int = 0
    tested_bytes: int = 0
    discarded_bytes: int = 0
    assessed_bits: int = 0
    conditioned_bits: int = 0
    reconnects: int = 0
    reading_s: float = 0.0

    @property
    def raw_bytes_per_s(self) -> float:
        """Tested bytes per second of reading; 0 until measured."""
        return self.tested_bytes / self.reading_s if self.reading_s else 0.0

    @property
    def supply_bytes_per_s(self) -> float:
        """Full-entropy bytes per second of reading; 0 until measured."""
        return self.conditioned_bits / 8 / self.reading_s if self.reading_s else 0.0

    def note(self, block: TestedBlock) -> None:
        """Count a block that passed the tests."""
        self.tested_bytes += len(block)
        self.assessed_bits += block.assessed
