"""Definitions of old services under test: copied, changed in a place, read."""

from __future__ import annotations

import shutil
from pathlib import Path

from rolehost.service_model import Examined, examine

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
CSDEF = "ServiceDefinition.csdef"
CSCFG = "ServiceConfiguration.Cloud.cscfg"


class Copy:
    """A copy of the sample service, for changing.

    Args:
        directory: an empty directory.
        pair: a folder of the fixtures.
    """

    def __init__(self, directory: Path, pair: str = "cloud_service") -> None:
        self.directory = directory / "service"
        shutil.copytree(FIXTURES / pair, self.directory)

    def change(self, file: str, old: str, new: str) -> None:
        """Put a text in the place of another one that is there once."""
        path = self.directory / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def line_of(self, file: str, text: str) -> int:
        """Where the text stands for the first time."""
        content = (self.directory / file).read_text(encoding="utf-8")
        return content.count("\n", 0, content.index(text)) + 1

    def examine(self, definition: str = CSDEF, **environ: str) -> Examined:
        """Read the definition."""
        return examine(self.directory / definition, environ)

    def told(self, problems: tuple[object, ...]) -> list[str]:
        """Problems as a person sees them, without the directory."""
        return [str(problem).replace(f"{self.directory}/", "") for problem in problems]
