"""`rolehost scale`: more or fewer instances of a role."""

from __future__ import annotations

from typing import Annotated

import typer

from rolehost.cli.change import Wait, change
from rolehost.cli.options import DATA, AsJson, Data


def scale(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="The role's name in the service definition.")],
    instances: Annotated[int, typer.Argument(metavar="N", help="How many instances it is to have.")],
    *,
    data: Data = DATA,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Change the number of a role's instances while the service runs.

    The next `rolehost up` goes by its definition again.
    """
    change(data, {"do": "scale", "role": role, "instances": instances, "wait": wait}, as_json=as_json)
