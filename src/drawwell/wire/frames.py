"""The frames of protocol version 1: their values and their encoding.

A frame is ``u8 type | u24 payload length | payload``, big-endian (docs/protocol.md, section
3). `encode` trusts its caller, and truncates text that is too long. `decode` checks all input.
It raises ValueError, which the parser converts to RemoteProtocolError.
"""

import json
import math
import struct
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, NoReturn, Self

from drawwell.entropy.blocks import DrawClass, DrawRequest, Grant
from drawwell.errors import LocalProtocolError
from drawwell.wire import limits

_CLASS_CODES: Final = {DrawClass.FULL: 1, DrawClass.DRBG: 2}
_CLASSES: Final = {code: draw_class for draw_class, code in _CLASS_CODES.items()}
_DRAW: Final = struct.Struct(">IBBII")
_GRANT: Final = struct.Struct(">IQBH")
_REFUSAL: Final = struct.Struct(">IBBQH")
_WELCOME: Final = struct.Struct(">BBI")
_ID: Final = struct.Struct(">I")
_HEADER: Final = _ID
"""Type in 8 bits and length in 24 bits."""


class Frame:
    """A frame with a payload of `MIN_BYTES` to `MAX_BYTES`.

    It is not an ABC, because isinstance of an ABC is slow and runs a dozen times per draw.
    """

    __slots__ = ()
    TYPE: ClassVar[int]
    MIN_BYTES: ClassVar[int]
    MAX_BYTES: ClassVar[int]

    def encode(self) -> bytes:
        """Return header and payload.

        Raises:
            LocalProtocolError: the payload is too long or too short.
        """
        raise NotImplementedError

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Parse a payload of MIN_BYTES to MAX_BYTES.

        Raises:
            ValueError: the payload is malformed.
        """
        raise NotImplementedError

    @classmethod
    def _framed(cls, *parts: bytes) -> bytes:
        payload = b"".join(parts)
        if not cls.MIN_BYTES <= len(payload) <= cls.MAX_BYTES:
            raise LocalProtocolError(f"a {cls.__name__.lower()} frame cannot have {len(payload)} bytes")
        return _HEADER.pack(cls.TYPE << 24 | len(payload)) + payload


@dataclass(frozen=True, slots=True)
class Hello(Frame):
    """The client's first frame: versions, preferred first, and software."""

    TYPE: ClassVar[int] = 0x01
    MIN_BYTES: ClassVar[int] = 2
    MAX_BYTES: ClassVar[int] = 1 + limits.MAX_VERSIONS + limits.MAX_SOFTWARE_BYTES

    versions: tuple[int, ...]
    software: str = ""

    def encode(self) -> bytes:
        software = _put_text(self.software, limits.MAX_SOFTWARE_BYTES)
        return self._framed(bytes((len(self.versions), *self.versions)), software)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        end = 1 + payload[0]
        versions = tuple(payload[1:end])
        if not 1 <= payload[0] <= limits.MAX_VERSIONS or len(versions) != payload[0]:
            raise ValueError("the number of versions is invalid")
        return cls(versions, _take_text(payload[end:], limits.MAX_SOFTWARE_BYTES))


@dataclass(frozen=True, slots=True)
class Welcome(Frame):
    """The broker's first frame: its name, and the identity of the client."""

    TYPE: ClassVar[int] = 0x02
    MIN_BYTES: ClassVar[int] = _WELCOME.size + 2
    MAX_BYTES: ClassVar[int] = _WELCOME.size + 2 * (1 + limits.MAX_NAME_BYTES)

    version: int
    broker: str
    consumer: str
    max_draw_bytes: int = limits.MAX_DRAW_BYTES
    renew_only: bool = False

    def encode(self) -> bytes:
        head = _WELCOME.pack(self.version, self.renew_only, self.max_draw_bytes)
        return self._framed(head, _put_name(self.broker), _put_name(self.consumer))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        version, flags, max_draw_bytes = _WELCOME.unpack_from(payload)
        if flags > 1 or not 1 <= max_draw_bytes <= limits.MAX_DRAW_BYTES:
            raise ValueError("unknown flags, or an invalid limit of draws")
        broker, rest = _take_name(payload[_WELCOME.size :])
        consumer, rest = _take_name(rest)
        if rest:
            raise ValueError("there are extra bytes at the end")
        return cls(version, broker, consumer, max_draw_bytes, bool(flags))


