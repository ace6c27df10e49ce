"""`rolehost update`: another configuration, or definition, for the running service."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from rolehost.cli.change import Wait, change
from rolehost.cli.options import DATA, AsJson, Data


class _Mode(StrEnum):
    AUTO = "auto"
    MANUAL = "manual"


def update(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A .cscfg, a .csdef or a service.toml.", show_default=False),
    ] = None,
    *,
    data: Data = DATA,
    mode: Annotated[
        _Mode, typer.Option("--mode", help="Whether the domains are walked by themselves, or each by --walk.")
    ] = _Mode.AUTO,
    walk: Annotated[
        int | None,
        typer.Option("--walk", metavar="DOMAIN", min=0, help="Go on to an update domain, in a manual update."),
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Go back to what was before the update that is under way.")
    ] = False,
    load_roles: Annotated[
        bool,
        typer.Option(
            "--load/--no-load",
            help="Whether entry points that the service doesn't run yet are imported first, as `rolehost check` does.",
        ),
    ] = True,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Give the running service another configuration, update domain by update domain.

    Instances of a domain are told at once; the next domain follows when all of them are ready again. Until the last one
    is, --rollback goes back. Those that are new start, and those that are too many stop, domain by domain, too.
    """
    if (file is not None) + (walk is not None) + rollback != 1:
        raise typer.BadParameter("name either a FILE, or --walk DOMAIN, or --rollback")
    request: dict[str, Any] = {"wait": wait}
    if file is not None:
        request |= {"do": "update", "file": os.path.abspath(file)}  # noqa: PTH100 - links stay as they are
        request |= {"mode": mode} | ({} if load_roles else {"load": False})
    elif walk is not None:
        request |= {"do": "walk", "domain": walk}
    else:
        request |= {"do": "rollback"}
    change(data, request, as_json=as_json)
