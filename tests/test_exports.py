"""The public names: exactly these, each of them there, and none paid for before it is used."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rolehost
import rolehost.testing

PUBLIC = {
    "BadInputError",
    "Certificate",
    "CertificateChange",
    "ConfigurationSettingChange",
    "ConsoleApp",
    "ConsoleAppWorker",
    "End",
    "ExitRule",
    "Job",
    "JobSpec",
    "JobState",
    "KeyValueProgress",
    "Limits",
    "LocalResource",
    "Outcome",
    "PatternProgress",
    "QueueWorker",
    "ResultProgress",
    "Role",
    "RoleEntryPoint",
    "RoleEnvironment",
    "RoleEnvironmentChange",
    "RoleEnvironmentChanged",
    "RoleEnvironmentChanging",
    "RoleEnvironmentError",
    "RoleEnvironmentStopping",
    "RoleHostError",
    "RoleInstance",
    "RoleInstanceEndpoint",
    "RoleInstanceStatus",
    "RoleInstanceStatusCheck",
    "Scratch",
    "SimultaneousChanged",
    "SimultaneousChanging",
    "SimultaneousTopologyChange",
    "ThumbnailWorker",
    "TopologyChange",
    "TranscodeWorker",
    "Verdict",
    "__version__",
    "get_setting",
    "role_environment",
}


def test_all_is_what_is_documented() -> None:
    assert sorted(rolehost.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_name_is_there(name: str) -> None:
    assert getattr(rolehost, name) is not None
    assert name in dir(rolehost)


def test_the_testing_kit_exports_what_is_documented() -> None:
    page = (Path(__file__).parent.parent / "docs" / "testing.md").read_text(encoding="utf-8")
    assert sorted(rolehost.testing.__all__) == rolehost.testing.__all__
    for name in rolehost.testing.__all__:
        assert getattr(rolehost.testing, name) is not None
        assert re.search(rf"\b{name}\b", page), f"docs/testing.md does not name {name}"


def test_star_import_gives_the_public_names() -> None:
    namespace: dict[str, object] = {}
    exec("from rolehost import *", namespace)  # noqa: S102 - a star import is only allowed at module level
    assert namespace.keys() - {"__builtins__"} == PUBLIC


def test_unknown_name_is_an_attribute_error() -> None:
    name = "no_such_name"
    with pytest.raises(AttributeError, match=name):
        getattr(rolehost, name)


def test_importing_the_package_loads_nothing_else() -> None:
    """A process that needs one part, the bootstrapper above all, must not pay for the others."""
    program = "import sys, rolehost; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert {name for name in loaded if name.startswith("rolehost")} <= {"rolehost", "rolehost._version"}
    assert not {name.split(".")[0] for name in loaded} & {"aiohttp", "azure", "PIL", "fastapi", "pydantic", "structlog"}


def test_exported_classes_say_where_they_live() -> None:
    """A pickled object or a traceback names a module of the package that can be imported."""
    for name in sorted(PUBLIC - {"__version__", "role_environment"}):
        public = getattr(rolehost, name)
        assert getattr(importlib.import_module(public.__module__), name) is public
