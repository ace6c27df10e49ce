"""Finding and reading the service definition: `service.toml`, or the old service's csdef and cscfg."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rolehost.errors import ServiceModelError
from rolehost.service_model.builtin import BUILT_IN
from rolehost.service_model.model import ServiceModel
from rolehost.service_model.native import read_native
from rolehost.service_model.overlay import overlay
from rolehost.service_model.problems import Keys, Problem, Problems
from rolehost.service_model.support import not_run
from rolehost.telemetry import emit

DEFINITION_FILE = "service.toml"
CONFIGURATION_VARIABLE = "ROLEHOST_CONFIGURATION"
CSDEF = ".csdef"
CSCFG = ".cscfg"
_LARGEST_FILE = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Examined:
    """A definition, read as far as it goes.

    Args:
        model: None where there are errors.
        errors: what makes the definition invalid.
        warnings: what is ignored, and what this release doesn't run.
        file: how messages call the definition.
        places: knows where the definition says what.
    """

    model: ServiceModel | None
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    file: str
    places: Problems

    def problem(self, code: str, keys: Keys, sentence: str, *, warning: bool = False) -> Problem:
        """A problem with the value at `keys`, which are those of a `service.toml`, whichever file it stands in."""
        file, line = self.places.place_of(keys)
        return Problem(code, sentence, file, line, warning)


def load(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    configuration: Path | None = None,
    built_in: bool = False,
    directory: Path | None = None,
) -> ServiceModel:
    """Read the service's model, to run it.

    Args:
        path: the definition file, a `.csdef` or a `service.toml`; None: the one in the working directory, else the
            built-in service.
        environ: variables that go over the definition, usually `os.environ`.
        configuration: the `.cscfg` of a csdef; None: what `ROLEHOST_CONFIGURATION` names (relative to the csdef's
            folder), else the one beside it.
        built_in: take the built-in service, whatever the working directory holds.
        directory: where the roles' modules, their approot and their certificates are; None: beside the definition.

    Raises:
        ServiceModelError: with every problem of the definition and of the variables, and with what isn't run by this
            release and can't be left out.
    """
    examined = examine(path, environ, configuration=configuration, built_in=built_in, directory=directory)
    return runnable(examined)


def runnable(examined: Examined) -> ServiceModel:
    """The model of a definition, if it can be run.

    Raises:
        ServiceModelError: as for `load`.
    """
    if examined.model is None:
        raise ServiceModelError([str(problem) for problem in examined.errors])
    found = unsupported(examined)
    if refused := [str(problem) for problem in found if not problem.warning]:
        raise ServiceModelError(refused)
    if found:
        emit("definition.not_run", definition=examined.file, parts=[problem.sentence for problem in found])
    return examined.model


def unsupported(examined: Examined) -> list[Problem]:
    """What of a definition isn't run here; errors are what keeps it from running at all."""
    found = not_run(examined.model) if examined.model else []
    return [examined.problem(each.code, each.keys, each.sentence, warning=each.warning) for each in found]


def examine(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    configuration: Path | None = None,
    built_in: bool = False,
    directory: Path | None = None,
) -> Examined:
    """Read the service's model, and note all that is wrong with it or left out; nothing is raised.

    Args:
        path: as for `load`.
        environ: as for `load`.
        configuration: as for `load`.
        built_in: as for `load`.
        directory: as for `load`.
    """
    try:
        source = None if built_in else _find(path)
        if source and source.suffix.lower() == CSDEF:
            chosen = _configuration(source, configuration, environ)
            examined = _examine_pair(source, str(path or source.name), chosen, directory)
        else:
            name = str(path or (source and source.name) or "the built-in service")
            examined = _examine_native(source, name, directory)
    except _CantReadError as error:
        return Examined(None, (error.problem,), (), error.problem.file, Problems(error.problem.file))
    if examined.model is None:
        return examined
    model, found = overlay(examined.model, environ)
    return replace(examined, model=None if found else model, errors=tuple(found))


def _examine_native(source: Path | None, file: str, directory: Path | None) -> Examined:
    text = _read(source) if source else BUILT_IN
    beside = source.parent if source else Path.cwd()
    model, problems = read_native(text, file, source, directory or beside)
    in_order = sorted(problems.errors, key=lambda problem: problem.line)
    return Examined(model, tuple(in_order), tuple(problems.warnings), file, problems)


def _examine_pair(source: Path, file: str, configuration: Path, directory: Path | None) -> Examined:
    from rolehost.service_model.pair import Pair, read_pair  # noqa: PLC0415 - with it comes the XML library, which is big

    name = configuration.name if file == source.name else str(configuration)
    read = read_pair(Pair(source, configuration, file, name), directory=directory)
    return Examined(read.model, tuple(read.problems.errors), tuple(read.problems.warnings), file, read.problems)


class _CantReadError(Exception):
    def __init__(self, code: str, sentence: str, file: str) -> None:
        super().__init__(sentence)
        self.problem = Problem(code, sentence, file)


def _find(path: Path | None) -> Path | None:
    if path is not None:
        if path.suffix.lower() == CSCFG:
            raise _CantReadError("M01", "this is a configuration: name the definition (.csdef) as well", str(path))
        return path.absolute()
    default = Path.cwd() / DEFINITION_FILE
    if default.is_file():
        return default
    return _only(Path.cwd(), CSDEF, "choose one with --definition")


def _configuration(source: Path, given: Path | None, environ: Mapping[str, str]) -> Path:
    if given is not None:
        return given.absolute()
    if named := environ.get(CONFIGURATION_VARIABLE):
        return source.parent / named
    default = source.with_name(f"ServiceConfiguration{CSCFG}")
    if default.is_file():
        return default
    choose = f"name one with --configuration or {CONFIGURATION_VARIABLE}"
    if found := _only(source.parent, CSCFG, choose):
        return found
    raise _CantReadError("N00", f"there is no configuration (*{CSCFG}) beside it: {choose}", str(source))


def _only(directory: Path, suffix: str, choose: str) -> Path | None:
    try:
        found = sorted(each for each in directory.iterdir() if each.suffix.lower() == suffix and each.is_file())
    except OSError:  # a directory that can't be listed holds nothing for us
        return None
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise _CantReadError("N00", f"there is more than one {suffix}: {names}; {choose}", str(directory))
    return found[0] if found else None


def _read(source: Path) -> str:
    try:
        with source.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
        if len(data) > _LARGEST_FILE:
            raise _CantReadError("N00", f"the file is larger than {_LARGEST_FILE} bytes", str(source))
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise _CantReadError("N00", "there is no such file", str(source)) from None
    except OSError as error:
        raise _CantReadError("N00", f"the file can't be read: {error.strerror or error}", str(source)) from None
    except UnicodeDecodeError:
        raise _CantReadError("N00", "the file can't be read: it is no text in UTF-8", str(source)) from None
