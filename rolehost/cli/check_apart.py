"""`rolehost check` in a process of its own: what the roles import there is gone with it."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from rolehost.processes import Child, Exit

_LONGEST = 60.0
_LONGEST_STDERR = 2000


async def check_apart(
    definition: Path, configuration: Path | None, environ: Mapping[str, str], *, within: float = _LONGEST
) -> list[str]:
    """The problems of a definition, the roles' entry points imported; none: it may be run.

    Args:
        definition: a `service.toml` or a `.csdef`.
        configuration: of a `.csdef`.
        environ: the variables that go over it.
        within: seconds that it may take.

    Raises:
        RoleHostError: it can't be started.
        OSError: likewise.
    """
    argv = [sys.executable, "-P", "-m", "rolehost", "check", "--json", "--definition", str(definition)]
    argv += [] if configuration is None else ["--configuration", str(configuration)]
    checking = await Child.spawn(
        argv, env=environ, cwd=definition.parent, marker=f"check/{secrets.token_hex(8)}", capture=1 << 20
    )
    try:
        async with asyncio.timeout(within):
            return _problems(definition, checking, await checking.wait())
    except TimeoutError:
        return [f"{definition}: the check took longer than {within:g} s: does a role's module start to work?"]
    finally:
        await checking.stop(0.0)


def _problems(definition: Path, checked: Child, end: Exit) -> list[str]:
    try:
        document = json.loads(checked.stdout.text())
        return [] if document["valid"] and end.code == 0 else [str(each) for each in document["problems"]]
    except (ValueError, LookupError, TypeError):
        told = checked.stderr.text(_LONGEST_STDERR).strip() or f"exit code {end.code}, signal {end.signal}"
        return [f"{definition}: the check has failed: {told}"]
