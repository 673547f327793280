"""The OneRNG as a noise source: found, verified, read, paused; its going away named."""

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
from drawwell.reports import CONDITIONED, RAW_NOISE, Firmware, SourceIdentity, as_json

_GATHER_LIMIT_S: Final = 0.1
_GATHER_S: Final = 0.02
"""How long packets of 64 bytes are let pile up, so that not each of them wakes us."""
_CLOSE_LIMIT_S: Final = 0.5
_NOT_ASKED: Final = FirmwareVerdict(Firmware.COULD_NOT_CHECK, "not asked for yet")
_NO_FIRMWARE: Final = FirmwareVerdict(
    Firmware.NOT_APPLICABLE, "a virtual OneRNG, made by this machine's host"
)
VERIFY_POLICIES: Final = ("require", "report", "off")


class OneRngSource:
    """A `NoiseSource` (see ports.py).

    Args:
        name: Its name in the configuration.
        path: The device's node, or ``auto`` for the only one that is plugged in.
        mode: ``cmd0`` to ``cmd7``; ``cmd1`` is raw avalanche noise.
        verify: Refuse a device whose image signature is not verified (``require``), use it and say so
            (``report``), or do not ask for the image (``off``).
        stall_s: How long no sample may come before it counts as gone.
        signer: Whose signature the image must bear; on a pseudo-terminal it is the published test key's.

    Raises:
        UsageError: no such mode or policy, or a mode without noise.
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
            raise UsageError(f"no policy {verify!r}", hint=f"The policies are {', '.join(VERIFY_POLICIES)}.")
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
        """Who it is, as far as is known now."""
        return SourceIdentity(
            name=self._name,
            kind="onerng",
            path=self._path,
            stable_name=self._stable_name,
            simulated=self._simulated,
            firmware=self._verdict.outcome,
            firmware_detail=self._verdict.detail,
            noise=self._noise_words,
            hardware_id=self._hardware_id,
        )

    async def open(self) -> None:
        """Open, wake, identify, verify and start it.

        Raises:
            SourceUnavailable: not there, busy, silent, or its firmware could not be checked and must be.
            SourceRejected: its firmware is not verified and must be.
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
        """Take the terminal and say nothing, for single commands; `detach` or `aclose` gives it back.

        Raises:
            SourceUnavailable: not there or busy.
            SourceRejected: not a terminal, or a virtual device where there can be none.
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
                f"{path} says that it is a virtual OneRNG, and this is no virtual machine",
                hint="Pull it out: a real OneRNG does not say so.",
            )

    def detach(self) -> None:
        """Let go of the terminal and leave the device as it is; never raises."""
        if self._tty is not None:
            self._tty.close()
        self._tty, self._running = None, False

    async def aclose(self) -> None:
        """Pause the device and let go of it; never raises for one that is already gone."""
        with suppress(SourceUnavailable, TimeoutError):
            async with asyncio.timeout(_CLOSE_LIMIT_S):
                if self._tty is not None:
                    await self._dialogue.tell(Command.PAUSE.value)
        self.detach()

    async def read(self, max_bytes: int) -> RawBlock:
        """Return 1 to `max_bytes` fresh samples.

        Where it made more than was read and its pool holds, the device is flushed first: a full pool is stirred,
        which hides bias.

        Raises:
            SourceUnavailable: unplugged, silent for `stall_s`, or paused.
            SourceRejected: an operator's ``verify`` found that the firmware is not verified, and it must be.
        """
        if self._verify == "require" and self._verdict.outcome is Firmware.NOT_VERIFIED:
            self._insist()
        if not self._running:
            raise SourceUnavailable(f"{self._path} is paused", hint="Type 'drawwell onerng resume'.")
        if self._pace.overflows(asyncio.get_running_loop().time()):
            await self._start()
        return RawBlock(await self._gather(max_bytes))

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Carry out ``info``, ``mode``, ``pause``, ``resume``, ``flush``, ``dump`` or ``verify``.

        ``mode`` takes ``mode``; ``dump`` takes ``path``, a new file that is made with mode 0600.

        Raises:
            UsageError: no such verb, or its arguments are off.
            SourceUnavailable: it went away, or does not answer.
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
            f"a OneRNG has no verb {verb!r}", hint="It has info, mode, pause, resume, flush, dump and verify."
        )

    @property
    def _dialogue(self) -> Dialogue:
        return Dialogue(self._terminal)

    @property
    def _terminal(self) -> Tty:
        if self._tty is None:
            raise SourceUnavailable(f"{self._path} is not open", hint="Type 'drawwell doctor'.")
        return self._tty

    async def _gather(self, max_bytes: int) -> bytes:
        loop = asyncio.get_running_loop()
        samples = await self._take(max_bytes, self._stall_s)
        if not samples:
            raise SourceStalled(
                f"no sample from {self._path} within {self._stall_s:g} s",
                hint="Pull the device out and plug it in again.",
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
        """The mode that it runs in: a virtual device has no raw noise."""
        return Mode.DEFAULT if self._virtual else self._mode

    @property
    def _noise_words(self) -> str:
        if self._virtual:
            return "bytes of a broker, not a noise source"
        return RAW_NOISE if Mode.RAW in self._mode else CONDITIONED

    async def _check_firmware(self) -> None:
        if self._virtual:
            return
        if self._verify == "off":
            self._verdict = FirmwareVerdict(Firmware.COULD_NOT_CHECK, "switched off in the configuration")
            return
        await self._judge_firmware()
        if self._verify == "require":
            self._insist()

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

    def _insist(self) -> None:
        """Let only a verified device pass."""
        if self._verdict.outcome is Firmware.NOT_VERIFIED:
            raise SourceRejected(
                f"the firmware image of {self._path} is not verified: {self._verdict.reason}",
                hint="Do not use this device, unless the firmware is your own and you set firmware_key, or "
                'verify_firmware = "report".',
            )
        if self._verdict.outcome is not Firmware.VERIFIED:
            raise SourceUnavailable(
                f"the firmware image of {self._path} could not be checked: {self._verdict.reason}",
                hint="Pull the device out and plug it in again; another program may be reading it.",
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
            "path": self._path, "simulated": self._simulated, "mode": str(self._mode), "words": self._mode.words,
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
                hint="Ask the OneRNG of this machine's host.",
            )
        try:
            image = await self._dialogue.image()
        except UnreadableImage as error:
            raise SourceUnavailable(
                f"no whole image from {self._path}: {error}", hint="Pull the device out and plug it in again."
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
        """After a question: run again if it ran."""
        if self._running:
            await self._start()


def _noise_mode(text: object) -> Mode:
    try:
        mode = parse_mode(str(text))
    except ValueError as error:
        raise UsageError(str(error)) from error
    if mode.silent:
        raise UsageError(
            f"mode {mode} makes no noise", hint="Type 'drawwell onerng pause' to stop the device."
        )
    return mode


def _new_path(path: object) -> str:
    """Say what is wrong with the path before the dump takes its seconds."""
    if not isinstance(path, str) or not os.path.isabs(path):
        raise UsageError("dump needs the absolute path of a new file")
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
    return UsageError(f"cannot write {path}: {because}", hint="Name a new file.")


def make(section: SourceSection) -> OneRngSource:
    """Make the driver of a [[source]]."""
    return OneRngSource(
        section.name,
        path=section.path,
        mode=section.mode,
        verify=section.verify_firmware,
        stall_s=section.stall,
        signer=firmware_signer(section),
    )
