"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DATA = Path(".rolehost")

Data: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        envvar="ROLEHOST_DATA",
        file_okay=False,
        help="The service's data directory.",
        show_default="./.rolehost",
    ),
]
Definition: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--definition",
        metavar="FILE",
        help="The service definition, a service.toml or a .csdef. By default the one in the working directory, "
        "else the built-in service.",
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout.")]
Limit: TypeAlias = Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many to list at most.")]
Cursor: TypeAlias = Annotated[
    str | None, typer.Option("--cursor", metavar="CURSOR", help="Go on where the list before ended.")
]
Port: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--port",
        metavar="PORT",
        min=0,
        max=65535,
        help="The port of the service's first endpoint; 0 takes a free one.",
        show_default="the definition's; 8080 in the built-in service",
    ),
]
Verbose: TypeAlias = Annotated[
    bool, typer.Option("--verbose", "-v", help="Log more, and show the traceback of an error.")
]
