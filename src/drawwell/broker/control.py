"""Control verbs: checks of callers and arguments, and the audit of calls."""

from collections.abc import Callable, Mapping
from typing import Any

from drawwell.authorisation import DoorKind, Principal, may
from drawwell.errors import DrawwellError, UsageError
from drawwell.verbs import CONTROL_VERBS, Handler


class Control:
    """Calls the handlers of one broker's control verbs.

    Args:
        handlers: The handlers by verb; a verb without a handler is refused.
        audit: Called for audited verbs: caller, verb, arguments, error name ("" for success).
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
        # doors check this too; no door allows more than the control socket
        may(DoorKind.CONTROL, principal, verb)
        if verb not in self._handlers:
            raise UsageError(f"this broker does not support the verb {verb!r}")
        return await self._handlers[verb](principal, **CONTROL_VERBS[verb].read(args))