class Draw(DrawRequest, Frame):
    """A draw request; its patience is sent in milliseconds."""

    __slots__ = ()
    TYPE: ClassVar[int] = 0x10
    MIN_BYTES: ClassVar[int] = _DRAW.size
    MAX_BYTES: ClassVar[int] = _DRAW.size

    def encode(self) -> bytes:
        flags = self.prediction_resistance | self.receipt << 1
        code, patience_ms = _CLASS_CODES[self.draw_class], round(1000 * self.patience_s)
        return self._framed(_DRAW.pack(self.request_id, code, flags, self.n_bytes, patience_ms))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        request_id, class_code, flags, n_bytes, patience_ms = _DRAW.unpack(payload)
        draw_class = _CLASSES.get(class_code)
        if draw_class is None:
            raise ValueError(f"unknown draw class {class_code}")
        if flags > 3:
            raise ValueError(f"unknown flags {flags:#x}")
        if not 1 <= n_bytes <= limits.MAX_DRAW_BYTES:
            raise ValueError(f"a draw must be 1 to {limits.MAX_DRAW_BYTES} bytes, not {n_bytes}")
        if patience_ms > limits.MAX_PATIENCE_MS:
            raise ValueError(f"the patience must be at most {limits.MAX_PATIENCE_MS} ms, not {patience_ms}")
        if request_id == limits.SESSION_ID:
            raise ValueError("a request's id must not be 0")
        return cls(n_bytes, draw_class, flags & 1 != 0, flags & 2 != 0, patience_ms / 1000, request_id)


@dataclass(slots=True)
class Granted(Grant, Frame):
    """The bytes of one draw, with receipt and HMAC key if requested.

    The receipt and key of mixed bytes (`entropy.mixing`) are sent too, for up to `MAX_MIXED`
    brokers: the key of the first line before the receipt, the rest of the key after it.
    """

    TYPE: ClassVar[int] = 0x11
    MIN_BYTES: ClassVar[int] = _GRANT.size + 1
    MAX_BYTES: ClassVar[int] = (
        _GRANT.size
        + limits.MAX_MIXED * (limits.RECEIPT_KEY_BYTES + limits.MAX_RECEIPT_BYTES + 1 + limits.MAX_DRAW_BYTES)
        - 1
    )

    request_id: int = limits.SESSION_ID

    def encode(self) -> bytes:
        return self.answer(self.request_id, self)

    @classmethod
    def answer(cls, request_id: int, grant: Grant) -> bytes:
        """Encode `grant` as the answer to a request; see `encode` for errors."""
        receipt, key = grant.receipt, grant.receipt_key
        head = _GRANT.pack(request_id, grant.serial, _CLASS_CODES[grant.draw_class], len(receipt))
        first, others = key[: limits.RECEIPT_KEY_BYTES], key[limits.RECEIPT_KEY_BYTES :]
        return cls._framed(head, first, receipt, others, grant.data)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        request_id, serial, class_code, receipt_bytes = _GRANT.unpack_from(payload)
        key_ends = _GRANT.size + (limits.RECEIPT_KEY_BYTES if receipt_bytes else 0)
        receipt_ends = key_ends + receipt_bytes
        key, receipt, rest = (
            payload[_GRANT.size : key_ends],
            payload[key_ends:receipt_ends],
            payload[receipt_ends:],
        )
        others = receipt.count(b"\n")
        if receipt_bytes > (others + 1) * (limits.MAX_RECEIPT_BYTES + 1) - 1 or others >= limits.MAX_MIXED:
            raise ValueError(f"a receipt cannot have {receipt_bytes} bytes and {others + 1} lines")
        n_bytes, odd = divmod(len(rest) - others * limits.RECEIPT_KEY_BYTES, others + 1)
        if odd or not 1 <= n_bytes <= limits.MAX_DRAW_BYTES:
            raise ValueError(f"a grant must be 1 to {limits.MAX_DRAW_BYTES} bytes, not {n_bytes}")
        if class_code not in _CLASSES:
            raise ValueError(f"unknown draw class {class_code}")
        key, data = key + rest[:-n_bytes], rest[-n_bytes:]
        return cls(data, serial, _CLASSES[class_code], receipt, key, request_id=_request_id(request_id))


@dataclass(frozen=True, slots=True)
class Refusal(Frame):
    """A refusal; `code` is the error (refusals.py), id 0 means the session."""

    TYPE: ClassVar[int] = 0x12
    MIN_BYTES: ClassVar[int] = _REFUSAL.size
    MAX_BYTES: ClassVar[int] = _REFUSAL.size + limits.MAX_MESSAGE_BYTES + limits.MAX_HINT_BYTES

    request_id: int
    code: int
    message: str = ""
    hint: str = ""
    retry_after_us: int | None = None
    estimate: bool = False

    def encode(self) -> bytes:
        message = _put_text(self.message, limits.MAX_MESSAGE_BYTES)
        hint = _put_text(self.hint, limits.MAX_HINT_BYTES)
        timed = self.retry_after_us is not None
        flags = timed | (timed and self.estimate) << 1
        head = _REFUSAL.pack(self.request_id, self.code, flags, self.retry_after_us or 0, len(message))
        return self._framed(head, message, hint)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        request_id, code, flags, wait_us, message_bytes = _REFUSAL.unpack_from(payload)
        if flags not in {0, 1, 3} or (wait_us and not flags):
            raise ValueError(f"invalid flags {flags:#x}")
        ends = _REFUSAL.size + message_bytes
        if ends > len(payload):
            raise ValueError("the message is truncated")
        message = _take_text(payload[_REFUSAL.size : ends], limits.MAX_MESSAGE_BYTES)
        hint = _take_text(payload[ends:], limits.MAX_HINT_BYTES)
        return cls(request_id, code, message, hint, wait_us if flags else None, flags == 3)


