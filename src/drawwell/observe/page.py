"""The status page: one screen of HTML, readable without its script.

All names that a consumer or a device chose are escaped. Each event contains new versions of
the parts that have an id.
"""

import base64
import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlencode

from drawwell.observe.fleet import broker_state, store_state
from drawwell.observe.series import margin
from drawwell.observe.sparkline import sparkline
from drawwell.observe.troubles import troubles
from drawwell.units import format_duration, format_size

PAGE_CONSUMERS: Final = 20
"""The number of consumers on one page."""
_STYLE: Final = files("drawwell").joinpath("style.css").read_text()
_SCRIPT: Final = """\
const events = new EventSource("/ui/events" + location.search);
events.onmessage = ({data}) => {
  const next = new DOMParser().parseFromString(data, "text/html");
  for (const part of next.querySelectorAll("main > [id]")) {
    const old = document.getElementById(part.id);
    if (!old || old.outerHTML === part.outerHTML || old.matches(":focus-within")) continue;
    old.className = part.className;
    old.replaceChildren(...part.childNodes);
  }
  document.title = next.querySelector("main").dataset.title;
  document.body.classList.remove("stale");
};
events.onerror = () => document.body.classList.add("stale");
"""


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


POLICY: Final = (
    f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The value of the Content-Security-Policy header."""


def page(report: Mapping[str, Any], *, names: bool, search: str = "", after: str = "") -> str:
    """Return the whole page.

    Args:
        report: A `BrokerReport` or a `LinkReport` in its JSON form.
        names: Whether to include the names of consumers and guests.
        search: Show only consumers whose names contain this.
        after: Show the consumers after this name.
    """
    title, body = _title(report), parts(report, names=names, search=search, after=after)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{body}"
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def parts(report: Mapping[str, Any], *, names: bool, search: str = "", after: str = "") -> str:
    """Return the parts that an event replaces; see `page` for the arguments."""
    text = "".join(_parts(report, names=names, search=search, after=after))
    return f'<main data-title="{escape(_title(report))}">{" ".join(text.splitlines())}</main>'


def _title(report: Mapping[str, Any]) -> str:
    return " ".join(f"{report['name']}: {_verdict(report)}".splitlines())


def _parts(report: Mapping[str, Any], *, names: bool, search: str, after: str) -> Iterable[str]:
    yield _head(report)
    if "upstreams" in report:
        yield _section("links", "Links", _links(report))
        yield _section("notes", "Notes", _list(report["notes"], "No notes."))
        return
    yield _section("sources", "Sources", _sources(report["sources"]))
    yield _section("supply", "Supply and draws", _supply(report))
    if names:
        yield _section("guests", "Guests", _guests(report["guests"]))
        yield _search_form(search)
        yield _section("consumers", "Consumers", _consumers(report, search, after))
    if report.get("fleet"):
        yield _section("fleet", "Fleet", _fleet(report["fleet"]))
    yield _section("doors", "Doors and certificates", _doors(report))
    if names:
        yield _section(
            "events", "Last events", _list([_event(each) for each in report["events"]], "No events yet.")
        )
    yield _section("notes", "Notes", _list(report["notes"], "No notes."))


def _verdict(report: Mapping[str, Any]) -> str:
    found = troubles(report)
    return found[0].what if found else "no problems"


def _head(report: Mapping[str, Any]) -> str:
    found = troubles(report)
    level = "bad" if found and found[0].critical else "note" if found else "good"
    lines = "".join(
        f"<li class={'bad' if each.critical else 'note'}><i aria-hidden=true>{'✗' if each.critical else 'i'}</i>"
        f"<span>{escape(each.what)}. Run <code>{escape(each.type_this)}</code></span></li>"
        for each in found
    )
    ready = "The broker serves draws." if report["ready"] else "No draws can be served."
    return (
        f'<div id="head" role="status" class="head {level}">'
        f'<h1 class="subject">{escape(_verdict(report)[:1].upper() + _verdict(report)[1:])}</h1>'
        f"<p>{ready}</p>{f'<ul class=findings>{lines}</ul>' if lines else ''}</div>"
        f"<p id=about class=soft>{escape(report['name'])}, drawwell {escape(report['version'])},"
        f" up {escape(format_duration(report['uptime_s']))}.</p>"
    )


def _section(name: str, title: str, body: str) -> str:
    return f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>{body}</section>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> str:
    """Format a table of rows that are already HTML."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    if not body:
        return f"<p class=soft>{empty}</p>"
    columns = "".join(f"<th scope=col>{each}</th>" for each in head)
    return f"<div class=scroll tabindex=0><table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>"


def _list(lines: Sequence[str], empty: str) -> str:
    if not lines:
        return f"<p class=soft>{empty}</p>"
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _sources(sources: Sequence[Mapping[str, Any]]) -> str:
    rows = (
        (
            escape(each["identity"]["name"]) + (" (simulated)" if each["identity"]["simulated"] else ""),
            escape(each["identity"]["path"]),
            escape("silent" if each["stalled"] else str(each["state"])),
            f"{format_size(each['raw_rate_bytes_per_s'])}/s",
            "<br>".join(_margin(test) for test in each["tests"]),
            escape(each["last_error"]),
        )
        for each in sources
    )
    head = ("Source", "Device", "State", "Raw noise", "Below the cutoff by", "Last error")
    return _table(head, rows, "No source has connected.")


def _links(report: Mapping[str, Any]) -> str:
    rows = (
        (
            escape(each["url"]),
            "ready" if each["ready"] else escape(each["not_ready_because"]),
            "none" if each["certificate_left_s"] is None else _left(each["certificate_left_s"]),
        )
        for each in report["upstreams"]
    )
    drawn = f"<p>{format_size(report['drawn_bytes'])} in {report['draws']} draws.</p>"
    return _table(("Broker", "State", "Certificate"), rows, "This machine has joined no broker.") + drawn


def _left(left_s: float) -> str:
    return f"{format_duration(left_s)} left" if left_s > 0 else "expired"


def _margin(test: Mapping[str, Any]) -> str:
    day = [1 - nearness for nearness in test.get("history", ()) if nearness is not None]
    least = f", at least {min(day):.0%} in the last 24 hours" if day else ""
    return f"{escape(test['name'])} of {escape(test['unit'])}s: {margin(test):.0%}{least}{sparkline(day)}"


def _supply(report: Mapping[str, Any]) -> str:
    draws, ledger = report["draws"], report["ledger"]
    refused = ", ".join(f"{count} {escape(kind)}" for kind, count in sorted(draws["refused"].items()))
    facts = (
        (
            "Reservoir",
            f"{format_size(report['reservoir_bytes'])} of {format_size(report['reservoir_capacity_bytes'])}",
        ),
        ("Supply", f"{format_size(report['supply_bytes_per_s'])}/s of full entropy"),
        (
            "Draws",
            ", ".join(f"{count} {escape(kind)}" for kind, count in sorted(draws["granted"].items()))
            or "none",
        ),
        ("Refused", refused or "none"),
        (
            "Delivered",
            f"{format_size(ledger['delivered_bits'] / 8)} full, {format_size(ledger['drbg_bytes'])} drbg",
        ),
        ("Time starved", escape(format_duration(draws["starved_s"]))),
        ("Sessions", str(report["sessions"])),
        ("Consumers", f"{report['consumers_active']} active, {report['consumers_invited']} invited"),
    )
    return f"<dl class=facts>{''.join(f'<dt>{name}</dt><dd>{value}</dd>' for name, value in facts)}</dl>"


def _consumers(report: Mapping[str, Any], search: str, after: str) -> str:
    found = sorted(
        (each for each in report["consumers"] if search in each["name"]), key=lambda each: str(each["name"])
    )
    behind = [each for each in found if each["name"] > after]
    shown = behind[:PAGE_CONSUMERS]
    rows = (
        (
            escape(each["name"]) + (f" ({escape(each['guest'])})" if each["guest"] else ""),
            str(each["draws"]),
            str(each["refused"]),
            format_size(each["full_bytes"] + each["drbg_bytes"]),
            escape(each["rate"]) or "none",
            escape(each["quota"]) or "none",
            "" if each["quota_left_bytes"] is None else format_size(each["quota_left_bytes"]),
        )
        for each in shown
    )
    more = ""
    if len(behind) > len(shown):
        query = urlencode({"search": search, "after": shown[-1]["name"]}, errors="replace")
        more = f'<p><a href="/ui?{escape(query)}">Next ({len(behind) - len(shown)} more)</a></p>'
    if report["consumers_left_out"]:
        more += (
            f"<p>{report['consumers_left_out']} others drew less: see <code>drawwell consumer list</code></p>"
        )
    head = ("Consumer", "Draws", "Refused", "Had", "Rate", "Quota", "Left")
    among = f" among the {len(report['consumers'])} that drew most" if report["consumers_left_out"] else ""
    return _table(head, rows, f"No matching consumer{among}.") + more


def _search_form(search: str) -> str:
    """Return the form as a separate part: an event would clear its field."""
    return (
        "<form id=search action=/ui><label>Consumers whose names contain "
        f'<input name=search value="{escape(search)}"></label> <button>Search</button></form>'
    )


def _fleet(fleet: Mapping[str, Any]) -> str:
    rows = (
        (
            escape(each["name"]),
            escape(broker_state(each)),
            f"{format_duration(each['seen_s'])} ago",
            "<br>".join(escape(f"{source['name']}: {source['state']}") for source in each["sources"]),
            format_size(each["leased_bytes"]),
            str(each["sessions"]),
            escape(each["version"]),
            "<br>".join(escape(address) for address in each["addresses"]),
        )
        for each in fleet["brokers"]
    )
    head = ("Broker", "State", "Seen", "Sources", "Leased", "Sessions", "Version", "Address")
    return f"<p>{escape(store_state(fleet))}</p>" + _table(head, rows, "No broker has reported yet.")


def _guests(guests: Sequence[Mapping[str, Any]]) -> str:
    rows = (
        (
            escape(each["name"]),
            escape(f"{each['kind']}, {each['via']}"),
            "connected" if each["connected"] else "not connected",
            format_size(each["consumed_bytes"]),
            format_size(each["owed_bytes"]),
            escape(each["fault"] or each["waits"]),
        )
        for each in guests
    )
    return _table(("Guest", "Connection", "State", "Taken", "Owed", "Problem"), rows, "No guests.")


def _event(line: Mapping[str, Any]) -> str:
    """Describe a line of the operators' audit log."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(line["time"]))
    details = " ".join(f"{key}={value}" for key, value in line.items() if key not in {"time", "event"})
    return f"{moment}  {line['event']}  {details}"


def _doors(report: Mapping[str, Any]) -> str:
    certificates = [f"certificate {each['name']}: {_left(each['left_s'])}" for each in report["certificates"]]
    return _list([*report["doors"], *certificates], "No doors are open.")
