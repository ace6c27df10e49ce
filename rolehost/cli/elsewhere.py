"""Sources that are no files here: `--url` and `--blob`, checked by the settings of the roles that will work on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from rolehost.environment import RoleEnvironment
from rolehost.errors import InvalidParameterError, RoleEnvironmentError
from rolehost.jobs.job import Resource, Source
from rolehost.jobs.resources import from_options, read_resources
from rolehost.jobs.sources import SourceSettings
from rolehost.service_model import examine

Urls: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--url", metavar="URL", help="A source that the worker fetches, where the service allows it."),
]
Blobs: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--blob", metavar="NAME", help="A source that is in the store, where the service allows it."),
]
Resources: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--resource",
        metavar="NAME=PLACE",
        help="A file that each job finds beside its source: logo.png=blob:assets/logo.png or logo.png=url:https://...; "
        "repeatable.",
    ),
]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A source to submit that is no file here: a URL, or a blob."""

    url: str = ""
    blob: str = ""

    @property
    def shown(self) -> str:
        """What a person may see of it."""
        return Source(name="", size=0, type="", blob=self.blob, url=self.url).shown_url or self.blob

    @property
    def named(self) -> Path:
        """What tells it from others."""
        return Path(self.url or self.blob)


def find_elsewhere(urls: Sequence[str], blobs: Sequence[str], environ: Mapping[str, str]) -> list[Elsewhere]:
    """The sources that were named, each once, in their order.

    Args:
        urls: as they were given.
        blobs: names of blobs.
        environ: the variables that go over the definition in the working directory, or over the built-in service.

    Raises:
        BadParameter: one is not allowed by any role of the service.
    """
    if not urls and not blobs:
        return []
    settings = _settings(environ)
    allowed_urls = next((each for each in settings if each.urls), SourceSettings())
    allowed_blobs = next((each for each in settings if each.blobs), SourceSettings())
    found = [Elsewhere(url=_checked(allowed_urls.check_url, url, "--url")) for url in dict.fromkeys(urls)]
    return found + [Elsewhere(blob=_checked(allowed_blobs.check_blob, name, "--blob")) for name in dict.fromkeys(blobs)]


def find_resources(texts: Sequence[str], environ: Mapping[str, str]) -> tuple[Resource, ...]:
    """The resource files of each job.

    Args:
        texts: `NAME=blob:BLOB` or `NAME=url:URL`.
        environ: as for `find_elsewhere`.

    Raises:
        BadParameter: one is neither, or not allowed by any role of the service.
    """
    if not texts:
        return ()
    settings = _settings(environ)
    urls = next((each for each in settings if each.urls), SourceSettings())
    blobs = next((each for each in settings if each.blobs), SourceSettings())
    try:
        return read_resources(from_options(texts), check_url=urls.check_url, check_blob=blobs.check_blob)
    except InvalidParameterError as error:
        raise typer.BadParameter(str(error), param_hint="--resource") from None


def _settings(environ: Mapping[str, str]) -> list[SourceSettings]:
    model = examine(None, environ).model
    if model is None:
        return []
    stores = {**environ, **model.stores_over(environ)}  # no source is fetched from them
    try:
        return [
            SourceSettings.read(RoleEnvironment.for_testing(settings=role.settings), stores)
            for role in model.roles.values()
        ]
    except RoleEnvironmentError as error:
        raise typer.BadParameter(str(error)) from None


def _checked(check: Callable[[str], str], text: str, option: str) -> str:
    try:
        return check(text)
    except InvalidParameterError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
