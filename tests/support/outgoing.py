"""The outgoing bytes of one side of a session."""


def taken(outgoing: list[bytes]) -> bytes:
    """Take the pieces of a session's output."""
    data = b"".join(outgoing)
    outgoing.clear()
    return data
