"""Calls control verbs: checks who asks and the arguments, and records the call."""

from collections.abc import Callable, Mapping
from typing import Any

from drawwell.authorisation import DoorKind, Principal, may
from drawwell.errors import DrawwellError, UsageError
from drawwell.verbs import CONTROL_VERBS, Handler


class Control:
    """Calls the handlers of one broker's control verbs.

    Args:
        handlers: By verb; a verb without one is refused.
        audit: Called with who asked, each audited verb, its arguments, and the error's name when it was refused.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        audit: Callable[[Principal, str, Mapping[str, Any], str], None] = lambda *_: None,
    ) -> None:
        self._handlers = handlers
        self._audit = audit

    async def __call__(self, principal: Principal, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Answer one verb; see `drawwell.ports.Broker.call`."""
        try:
            result = await self._answer(principal, verb, args)
        except DrawwellError as error:
            self._record(principal, verb, args, type(error).__name__)
            raise
        self._record(principal, verb, args, "")
        return result

    def _record(self, principal: Principal, verb: str, args: Mapping[str, Any], refused: str) -> None:
        if verb not in CONTROL_VERBS or CONTROL_VERBS[verb].audited:
            self._audit(principal, verb, args, refused)

    async def _answer(self, principal: Principal, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        # the door has looked already: no door gives more rights than the control socket
        may(DoorKind.CONTROL, principal, verb)
        if verb not in self._handlers:
            raise UsageError(f"this broker does not know the verb {verb!r}")
        return await self._handlers[verb](principal, **CONTROL_VERBS[verb].read(args))
