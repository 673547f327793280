"""A broker's row in its fleet's store, displayed by the other brokers."""

from drawwell import __version__
from drawwell.broker.devices import device_id
from drawwell.fleet.own_row import OwnRow
from drawwell.reports import BrokerReport, FleetSourceReport, as_json
from drawwell.roles.doors import Doors


def fleet_row(report: BrokerReport, doors: Doors, receipt_key: str) -> OwnRow:
    """Return the row of a broker with these doors; see `OwnRow`."""
    sources = [
        FleetSourceReport(
            each.identity.name,
            each.identity.kind,
            "paused" if each.paused else "silent" if each.stalled else str(each.state),
            each.identity.simulated,
            device_id(each) if each.health_epoch else "",
        )
        for each in report.sources
    ]
    described = {
        "ready": report.ready,
        "not_ready_because": report.not_ready_because,
        "sources": [as_json(each) for each in sources],
        "sessions": doors.sessions(),
    }
    return OwnRow(doors.config.tls.addresses, doors.server_key, receipt_key, __version__, described)
