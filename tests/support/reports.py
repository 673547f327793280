"""A broker's report with one item of every kind."""

from drawwell.reports import (
    BrokerReport,
    CertificateReport,
    ConsumerReport,
    DrawsReport,
    DriftReport,
    Firmware,
    FleetBrokerReport,
    FleetReport,
    FleetSourceReport,
    GuestReport,
    HealthTestReport,
    LedgerReport,
    SinkReport,
    SourceIdentity,
    SourceReport,
    SourceState,
)


def broker_report() -> BrokerReport:
    """Return an unready broker's report, with one item of every kind."""
    source = SourceReport(
        SourceIdentity("stick", "onerng", "/dev/ttyACM0", firmware=Firmware.VERIFIED),
        SourceState.HEALTHY,
        paused=False,
        health_epoch=1,
        raw_bytes=100_000,
        tested_bytes=90_000,
        discarded_bytes=4096,
        assessed_bits=540_000,
        conditioned_bits=480_000,
        raw_rate_bytes_per_s=40_000.0,
        health_failures=1,
        reconnects=2,
        last_error="",
        tests=(HealthTestReport("repetition count", "sample", 6.0, 0, 11, 21, 9, 1, 4),),
        drift=DriftReport(6.5),
    )
    return BrokerReport(
        "well", "1.0", 3600.0, ready=False, not_ready_because="0 of 1 noise sources are healthy, but min_sources is 1",
        min_sources=1, healthy_sources=1, reservoir_bytes=4096, reservoir_capacity_bytes=8192,
        supply_bytes_per_s=31_950.0,
        ledger=LedgerReport(540_000, 480_000, 400_000, 0, 0, 0, 80_000, 640, balanced=True),
        sources=(source,),
        consumers=(ConsumerReport("web01", 7, 2, 100, 64, "1KiB/s", "1MiB/day", 500, "full"),),
        sinks=(SinkReport("kernel", 3, 1536, 12_288, 1, ""),),
        draws=DrawsReport({"full": 7}, {"Starved": 2}, (5, 0, 1, 0, 0, 0, 1), 75.5, 80.0),
        guests=(GuestReport("vm01", "qemu", "virtio", 1, 0, 512, "", ""),),
        events=({"time": 0.0, "event": "consumer.invite", "name": "web01"},),
        sessions=3, handshakes_waiting=1, certificates=(CertificateReport("server", 604_800.0),),
    )  # fmt: skip


def fleet_report() -> FleetReport:
    """Return the report of a healthy fleet of two brokers."""
    brokers = tuple(
        FleetBrokerReport(
            name, 2.0, (f"{name}.example:55000",), "1.0", "c" * 64, ready=True,
            sources=(FleetSourceReport("stick", "onerng", "healthy", device=device * 32),),
            sessions=3, leases=2, leased_bytes=4096,
        )
        for name, device in (("well", "1"), ("site-b", "2"))
    )  # fmt: skip
    return FleetReport(
        "example", "postgresql://drawwell@db1,db2/drawwell", 900.0, answer_s=0.004,
        replication="synchronous", standbys=1, standby_lag_s=0.02, brokers=brokers,
    )  # fmt: skip
