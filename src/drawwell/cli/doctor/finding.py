"""One thing that the doctor saw."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class DoctorFinding:
    """`level` is good, note or problem; `hint` is what to type."""

    level: str
    subject: str
    words: str
    hint: str = ""

    def document(self) -> dict[str, str]:
        """As JSON."""
        return asdict(self)
