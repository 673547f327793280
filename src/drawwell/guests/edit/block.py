"""Pure: a marked block in another program's configuration file."""

import re
from dataclasses import dataclass
from typing import Final

from drawwell.errors import ConfigError

_JOINED: Final = " (and the line end before this line)"


@dataclass(frozen=True, slots=True)
class Block:
    """The block of one guest; `keys` are its lines."""

    kind: str
    name: str
    keys: tuple[str, ...]

    @property
    def begin(self) -> str:
        """The first line of the block."""
        return f"{_begin(self.name)}; remove it with 'drawwell guest apply {self.kind} {self.name} --remove'"

    def text(self, *, joined: bool = False) -> str:
        """Return the block; `joined`: whether we added a newline before it."""
        return "\n".join([self.begin + (_JOINED if joined else ""), *self.keys, _end(self.name), ""])


def with_block(config: str, block: Block) -> str:
    """Return the file with this block, in its old place or at the end.

    Raises:
        ConfigError: an old block has lost its first or last marker.
    """
    before, after = _parted(config, block.name)
    if after is None:
        before, after = (config, "")
    joined = bool(before) and not before.endswith("\n")
    return before + ("\n" if joined else "") + block.text(joined=joined) + after


def without_block(config: str, name: str) -> str:
    """Return the file without the block; same errors as `with_block`."""
    before, after = _parted(config, name)
    if after is None:
        return config
    lines_meet = before and after and not before.endswith("\n")
    return before + ("\n" if lines_meet else "") + after


def has_block(config: str, name: str) -> bool:
    """Return whether the file has this guest's block, even a damaged one."""
    return _begin(name) in config


def _begin(name: str) -> str:
    return f"# drawwell: guest {name} begins"


def _end(name: str) -> str:
    return f"# drawwell: guest {name} ends"


def _parted(config: str, name: str) -> tuple[str, str | None]:
    """Split the file around our block; without one, the second part is None."""
    begins = list(re.finditer(rf"^{re.escape(_begin(name))}(?:;[^\n]*)?$", config, re.MULTILINE))
    ends = list(re.finditer(rf"^{re.escape(_end(name))}[ \t\r]*$\n?", config, re.MULTILINE))
    if not begins and not ends:
        return config, None
    if len(begins) != 1 or len(ends) != 1 or ends[0].start() < begins[0].end():
        raise ConfigError(
            f"the block of guest {name} is damaged: its first or last line is missing or duplicated",
            hint=f"Delete every line from '{_begin(name)}' to '{_end(name)}' and try again.",
        )
    start = begins[0].start()
    if begins[0][0].rstrip().endswith(_JOINED) and config[start - 1 : start] == "\n":
        start -= 1
    return config[:start], config[ends[0].end() :]
