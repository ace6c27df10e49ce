"""The settings of webhooks: what is allowed unless it is said, and the sentences of what can't be."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from rolehost.environment import RoleEnvironment
from rolehost.errors import InvalidParameterError, RoleEnvironmentError
from rolehost.jobs.webhook_settings import WebhookSettings
from support.receiver import KEY, SECRET


def read(**settings: str) -> WebhookSettings:
    return WebhookSettings.read(
        RoleEnvironment.for_testing(settings={f"Webhooks.{name}": value for name, value in settings.items()})
    )


def test_the_defaults_are_the_safe_ones() -> None:
    assert read() == WebhookSettings()
    rules = read().rules()
    assert (rules.schemes, rules.ports) == (frozenset({"https"}), frozenset({443}))
    assert (rules.networks, rules.deadline) == ((), 10.0)
    assert read(AllowedSchemes="https, http").ports == {80, 443}
    assert read(AllowedPorts="8443").ports == {8443}
    assert read(AllowedHosts="A.example, *.b.example").hosts == ("a.example", "*.b.example")
    assert read(GiveUpDays="0.5").give_up == timedelta(hours=12)
    assert "KEY" not in repr(read(Secrets=SECRET))
    assert repr(KEY) not in repr(read(Secrets=SECRET))
    assert read(Secrets=f"{SECRET}, {SECRET}").keys() == (KEY, KEY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Secrets", "swordfish"),
        ("Secrets", "whsec_c2hvcnQ="),
        ("Secrets", "whsec_not*base64*not*base64*not*base64"),
        ("Secrets", SECRET.removeprefix("whsec_")),
        ("AllowedNetworks", "10.0.0.1/8"),
        ("AllowedPorts", "https"),
        ("AllowedPorts", "0"),
        ("AllowedSchemes", "gopher"),
        ("DeadlineSeconds", "0"),
        ("GiveUpDays", "never"),
    ],
)
def test_a_setting_that_can_not_be_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(RoleEnvironmentError, match=f"Webhooks.{name}") as told:
        read(**{name: value})
    assert name != "Secrets" or value not in str(told.value), "no secret is ever told"


def test_a_file_of_secrets_has_to_be_there_and_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    settings = read(SecretFile=str(file))
    assert settings.configured
    with pytest.raises(RoleEnvironmentError, match="can't be read"):
        settings.keys()
    file.write_text(f"# none yet\n{SECRET}\n")
    file.chmod(0o666)
    with pytest.raises(RoleEnvironmentError, match="chmod 600"):
        settings.keys()
    file.chmod(0o600)
    assert settings.keys() == (KEY,)
    file.write_text("# none\n")
    with pytest.raises(RoleEnvironmentError, match="no secret"):
        settings.keys()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hooks.example/", "https://"),
        ("https://127.0.0.1/", "not a public one"),
        ("https://0x7f.1/", "neither a name nor an address"),
        ("https://me:secret@hooks.example/", "user or a password"),
        ("https://hooks.example:8443/", "port"),
        ("https://hooks.example/ x", "plain ASCII"),
        ("https://hooks.example/" + "x" * 2048, "2048"),
        ("nonsense", "begin with https://"),
    ],
)
def test_a_url_that_can_not_be_asked_is_refused_at_once(url: str, why: str) -> None:
    settings = read(Secrets=SECRET)
    assert settings.check("https://hooks.example/x?y=z") == "https://hooks.example/x?y=z"
    with pytest.raises(InvalidParameterError, match=why) as told:
        settings.check(url)
    assert told.value.field == "webhook"


def test_without_a_secret_no_webhook_is_promised() -> None:
    with pytest.raises(InvalidParameterError, match=r"webhooks are not set up here: without a secret"):
        read().check("https://hooks.example/")
