"""Warm starts for tests."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from rolehost.processes import ChildIdentity, Exit, WarmStarts, procfs

ENV = {"PATH": os.environ["PATH"]}


@asynccontextmanager
async def warm_starts(
    script: str, *imports: str, env: Mapping[str, str] | None = None, identity: ChildIdentity | None = None
) -> AsyncIterator[WarmStarts]:
    """Warm starts of a script with the server running; no server is left behind."""
    warm = WarmStarts(script, imports, env=env or ENV, marker=f"test-warm/{os.getpid()}/", identity=identity)
    warm.start()
    try:
        async with asyncio.timeout(30):
            assert await warm.ready()
        yield warm
    finally:
        await warm.close()
        assert not [each for each in procfs.processes().values() if is_server(each.pid)]


def is_server(pid: int) -> bool:
    """Whether it is a warm server of this process, or a process that one forked."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        mine = f"test-warm/{os.getpid()}/" in (procfs.marker(pid) or "")
    except OSError:
        return False
    return mine and b"/warm_server.py" in line


async def spoken(
    warm: WarmStarts,
    script: str,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path = Path("/"),
    must_be_warm: bool = False,
) -> str:
    """What a run of the script prints that ends well."""
    server = warm.server_pid
    child = await warm.spawn([sys.executable, script], env=env or ENV, cwd=cwd, marker="test-warm/spoken")
    parent = found.parent if (found := procfs.process(child.pid)) else None
    async with asyncio.timeout(30):
        assert await child.wait() == Exit(0), child.stderr.text()
    if must_be_warm:
        assert parent == server
    return child.stdout.text()
