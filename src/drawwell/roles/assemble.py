"""From the configuration's words to drivers, rules and sinks."""

from drawwell.config.drawing import SinkSection
from drawwell.config.model import Config
from drawwell.config.serving import SourceSection
from drawwell.drivers.chardev import CharDeviceSource
from drawwell.drivers.execute import ExecSource
from drawwell.drivers.onerng import OneRngSource
from drawwell.drivers.replay import ReplaySource
from drawwell.entropy.health import NoiseClaim
from drawwell.errors import ConfigError, UsageError
from drawwell.ports import NoiseSource, Sink
from drawwell.sinks.fifo import FifoSink
from drawwell.sinks.file import FileSink
from drawwell.sinks.stdout import StdoutSink


def make_driver(section: SourceSection) -> tuple[NoiseSource, NoiseClaim]:
    """Return the driver of one [[source]], and what its noise is assessed at."""
    claim = NoiseClaim() if section.min_entropy is None else NoiseClaim(section.min_entropy)
    return _driver(section, claim.min_entropy), claim


def _driver(section: SourceSection, min_entropy: float) -> NoiseSource:
    name, path = section.name, section.path
    match section.driver:
        case "onerng":
            return OneRngSource(
                name, path=path, mode=section.mode, verify=section.verify_firmware, stall_s=section.stall
            )
        case "chardev":
            return CharDeviceSource(
                name,
                path,
                min_entropy,
                stall_s=section.stall,
                allow_os_generator=section.allow_os_generator,
            )
        case "exec":
            return ExecSource(name, section.command, min_entropy, stall_s=section.stall)
        case "replay":
            return ReplaySource(name, path, loop=section.loop)
    raise ConfigError(f"source {name}: no driver is called {section.driver!r}")


def pick_source(config: Config, wanted: str | None) -> SourceSection:
    """Return the configured source with that name or path; a device node that nobody configured is a OneRNG.

    Raises:
        UsageError: nothing of that name, or several and none named.
    """
    for section in config.sources:
        if wanted in {section.name, section.path} or (wanted is None and len(config.sources) == 1):
            return section
    if wanted and wanted.startswith("/"):
        return SourceSection(name="onerng", path=wanted)
    names = ", ".join(section.name for section in config.sources) or "none"
    raise UsageError(
        f"no source {wanted!r}" if wanted else "which source?", hint=f"Configured sources: {names}."
    )


def make_sink(section: SinkSection) -> Sink:
    """Return the sink of one [[sink]]."""
    match section.kind:
        case "fifo":
            return FifoSink(section.path, chunk_bytes=section.chunk)
        case "file":
            return FileSink(section.path, chunk_bytes=section.chunk)
    return StdoutSink(chunk_bytes=section.chunk)
