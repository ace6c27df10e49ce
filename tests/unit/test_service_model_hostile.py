"""Files that mean harm, or are broken: a clear sentence, in bounded time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from support.cloud_service import CSCFG, CSDEF, Copy

NAMESPACE = "http://schemas.microsoft.com/ServiceHosting/2008/10/ServiceDefinition"
LAUGHS = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
LAUGHING = f'<?xml version="1.0"?>\n<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]><x>&l9;</x>'
MANY = b"<x\n" + b"".join(b"a%d='' " % n for n in range(1000)) + b"/>"
HOSTILE = {
    "laughs": (LAUGHING.encode(), ":2: N01: the file has"),
    "external": (b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x a="1">&e;</x>', ":1: N01: the file has"),
    "remote": (b'<!-- c -->\n\n<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><x/>', ":3: N01: the file has"),
    "behind marks": (("\ufeff" * 2 + LAUGHING).encode(), ":2: N01: the file has"),
    "behind a comment": (b'<!--> x -->\n<!DOCTYPE x [<!ENTITY e "x">]><x>&e;</x>', ":2: N01: the file has"),
    "behind an instruction": (b'<?a ?>\n<!DOCTYPE x [<!ENTITY e "x">]><x>&e;</x>', ":2: N01: the file has"),
    "undeclared": (b"<x>\n&e;</x>", ":2: N01: this is no XML: Entity 'e' not defined"),
    "large": (b"<x>" + b"<y/>" * 2_500_000 + b"</x>", ": N01: the file is larger than 1024 KiB"),
    "deep": (b"<x>" * 150_000 + b"</x>" * 140_000, ":1: N01: this is no XML: Excessive depth"),
    "rather deep": (b"<x>\n" * 200 + b"</x>" * 200, ":33: N01: elements are nested more than 32 deep"),
    "comments": (b"<!--" * 250_000, ":1: N01: this is no XML"),
    "attributes": (
        b"<x\n" + b"".join(b"a%d='' " % n for n in range(80_000)) + b"/>",
        ":1: N01: an element has more than 1000",
    ),
    "less attributes": (b"<r>" + MANY * 120, ":121: N01: this is no XML: "),
    "unknown encoding": (
        b'<?xml version="1.0" encoding="klingon"?><x/>',
        ":1: N01: the file declares the encoding klingon",
    ),
    "codec": (b'<?xml version="1.0" encoding="hex"?><x/>', ":1: N01: the file declares the encoding hex"),
    "wrong encoding": (b'<x>\n<y a="\xff\xfe"/></x>', ":2: N01: the file isn't in its encoding, utf-8"),
    "half": ("<x>".encode("utf-16") + b"\x00", ":1: N01: the file isn't in its encoding, utf-16"),
    "nul": (b"<x>\n\x00</x>", ":2: N01: this is no XML: the file holds a NUL character"),
    "empty": (b"", ":1: N01: this is no XML: Document is empty"),
    "cut": (b"<x>\n<y>", ":2: N01: this is no XML: "),
    "twice": (b"<x a='1'\n a='2'/>", ":2: N01: this is no XML: Attribute a redefined"),
    "long": (b"<" + b"x" * 40_000 + b"/>", ":1: M01: the root element is <ServiceDefinition>"),
    "no service": (b"<html>\n</html>", ":1: M01: the root element is <ServiceDefinition>"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_in_a_moment(tmp_path: Path, kind: str) -> None:
    data, expected = HOSTILE[kind]
    service = Copy(tmp_path)
    (service.directory / CSDEF).write_bytes(data)
    began = time.monotonic()
    (told,) = service.told(service.examine().errors)
    assert time.monotonic() - began < 5
    assert told.startswith(f"{CSDEF}{expected}")
    assert "root:" not in told
    assert len(told) < 600


def test_a_flood_of_problems_ends(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    unknown = "".join(f"<Unknown{number}/>" for number in range(50_000))
    text = f'<ServiceDefinition name="S" xmlns="{NAMESPACE}">{unknown}</ServiceDefinition>'
    (service.directory / CSDEF).write_text(text)
    began = time.monotonic()
    examined = service.examine()
    assert time.monotonic() - began < 10
    assert [problem.sentence for problem in examined.errors] == [
        "there are more than 500 problems: the rest isn't told"
    ]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused(tmp_path: Path, make: object) -> None:
    service = Copy(tmp_path)
    path = service.directory / CSCFG
    path.unlink()
    assert callable(make)
    make(path)
    (told,) = service.told(service.examine(ROLEHOST_CONFIGURATION=CSCFG).errors)
    assert told == f"{CSCFG}: N01: this is no file"
