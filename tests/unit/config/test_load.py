"""Reading the configuration: defaults, layers, origins."""

import os
from dataclasses import replace
from pathlib import Path

from drawwell.config.defaults import HostFacts
from drawwell.config.load import load
from drawwell.config.values import HostPort
from drawwell.units import Allowance
from support.configurations import ROOT, load_text

USER = HostFacts(
    "well-1.example", 1000, "/home/ann", {"XDG_RUNTIME_DIR": "/run/user/1000"}, {}.get, set().__contains__
)


# ---- defaults


def test_nothing_needs_to_be_configured(tmp_path: Path) -> None:
    """Without a file: one detected OneRNG, a broker, and the consumer local."""
    config = load(None, directory=str(tmp_path), machine=ROOT)
    assert [(each.name, each.driver, each.path, each.min_entropy) for each in config.sources] == [
        ("onerng", "onerng", "auto", 6.0)
    ]
    assert config.broker.name == "well-1.example"
    assert config.unix.path == "/run/drawwell/draw.sock"
    assert config.control.path == "/run/drawwell/control.sock"
    assert [each.name for each in config.consumers] == ["local"]
    assert (config.tls.listen, config.enrol.listen, config.health.listen) == (None, None, None)
    assert (config.serves, config.has_sinks) == (True, False)


def test_directories_of_root_and_of_a_user(tmp_path: Path) -> None:
    """Root uses system directories, a user their own; systemd's have priority."""
    broker = load(None, directory=str(tmp_path), machine=ROOT).broker
    assert (broker.state_dir, broker.run_dir) == ("/var/lib/drawwell", "/run/drawwell")
    broker = load(None, directory=str(tmp_path), machine=USER).broker
    assert (broker.state_dir, broker.run_dir) == (
        "/home/ann/.local/state/drawwell",
        "/run/user/1000/drawwell",
    )
    bare = HostFacts("x", 1000, "/home/ann", {}, {}.get, set().__contains__)
    assert load(None, directory=str(tmp_path), machine=bare).broker.run_dir == "/tmp/drawwell-1000"
    unit = HostFacts(
        "x", 61234, "/", {"STATE_DIRECTORY": "/var/lib/d", "RUNTIME_DIRECTORY": "/run/d:/run/e"}, {}.get
    )
    broker = load(None, directory=str(tmp_path), machine=unit).broker
    assert (broker.state_dir, broker.run_dir) == ("/var/lib/d", "/run/d")


def test_a_user_without_own_sockets_uses_the_systems(tmp_path: Path) -> None:
    """A user's default is /run/drawwell while a broker or link serves there."""
    own, system = "/run/user/1000/drawwell", "/run/drawwell"
    served, link = f"{system}/draw.sock", f"{system}/link.sock"
    cases = (
        ((), own), ((system,), own), ((served,), system), ((link,), system), ((own, served), own),
    )  # fmt: skip
    for there, expected in cases:
        machine = replace(USER, exists=there.__contains__)
        assert load(None, directory=str(tmp_path), machine=machine).broker.run_dir == expected


def test_an_upstream_alone_makes_a_consumer_only(tmp_path: Path) -> None:
    """A machine with an upstream and no source does not search for a device."""
    config = load_text(tmp_path, '[kernel]\nfeed = true\n[[upstream]]\nurl = "tls://[::1]:55000"\n')
    assert (config.serves, config.has_sinks) == (False, True)
    assert config.consumers == ()
    assert config.upstreams[0].identity == ""
    assert config.upstreams[0].address == HostPort("::1", 55000)


def test_enrolment_follows_the_tls_door(tmp_path: Path) -> None:
    """Enrolment opens with the TLS door unless disabled or with your own PKI."""
    tls = '[tls]\nlisten = "10.0.0.1:55000"\n'
    pki = '[pki]\nca = "/a"\ncertificate = "/b"\nkey = "/c"\n'
    assert load_text(tmp_path, tls).enrol.listen == HostPort("10.0.0.1", 55001)
    assert load_text(tmp_path, tls + '[enrol]\nlisten = ""\n').enrol.listen is None
    assert load_text(tmp_path, tls + pki).enrol.listen is None


def test_values_are_parsed(tmp_path: Path) -> None:
    """Sizes, rates, durations, shares, modes and users arrive as numbers."""
    config = load_text(
        tmp_path,
        '[broker]\nreservoir = "1MiB"\nlow_mark = "25%"\nhigh_mark = "512KiB"\nreseed_interval = 90\n'
        '[unix]\nmode = "0660"\n'
        '[[consumer]]\nname = "web"\nrate = "4KiB/s"\nuser = "www-data"\nclass = "drbg"\n',
    )
    assert (config.broker.low_mark_bytes, config.broker.high_mark_bytes) == (2**18, 2**19)
    assert config.broker.reseed_interval == 90.0
    assert config.unix.mode == 0o660
    web, local = config.consumers
    assert (web.rate, web.uid, web.draw_class) == (Allowance(4096, 1), 33, "drbg")
    assert local.name == "local"


def test_the_local_consumer_can_be_limited(tmp_path: Path) -> None:
    """A configured consumer named local replaces the default one."""
    config = load_text(tmp_path, '[[consumer]]\nname = "local"\nquota = "1MiB/day"\n')
    assert [(each.name, each.quota) for each in config.consumers] == [("local", Allowance(2**20, 86400))]


# ---- layers and origins


def test_layers(tmp_path: Path) -> None:
    """Files in conf.d follow in order of name; later values win, lists add up."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "drawwell.toml").write_text(
        '[broker]\nname = "a"\nmin_sources = 1\n[[source]]\nname = "one"\n'
    )
    (tmp_path / "conf.d" / "20.toml").write_text(
        '[[source]]\nname = "two"\npath = "/b"\n[broker]\nname = "c"\n'
    )
    (tmp_path / "conf.d" / "10.toml").write_text('[broker]\nname = "b"\nmin_sources = 2\n')
    (tmp_path / "conf.d" / "README").write_text("not a configuration")
    config = load(None, directory=str(tmp_path), machine=ROOT)
    assert (config.broker.name, config.broker.min_sources) == ("c", 2)
    assert [each.name for each in config.sources] == ["one", "two"]
    assert [os.path.basename(file) for file in config.files] == ["drawwell.toml", "10.toml", "20.toml"]
    assert config.origin("broker.name") == f"{tmp_path}/conf.d/20.toml:5"
    assert config.origin("broker.min_sources") == f"{tmp_path}/conf.d/10.toml:3"
    assert config.origin("source[1]") == f"{tmp_path}/conf.d/20.toml:1"
    assert config.origin("source[1].name") == f"{tmp_path}/conf.d/20.toml:2"
    assert config.origin("broker.reservoir") == "default"


def test_environment_names_the_file(tmp_path: Path) -> None:
    """$DRAWWELL_CONFIG is the only file read, unless a path is given."""
    (tmp_path / "drawwell.toml").write_text('[broker]\nname = "etc"\n')
    (tmp_path / "env.toml").write_text('[broker]\nname = "env"\n')
    (tmp_path / "given.toml").write_text('[broker]\nname = "given"\n')
    machine = HostFacts("x", 0, "/", {"DRAWWELL_CONFIG": str(tmp_path / "env.toml")}, {}.get)
    assert load(None, directory=str(tmp_path), machine=machine).broker.name == "env"
    assert load(str(tmp_path / "given.toml"), directory=str(tmp_path), machine=machine).broker.name == "given"
    assert load(None, directory=str(tmp_path), machine=ROOT).broker.name == "etc"
