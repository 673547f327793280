"""libvirt through its Python bindings, which have error codes."""

import errno
import importlib
from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property
from threading import Thread
from typing import Any, Final, TypeVar

from drawwell.errors import DrawwellError, GuestUnavailable, PermissionRefused
from drawwell.guests.libvirt.connection import (
    ADD_AGENT,
    ADD_USB,
    ALLOW_EXEC,
    ANSWER_S,
    BE_ROOT,
    JOURNAL,
    START,
    Known,
    refusal,
)

_ATTACH: Final = (
    "Check that the broker serves this guest, that libvirt's QEMU user can reach its socket (AppArmor, SELinux: see"
    " 'drawwell guest plan'), and that the domain has a free port for the device."
)
_RUNS: Final = (
    "Check with 'virsh list' that the domain runs. If another domain has the stick, release it with 'drawwell guest"
    " apply libvirt NAME --via usb --remove'."
)
_REFUSALS: Final[dict[str, tuple[type[DrawwellError], str]]] = {
    **dict.fromkeys(
        ("AUTH_FAILED", "AUTH_CANCELLED", "AUTH_UNAVAILABLE", "ACCESS_DENIED", "OPERATION_DENIED", "DBUS_SERVICE"),
        (PermissionRefused, BE_ROOT),
    ),
    "AGENT_UNRESPONSIVE": (GuestUnavailable, ADD_AGENT),
    "ARGUMENT_UNSUPPORTED": (GuestUnavailable, ADD_AGENT),
    "CONFIG_UNSUPPORTED": (GuestUnavailable, ADD_USB),
    "OPERATION_INVALID": (GuestUnavailable, _RUNS),
}  # fmt: skip
"""Errors by virErrorNumber (libvirt/virterror.h).

For any other code, such as INTERNAL_ERROR if QEMU refuses, the caller gives the hint.
"""
_Answer = TypeVar("_Answer")


class Bindings:
    """A `LibvirtConnection` that limits each call to `answer_s` seconds.

    Raises:
        ImportError: python3-libvirt is not installed.
    """

    def __init__(self, uri: str, answer_s: float = ANSWER_S) -> None:
        self.uri = uri
        self._answer_s = answer_s
        self._libvirt = importlib.import_module("libvirt")
        self._qemu = importlib.import_module("libvirt_qemu")
        self._libvirt.registerErrorHandler(lambda _context, _error: None, None)  # the default handler prints

    def capabilities(self) -> str:
        """See `LibvirtConnection`."""
        return self._call(lambda: str(self._host.getCapabilities()))

    def domains(self) -> list[Known]:
        """See `LibvirtConnection`."""
        return self._call(lambda: [_known(each) for each in self._host.listAllDomains()])

    def describe(self, uuid: str, *, kept: bool = False, security_info: bool = False) -> str:
        """See `LibvirtConnection`."""
        inactive, secure = self._libvirt.VIR_DOMAIN_XML_INACTIVE, self._libvirt.VIR_DOMAIN_XML_SECURE
        flags = (inactive if kept else 0) | (secure if security_info else 0)
        return self._call(lambda: str(self._domain(uuid).XMLDesc(flags)))

    def define(self, xml: str) -> None:
        """See `LibvirtConnection`."""
        self._call(lambda: self._host.defineXML(xml))

    def attach(self, uuid: str, device: str) -> None:
        """See `LibvirtConnection`."""
        live = self._libvirt.VIR_DOMAIN_AFFECT_LIVE
        self._call(lambda: self._domain(uuid).attachDeviceFlags(device, live), hint=_ATTACH)

    def detach(self, uuid: str, device: str) -> None:
        """See `LibvirtConnection`."""
        self._call(lambda: self._domain(uuid).detachDeviceFlags(device, self._libvirt.VIR_DOMAIN_AFFECT_LIVE))

    def agent_command(self, uuid: str, order: str, within_s: float) -> str:
        """See `LibvirtConnection`."""
        patience = max(1, round(within_s))
        return self._call(
            lambda: str(self._qemu.qemuAgentCommand(self._domain(uuid), order, patience, 0)),
            more_s=within_s,
            hint=ALLOW_EXEC,
        )

    @cached_property
    def _host(self) -> Any:
        try:
            return self._libvirt.open(self.uri)
        except self._libvirt.libvirtError as error:
            denied = error.get_int1() in {errno.EACCES, errno.EPERM}
            raise self._refusal(error, BE_ROOT if denied else START, denied=denied) from None

    def _domain(self, uuid: str) -> Any:
        return self._host.lookupByUUIDString(uuid)

    def _call(self, ask: Callable[[], _Answer], *, more_s: float = 0.0, hint: str = JOURNAL) -> _Answer:
        """Run a libvirt call in a thread, because libvirt has no timeouts.

        The thread is abandoned after the timeout.
        """
        within_s = self._answer_s + more_s
        answer: Future[_Answer] = Future()

        def work() -> None:
            try:
                answer.set_result(ask())
            except Exception as error:  # noqa: BLE001  answer.result raises it
                answer.set_exception(error)

        Thread(target=work, daemon=True).start()
        try:
            return answer.result(within_s)
        except TimeoutError:
            raise GuestUnavailable(
                f"libvirt at {self.uri} did not answer within {within_s:g} s", hint=JOURNAL
            ) from None
        except self._libvirt.libvirtError as error:
            raise self._refusal(error, hint) from None

    def _refusal(self, error: Any, hint: str, *, denied: bool = False) -> DrawwellError:
        """Convert a libvirt error; `hint` is used for codes outside the table."""
        codes = {getattr(self._libvirt, f"VIR_ERR_{name}", None): each for name, each in _REFUSALS.items()}
        default = PermissionRefused if denied else GuestUnavailable
        kind, hint = codes.get(error.get_error_code(), (default, hint))
        return refusal(kind, self.uri, error.get_error_message() or "no reason given", hint)


def _known(domain: Any) -> Known:
    return Known(
        domain.UUIDString(),
        domain.name(),
        live=bool(domain.isActive()),
        persistent=bool(domain.isPersistent()),
    )
