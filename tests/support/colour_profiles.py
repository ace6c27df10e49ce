"""ICC profiles that change colours so much that a test sees whether they were obeyed."""

from __future__ import annotations

import struct


def swapped_rgb() -> bytes:
    """Return a profile of a display whose red channel shines green and whose green channel shines red."""
    primaries = {
        b"gXYZ": (0.4361, 0.2225, 0.0139),
        b"rXYZ": (0.3851, 0.7169, 0.0971),
        b"bXYZ": (0.1431, 0.0606, 0.7141),
    }
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256))
    tags = {name: _xyz(*value) for name, value in primaries.items()}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def light_inks() -> bytes:
    """Return a profile of a printer whose cyan prints light green, magenta orange, yellow white, and black grey."""
    inks = ((70.0, -50.0, 50.0), (65.0, 45.0, 70.0), (100.0, 0.0, 0.0), (50.0, 0.0, 0.0))
    corners = bytearray()
    for used in range(16):  # all combinations of the four inks, black changing fastest
        applied = [ink for bit, ink in zip((8, 4, 2, 1), inks, strict=True) if used & bit]
        lightness, a, b = min(applied, default=(100.0, 0.0, 0.0))
        corners += bytes((round(lightness * 2.55), round(a) + 128, round(b) + 128))
    straight = bytes(range(256))
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + straight * 4 + bytes(corners) + straight * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut})


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    name = b"made for a test\0"
    described = b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78)
    tags = {b"desc": described, b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": _xyz(0.9642, 1.0, 0.8249), **tags}
    place = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        table += tag + struct.pack(">II", place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", place + len(body), bytes(4), 0x02400000, kind, space, connection)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(0.9642, 1.0, 0.8249)[8:]
    return head.ljust(128, b"\0") + table + body


def _xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))
