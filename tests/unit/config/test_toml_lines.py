"""The scanner that finds the line of each key."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawwell.config.toml_lines import key_lines
from support.examples import examples


def test_keys_tables_and_lists_of_tables() -> None:
    """Keys, headers and items of lists of tables have their own lines."""
    text = (
        '# one\n[broker]\nname = "a"\n\n[[source]]\ndriver="onerng"\n[[source]]\n  path = "/dev/x" # seven\n'
    )
    assert key_lines(text) == {
        ("broker",): 2,
        ("broker", "name"): 3,
        ("source",): 5,
        ("source", 0): 5,
        ("source", 0, "driver"): 6,
        ("source", 1): 7,
        ("source", 1, "path"): 8,
    }


def test_dotted_and_quoted_keys() -> None:
    """A dotted key names each table on its path; quoted parts are decoded."""
    lines = key_lines('a = 1\nb.c = 2\n"d e" . \'f.g\'."\\u0068" = 3\n[ x . "y" ]\nz = 1\n')
    assert lines[("b",)] == lines[("b", "c")] == 2
    assert lines[("d e", "f.g", "h")] == 3
    assert lines[("x", "y")] == 4
    assert lines[("x", "y", "z")] == 5


def test_inline_tables_and_lists() -> None:
    """Keys and items inside them are found, across lines and comments."""
    lines = key_lines('a = { b = 1, c = { d = "}" } }\nl = [\n  1, # ]\n  { e = 2 },\n  [3],\n]\nz = 0\n')
    assert lines[("a", "c", "d")] == 1
    assert lines[("l", 0)] == 3
    assert lines[("l", 1, "e")] == 4
    assert lines[("l", 2, 0)] == 5
    assert lines[("z",)] == 7


@pytest.mark.parametrize(
    "value",
    [
        '"""\nk = 1\n[x]\n\\"""\n"""',
        "'''\nk = 1\n'' [x]\n'''''",
        '"""a""b"""""',
        '""""""',
        "''",
        '"\\"#\\\\"',
        "[\n'''\n]''', \"\"\"\n\"\"\"]",
    ],
)
def test_strings_hide_what_looks_like_keys(value: str) -> None:
    """Nothing inside a string is a key, and line counting continues correctly."""
    text = f"a = {value}\nb = 1\n"
    assert set(tomllib.loads(text)) == {"a", "b"}
    lines = key_lines(text)
    assert {key for key in lines if len(key) == 1} == {("a",), ("b",)}
    assert lines[("b",)] == 2 + value.count("\n")


def test_lists_of_tables_nest() -> None:
    """An inner list of tables belongs to the latest item of the outer list."""
    lines = key_lines("[[a]]\n[[a.b]]\nc = 1\n[[a]]\n[[a.b]]\n[[a.b]]\nc = 2\n[a.d]\ne = 3\n")
    assert lines[("a", 0, "b", 0, "c")] == 3
    assert lines[("a", 1, "b", 1, "c")] == 7
    assert lines[("a", 1, "d", "e")] == 9


def test_windows_line_ends() -> None:
    """Carriage returns do not hide keys or shift lines."""
    assert key_lines("a = 1\r\n\r\nb = '''\r\n'''\r\nc = 2\r\n") == {("a",): 1, ("b",): 3, ("c",): 5}


_KEYS = st.from_regex(r"[a-c]", fullmatch=True) | st.sampled_from(['"a b"', "'x.y'", '"#"'])
_SCALARS = st.sampled_from(
    ["1", "-0.5", "true", "1979-05-27T07:32:00Z", '"s # [x]"', "'''\n#\n'''", '"""\n\\"\n"""']
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[\n" + " ,\n# , ]\n".join(items) + "\n]"),
        st.lists(inner.filter(lambda text: "\n" not in text), max_size=2).map(
            lambda items: "{" + ", ".join(f"k{i} = {item}" for i, item in enumerate(items)) + "}"
        ),
    ),
    max_leaves=6,
)
_LINES = st.one_of(
    st.tuples(st.lists(_KEYS, min_size=1, max_size=2).map(".".join), _VALUES).map(" = ".join),
    st.lists(_KEYS, min_size=1, max_size=2).map(lambda keys: f"[{'.'.join(keys)}]"),
    st.lists(_KEYS, min_size=1, max_size=2).map(lambda keys: f"[[{'.'.join(keys)}]]  # x"),
    st.just("# [comment]"),
    st.just(""),
)


def _paths(value: object, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    found = {path} if path else set()
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        found |= _paths(child, (*path, key))
    return found


@settings(max_examples=examples(300))
@given(st.lists(_LINES, max_size=12))
def test_every_key_of_any_document_is_found(chunks: list[str]) -> None:
    """The scanner finds the same keys as tomllib, on the right lines."""
    text, expected, found = "", set(), {}
    for chunk in chunks:
        first = text.count("\n") + 1
        try:
            paths = _paths(tomllib.loads(text + chunk))
        except tomllib.TOMLDecodeError:  # for instance a key given twice
            continue
        text += chunk + "\n"
        found = key_lines(text)
        last = text.count("\n")
        assert {
            path: line for path, line in found.items() if not first <= line <= last and path not in expected
        } == {}
        expected = paths
        assert set(found) == expected
