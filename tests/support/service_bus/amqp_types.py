"""The types of AMQP 1.0 on the wire (OASIS AMQP 1.0, part 1), with as much fidelity as a round trip needs."""

from __future__ import annotations

import struct
import uuid
from typing import Any, ClassVar


class Symbol(str):
    """A symbolic value; on the wire it differs from a string."""

    __slots__ = ()


class Described:
    """A value with a descriptor: performatives, sections, outcomes, filters.

    Args:
        descriptor: a number, or a symbol.
        value: what it describes.
    """

    __slots__ = ("descriptor", "value")

    def __init__(self, descriptor: Any, value: Any) -> None:
        self.descriptor = descriptor
        self.value = value


class Array(list[Any]):
    """Values of one type.

    Args:
        code: the type's format code.
        items: the values.
    """

    def __init__(self, code: int, items: list[Any]) -> None:
        super().__init__(items)
        self.code = code


class Number(int):
    """An integer whose width is part of its meaning."""

    code: ClassVar[int]


class Ubyte(Number):
    code = 0x50


class Ushort(Number):
    code = 0x60


class Uint(Number):
    code = 0x70


class Ulong(Number):
    code = 0x80


class Byte(Number):
    code = 0x51


class Short(Number):
    code = 0x61


class Int(Number):
    code = 0x71


class Long(Number):
    code = 0x81


class Timestamp(Number):
    """Milliseconds since 1970."""

    code = 0x83


_FIXED: dict[int, tuple[str, type[Number | float]]] = {
    0x50: (">B", Ubyte),
    0x51: (">b", Byte),
    0x52: (">B", Uint),
    0x53: (">B", Ulong),
    0x54: (">b", Int),
    0x55: (">b", Long),
    0x60: (">H", Ushort),
    0x61: (">h", Short),
    0x70: (">I", Uint),
    0x71: (">i", Int),
    0x72: (">f", float),
    0x80: (">Q", Ulong),
    0x81: (">q", Long),
    0x82: (">d", float),
    0x83: (">q", Timestamp),
}
_CONSTANTS: dict[int, Any] = {0x40: None, 0x41: True, 0x42: False, 0x43: Uint(0), 0x44: Ulong(0), 0x45: []}
_VARIABLE: dict[int, tuple[int, type[bytes | str]]] = {
    0xA0: (1, bytes),
    0xB0: (4, bytes),
    0xA1: (1, str),
    0xB1: (4, str),
    0xA3: (1, Symbol),
    0xB3: (4, Symbol),
}
_LISTS = (0xC0, 0xD0)
_MAPS = (0xC1, 0xD1)
_ARRAYS = (0xE0, 0xF0)
_UUID = 0x98
_BOOLEAN = 0x56
_SHORT = 256


def decode(data: bytes, at: int = 0) -> tuple[Any, int]:
    """Read one value.

    Returns:
        The value, and where the next one begins.

    Raises:
        ValueError: a type that no Service Bus client sends, or a text that is cut off.
    """
    code = data[at]
    if code == 0:
        descriptor, at = decode(data, at + 1)
        value, at = decode(data, at)
        return Described(descriptor, value), at
    return _decode_as(code, data, at + 1)


def _decode_as(code: int, data: bytes, at: int) -> tuple[Any, int]:
    if code in _CONSTANTS:
        constant = _CONSTANTS[code]
        return ([] if code == 0x45 else constant), at
    if code in _FIXED:
        layout, kind = _FIXED[code]
        (number,) = struct.unpack_from(layout, data, at)
        return kind(number), at + struct.calcsize(layout)
    if code in _VARIABLE:
        return _decode_text(code, data, at)
    if code == _BOOLEAN:
        return data[at] != 0, at + 1
    if code == _UUID:
        return uuid.UUID(bytes=bytes(data[at : at + 16])), at + 16
    if code in (*_LISTS, *_MAPS, *_ARRAYS):
        return _decode_compound(code, data, at)
    raise ValueError(f"no AMQP type that is known here: {code:#x}")


