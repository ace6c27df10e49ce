"""The certificates of a role: PEM files, known by their thumbprints."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from rolehost.errors import StartupError
from rolehost.host.instance.plan_facts import PlanFacts
from rolehost.service_model import Certificate
from rolehost.telemetry import emit

VARIABLE = "ROLEHOST_CERTIFICATES"
DIRECTORY = "certificates"

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_CERTIFICATE = (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE")
_LARGEST_FILE = 1 << 20
_SEQUENCE = 0x30  # the ASN.1 tag that a certificate begins with


def installed(directory: Path) -> Mapping[str, Path]:
    """The certificates below a directory: the thumbprint of each, and the file that it is in.

    Args:
        directory: has a folder for each certificate, with `tls.crt` or files `*.pem`; several certificates in one
            folder, or in one file, are all found. A folder with a broken file is passed over, and told.
    """
    found: dict[str, Path] = {}
    for folder in _visible(directory):
        try:
            if folder.is_dir():
                found = {**_in_folder(folder), **found}
        except StartupError as error:
            emit("certificate.unreadable", reason=str(error))
    return found


def place_of(plan: PlanFacts) -> Path:
    """Where the certificates of a plan's roles are: ROLEHOST_CERTIFICATES, else beside the definition."""
    named = plan.environ.get(VARIABLE)
    return plan.model.directory / (named or DIRECTORY)


def found(plan: PlanFacts) -> Mapping[str, Path]:
    """The files of the role's certificates by the certificates' names; those that aren't installed are left out.

    Raises:
        StartupError: a file of one of them can't be read.
    """
    files = {}
    for certificate in plan.role.certificates.values():
        if file := _file_of(certificate, place_of(plan)):
            files[certificate.name] = file
    return files


def missing(plan: PlanFacts) -> tuple[str, ...]:
    """The names of the role's certificates that aren't installed, or not yet."""
    files = found(plan)
    return tuple(name for name in plan.role.certificates if name not in files)


def require(plan: PlanFacts) -> None:
    """Make sure that the role's certificates are there.

    Raises:
        StartupError: one is missing and the service isn't emulated (then it is told only), or can't be read.
    """
    told = [_absence(plan.role.certificates[name], place_of(plan)) for name in missing(plan)]
    if told and not plan.emulated:
        raise StartupError("; ".join(told))
    for sentence in told:
        emit("certificate.missing", instance=plan.instance_id, reason=sentence)


def _file_of(certificate: Certificate, place: Path) -> Path | None:
    own = place / certificate.name
    here = _in_folder(own) if own.is_dir() else {}
    return here.get(certificate.thumbprint) or installed(place).get(certificate.thumbprint)


def _absence(certificate: Certificate, place: Path) -> str:
    own = place / certificate.name
    told = f'the certificate "{certificate.name}" ({certificate.thumbprint or "no thumbprint"}) is not installed: '
    if not own.is_dir():
        return f"{told}there is no directory {own}"
    if others := _in_folder(own):
        return f"{told}{own} has {', '.join(sorted(others))}"
    if any(each.suffix.lower() in {".pfx", ".p12"} for each in _visible(own)):
        return f"{told}{own} has it in a form that isn't read; make a PEM file of it (openssl pkcs12 -in ... -out ...)"
    return f"{told}{own} has neither tls.crt nor a .pem file with a certificate"


def _in_folder(folder: Path) -> Mapping[str, Path]:
    found: dict[str, Path] = {}
    for file in _visible(folder):
        if (file.suffix.lower() == ".pem" or file.name == "tls.crt") and file.is_file():
            for thumbprint in _thumbprints(file):
                found.setdefault(thumbprint, file)
    return found


def _visible(directory: Path) -> list[Path]:
    """A directory's entries; not those behind a mounted secret's links, which begin with a dot."""
    try:
        return sorted(each for each in directory.iterdir() if not each.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StartupError(f"the certificates in {directory} can't be read: {error.strerror}") from error


def _thumbprints(file: Path) -> list[str]:
    """SHA-1 over each certificate of a file, in upper-case hexadecimal; none where it has a key only."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_LARGEST_FILE)
    except OSError as error:
        raise StartupError(f"the certificate file {file} can't be read: {error.strerror}") from error
    blocks = _BLOCK.findall(text)
    if not blocks:
        raise StartupError(f"the certificate file {file} is no PEM file: it has no whole BEGIN/END block")
    ders = [_der(body, file) for label, body in blocks if label in _CERTIFICATE]
    return [hashlib.sha1(der, usedforsecurity=False).hexdigest().upper() for der in ders]


def _der(body: bytes, file: Path) -> bytes:
    try:
        der = base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as error:
        raise StartupError(f"the certificate file {file} is broken: {error}") from error
    if not der or len(der) != _length(der):
        raise StartupError(f"the certificate file {file} is broken: what it encodes is no certificate")
    return der


def _length(der: bytes) -> int:
    """How long the whole is by what its first bytes say; 0 where they are no certificate's."""
    if len(der) < 2 or der[0] != _SEQUENCE:  # noqa: PLR2004 - a tag and a length
        return 0
    if der[1] < 0x80:  # noqa: PLR2004 - a length of one byte
        return 2 + der[1]
    size = der[1] & 0x7F
    return 2 + size + int.from_bytes(der[2 : 2 + size], "big")
