"""`get_setting`: where a setting is looked for, in which order, and what the trace source says of it."""

from __future__ import annotations

import logging

import pytest

from rolehost.environment import RoleEnvironment, get_setting, role_environment
from rolehost.errors import RoleEnvironmentError

RUNTIME, VARIABLES = "ServiceRuntime", "ConfigurationManager"


def traced(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "rolehost.runtime"]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> RoleEnvironment:
    monkeypatch.setenv("Both", "of the process")
    monkeypatch.setenv("OnlyHere", "of the process")
    monkeypatch.setenv("Dotted__Name", "dotted")
    return RoleEnvironment.for_testing(settings={"Both": "of the role", "Empty": ""})


def test_the_runtime_is_asked_first_then_the_variables_then_there_is_none(
    environment: RoleEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    found = {name: environment.get_setting(name) for name in ("Both", "Empty", "OnlyHere", "Dotted.Name", "Nowhere")}
    assert found == {
        "Both": "of the role",
        "Empty": "",
        "OnlyHere": "of the process",
        "Dotted.Name": "dotted",
        "Nowhere": None,
    }
    assert traced(caplog) == [
        f'Getting "Both" from {RUNTIME}: PASS.',
        f'Getting "Empty" from {RUNTIME}: PASS.',
        f'Getting "OnlyHere" from {RUNTIME}: FAIL.',
        f'Getting "OnlyHere" from {VARIABLES}: PASS.',
        f'Getting "Dotted.Name" from {RUNTIME}: FAIL.',
        f'Getting "Dotted.Name" from {VARIABLES}: PASS.',
        f'Getting "Nowhere" from {RUNTIME}: FAIL.',
        f'Getting "Nowhere" from {VARIABLES}: FAIL.',
    ]


def test_a_setting_that_the_runtime_must_have(environment: RoleEnvironment, caplog: pytest.LogCaptureFixture) -> None:
    assert environment.get_setting("Both", throw=True) == "of the role"
    for name in ("OnlyHere", "Nowhere"):
        with pytest.raises(RoleEnvironmentError, match=f'the setting "{name}" is not in the role environment'):
            environment.get_setting(name, throw=True)
    assert not [line for line in traced(caplog) if VARIABLES in line]
    with pytest.raises(ValueError, match="has a name"):
        environment.get_setting("")


def test_outside_a_host_the_variables_answer(environment: RoleEnvironment) -> None:
    assert environment.is_available
    assert not role_environment.is_available
    assert get_setting("OnlyHere") == "of the process"
    assert get_setting("Nowhere") is None
    with pytest.raises(RoleEnvironmentError):
        get_setting("OnlyHere", throw=True)


def test_the_trace_source_is_silenced_by_its_level(
    environment: RoleEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    source = RoleEnvironment.trace_source
    assert source is logging.getLogger("rolehost.runtime")
    level = source.level
    try:
        source.setLevel(logging.CRITICAL + 1)
        environment.get_setting("Both")
        assert traced(caplog) == []
        source.setLevel(logging.INFO)
        environment.get_setting("Both")
        assert len(traced(caplog)) == 1
    finally:
        source.setLevel(level)
