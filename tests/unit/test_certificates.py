"""Certificates as files: found by thumbprint, missing, mistaken, broken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rolehost.environment import Certificate as Seen
from rolehost.errors import StartupError
from rolehost.host.instance.certificates import installed, missing, require
from rolehost.host.instance.changing import why_restart
from rolehost.host.instance.plan import InstancePlan
from rolehost.host.instance.recycling import RecycleReason
from rolehost.service_model import Certificate, RoleModel
from rolehost.telemetry import subscribe
from support.instances import make_plan

KEY = ec.generate_private_key(ec.SECP256R1())
KEY_PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()


def certificate(name: str) -> tuple[str, str]:
    """A certificate as PEM, and its thumbprint as another library says it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(KEY, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    return pem, made.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - thumbprints are SHA-1


@pytest.fixture
def events() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    events: list[tuple[str, dict[str, Any]]] = []
    unsubscribe = subscribe(lambda event, facts: events.append((event, facts)))
    yield events
    unsubscribe()


def plan_with(place: Path, thumbprint: str, *, emulated: bool = False, **more: Any) -> InstancePlan:
    declared = {"Tls": Certificate(name="Tls", thumbprint=thumbprint)}
    return make_plan(place, RoleModel(name="A", entry_point="m:A", certificates=declared), emulated=emulated, **more)


def put(place: Path, name: str, text: str | bytes) -> Path:
    path = place / "service" / "certificates" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_thumbprints_are_those_of_another_library(tmp_path: Path) -> None:
    first, second, third = certificate("1"), certificate("2"), certificate("3")
    files = {
        first[1]: put(tmp_path, "Tls/old.pem", KEY_PEM + first[0]),
        second[1]: put(tmp_path, "Tls/tls.crt", f"some words\r\n{second[0]}".replace("\n", "\r\n") + third[0]),
    }
    put(tmp_path, "Tls/tls.key", KEY_PEM)
    put(tmp_path, "Tls/privkey.pem", KEY_PEM)
    put(tmp_path, "Tls/.hidden.pem", certificate("4")[0])
    assert installed(tmp_path / "service" / "certificates") == {**files, third[1]: files[second[1]]}
    assert installed(tmp_path / "nowhere") == {}


def test_a_role_s_certificate_is_in_its_environment(tmp_path: Path) -> None:
    pem, thumbprint = certificate("1")
    path = put(tmp_path, "Tls/tls.crt", pem)
    plan = plan_with(tmp_path, thumbprint)
    require(plan)
    assert missing(plan) == ()
    assert plan.snapshot().certificates == {"Tls": Seen("Tls", thumbprint, str(path))}


def test_a_mounted_secret_is_followed_through_its_links(tmp_path: Path) -> None:
    """Kubernetes swaps a link; the versions stand beside it, their names begin with a dot."""
    (old, old_print), (new, new_print) = certificate("old"), certificate("new")
    folder = put(tmp_path, "Tls/..1/tls.crt", old).parent.parent
    put(tmp_path, "Tls/..2/tls.crt", new)
    (folder / "..data").symlink_to("..1")
    (folder / "tls.crt").symlink_to("..data/tls.crt")
    assert missing(plan_with(tmp_path, new_print)) == ("Tls",)
    (folder / "..fresh").symlink_to("..2")
    (folder / "..fresh").replace(folder / "..data")
    assert missing(plan_with(tmp_path, new_print)) == ()
    assert missing(plan_with(tmp_path, old_print)) == ("Tls",)


def test_certificates_may_be_elsewhere(tmp_path: Path) -> None:
    pem, thumbprint = certificate("1")
    (tmp_path / "mounted" / "any-name").mkdir(parents=True)
    (tmp_path / "mounted" / "any-name" / "x.pem").write_text(pem)
    environ = {"ROLEHOST_CERTIFICATES": str(tmp_path / "mounted")}
    plan = plan_with(tmp_path, thumbprint, environ=environ)
    require(plan)
    assert plan.snapshot().certificates["Tls"].path == str(tmp_path / "mounted" / "any-name" / "x.pem")


def test_a_missing_certificate_keeps_an_instance_from_starting(
    tmp_path: Path, events: list[tuple[str, dict[str, Any]]]
) -> None:
    _, thumbprint = certificate("1")
    with pytest.raises(StartupError, match=rf'"Tls" \({thumbprint}\) is not installed: there is no directory .*Tls'):
        require(plan_with(tmp_path, thumbprint))
    emulated = plan_with(tmp_path, thumbprint, emulated=True)
    require(emulated)
    assert [(event, facts["instance"]) for event, facts in events] == [("certificate.missing", "A_IN_0")]
    assert thumbprint in events[0][1]["reason"]
    assert emulated.snapshot().certificates == {"Tls": Seen("Tls", thumbprint, "")}


def test_another_certificate_than_the_declared_one_is_named(tmp_path: Path) -> None:
    (pem, there), (_, wanted) = certificate("there"), certificate("wanted")
    put(tmp_path, "Tls/tls.crt", pem)
    with pytest.raises(StartupError, match=rf"{wanted}\) is not installed: .*certificates/Tls has {there}"):
        require(plan_with(tmp_path, wanted))
    require(plan_with(tmp_path, wanted, emulated=True))


def test_a_form_that_is_not_read_is_said(tmp_path: Path) -> None:
    put(tmp_path, "Tls/mine.pfx", b"\x30\x82")
    with pytest.raises(StartupError, match=r"make a PEM file of it \(openssl pkcs12"):
        require(plan_with(tmp_path, "A" * 40))
    put(tmp_path, "Other/readme.txt", "")
    plan = plan_with(tmp_path, "A" * 40)
    (tmp_path / "service" / "certificates" / "Tls" / "mine.pfx").unlink()
    with pytest.raises(StartupError, match=r"has neither tls\.crt nor a \.pem file"):
        require(plan)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no PEM file"),
        (b"\x30\x82\x01\x0a\xff\xfe", "no PEM file"),
        ("-----BEGIN CERTIFICATE-----\nMIIB", "no PEM file"),
        ("-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n", "is broken"),
        ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "what it encodes is no certificate"),
        ("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "what it encodes is no certificate"),
    ],
)
def test_a_broken_file_is_named_also_when_emulated(tmp_path: Path, text: str | bytes, told: str) -> None:
    pem, thumbprint = certificate("1")
    put(tmp_path, "Tls/a.pem", text)
    put(tmp_path, "Tls/b.pem", pem)
    for emulated in (False, True):
        with pytest.raises(StartupError, match=rf"Tls/a\.pem .*{told}"):
            require(plan_with(tmp_path, thumbprint, emulated=emulated))


