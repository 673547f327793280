"""What can be said of a container from outside: it has the host's kernel, and our socket or not. Pure."""

from drawwell.guests.model import GuestFacts, GuestFinding, GuestKind, GuestVerdict


def container_facts(kind: GuestKind, name: str, *, running: bool, ours: bool) -> GuestFacts:
    """Return the facts of a container; `ours`: the broker's socket or the stick is given to it."""
    shared = GuestFinding(
        "it gets the host's entropy",
        GuestVerdict.HOLDS,
        "it shares this machine's kernel: getrandom and /dev/random are the host's own",
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
