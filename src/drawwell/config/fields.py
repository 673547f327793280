"""The one mechanism behind every setting: a dataclass field that carries its own documentation.

The sample file, the manual page drawwell.toml(5), ``config show`` and the loader all read it from here.
"""

import dataclasses
from dataclasses import field
from typing import Any, Final, NamedTuple

from drawwell.config.values import ValueKind

_KEY: Final = "setting"


class Setting(NamedTuple):
    """What an operator may know about one key.

    `attribute` is the name in Python, `key` the name in the file. `default` is what the attribute holds when
    the key is not written, None where `default_is` tells how it is found. `example` is TOML, and so is `sample`:
    the default where it can be written down, an example otherwise.
    """

    attribute: str
    key: str
    kind: ValueKind
    what: str
    why: str
    default: Any
    default_is: str
    example: str
    sample: str
    required: bool

    @property
    def range(self) -> str:
        """What may be written, in words."""
        return self.kind.range


def setting(
    kind: ValueKind,
    default: object = None,
    *,
    what: str,
    why: str,
    example: str,
    key: str = "",
    default_is: str = "",
    required: bool = False,
) -> Any:
    """Make a dataclass field of one setting; `default` is written as in the file."""
    parsed = None if default is None else kind.parse(default)
    literal = "" if default is None else kind.write(parsed)
    words = default_is or literal or "none, it must be given"
    about = Setting("", key, kind, what, why, parsed, words, example, literal or example, required)
    return field(default=parsed, metadata={_KEY: about})


def settings(section: type) -> tuple[Setting, ...]:
    """All settings of a section, in the order of the sample file."""
    return tuple(
        about._replace(attribute=each.name, key=about.key or each.name)
        for each in dataclasses.fields(section)
        if (about := each.metadata.get(_KEY)) is not None
    )