def test_a_broken_file_of_another_certificate_is_no_obstacle(
    tmp_path: Path, events: list[tuple[str, dict[str, Any]]]
) -> None:
    pem, thumbprint = certificate("1")
    put(tmp_path, "Other/tls.crt", "broken")
    path = put(tmp_path, "ZTls/tls.crt", pem)
    plan = plan_with(tmp_path, thumbprint)
    require(plan)
    assert plan.snapshot().certificates["Tls"].path == str(path)
    assert "Other/tls.crt" in events[0][1]["reason"]


def test_thumbprints_change_with_the_plan(tmp_path: Path) -> None:
    (one, first), (two, second) = certificate("1"), certificate("2")
    put(tmp_path, "Tls/one.pem", one)
    put(tmp_path, "Tls/two.pem", two)
    plan = plan_with(tmp_path, first)
    changed = replace(plan, role=plan_with(tmp_path, second).role)
    assert [each.snapshot().certificates["Tls"].thumbprint for each in (plan, changed)] == [first, second]


def test_a_certificate_that_is_missing_still_is_no_reason_to_start_again(tmp_path: Path) -> None:
    """Where the service is emulated it is only warned of: a setting's change is told to the role all the same."""
    old = plan_with(tmp_path, "AB" * 20, emulated=True)
    new = replace(old, role=replace(old.role, settings=MappingProxyType({"Mood": "merry"})))
    assert why_restart(old, new, frozenset()) is None
    other = plan_with(tmp_path, "CD" * 20, emulated=True)
    assert why_restart(old, other, frozenset()) is RecycleReason.ENVIRONMENT_CHANGED
