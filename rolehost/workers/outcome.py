"""What became of one attempt: the value that runs through the pipeline."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePath

from rolehost.jobs.job import End, Fetched
from rolehost.jobs.sniffing import PICTURES, RECOGNISED, sniff_file

_UNREADABLE = "its result may not be read: the application has locked it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended, and what it left.

    Args:
        end: how it ended; `End.OK` needs a `result`.
        detail: why, for a person; paths of the scratch directory are none of theirs.
        exit_code: of the console application; negative for a signal.
        stdout: what it printed, capped, head and tail.
        stderr: the same.
        result: the file that it made, in the scratch directory.
        result_name: the name under which a person downloads it.
        result_type: its media type.
        fetched: what came from where the job's source is, if it was not uploaded.
    """

    end: End
    detail: str = ""
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""
    result: Path | None = None
    result_name: str = ""
    result_type: str = "application/octet-stream"
    fetched: Fetched | None = None


def fault_of(result: Path | None) -> str:
    """What is wrong with a result, in words; empty if nothing is."""
    if result is None:
        return "left no result"
    try:
        found = result.lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: no path at all
        return "left no result"
    except PermissionError:
        return _UNREADABLE
    if not stat.S_ISREG(found.st_mode):
        return "its result is no regular file"
    if not found.st_size:
        return "its result is empty"
    return "" if os.access(result, os.R_OK) else _UNREADABLE


def other_type(result: Path, promised: str) -> str:
    """What is wrong with a result's type, in words; empty if nothing is, or if such files aren't known here."""
    found = sniff_file(result)
    if found == promised or promised not in RECOGNISED:
        return ""
    other = "no picture" if promised in PICTURES else "something else"
    return f"its result is {found if found in RECOGNISED else other}, not {promised}"


def plain_suffix(name: str) -> str:
    """The suffix of a name, if it is one that fits every file system and every store; else none."""
    suffix = PurePath(name).suffix
    return suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,16}", suffix) else ""
