"""From what was named on the command line to files: folders become what is in them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Asset:
    """A file to submit.

    Args:
        named: its path as a person knows it.
        path: the file itself, no symbolic link.
    """

    named: Path
    path: Path

    @property
    def shown(self) -> str:
        """The path for people."""
        return _shown(self.named)


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that was not submitted, and why."""

    shown: str
    reason: str


def find_assets(named: Sequence[Path], on_repeated: Callable[[str], None] = lambda _: None) -> list[Asset | Refused]:
    """The files to submit, in the order named; one that is named twice is taken once.

    Args:
        named: files, and folders: of these every file at any depth, without those whose name, or folder's name, begins
            with a dot. Links to files are followed, links to folders inside of folders are not.
        on_repeated: called with the path of each that is left out, because it was named before.
    """
    found: dict[Path, Asset | Refused] = {}
    for name in named:
        for path, each in _in_folder(name) if name.is_dir() else [_asset(name)]:
            if path in found:
                on_repeated(each.shown)
            else:
                found[path] = each
    return list(found.values())


def _in_folder(folder: Path) -> Iterator[tuple[Path, Asset | Refused]]:
    empty = True
    problems: list[tuple[Path, Refused]] = []

    def note(error: OSError) -> None:
        path = Path(str(error.filename))
        problems.append((path, Refused(_shown(path), _sentence(error))))

    for place, folders, files in os.walk(folder, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                empty = False
                yield _asset(Path(place, name))
    if empty and not problems:
        yield folder, Refused(_shown(folder), "the folder holds no files")
    yield from problems


def _asset(path: Path) -> tuple[Path, Asset | Refused]:
    shown = _shown(path)
    try:
        real = path.resolve(strict=True)
        if not stat.S_ISREG(real.stat().st_mode):
            return path, Refused(shown, "this is no regular file")
    except OSError as error:
        return path, Refused(shown, _sentence(error))
    except RuntimeError:
        return path, Refused(shown, "the link leads in a circle")
    return path, Asset(path, real)


def _shown(path: Path) -> str:
    """The path as text, also where its bytes are none."""
    return os.fsencode(path).decode(errors="replace")


def _sentence(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return f"it can't be read: {error.strerror or error}"
