"""The OneRNG as a source: discovery, verification, reads, pauses, loss."""

import asyncio
import errno
import os
from contextlib import suppress
from typing import Any, Final

from drawwell.config.broker_side import SourceSection
from drawwell.drivers.discovery import device_of, find_onerng
from drawwell.drivers.firmware_key import firmware_signer
from drawwell.drivers.onerng_dialogue import Dialogue
from drawwell.drivers.pace import Pace
from drawwell.drivers.tty import BUFFER_BYTES, Tty
from drawwell.entropy.blocks import RawBlock
from drawwell.errors import SourceRejected, SourceStalled, SourceUnavailable, UsageError
from drawwell.host.virtual import virtual_facts
from drawwell.onerng.commands import Command, Mode, parse_mode
from drawwell.onerng.image import Image, UnreadableImage
from drawwell.onerng.verify import SIMULATOR, VENDOR, FirmwareVerdict, Signer, verify_image
from drawwell.reports import CONDITIONED, NOT_NOISE, RAW_NOISE, Firmware, SourceIdentity, as_json

_GATHER_LIMIT_S: Final = 0.1
_GATHER_S: Final = 0.02
"""Time for several 64-byte packets to accumulate, which saves wake-ups."""
_CLOSE_LIMIT_S: Final = 0.5
_NOT_ASKED: Final = FirmwareVerdict(Firmware.COULD_NOT_CHECK, "not requested yet")
_NO_FIRMWARE: Final = FirmwareVerdict(
    Firmware.NOT_APPLICABLE, "a virtual OneRNG, provided by this machine's host"
)
VERIFY_POLICIES: Final = ("require", "report", "off")


