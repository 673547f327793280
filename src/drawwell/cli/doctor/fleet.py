"""The doctor's checks of a fleet: the store and the other brokers."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from drawwell.cli.doctor.finding import DoctorFinding
from drawwell.errors import DrawwellError
from drawwell.observe.fleet import fleet_troubles, store_state

if TYPE_CHECKING:
    from drawwell.config.model import Config


def fleet_findings(report: dict[str, Any] | None, config: "Config | None" = None) -> Iterator[DoctorFinding]:
    """Yield findings about the fleet that a broker's report describes, if any.

    If no broker answers, check the store in the configuration.
    """
    fleet = report.get("fleet") if report else None
    if (report is None or "unanswered" in report) and config and config.fleet.store:
        yield _store(config)
    if not fleet:
        return
    found = list(fleet_troubles(fleet))
    for each in found:
        yield DoctorFinding("problem", "fleet", each.what, f"Run '{each.type_this}'.", each.type_this)
    if not found:
        brokers = len(fleet["brokers"])
        yield DoctorFinding("good", "fleet", f"{brokers} brokers of {fleet['name']}, {store_state(fleet)}")


def _store(config: "Config") -> DoctorFinding:
    try:
        from drawwell.fleet.parts import ask_store

        standing = ask_store(config)
    except ImportError as error:
        install = "apt install python3-psycopg"
        return DoctorFinding("problem", "fleet", str(error), f"Run '{install}'.", install)
    except DrawwellError as error:
        return DoctorFinding.of_error("fleet", error)
    return DoctorFinding(
        "good", "fleet", f"the store answers, {standing.replication}; its schema matches this version"
    )
