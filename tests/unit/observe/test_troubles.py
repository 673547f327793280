"""observe/troubles.py: every command that a problem names can be typed."""

import shlex
from dataclasses import replace

from drawwell.cli.parser import parse
from drawwell.observe.troubles import troubles
from drawwell.reports import CertificateReport, Firmware, SourceState, as_json
from support.reports import broker_report


def test_each_command_is_one_that_can_be_typed() -> None:
    """The program's own parser accepts the command of every problem."""
    well = broker_report()
    source = well.sources[0]
    sources = (
        replace(source, paused=True),
        replace(source, state=SourceState.OFF),
        replace(source, identity=replace(source.identity, simulated=True, firmware=Firmware.NOT_VERIFIED)),
    )
    report = replace(
        well,
        sources=sources,
        ledger=replace(well.ledger, balanced=False),
        certificates=tuple(CertificateReport(name, 1.0) for name in ("ca", "intermediate", "server")),
        guests=(replace(well.guests[0], fault="no door"),),
        clock_jumped=True,
        audit_trouble=True,
        state_trouble=True,
        signer_away=True,
        reservoir_bytes=0,
    )
    typed = {each.type_this for each in troubles(as_json(report))}
    assert "drawwell onerng resume stick" in typed
    for command in typed - {"systemctl start drawwell-signer"}:
        program, *arguments = shlex.split(command)
        assert program == "drawwell"
        assert parse(arguments)
