"""Our plans with Debian 13's quadlet and compose."""

from collections.abc import Iterator

import pytest

from drawwell.guests.docker.engine import Containers
from drawwell.guests.docker.plan import compose
from drawwell.guests.model import Attachment, Guest, GuestKind
from lab.cache import or_skip
from lab.roots import Root, chroot

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def debian_13() -> Iterator[Root]:
    """Return a Debian 13 root with both programs."""
    with or_skip(), chroot("trixie", ("podman", "docker-compose")) as root:
        yield root


def test_quadlet_accepts_the_lines_of_the_plan(debian_13: Root) -> None:
    """The generator creates a service with our volume and order."""
    units = debian_13.path / "tmp" / "units"
    units.mkdir()
    (units / "web1.container").write_text("[Unit]\nDescription=a site\n[Container]\nImage=localhost/site:1\n")
    Containers(GuestKind.PODMAN, str(units)).apply(Guest(GuestKind.PODMAN, "web1", Attachment.SOCKET))
    made = debian_13.run(
        "env", "QUADLET_UNIT_DIRS=/tmp/units", "/usr/libexec/podman/quadlet", "-dryrun"
    ).stdout
    assert "-v /run/drawwell/guests/web1:/run/drawwell:ro" in made
    assert "After=drawwell-broker.service" in made


@pytest.mark.parametrize("via", [Attachment.SOCKET, Attachment.DEVICE])
def test_compose_accepts_the_override(debian_13: Root, via: Attachment) -> None:
    """Compose merges the file with a project's own file."""
    project = debian_13.path / "tmp"
    (project / "compose.yaml").write_text("services:\n  web1:\n    image: site:1\n")
    (project / "ours.yaml").write_text(compose(Guest(GuestKind.DOCKER, "web1", via), "web1"))
    files = ("-f", "/tmp/compose.yaml", "-f", "/tmp/ours.yaml")
    merged = debian_13.run("docker-compose", "--project-name", "site", *files, "config").stdout
    assert ("/run/drawwell/guests/web1" if via is Attachment.SOCKET else "/dev/onerng") in merged
    assert "image: site:1" in merged
