"""What a contact sheet may be asked for."""

from __future__ import annotations

from rolehost.jobs.parameters import Parameter, ParameterType

TITLE = "Contact sheet"
ACCEPTS = ("application/zip",)
PARAMETERS = (
    Parameter(
        name="columns",
        type=ParameterType.INTEGER,
        default=0,
        least=0,
        most=100,
        label="Columns",
        help="How many pictures stand side by side; 0 makes the sheet about square.",
    ),
    Parameter(
        name="tile",
        type=ParameterType.INTEGER,
        default=160,
        least=16,
        most=1024,
        label="Tile",
        help="Pixels of the square that each picture stands in.",
    ),
    Parameter(name="format", default="jpeg", choices=("jpeg", "png", "webp"), label="Format"),
)
