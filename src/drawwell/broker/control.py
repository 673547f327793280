"""The control verbs: who may ask what, and who answers."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from drawwell import __version__
from drawwell.authorisation import DoorKind, Principal, Role, may
from drawwell.broker.broker import LocalBroker
from drawwell.errors import DrawwellError, SourceUnavailable, UsageError
from drawwell.ports import Source
from drawwell.reports import as_json

Answer = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""Takes the asking consumer's name ("" for the owner) and the arguments."""


class Control:
    """Answers the control verbs of one broker.

    Args:
        broker: Who is asked about.
        for_owner: More verbs that the owner may ask, answered elsewhere (``consumer.invite``, ``reload``, …).
        for_consumers: More verbs that any consumer may ask for itself (``renew``, …).
        audit: Told of each verb, its arguments, and the name of the error when it was refused.
    """

    def __init__(
        self,
        broker: LocalBroker,
        for_owner: Mapping[str, Answer],
        for_consumers: Mapping[str, Answer],
        audit: Callable[[str, Mapping[str, Any], str], None] = lambda _verb, _args, _refused: None,
    ) -> None:
        self._audit = audit
        self._broker = broker
        self._for_consumers: dict[str, Answer] = {"status": self._own_status, **for_consumers}
        self._for_owner: dict[str, Answer] = {
            **for_consumers,
            "status": self._status,
            "source.command": self._source_command,
            **for_owner,
        }

    async def __call__(self, peer: str, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Answer one verb; see `drawwell.ports.Broker.call`."""
        kind, _, name = peer.partition(":")
        said = {**args, "name": name} if name else args
        try:
            result = await self._answer(kind, name, verb, args)
        except DrawwellError as error:
            self._audit(verb, said, type(error).__name__)
            raise
        self._audit(verb, said, "")
        return result

    async def _answer(self, kind: str, name: str, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        owner, observer = kind == "owner", kind == "observer"
        # the door has looked already: whatever door that was, nobody has more rights than at the control socket
        standing = Role.OWNER if owner else Role.OBSERVER if observer else Role.CONSUMER
        may(DoorKind.CONTROL, Principal(standing, name), verb)
        table = self._for_owner if owner or observer else self._for_consumers
        if verb not in table:
            raise UsageError(f"this broker does not know the verb {verb!r}")
        return await table[verb](name, args)

    async def _status(self, _name: str, _args: dict[str, Any]) -> dict[str, Any]:
        return as_json(self._broker.report())

    async def _own_status(self, name: str, _args: dict[str, Any]) -> dict[str, Any]:
        """What one consumer may know: itself, and whether the broker is ready. It may ask often, so no more is made."""
        why, own = self._broker.not_ready_because(), self._broker.consumer_report(name)
        return {
            "name": self._broker.rules.name,
            "version": __version__,
            "ready": not why,
            "not_ready_because": why,
            "genuine": self._broker.genuine,
            "consumers": [as_json(own)] if own else [],
        }

    async def _source_command(self, _name: str, args: dict[str, Any]) -> dict[str, Any]:
        verb, arguments = args.get("verb"), args.get("args", {})
        if not isinstance(verb, str) or not isinstance(arguments, dict):
            raise UsageError("source.command takes a source, a verb and its arguments")
        return await self._find(args.get("source")).command(verb, arguments)

    def _find(self, wanted: object) -> Source:
        """The source with that name; the only one when nothing is named."""
        sources = self._broker.sources
        if wanted is None and len(sources) == 1:
            return next(iter(sources.values()))
        if isinstance(wanted, str) and wanted in sources:
            return sources[wanted]
        names = ", ".join(sources) or "none"
        raise SourceUnavailable(
            f"no source {wanted!r} runs here" if wanted else "which source?",
            hint=f"Running sources: {names}.",
        )
