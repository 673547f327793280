"""Identities that a pattern admits, and the names of their consumers."""

import pytest

from drawwell.enrolment.patterns import consumer_named, first_match, is_identity

LINK = "spiffe://td/ns/*/sa/link"


@pytest.mark.parametrize(
    ("kind", "pattern", "name"),
    [
        ("uri", LINK, "spiffe://td/ns/web/sa/link"),
        ("uri", "spiffe://td/ns/we?/sa/[lk]*", "spiffe://td/ns/web/sa/link"),
        ("uri", "drawwell://consumer/web*", "drawwell://consumer/web01"),
        ("dns", "*.nodes.example.org", "dns:n1.nodes.example.org"),
        ("cn", "node-*", "cn:node-7.rack/2"),
    ],
)
def test_a_pattern_admits_what_is_like_it(kind: str, pattern: str, name: str) -> None:
    """A wildcard matches any text within one part of an identity."""
    assert first_match(kind, [pattern], name) == 0


@pytest.mark.parametrize(
    ("kind", "pattern", "name"),
    [
        ("uri", LINK, "spiffe://td/ns/web/x/sa/link"),
        ("uri", LINK, "spiffe://td/ns/web/sa/link/x"),
        ("uri", LINK, "spiffe://other/ns/web/sa/link"),
        ("uri", "*", "web01"),
        ("uri", "spiffe://td/*", f"spiffe://td/{'x' * 250}"),
        ("uri", "spiffe://td/*", "spiffe://td/\x1b[2J"),
        ("dns", "*.example.org", "dns:a.b.example.org"),
        ("dns", "*.example.org", "a.example.org"),
        ("cn", "*", "local"),
    ],
    ids=[
        "one part too many", "a longer path", "another trust domain", "a plain name", "too long for a receipt",
        "no printable text", "two labels", "another kind", "this machine's own",
    ],
)  # fmt: skip
def test_a_pattern_admits_nothing_else(kind: str, pattern: str, name: str) -> None:
    """A wildcard never matches a separator or admits a plain name."""
    assert first_match(kind, [pattern], name) is None


def test_the_first_pattern_in_the_file_counts() -> None:
    """If two patterns match, the index of the first is returned."""
    assert first_match("uri", ["x:*", "spiffe://td/*", "spiffe://*/*"], "spiffe://td/a") == 1


def test_no_configured_name_of_the_short_form_is_an_identity() -> None:
    """Consumers from a pattern and other consumers cannot share a name."""
    assert not is_identity("web01.example.org")


def test_a_dns_name_is_one_consumer_in_any_case() -> None:
    """A name in another case shares the same quota."""
    names = {consumer_named("dns", name) for name in ("n1.example.org", "N1.Example.ORG")}

    assert names == {"dns:n1.example.org"}
    assert first_match("dns", ["*.Example.org"], names.pop()) == 0
    assert first_match("dns", ["*.example.org"], "dns:N1.example.org") is None
