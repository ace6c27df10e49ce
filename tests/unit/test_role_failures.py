"""What a role prints when its code fails: a person sees the role's own frames."""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path

import pytest

from rolehost.host.assignment import Assignment
from rolehost.host.role.failures import report
from support.role_process import HostedRole

RAISES = """
    def deeper():
        raise ArithmeticError("broken")

    class Worker(RoleEntryPoint):
        {hook}
"""
HOOKS = {
    "a function": "def on_start(self): deeper()",
    "a coroutine": "async def on_start(self): deeper()",
    "the constructor": "def __init__(self): super().__init__(); deeper()",
    "a cause": """def on_start(self):
            try:
                deeper()
            except ArithmeticError as error:
                raise LookupError("outer") from error""",
    "an exit": "def on_start(self): sys.exit(7)",
    "a group": """async def on_start(self):
            import asyncio
            async def later(): deeper()
            async with asyncio.TaskGroup() as group:
                group.create_task(later())""",
}


def files(stderr: str) -> set[str]:
    return {Path(path).name for path in re.findall(r'File "([^"]+)"', stderr)}


@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
async def test_a_traceback_begins_with_the_role_s_own_code(tmp_path: Path, hook: str) -> None:
    async with HostedRole(tmp_path, RAISES.format(hook=hook)) as role:
        assert await role.end() == 1
        assert "Traceback (most recent call last)" in role.stderr
        firsts = re.findall(r'\(most recent call last\):\n[ |]*File "([^"]+)"', role.stderr)
        assert {Path(first).name for first in firsts} == {"roles.py"}, role.stderr
        assert not {"user_code.py", "life.py"} & files(role.stderr)


async def test_a_module_that_can_not_be_loaded_shows_its_own_lines(tmp_path: Path) -> None:
    async with HostedRole(tmp_path, "    raise ArithmeticError(1)") as role:
        assert await role.end() != 0
        assert files(role.stderr) == {"roles.py"}


async def test_with_debugging_nothing_is_left_out(tmp_path: Path) -> None:
    code = RAISES.format(hook=HOOKS["a function"])
    async with HostedRole(tmp_path, code, environ={"ROLEHOST_DEBUG": "1"}) as role:
        assert await role.end() == 1
        assert {"user_code.py", "roles.py"} <= files(role.stderr)


@pytest.mark.parametrize(("shipped", "first"), [(True, "assignment.py"), (False, "pathlib.py")])
def test_a_role_of_ours_shows_the_way_to_a_library_that_fails(
    monkeypatch: pytest.MonkeyPatch, *, shipped: bool, first: str
) -> None:
    """To a user's role a library that raises is its own: we call none for it."""
    told: list[str] = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: told.extend(traceback.format_exception(*error)))
    with pytest.raises(TypeError) as error:
        Assignment.from_json({"topology": {}, "generation": 1, "model": 3})
    assert error.tb is not None
    report(error.value.with_traceback(error.tb.tb_next), shipped=shipped)  # without the frame of this test
    assert Path(re.findall(r'File "([^"]+)"', told[1])[0]).name == first
