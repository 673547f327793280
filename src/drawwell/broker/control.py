"""Calls control verbs: checks who asks and the arguments, and records the call."""

from collections.abc import Callable, Mapping
from typing import Any

from drawwell.authorisation import DoorKind, Principal, Role, may
from drawwell.errors import DrawwellError, UsageError
from drawwell.verbs import CONTROL_VERBS, Handler


class Control:
    """Calls the handlers of one broker's control verbs.

    Args:
        handlers: By verb; a verb without one is refused.
        audit: Called with each audited verb, its arguments, and the name of the error when it was refused.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        audit: Callable[[str, Mapping[str, Any], str], None] = lambda _verb, _args, _refused: None,
    ) -> None:
        self._handlers = handlers
        self._audit = audit

    async def __call__(self, peer: str, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Answer one verb; see `drawwell.ports.Broker.call`."""
        kind, _, name = peer.partition(":")
        said = {**args, "name": name} if name else args
        try:
            result = await self._answer(Principal(Role(kind), name), verb, args)
        except DrawwellError as error:
            self._record(verb, said, type(error).__name__)
            raise
        self._record(verb, said, "")
        return result

    def _record(self, verb: str, said: Mapping[str, Any], refused: str) -> None:
        if verb not in CONTROL_VERBS or CONTROL_VERBS[verb].audited:
            self._audit(verb, said, refused)

    async def _answer(self, principal: Principal, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        # the door has looked already: no door gives more rights than the control socket
        may(DoorKind.CONTROL, principal, verb)
        if verb not in self._handlers:
            raise UsageError(f"this broker does not know the verb {verb!r}")
        return await self._handlers[verb](principal, **CONTROL_VERBS[verb].read(args))
