from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rolehost.entrypoint import RoleEntryPoint, load_entry_point
from rolehost.environment import RoleEnvironment, role_environment
from rolehost.errors import EntryPointError


@pytest.fixture(autouse=True)
def _clean_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in sys.modules.keys() - modules:
        del sys.modules[name]


def module(directory: Path, name: str, text: str) -> None:
    (directory / f"{name}.py").write_text(f"from rolehost.entrypoint import RoleEntryPoint\n{text}\n")


def test_a_class_of_a_user_module_is_found(tmp_path: Path) -> None:
    module(tmp_path, "entry_found", "class A(RoleEntryPoint): pass\nclass B(RoleEntryPoint): pass")
    assert load_entry_point("entry_found:B", tmp_path).__name__ == "B"
    assert load_entry_point("entry_found", tmp_path).__name__ == "A"  # the first, as the original's host does


@pytest.mark.parametrize(
    ("entry_point", "text", "reason"),
    [
        ("entry_missing:A", None, 'there is no module "entry_missing"'),
        ("entry_missing.sub:A", None, 'there is no module "entry_missing"'),
        ("entry_bad:A", "import nonexistent_dependency", "No module named 'nonexistent_dependency'"),
        ("entry_bad:A", "def", "SyntaxError"),
        ("entry_bad:A", "1 / 0", "importing entry_bad failed: ZeroDivisionError"),
        ("entry_bad:A", "", 'has no "A"'),
        ("entry_bad:A", "class A: pass", "A does not derive from rolehost.RoleEntryPoint"),
        ("entry_bad:A", "A = 1", "A does not derive from rolehost.RoleEntryPoint"),
        ("entry_bad", "", "defines no class derived from RoleEntryPoint"),
    ],
)
def test_why_it_cannot_be_loaded(tmp_path: Path, entry_point: str, text: str | None, reason: str) -> None:
    if text is not None:
        module(tmp_path, entry_point.partition(":")[0], text)
    with pytest.raises(EntryPointError, match=reason):
        load_entry_point(entry_point, tmp_path)


def test_a_role_has_the_process_s_environment_or_a_test_s() -> None:
    class Role(RoleEntryPoint):
        def __init__(self) -> None:
            pass  # forgets its base

    role = Role()
    assert role.role_environment is role_environment
    role.role_environment = own = RoleEnvironment.for_testing()
    assert role.role_environment is own
    assert role.on_start() is True
    assert role.on_stop() is None
