"""Reading `multipart/form-data` as it comes: small fields into memory, files into the spool, each under its own cap."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from rolehost.errors import SubmissionError, TooLargeError
from rolehost.frontend.kinds import FIELD, FILE, LONGEST_FIELD, chosen_kind, field_caps, takes_any, usual_kind
from rolehost.frontend.problems import refusal
from rolehost.frontend.views import human_size
from rolehost.jobs.kinds import offered_kinds
from rolehost.jobs.sniffing import HEAD, sniff
from rolehost.jobs.submission import display_name

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

    from rolehost.jobs.kinds import JobKind

MOST_FIELDS = 100
FLUSHED_AT = 512 * 1024
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class FormRules:
    """What a form may carry: a kind's parameters, the fields that are common to all kinds, and files.

    Args:
        others: names of further small fields, and the bytes that each may take.
        largest_file: bytes.
        most_files: how many.
        lenient: a refused file is noted and the form is read on; else the first fault ends the reading.
        kind: what the files are for, whatever the form says; None: it says so.
    """

    others: Mapping[str, int] = field(default_factory=dict)
    largest_file: int
    most_files: int = 1
    lenient: bool = False
    kind: JobKind | None = None


@dataclass(slots=True, kw_only=True)
class Upload:
    """A file of a form.

    Args:
        name: as the client gave it.
        path: where it is in the spool.
        size: bytes that came.
        refusal: why it can't be accepted; its content is not kept then.
    """

    name: str
    path: Path
    size: int = 0
    head: bytes = b""
    refusal: SubmissionError | None = None
    hash: hashlib._Hash = field(default_factory=hashlib.sha256)


@dataclass(slots=True)
class Form:
    """What a form carried: fields that were sent, files in their order, and the kind of job that it is for."""

    kind: JobKind
    fields: dict[str, str] = field(default_factory=dict)
    files: list[Upload] = field(default_factory=list)


async def read_form(request: Request, folder: Path, rules: FormRules) -> Form:
    """Read a request's body as a form. The kind may be named before or after the files and the parameters.

    Args:
        request: the request; its body has not been touched.
        folder: where the files go.
        rules: what is accepted.

    Raises:
        HTTPException: it is no form, or not one as the rules say.
        SubmissionError: a file can't be accepted, and the rules are not lenient.
    """
    media_type, options = parse_options_header(request.headers.get("content-type"))
    if media_type != b"multipart/form-data":
        raise refusal(415, "unsupported-media-type", "The body must be multipart/form-data, or JSON for the API.")
    if not options.get(b"boundary"):
        raise refusal(400, "malformed-form", "The Content-Type names no boundary.")
    reader = _Reader(folder, rules)
    try:
        parser = MultipartParser(options[b"boundary"], reader.callbacks())  # type: ignore[arg-type] # by name
        async for chunk in request.stream():
            parser.write(chunk)
            if reader.waiting > FLUSHED_AT:
                await asyncio.to_thread(reader.flush)
    except FormParserError as error:
        raise refusal(400, "malformed-form", "The body is no well-formed multipart/form-data.") from error
    if not reader.ended:
        raise refusal(400, "malformed-form", "The body ends before its last part does.")
    await asyncio.to_thread(reader.flush)
    return reader.form()


class _Reader:
    """What the parser's callbacks make of the parts."""

    def __init__(self, folder: Path, rules: FormRules) -> None:
        self.ended = False
        self.waiting = 0
        self._folder = folder
        self._rules = rules
        self._kind: JobKind | None = rules.kind
        self._kinds = tuple(offered_kinds())
        self._caps = field_caps(self._kinds) | dict(rules.others)
        self._any = any(takes_any(kind) for kind in self._kinds)
        self._fields: dict[str, str] = {}
        self._files: list[Upload] = []
        self._unwritten: list[tuple[Upload, bytes]] = []
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = ""
        self._file: Upload | None = None
        self._name = ""
        self._text = bytearray()

    def form(self) -> Form:
        """What came, once all has."""
        kind = self._kind or self._choose("")
        known = self._fields.keys() if takes_any(kind) else field_caps((kind,)).keys() | self._rules.others.keys()
        for name in sorted(self._fields.keys() - known):
            self._unknown(name, f"a job of kind {kind.name}")
        return Form(kind, self._fields, self._files)

    def callbacks(self) -> dict[str, object]:
        names = ("part_begin", "part_data", "part_end", "header_field", "header_value", "header_end")
        return {f"on_{name}": getattr(self, name) for name in (*names, "headers_finished", "end")}

    def flush(self) -> None:
        """Write what has gathered, in a thread."""
        for upload, data in self._unwritten:
            if upload.refusal is None:
                upload.hash.update(data)
                with os.fdopen(os.open(upload.path, APPEND, 0o600), "ab") as file:
                    file.write(data)
            else:
                upload.path.unlink(missing_ok=True)
        self._unwritten.clear()
        self.waiting = 0

    def part_begin(self) -> None:
        self._disposition = ""

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value.decode("utf-8", "replace")
        self._header_name.clear()
        self._header_value.clear()

    def headers_finished(self) -> None:
        kind, options = _disposition(self._disposition)
        if kind != "form-data" or "name" not in options:
            raise refusal(400, "malformed-form", "A part of the form has no name.")
        self._name = options["name"]
        if self._name == FILE and "filename" in options:
            self._open_file(options["filename"])
        elif self._name == FILE:
            raise refusal(422, "invalid-parameter", "file must be sent as a file, with a file name.", wrong=FILE)
        elif self._name not in self._caps and not (self._any and len(self._fields) < MOST_FIELDS):
            self._unknown(self._name, "this form")
        elif self._name in self._fields:
            raise refusal(422, "invalid-parameter", f"{self._name} was sent twice.", wrong=self._name)

    def _unknown(self, name: str, where: str) -> NoReturn:
        shown = name[:80]
        raise refusal(422, "unknown-field", f"There is no field {shown!r} in {where}.", wrong=shown)

    def _open_file(self, name: str) -> None:
        if len(self._files) >= self._rules.most_files:
            most = self._rules.most_files
            told = "Exactly one file makes a job." if most == 1 else f"At most {most} files can be sent at once."
            raise refusal(422, "too-many-files", told, wrong=FILE)
        path = self._folder / f"{len(self._files):04d}"
        self._file = Upload(name=display_name(_unescaped(name)) if name else "", path=path)
        self._files.append(self._file)

    def part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file_data(self._file, data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > self._caps.get(self._name, LONGEST_FIELD):
            raise refusal(413, "field-too-large", f"{self._name} is too long.", wrong=self._name)

    def _file_data(self, file: Upload, data: bytes) -> None:
        if file.refusal is not None:
            return
        known = len(file.head) >= HEAD
        file.size += len(data)
        if not known:
            file.head += data[: HEAD - len(file.head)]
        self._unwritten.append((file, data))
        self.waiting += len(data)
        try:
            if file.size > self._rules.largest_file:
                cap = human_size(self._rules.largest_file)
                raise TooLargeError(f"{file.name or 'the file'} is larger than {cap}")
            if not known and len(file.head) >= HEAD:
                self._check(file)
        except SubmissionError as error:
            self._refuse(file, error)

    def part_end(self) -> None:
        file, self._file = self._file, None
        if file is None:
            self._fields[self._name] = _text(self._name, self._text)
            self._text.clear()
            if self._name == FIELD:
                self._choose(self._fields[FIELD].strip())
        elif not file.size and not file.name:
            self._files.remove(file)  # a browser's way to say that no file was chosen
        elif 0 < file.size < HEAD:
            self._check_again(file)

    def end(self) -> None:
        self.ended = True

    def _refuse(self, file: Upload, error: SubmissionError) -> None:
        if not self._rules.lenient:
            raise error
        file.refusal = error

    def _choose(self, name: str) -> JobKind:
        """The kind is known from here on; files that came before it are held to it, too."""
        self._kind = chosen_kind(name)
        for file in self._files:
            self._check_again(file)
        return self._kind

    def _check_again(self, file: Upload) -> None:
        if file.refusal is None and file.size:
            try:
                self._check(file)
            except SubmissionError as error:
                self._refuse(file, error)

    def _check(self, file: Upload) -> None:
        """As long as the kind is not known, what any kind takes may go on."""
        media_type = sniff(file.head)
        kinds = (self._kind,) if self._kind else self._kinds
        if kinds and not any(kind.takes(media_type, file.name) for kind in kinds):
            (self._kind or usual_kind() or kinds[0]).check_source(media_type, file.name)


def _disposition(value: str) -> tuple[str, dict[str, str]]:
    """A part's Content-Disposition; its text is UTF-8, which the parser of headers knows as Latin-1."""
    kind, options = parse_options_header(value.encode().decode("latin-1"))
    return kind.decode("latin-1"), {
        name.decode("latin-1"): text.decode("utf-8", "replace") for name, text in options.items()
    }


def _unescaped(name: str) -> str:
    """A file's name without the three escapes that HTML's form encoding makes, and no others: `%` itself is sent as is.

    The pages' form and the API are read alike: a page's `FormData`, curl and most HTTP libraries escape as browsers do.
    """
    return name.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def _text(name: str, data: bytearray) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise refusal(422, "invalid-parameter", f"{name} is no text in UTF-8.", wrong=name) from None