class OneRngSource:
    """A `NoiseSource` (see ports.py).

    Args:
        name: The source's name in the configuration.
        path: The device node, or ``auto`` for the only one that is plugged in.
        mode: ``cmd0`` to ``cmd7``; ``cmd1`` is raw avalanche noise.
        verify: The policy for a device without a verified signature: refuse it (``require``),
            use and report it (``report``), or do not request the image (``off``).
        stall_s: The source counts as gone after this time without a sample.
        signer: Required signer of the image; on a pseudo-terminal, the published test key.

    Raises:
        UsageError: the mode or policy is unknown, or the mode produces no noise.
    """

    def __init__(
        self,
        name: str,
        path: str = "auto",
        mode: str = "cmd1",
        verify: str = "require",
        stall_s: float = 5.0,
        *,
        signer: Signer = VENDOR,
    ) -> None:
        if verify not in VERIFY_POLICIES:
            raise UsageError(
                f"unknown policy {verify!r}", hint=f"The policies are {', '.join(VERIFY_POLICIES)}."
            )
        self._name = name
        self._wanted_path = path
        self._mode = _noise_mode(mode)
        self._verify = verify
        self._stall_s = stall_s
        self._signer = signer
        self._tty: Tty | None = None
        self._path = path
        self._stable_name = ""
        self._simulated = False
        self._virtual = False
        self._version = 0
        self._hardware_id = ""
        self._verdict = _NOT_ASKED
        self._running = False
        self._pace = Pace(float("-inf"))

    @property
    def identity(self) -> SourceIdentity:
        """The source's identity, as far as it is known."""
        return SourceIdentity(
            name=self._name,
            kind="onerng",
            path=self._path,
            stable_name=self._stable_name,
            simulated=self._simulated,
            firmware=self._verdict.outcome,
            firmware_detail=self._verdict.detail,
            noise=self._noise_text,
            hardware_id=self._hardware_id,
        )

    async def open(self) -> None:
        """Open, wake, identify, verify and start the device.

        Raises:
            SourceUnavailable: the device is missing, busy or silent, or a required check could
                not run.
            SourceRejected: verified firmware is required, and this firmware is not verified.
        """
        self.attach()
        try:
            dialogue = self._dialogue
            await dialogue.wake()
            await self._identify()
            await self._check_firmware()
            await self._start()
        except BaseException:
            await self.aclose()
            raise
        self._running = True

    def attach(self) -> None:
        """Open the terminal for single commands, but send none.

        Call `detach` or `aclose` to close it.

        Raises:
            SourceUnavailable: the device is missing or busy.
            SourceRejected: the path is not a terminal, or a virtual device is not in a guest.
        """
        self.detach()
        auto = self._wanted_path == "auto"
        path = find_onerng().path if auto else self._wanted_path
        self._tty = Tty.open(path)
        device = device_of(path)
        self._path, self._stable_name = path, device.stable_name if device else ""
        self._simulated, self._virtual = self._tty.is_pty, device is not None and device.virtual
        self._verdict = _NO_FIRMWARE if self._virtual else _NOT_ASKED
        self._version, self._hardware_id = 0, ""
        if self._virtual and not virtual_facts().virtual:
            self.detach()
            raise SourceRejected(
                f"{path} claims to be a virtual OneRNG, but this is not a virtual machine",
                hint="Unplug it: a genuine OneRNG does not claim this.",
            )

    def detach(self) -> None:
        """Close the terminal without changing the device; never raises."""
        if self._tty is not None:
            self._tty.close()
        self._tty, self._running = None, False

    async def aclose(self) -> None:
        """Pause and close the device; never raises, even if the device is gone."""
        with suppress(SourceUnavailable, TimeoutError):
            async with asyncio.timeout(_CLOSE_LIMIT_S):
                if self._tty is not None:
                    await self._dialogue.tell(Command.PAUSE.value)
        self.detach()

    async def read(self, max_bytes: int) -> RawBlock:
        """Return 1 to `max_bytes` fresh samples.

        The device is flushed first if its unread samples may exceed its pool: a full pool XORs
        new samples into old ones, which hides bias.

        Raises:
            SourceUnavailable: the device is unplugged, silent for `stall_s`, or paused.
            SourceRejected: verified firmware is required, and an operator's ``verify`` failed.
        """
        if self._verify == "require" and self._verdict.outcome is Firmware.NOT_VERIFIED:
            self._require_verified()
        if not self._running:
            raise SourceUnavailable(f"{self._path} is paused", hint="Run 'drawwell onerng resume'.")
        if self._pace.overflows(asyncio.get_running_loop().time()):
            await self._start()
        return RawBlock(await self._gather(max_bytes))

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Run info, mode, pause, resume, flush, dump or verify.

        ``mode`` takes the argument ``mode``; ``dump`` takes ``path``, a file to create (0600).

        Raises:
            UsageError: the verb is unknown, or an argument is wrong.
            SourceUnavailable: the device is gone, or does not answer.
        """
        match verb:
            case "info":
                return await self._info()
            case "mode":
                return await self._change_mode(args)
            case "pause" | "resume" | "flush":
                return await self._steer(verb)
            case "dump":
                return await self._dump(args)
            case "verify":
                return await self._verify_now()
        raise UsageError(
            f"a OneRNG has no verb {verb!r}", hint="Verbs: info, mode, pause, resume, flush, dump and verify."
        )

    @property
    def _dialogue(self) -> Dialogue:
        return Dialogue(self._terminal)

    @property
    def _terminal(self) -> Tty:
        if self._tty is None:
            raise SourceUnavailable(f"{self._path} is not open", hint="Run 'drawwell doctor'.")
        return self._tty

    async def _gather(self, max_bytes: int) -> bytes:
        loop = asyncio.get_running_loop()
        samples = await self._take(max_bytes, self._stall_s)
        if not samples:
            raise SourceStalled(
                f"no sample from {self._path} within {self._stall_s:g} s",
                hint="Unplug the device and plug it in again.",
            )
        deadline = loop.time() + _GATHER_LIMIT_S
        enough = min(max_bytes, BUFFER_BYTES) // 2
        while len(samples) < enough and loop.time() < deadline:
            await asyncio.sleep(_GATHER_S)
            samples += await self._take(max_bytes - len(samples), 0)
        return samples

    async def _take(self, most: int, wait_s: float) -> bytes:
        samples = await self._terminal.read(most, wait_s)
        self._pace.took(len(samples), most, asyncio.get_running_loop().time())
        return samples

    async def _start(self) -> None:
        await self._dialogue.start(self._wanted_mode)
        self._pace = Pace(asyncio.get_running_loop().time())

    async def _identify(self) -> None:
        self._version = await self._dialogue.version()
        self._hardware_id = await self._dialogue.hardware_id() if self._version >= 3 else ""

    @property
    def _wanted_mode(self) -> Mode:
        """The effective mode; a virtual device has no raw noise."""
        return Mode.DEFAULT if self._virtual else self._mode

    @property
    def _noise_text(self) -> str:
        if self._virtual:
            return f"bytes from a broker, {NOT_NOISE}"
        return RAW_NOISE if Mode.RAW in self._mode else CONDITIONED

    async def _check_firmware(self) -> None:
        if self._virtual:
            return
        if self._verify == "off":
            self._verdict = FirmwareVerdict(Firmware.COULD_NOT_CHECK, "switched off in the configuration")
            return
        await self._judge_firmware()
        if self._verify == "require":
            self._require_verified()

    async def _judge_firmware(self) -> None:
        if self._virtual:
            return
        try:
            image = await self._dialogue.image()
        except UnreadableImage as error:
            self._verdict = FirmwareVerdict(Firmware.COULD_NOT_CHECK, str(error))
        else:
            self._verdict = verify_image(image, SIMULATOR if self._simulated else self._signer)
            self._simulated = self._simulated or self._verdict.simulated

    def _require_verified(self) -> None:
        """Refuse an unverified device if the policy requires verification."""
        if self._verdict.outcome is Firmware.NOT_VERIFIED:
            raise SourceRejected(
                f"the firmware image of {self._path} is not verified: {self._verdict.reason}",
                hint="Do not use this device, unless the firmware is your own: then set firmware_key, or "
                'verify_firmware = "report".',
            )
        if self._verdict.outcome is not Firmware.VERIFIED:
            raise SourceUnavailable(
                f"the firmware image of {self._path} could not be checked: {self._verdict.reason}",
                hint="Unplug the device and plug it in again. Another program may be reading it.",
            )

    async def _info(self) -> dict[str, Any]:
        self._terminal.require_present()
        if not self._version:
            await self._identify()
            await self._go_on()
        return as_json(self.identity) | {
            "version": self._version,
            "mode": str(self._wanted_mode) if self._running else "",
            "paused": not self._running,
        }

    async def _change_mode(self, args: dict[str, Any]) -> dict[str, Any]:
        self._mode = _noise_mode(args.get("mode"))
        if self._running:
            await self._start()
        else:
            await self._dialogue.tell(self._mode.command)
        return {
            "path": self._path, "simulated": self._simulated, "mode": str(self._mode),
            "words": self._mode.label,  # wording: a JSON key
        }  # fmt: skip

    async def _steer(self, verb: str) -> dict[str, Any]:
        if verb == "pause":
            await self._dialogue.stop()
        elif verb == "resume":
            await self._start()
        else:
            await self._dialogue.stop()
            await self._go_on()
        if verb != "flush":
            self._running = verb == "resume"
        return {"path": self._path, "simulated": self._simulated, "done": verb}

    async def _dump(self, args: dict[str, Any]) -> dict[str, Any]:
        path = _new_path(args.get("path"))
        if self._virtual:
            raise UsageError(
                f"{self._path} is a virtual OneRNG: it has no firmware",
                hint="Dump the OneRNG on this machine's host.",
            )
        try:
            image = await self._dialogue.image()
        except UnreadableImage as error:
            raise SourceUnavailable(
                f"no complete image from {self._path}: {error}",
                hint="Unplug the device and plug it in again.",
            ) from error
        finally:
            await self._go_on()
        written = _write_new_file(path, image)
        return {
            "path": path, "simulated": self._simulated, "bytes": written, "version": image.header.version,
        }  # fmt: skip

    async def _verify_now(self) -> dict[str, Any]:
        await self._judge_firmware()
        await self._go_on()
        return as_json(self._verdict) | {"path": self._path, "detail": self._verdict.detail}

    async def _go_on(self) -> None:
        """Resume after a query if the device was running before."""
        if self._running:
            await self._start()


def _noise_mode(text: object) -> Mode:
    try:
        mode = parse_mode(str(text))
    except ValueError as error:
        raise UsageError(str(error)) from error
    if mode.silent:
        raise UsageError(
            f"mode {mode} produces no noise", hint="Run 'drawwell onerng pause' to stop the device."
        )
    return mode


def _new_path(path: object) -> str:
    """Check the path first, because a dump takes seconds."""
    if not isinstance(path, str) or not os.path.isabs(path):
        raise UsageError("dump requires the absolute path of a new file")
    if os.path.lexists(path):
        raise _cannot_write(path, os.strerror(errno.EEXIST))
    return path


def _write_new_file(path: str, image: Image) -> int:
    data = image.dump
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            return file.write(data)
    except OSError as error:
        raise _cannot_write(path, error.strerror) from error


def _cannot_write(path: str, because: str | None) -> UsageError:
    return UsageError(f"cannot write {path}: {because}", hint="Choose the path of a new file.")


def make(section: SourceSection) -> OneRngSource:
    return OneRngSource(
        section.name,
        path=section.path,
        mode=section.mode,
        verify=section.verify_firmware,
        stall_s=section.stall,
        signer=firmware_signer(section),
    )
