"""Pages of the documentation, followed: their files are written, their commands run, from top to bottom.

What a block is for stands in its first line:

    ```toml file=service.toml     any language with file=NAME is written to that file
    ```sh                         each line is a command; `rolehost up` goes on beside the others
    ```python                     run in this process, one namespace for the page; `await` may stand alone
    ```toml                       has to be TOML
    ```text, json, console, ...   is only shown

A comment on the line before a block, `<!-- test: skip WHY -->`, says that it isn't done; `<!-- test: fails -->` that
each of its commands fails; `<!-- test: append -->` that the file of that name goes on with it.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import json
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

from support.commands import environ, picture
from support.service import until
from support.status import status_of

_BLOCK = re.compile(
    r"^(?:<!-- test: (?P<note>\w+)[^\n]*-->\n)?"
    r"```(?P<language>\w+)(?: file=(?P<file>\S+))?\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_PYTHON = [sys.executable, "-m"]
_PROGRAMS = {
    "rolehost": [*_PYTHON, "rolehost"],
    "python": [sys.executable],
    "pytest": [*_PYTHON, "pytest", "-p", "no:cacheprovider"],
    "ruff": [*_PYTHON, "ruff"],
}
_ADDRESS = "http://127.0.0.1:8080"
LETTER = "The quick brown fox\njumps over the lazy dog.\n"


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code.

    Args:
        line: where it begins on its page.
        note: what a comment before it says, or empty.
        file: the file that it is written to, or empty.
    """

    line: int
    language: str
    note: str
    file: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            text.count("\n", 0, found.start("language")) + 1,
            found["language"],
            found["note"] or "",
            found["file"] or "",
            found["text"],
        )
        for found in _BLOCK.finditer(text)
    ]


class Reader:
    """Somebody who follows a page in a folder that has `photo.jpg`, 400 by 300, and `letter.txt`.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = ""
        """What the last command wrote to stdout."""
        self._names: dict[str, Any] = {"__name__": "page"}
        self._up: list[subprocess.Popen[str]] = []
        self._url = _ADDRESS
        picture(folder / "photo.jpg", (400, 300))
        (folder / "letter.txt").write_text(LETTER)

    def follow(self, page: Path) -> None:
        """Do what a page says."""
        done = 0
        for block in blocks_of(page):
            if block.note != "skip":
                done += self._do(block, f"{page.name}, line {block.line}")
        assert done, f"{page} has nothing that can be done"

    def run(self, line: str, where: str = "", *, fails: bool = False) -> str:
        """Run a command; `rolehost up` goes on beside the others. What it wrote to stdout."""
        program, *arguments = shlex.split(line.replace(_ADDRESS, self._url))
        argv = [*_PROGRAMS.get(program, [program]), *arguments]
        if program == "rolehost" and arguments[0] in {"up", "run"}:
            self._start(argv, where)
            return ""
        done = subprocess.run(
            argv, cwd=self.folder, env=environ(), capture_output=True, text=True, timeout=240, check=False
        )
        told = f"{where}: {line}\n{done.stdout}{done.stderr}\n{self.log()}"
        assert (done.returncode != 0) == fails, told
        if program == "rolehost" and arguments[0] == "stop":
            self.close()
        self.said = done.stdout
        return done.stdout

    def log(self) -> str:
        """What services wrote to stderr."""
        return "".join(path.read_text() for path in sorted(self.folder.glob(".up-*.log")))

    def close(self) -> None:
        """Leave nothing running."""
        for process in self._up:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(40)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._up.clear()

    def _do(self, block: Block, where: str) -> int:
        if block.file:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            before = path.read_text() if block.note == "append" else ""
            path.write_text(before + block.text)
            return 1
        match block.language:
            case "sh":
                for line in _lines(block.text):
                    self.run(line, where, fails=block.note == "fails")
            case "python":
                self._execute(block.text, where)
            case "toml":
                tomllib.loads(block.text)
            case _:
                return 0
        return 1

    def _execute(self, text: str, where: str) -> None:
        code: CodeType = compile(text, where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        with _as_main(self.folder):
            made = eval(code, self._names)  # noqa: S307 - our own pages
            if inspect.iscoroutine(made):
                asyncio.run(made)

    def _start(self, argv: list[str], where: str) -> None:
        number = len(list(self.folder.glob(".up-*.log")))
        port = ["--port", "0"] if self._listens() and "--port" not in argv else []
        with (self.folder / f".up-{number}.log").open("w") as log:
            process = subprocess.Popen(
                [*argv, *port], cwd=self.folder, env=environ(), stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._up.append(process)
        if port:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("rolehost listening on "), f"{where}\n{line}{self.log()}"
            self._url = line.split()[-1]
        data = argv[argv.index("--data") + 1] if "--data" in argv else ".rolehost"
        until(lambda: process.poll() is not None or self._all_ready(data), "every instance is ready")
        assert process.poll() is None, f"{where}\n{self.log()}"

    def _listens(self) -> bool:
        """Whether the service has a port that everybody else's test would want, too."""
        told = self._json("check")
        roles = told["roles"] if told else []
        return any(each["protocol"] == "http" for role in roles for each in role["endpoints"].values())

    def _all_ready(self, data: str) -> bool:
        told = status_of(self.folder / data)
        return bool(told) and all(each["state"] == "Ready" for each in told["instances"])

    def _json(self, command: str, *arguments: str) -> dict[str, Any]:
        argv = [*_PROGRAMS["rolehost"], command, "--json", *arguments]
        done = subprocess.run(argv, cwd=self.folder, env=environ(), capture_output=True, text=True, check=False)
        answer: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return answer


def _lines(text: str) -> list[str]:
    """Commands, a line that ends with a backslash and the next one being one of them."""
    lines = [line.strip() for line in re.sub(r"\\\n\s*", "", text).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@contextlib.contextmanager
def _as_main(folder: Path) -> Iterator[None]:
    """As a script in a folder: it is the working directory, and modules are found there, for this page only."""
    modules = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
                del sys.modules[name]
