"""What a running service says of itself, asked as `rolehost status` asks, without a process for each look."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from rolehost.errors import RoleHostError
from rolehost.host.fabric.control import ask


def status_of(data: Path) -> dict[str, Any]:
    """The status of the service over a data directory; empty while none answers."""

    async def asked() -> dict[str, Any]:
        async for line in ask(data, {"do": "status"}):
            if "status" in line:
                return dict(line["status"])
        return {}

    try:
        return asyncio.run(asked())
    except RoleHostError:
        return {}
