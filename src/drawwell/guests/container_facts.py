"""Pure: facts that the host knows about a container."""

from drawwell.guests.model import GuestFacts, GuestFinding, GuestKind, GuestVerdict


def container_facts(kind: GuestKind, name: str, *, running: bool, ours: bool) -> GuestFacts:
    """Return a container's facts; `ours`: whether drawwell is attached to it."""
    shared = GuestFinding(
        "the container gets the host's entropy",
        GuestVerdict.HOLDS,
        "the container uses this machine's kernel, so getrandom and /dev/random are the host's",
    )
    return GuestFacts(
        kind=kind,
        name="".join(each if each.isprintable() else "?" for each in name),
        running=running,
        virtio_rng=None,
        backend="this host's kernel" + (", and drawwell" if ours else ""),
        limit="",
        generation_id=None,
        findings=(shared,),
    )