def _decode_text(code: int, data: bytes, at: int) -> tuple[Any, int]:
    width, kind = _VARIABLE[code]
    size = int.from_bytes(data[at : at + width], "big")
    at += width
    raw = bytes(data[at : at + size])
    if len(raw) != size:
        raise ValueError("the value is cut off")
    return (raw if kind is bytes else kind(raw.decode("utf-8"))), at + size  # type: ignore[arg-type]


def _decode_compound(code: int, data: bytes, at: int) -> tuple[Any, int]:
    width = 1 if code in (_LISTS[0], _MAPS[0], _ARRAYS[0]) else 4
    count = int.from_bytes(data[at + width : at + 2 * width], "big")
    at += 2 * width
    items: list[Any] = []
    if code in _ARRAYS:
        inner = data[at]
        at += 1
        for _ in range(count):
            item, at = _decode_as(inner, data, at)
            items.append(item)
        return Array(inner, items), at
    for _ in range(count):
        item, at = decode(data, at)
        items.append(item)
    return (items if code in _LISTS else dict(zip(items[::2], items[1::2], strict=True))), at


def sections(data: bytes) -> list[tuple[int, Any, bytes]]:
    """The described values of a message one after the other: descriptor, value, and its bytes as they came."""
    found = []
    at = 0
    while at < len(data):
        value, end = decode(data, at)
        found.append((int(value.descriptor), value.value, data[at:end]))
        at = end
    return found


def section(code: int, value: Any) -> bytes:
    """One section of a message."""
    return encode(Described(code, value))


def encode(value: Any) -> bytes:
    """Write one value.

    Raises:
        TypeError: it has no form in AMQP that is known here.
    """
    if value is None or isinstance(value, bool):
        return {None: b"\x40", True: b"\x41", False: b"\x42"}[value]
    if isinstance(value, int):
        return _encode_number(value)
    if isinstance(value, float | uuid.UUID):
        return b"\x82" + struct.pack(">d", value) if isinstance(value, float) else b"\x98" + value.bytes
    if isinstance(value, Described):
        descriptor = value.descriptor
        return b"\0" + encode(Ulong(descriptor) if isinstance(descriptor, int) else descriptor) + encode(value.value)
    if isinstance(value, str | bytes | bytearray):
        return _encode_text(value)
    return _encode_compound(value)


def _encode_number(value: int) -> bytes:
    code = value.code if isinstance(value, Number) else Long.code
    if code == Ulong.code and value < _SHORT:
        return bytes([0x53, value]) if value else b"\x44"
    if code == Uint.code and value < _SHORT:
        return bytes([0x52, value]) if value else b"\x43"
    return bytes([code]) + struct.pack(_FIXED[code][0], value)


def _encode_text(value: str | bytes | bytearray) -> bytes:
    code = 0xA3 if isinstance(value, Symbol) else 0xA1 if isinstance(value, str) else 0xA0
    raw = value.encode() if isinstance(value, str) else bytes(value)
    if len(raw) < _SHORT:
        return bytes([code, len(raw)]) + raw
    return bytes([code + 0x10]) + len(raw).to_bytes(4, "big") + raw


def _encode_compound(value: Any) -> bytes:
    if isinstance(value, Array):
        body = bytes([value.code]) + b"".join(_encode_item(item, value.code) for item in value)
        return _framed(0xF0, len(value), body)
    if isinstance(value, dict):
        return _framed(0xD1, 2 * len(value), b"".join(encode(part) for pair in value.items() for part in pair))
    if isinstance(value, list | tuple):
        return _framed(0xD0, len(value), b"".join(map(encode, value))) if value else b"\x45"
    raise TypeError(f"no AMQP type for {type(value).__name__}")


def _framed(code: int, count: int, body: bytes) -> bytes:
    return bytes([code]) + (len(body) + 4).to_bytes(4, "big") + count.to_bytes(4, "big") + body


def _encode_item(item: Any, code: int) -> bytes:
    """An array's item: the array's code stands for all of them."""
    if code in _FIXED:
        return struct.pack(_FIXED[code][0], item)
    raw = item if isinstance(item, bytes) else str(item).encode()
    return len(raw).to_bytes(4, "big") + raw
