"""What `rolehost status` says of money: the requests of a month that goes on like this, and what they cost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rolehost.cli.opening import embedded, opened, stores_environ
from rolehost.errors import RoleHostError

_PATIENCE = 10.0


async def costs(data: Path) -> dict[str, Any]:
    """The storage's costs, as `status --json` has them.

    Args:
        data: the data directory.

    Returns:
        `engine`, and `projected_month`: None where requests cost nothing, or can't be known; `problem` says why then.
    """
    from rolehost.stores.costs import Prices, projected, usages  # noqa: PLC0415 - `--help` needs none of it

    try:
        if embedded():
            return {"engine": "embedded", "projected_month": None}
        bus = stores_environ().get("ROLEHOST_QUEUE", "").strip() not in {"", "storage"}
        prices = Prices.read(os.environ)
        async with asyncio.timeout(_PATIENCE), opened(data) as stores:
            told = await usages(stores)
    except (RoleHostError, TimeoutError) as error:
        problem = str(error) or "the storage does not answer"
        return {"engine": "azure_storage", "projected_month": None, "problem": problem}
    if not told:
        problem = "nothing was told yet: each process tells what it asked after a minute, then every ten"
        return {"engine": "azure_storage", "projected_month": None, "problem": problem}
    bill = projected(told, prices, base=prices.service_bus if bus else 0.0)
    month = {
        "currency": prices.currency,
        "total": round(bill.total, 4),
        "base": bill.base,
        "by_purpose": {name: round(money, 4) for name, money in sorted(bill.by_purpose.items())},
        "requests": {name: round(number) for name, number in sorted(bill.requests.items())},
    }
    return {
        "engine": "azure_storage",
        "projected_month": month,
        "prices": {"as_of": prices.as_of, "note": prices.note},
        "requests_per_job": None if bill.per_job is None else round(bill.per_job, 2),
        "requests_per_idle_hour": {name: round(number, 1) for name, number in bill.per_idle_hour.items()},
        "processes": bill.processes,
        "seconds": round(bill.seconds),
    }


def cost_lines(told: Mapping[str, Any] | None) -> Iterator[str]:
    """The same for people; nothing where requests cost nothing."""
    if not told or (told["projected_month"] is None and "problem" not in told):
        return
    if (month := told["projected_month"]) is None:
        yield f"storage: no projected bill: {told['problem']}"
        return
    parts = ", ".join(f"{name} {money:.2f}" for name, money in month["by_purpose"].items())
    base = f"; {month['base']:.2f} of it for the Service Bus namespace" if month["base"] else ""
    prices = f"{told['prices']['note']}, {told['prices']['as_of']}"
    total = f"{month['total']:.2f} {month['currency']}"
    yield f"storage: {sum(month['requests'].values()):,} requests a month if it goes on like this, {total}{base}"
    yield f"    {parts} ({prices}; stored bytes and traffic are not in it; ROLEHOST_PRICES names other prices)"
    idle = ", ".join(f"{name} {number:.0f}" for name, number in told["requests_per_idle_hour"].items())
    job = "" if told["requests_per_job"] is None else f"{told['requests_per_job']} requests a job; "
    minutes = max(1, round(told["seconds"] / 60))
    yield f"    {job}in an idle hour: {idle} (of {told['processes']} processes, over up to {minutes} min)"
