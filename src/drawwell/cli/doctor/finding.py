"""A finding of the doctor."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class DoctorFinding:
    """A finding: `level` is good, note or problem; `hint` describes the fix."""

    level: str
    subject: str
    words: str  # wording: a JSON key
    hint: str = ""

    @property
    def line(self) -> str:
        return f"{self.subject}: {self.words}"  # wording: a JSON key

    def document(self) -> dict[str, str]:
        return asdict(self)
