"""Any declaration of a worker, for hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from rolehost.jobs.parameters import LONGEST, Parameter, ParameterType
from rolehost.service_model.model import frozen
from rolehost.service_model.worker import (
    THEN,
    ExitDeclaration,
    LimitsDeclaration,
    ProgressDeclaration,
    WorkerDeclaration,
    placeholders,
)

TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('"\\\n\t\x7f\u2028#=[]{}'), max_size=9)
ARGUMENTS = TEXTS.filter(lambda text: not set(text) & {"\ufffe", "\uffff"} and not [*placeholders(text)])
WORDS = st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True)
NAMES = st.from_regex(r"p[A-Za-z0-9_]{0,6}", fullmatch=True).filter(
    lambda name: name.lower() not in {"priority", "python"}
)
TYPES = st.from_regex(r"[a-z]{1,5}/([a-z][a-z+.-]{0,3}|\*)", fullmatch=True)
ENDINGS = WORDS.map(lambda word: f".{word}")
WHOLE = st.integers(-(10**9), 10**9)
SECONDS = st.floats(0, 2**31 - 1, exclude_min=True)
CODES = st.lists(st.integers(0, 255), unique=True, max_size=4).map(lambda codes: tuple(sorted(codes)))
MAYBE = st.none() | st.integers(8, 2**20)


@st.composite
def parameters(draw: st.DrawFn, name: str) -> Parameter:
    kind = draw(st.sampled_from(ParameterType))
    facts: dict[str, Any] = {"label": draw(ARGUMENTS), "help": draw(ARGUMENTS)}
    match kind:
        case ParameterType.BOOLEAN:
            facts["default"] = draw(st.booleans())
        case ParameterType.TEXT:
            choices = tuple(draw(st.lists(WORDS, unique=True, max_size=3)))
            facts |= {"choices": choices, "any_start": draw(st.booleans())}
            facts["longest"] = LONGEST if choices else draw(st.integers(6, 10_000))
            facts["pattern"] = "" if choices else draw(st.sampled_from(["", "[a-z0-9]*", '(a|"|.)*']))
            facts["default"] = draw(st.none() | (st.sampled_from(choices) if choices else st.just("") | WORDS))
        case _:
            numbers = WHOLE if kind is ParameterType.INTEGER else st.floats(-1e9, 1e9)
            least, default, most = sorted(draw(st.tuples(numbers, numbers, numbers)))
            facts |= {"least": draw(st.sampled_from([None, least])), "most": draw(st.sampled_from([None, most]))}
            facts["default"] = draw(st.sampled_from([None, default]))
    facts["optional"] = facts["default"] is None and draw(st.booleans())
    return Parameter(name=name, type=kind, **facts)


@st.composite
def many_parameters(draw: st.DrawFn) -> tuple[Parameter, ...]:
    names = draw(st.lists(NAMES, max_size=4, unique_by=str.casefold))
    return tuple(draw(parameters(name)) for name in names)


@st.composite
def python_workers(draw: st.DrawFn, kind: str) -> WorkerDeclaration:
    """What goes with a class: the kind of job alone."""
    accepts = tuple(draw(st.lists(TYPES | ENDINGS, unique=True, max_size=3)))
    return WorkerDeclaration(kind=kind, title=draw(ARGUMENTS), accepts=accepts, parameters=draw(many_parameters()))


@st.composite
def workers(draw: st.DrawFn, kind: str) -> WorkerDeclaration:
    """A whole worker."""
    declared = draw(many_parameters())
    names = [f"{{{each.name}}}" for each in declared]
    arguments = ARGUMENTS | st.sampled_from([*names, "{{word}}", "{approot}"])
    groups = st.lists(arguments, min_size=1, max_size=3).map(tuple)
    stdin, stdout = draw(st.sampled_from(["", "source"])), draw(st.sampled_from(["", "target"]))
    source = () if stdin and draw(st.booleans()) else ("{source}",)
    target = () if stdout else ("{target}",)
    switches = [each.name for each in declared if each.type is ParameterType.BOOLEAN]
    return WorkerDeclaration(
        kind=kind,
        title=draw(ARGUMENTS),
        program=("program", *source, *draw(st.lists(arguments | groups, max_size=4)), *target),
        stdin=stdin,
        stdout=stdout,
        accepts=tuple(draw(st.lists(TYPES | ENDINGS, unique=True, max_size=3))),
        parameters=declared,
        flags=frozen({name: "--flag" for name in switches if draw(st.booleans())}),
        result_type=draw(st.sampled_from(["", "image/png"])),
        result_name=draw(st.sampled_from(["", "{stem}.x", *(f"{{name}}-{each}" for each in names)])),
        timeout_seconds=draw(st.none() | SECONDS),
        stall_seconds=draw(st.none() | SECONDS),
        concurrency=draw(st.none() | st.integers(1, 1000)),
        bad_input_exit_codes=draw(CODES),
        verify=draw(st.sampled_from([(), ("look", "{result}")])),
        version=draw(st.sampled_from([(), ("program", "--version")])),
        environment=frozen(draw(st.dictionaries(st.from_regex(r"[A-Z]{1,3}", fullmatch=True), ARGUMENTS, max_size=2))),
        limits=draw(st.builds(LimitsDeclaration, memory_mb=MAYBE, cpu_seconds=MAYBE, file_mb=MAYBE, open_files=MAYBE)),
        exits=tuple(draw(st.lists(exits(), max_size=2))),
        progress=draw(st.none() | progress()),
    )


def exits() -> st.SearchStrategy[ExitDeclaration]:
    rules = st.builds(
        ExitDeclaration,
        then=st.sampled_from(THEN),
        codes=CODES,
        signals=st.sampled_from([(), (9,), (1, 11)]),
        stderr=st.sampled_from(["", "a|b"]),
    )
    return rules.filter(lambda rule: bool(rule.codes or rule.signals or rule.stderr))


def progress() -> st.SearchStrategy[ProgressDeclaration]:
    return st.one_of(
        st.builds(ProgressDeclaration, pattern=st.just("(?P<percent>[0-9]+)%"), unfinished=st.booleans()),
        st.builds(ProgressDeclaration, key=st.just("out_time_us"), total=SECONDS),
        st.builds(ProgressDeclaration, result_bytes=st.integers(1, 2**40)),
        st.builds(ProgressDeclaration, result_of_source=SECONDS),
    )
