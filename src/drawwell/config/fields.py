"""Settings: dataclass fields that contain their own documentation.

The sample file, drawwell.toml(5), ``config show`` and the loader use this documentation.
"""

from dataclasses import Field, FrozenInstanceError, dataclass, field, fields
from typing import Any, ClassVar, Final, NamedTuple, NoReturn, dataclass_transform

from drawwell.config.values import ValueKind

_KEY: Final = "setting"


class Setting(NamedTuple):
    """The documentation of one key.

    `attribute` is the name in Python, `key` the name in the file. `default` is the value if
    the key is missing, or None if `default_is` describes the default. `example` is TOML.
    `sample` is also TOML: the default if TOML can express it, else the example.
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
        """A description of the valid values."""
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
    """Return a dataclass field for a setting; `default` is as in the file."""
    parsed = None if default is None else kind.parse(default)
    literal = "" if default is None else kind.write(parsed)
    described = default_is or literal or "none; required"
    about = Setting("", key, kind, what, why, parsed, described, example, literal or example, required)
    return field(default=parsed, metadata={_KEY: about})


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Section:
    """Base class of all sections: frozen, with a default for each field.

    Methods are not generated for each class, because that would slow the start of ``draw``.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __init_subclass__(cls) -> None:
        dataclass(cls, init=False, repr=False, eq=False, match_args=False)

    def __init__(self, **values: Any) -> None:
        if unknown := values.keys() - self.__dataclass_fields__.keys():
            raise TypeError(f"{type(self).__name__} has no {unknown}")
        self.__dict__.update({each.name: values.get(each.name, each.default) for each in fields(self)})

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"
        )

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")


def settings(section: type[Section]) -> tuple[Setting, ...]:
    """Return the settings of a section in the order of the sample file."""
    return tuple(
        about._replace(attribute=each.name, key=about.key or each.name)
        for each in fields(section)
        if (about := each.metadata.get(_KEY)) is not None
    )
