"""A console application that plays what a test tells it to, and remembers how it was called.

    app = RecordedApp(tmp_path / "render", Recording(exit_code=75, stderr="no licence"), Recording(result=b"done"))

It is a real executable file, a script of the shell: a worker runs it as it would run the program that it stands for, by
the same path, under the same user, with the same environment.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rolehost.testing.recordings import Recording, Said, Stream

_TOOLS = ("cat", "cp", "mkdir", "sleep")
_ANYBODY = 0o777
_EXECUTABLE = 0o755
_WRITES = {Stream.STDOUT: "", Stream.STDERR: " >&2", Stream.RESULT: ' >> "$result"'}

# Takes a number of its own by making a folder, which succeeds for one process only; then remembers, then plays.
_SCRIPT = """#!/bin/sh
calls={calls}; plays={plays}; last={last}
[ -w "$calls" ] || {{ echo "$0: may not write to $calls" >&2; exit 126; }}
number=1
until {mkdir} "$calls/$number" 2>/dev/null; do number=$((number + 1)); done
call="$calls/$number"
{cat} /proc/$$/environ > "$call/environ"
printf '%s' "$PWD" > "$call/cwd"
printf '%s\\0' "$0" "$@" > "$call/argv"
position=0
for argument in "$@"; do
    position=$((position + 1))
    if [ -f "$argument" ]; then {cp} "$argument" "$call/file-$position"; fi
{target}
done
: > "$call/known"
[ "$number" -gt "$last" ] && number=$last
. "$plays/$number"
"""


@dataclass(frozen=True, slots=True)
class Call:
    """How an application was called.

    Args:
        argv: its own path, and its arguments.
        environment: all of its variables.
        cwd: where it ran.
        files: what was in the files that arguments name, when it began, by argument.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: Path
    files: Mapping[str, bytes]

    @property
    def arguments(self) -> tuple[str, ...]:
        """The argv without the program."""
        return self.argv[1:]


class RecordedApp:
    """An executable file that plays recordings.

    Args:
        path: the file to make; its name is what a worker's `detail` calls it. What it needs is in a folder beside it.
        recordings: what the first call does, the second, and so on; further calls do as the last. None: leave nothing
            and exit with 0.
        result: which argument names the file that it makes: a position, counted from 1, or from the end by negative
            numbers; `"-o"` for the argument after that one; `"of={target}"` for the one of that form.
    """

    def __init__(self, path: Path, *recordings: Recording, result: int | str = -1) -> None:
        self.path = path.absolute()
        self._box = self.path.with_name(f"{path.name}.recorded")
        self._calls = self._box / "calls"
        for folder, mode in ((self._box, _EXECUTABLE), (self._box / "plays", _EXECUTABLE), (self._calls, _ANYBODY)):
            folder.mkdir(parents=True)
            folder.chmod(mode)  # whatever the umask says: it may run as somebody else
        plays = recordings or (Recording(),)
        for number, recording in enumerate(plays, start=1):
            self._write_play(number, recording)
        script = _SCRIPT.format(
            calls=shlex.quote(str(self._calls)),
            plays=shlex.quote(str(self._box / "plays")),
            last=len(plays),
            target=_target(result),
            **{tool: shlex.quote(_tool(tool)) for tool in _TOOLS if tool != "sleep"},
        )
        self.path.write_text(script, encoding="utf-8")
        self.path.chmod(_EXECUTABLE)

    def __str__(self) -> str:
        return str(self.path)

    def __fspath__(self) -> str:
        """Its path, as everything takes it that takes a path."""
        return str(self.path)

    @property
    def calls(self) -> Sequence[Call]:
        """Every call so far, the first one first."""
        numbers = sorted(int(each.name) for each in self._calls.iterdir() if (each / "known").exists())
        return [_call(self._calls / str(number)) for number in numbers]

    @contextmanager
    def on_path(self) -> Iterator[None]:
        """First on the PATH of this process, as long as the block lasts: for a worker that names its program only."""
        before = os.environ.get("PATH", os.defpath)
        os.environ["PATH"] = f"{self.path.parent}{os.pathsep}{before}"
        try:
            yield
        finally:
            os.environ["PATH"] = before

    def _write_play(self, number: int, recording: Recording) -> None:
        lines = ["trap '' TERM"] if recording.ignores_term else []
        for index, step in enumerate(recording.played()):
            if isinstance(step, Said):
                data = self._box / "plays" / f"{number}.{index}"
                data.write_bytes(step.data)
                data.chmod(0o644)
                lines.append(f"{_tool('cat')} {shlex.quote(str(data))}{_WRITES[step.stream]}")
            else:
                lines.append(f"{_tool('sleep')} {step:.3f}")
        lines.append(f"kill -{recording.signal} $$" if recording.signal else f"exit {recording.exit_code}")
        play = self._box / "plays" / str(number)
        play.write_text("\n".join(lines) + "\n", encoding="utf-8")
        play.chmod(0o644)


def _target(result: int | str) -> str:
    """The line of the script, for each argument, that sets `result`."""
    if isinstance(result, int):
        if not result:
            raise ValueError("`result` counts the arguments from 1, or from the end by negative numbers")
        position = str(result) if result > 0 else f"$(($# + 1 + {result}))"
        return f'    if [ "$position" -eq {position} ]; then result=$argument; fi'
    if "{target}" in result:
        begin, _, end = (shlex.quote(each) for each in result.partition("{target}"))
        cut = f'result="${{argument#{begin}}}"; result="${{result%{end}}}"'
        return f"    case $argument in {begin}*{end}) {cut};; esac"
    return f'    if [ "$before" = {shlex.quote(result)} ]; then result=$argument; fi; before=$argument'


def _tool(name: str) -> str:
    """By its path: the application may be called like one of them, and be first on the PATH."""
    found = shutil.which(name, path=os.defpath)
    if found is None:
        raise FileNotFoundError(f"a recorded application needs the command {name}")
    return found


def _call(folder: Path) -> Call:
    argv = tuple(os.fsdecode(each) for each in (folder / "argv").read_bytes().split(b"\0")[:-1])
    variables = (os.fsdecode(each).partition("=") for each in (folder / "environ").read_bytes().split(b"\0") if each)
    files = {argv[int(each.name.partition("-")[2])]: each.read_bytes() for each in folder.glob("file-*")}
    return Call(
        argv, {name: value for name, _, value in variables}, Path(os.fsdecode((folder / "cwd").read_bytes())), files
    )
