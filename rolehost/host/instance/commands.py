"""Command lines of a service definition: split into words, found below approot, never given to a shell."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from rolehost.errors import ProgramNotFoundError

_WINDOWS = {
    ".bat": "a batch file of Windows",
    ".cmd": "a batch file of Windows",
    ".msi": "an installer of Windows",
    ".ps1": "a PowerShell script",
    ".vbs": "a script of Windows",
}
_HEAD_BYTES = 512


def words(command_line: str) -> list[str]:
    """The words of a command line: quotation marks hold one together, and no other character means anything.

    Raises:
        ProgramNotFoundError: it is empty, or a quotation mark has no partner.
    """
    lexer = shlex.shlex(command_line, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    lexer.escape = ""  # a backslash is part of an old path
    try:
        found = list(lexer)
    except ValueError as error:
        raise ProgramNotFoundError(f"the command line {command_line!r} can't be split: {error}") from error
    if not found:
        raise ProgramNotFoundError("the command line is empty")
    return found


def argv_of(command_line: str, approot: Path, env: Mapping[str, str]) -> list[str]:
    """What to start for a command line of the definition.

    Args:
        command_line: a program below approot, or on the PATH, and its arguments.
        approot: where the program is looked for first.
        env: the environment that it is to have.

    Raises:
        ProgramNotFoundError: it isn't there, or is no program of this system; the sentence says what to do.
    """
    name, *arguments = words(command_line)
    if kind := _WINDOWS.get(os.path.splitext(name)[1].lower()):  # noqa: PTH122 - as written, maybe with backslashes
        told = "which can't run here: write it as a script with a first line like #!/bin/sh, and name that"
        raise ProgramNotFoundError(f"{name} is {kind}, {told}")
    path = _path(name, approot, env)
    _require_runnable(path, env)
    return [str(path), *arguments]


def _path(name: str, approot: Path, env: Mapping[str, str]) -> Path:
    for spelling in (name, name.replace("\\", "/")):
        if (approot / spelling).is_file():
            return approot / spelling
    if "/" not in name and "\\" not in name and (found := shutil.which(name, path=env.get("PATH", os.defpath))):
        return Path(found)
    where = "in approot, nor on the PATH" if "/" not in name else "in approot"
    raise ProgramNotFoundError(f"{name} is not {where} ({approot})")


def _require_runnable(path: Path, env: Mapping[str, str]) -> None:
    if not path.stat().st_mode & 0o111:
        raise ProgramNotFoundError(f"{path} is not executable (chmod +x)")
    try:
        with path.open("rb") as program:
            head = program.read(_HEAD_BYTES)
    except PermissionError:
        return  # executable, and nobody's business otherwise
    if head.startswith(b"#!"):
        _require_interpreter(path, head[2:].split(b"\n", 1)[0], env)
    elif head.startswith(b"MZ"):
        raise ProgramNotFoundError(f"{path} is a program of Windows, which can't run here")
    elif b"\0" not in head:
        raise ProgramNotFoundError(f"{path} has no first line that names its interpreter, as #!/bin/sh")


def _require_interpreter(path: Path, line: bytes, env: Mapping[str, str]) -> None:
    if line.endswith(b"\r"):
        raise ProgramNotFoundError(f"{path} has the line ends of Windows, which its interpreter can't read")
    interpreter, *options = os.fsdecode(line).split() or [""]
    if not os.access(interpreter, os.X_OK):
        raise ProgramNotFoundError(f"{path} needs the interpreter {interpreter or '(none named)'}, which is not there")
    if Path(interpreter).name == "env":
        program = next((each for each in options if not each.startswith("-") and "=" not in each), "")
        if program and shutil.which(program, path=env.get("PATH", os.defpath)) is None:
            raise ProgramNotFoundError(f"{path} needs the interpreter {program}, which is not on the PATH")
