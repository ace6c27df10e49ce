"""`python -m rolehost`: the same as the command `rolehost`."""

from __future__ import annotations

from rolehost.cli import main

main()