@dataclass(frozen=True, slots=True)
class Call(Frame):
    """A control verb; `args` is a JSON object."""

    TYPE: ClassVar[int] = 0x20
    MIN_BYTES: ClassVar[int] = _ID.size + 2
    MAX_BYTES: ClassVar[int] = _ID.size + limits.MAX_CALL_BYTES

    request_id: int
    verb: str
    args: dict[str, Any] = field(repr=False)

    def encode(self) -> bytes:
        return self._framed(_ID.pack(self.request_id), put_json({"verb": self.verb, "args": self.args}))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        (request_id,) = _ID.unpack_from(payload)
        document = take_json(payload[_ID.size :])
        verb, args = document.get("verb"), document.get("args")
        if len(document) != 2 or not isinstance(verb, str) or not isinstance(args, dict):
            raise ValueError("the call must have exactly the fields 'verb' and 'args'")
        return cls(_request_id(request_id), verb, args)


@dataclass(frozen=True, slots=True)
class Result(Frame):
    """The answer to a call: a JSON object."""

    TYPE: ClassVar[int] = 0x21
    MIN_BYTES: ClassVar[int] = _ID.size + 2
    MAX_BYTES: ClassVar[int] = _ID.size + limits.MAX_RESULT_BYTES

    request_id: int
    document: dict[str, Any] = field(repr=False)

    def encode(self) -> bytes:
        return self._framed(_ID.pack(self.request_id), put_json(self.document))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        (request_id,) = _ID.unpack_from(payload)
        return cls(_request_id(request_id), take_json(payload[_ID.size :]))


@dataclass(frozen=True, slots=True)
class Bye(Frame):
    """The final frame of either side."""

    TYPE: ClassVar[int] = 0x7F
    MIN_BYTES: ClassVar[int] = 0
    MAX_BYTES: ClassVar[int] = limits.MAX_REASON_BYTES

    reason: str = ""

    def encode(self) -> bytes:
        return self._framed(_put_text(self.reason, limits.MAX_REASON_BYTES))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(_take_text(payload, limits.MAX_REASON_BYTES))


def put_json(document: dict[str, Any]) -> bytes:
    """Encode a JSON object for the wire: ASCII, without spaces.

    Raises:
        ValueError: a value cannot be encoded in JSON.
    """
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")


def take_json(data: bytes) -> dict[str, Any]:
    """Parse a JSON object; raise ValueError for JSON that is not portable."""
    try:
        document = json.loads(data.decode(), parse_constant=_no_constant, parse_float=_finite)
        if b"\\u" in data:
            json.dumps(document, ensure_ascii=False).encode()  # ValueError for an unpaired surrogate
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("the JSON is not an object")  # noqa: TRY004 - input, not a caller's type
    _check_depth(document)
    return document


def _check_depth(document: dict[str, Any]) -> None:
    """Limit the nesting, because Python's own limit depends on its version."""
    level: list[Any] = [document]
    for _ in range(limits.MAX_JSON_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise ValueError("the JSON is nested too deeply")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"the JSON contains {name}")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number in the JSON is too large")
    return number


def _request_id(request_id: int) -> int:
    if request_id == limits.SESSION_ID:
        raise ValueError("a request's id must not be 0")
    return request_id


def _put_text(text: str, max_bytes: int) -> bytes:
    if not text.isprintable():
        text = "".join(char if char.isprintable() else "?" for char in text)
    data = text.encode()
    return data if len(data) <= max_bytes else data[:max_bytes].decode(errors="ignore").encode()


def _take_text(data: bytes, max_bytes: int) -> str:
    text = data.decode()
    if len(data) > max_bytes or not text.isprintable():
        raise ValueError("a text is too long or not printable")
    return text


def _put_name(name: str) -> bytes:
    data = _put_text(name, limits.MAX_NAME_BYTES)
    return bytes((len(data),)) + data


def _take_name(data: bytes) -> tuple[str, bytes]:
    end = 1 + data[0] if data else 1
    if end > len(data):
        raise ValueError("a name is truncated")
    return _take_text(data[1:end], limits.MAX_NAME_BYTES), data[end:]
