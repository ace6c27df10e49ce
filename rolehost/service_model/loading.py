"""Finding and reading the service definition."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rolehost.errors import ServiceModelError
from rolehost.service_model.builtin import BUILT_IN
from rolehost.service_model.model import ServiceModel
from rolehost.service_model.native import read_native
from rolehost.service_model.overlay import overlay

DEFINITION_FILE = "service.toml"


def load(path: Path | None, environ: Mapping[str, str], *, built_in: bool = False) -> ServiceModel:
    """Read the service's model.

    Args:
        path: the definition file; None: `service.toml` in the working directory, else the built-in service.
        environ: variables that go over the definition, usually `os.environ`.
        built_in: take the built-in service, whatever the working directory holds.

    Raises:
        ServiceModelError: with every problem of the definition and of the variables.
    """
    source = None if built_in else _find(path)
    if source is None:
        text, file = BUILT_IN, "the built-in service"
    else:
        text, file = _read(source), str(path or source.name)
    directory = source.parent if source else Path.cwd()
    model, problems = read_native(text, file, source, directory)
    if model is None:
        raise ServiceModelError([str(problem) for problem in problems.found])
    model, found = overlay(model, environ)
    if found:
        raise ServiceModelError([str(problem) for problem in found])
    return model


def _find(path: Path | None) -> Path | None:
    if path is not None:
        return path.absolute()
    default = Path.cwd() / DEFINITION_FILE
    return default if default.is_file() else None


def _read(source: Path) -> str:
    try:
        return source.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ServiceModelError([f"{source}: N00: there is no such file"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceModelError([f"{source}: N00: the file can't be read: {error}"]) from None
