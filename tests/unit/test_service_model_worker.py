"""`[roles.X.worker]`: what is read of it, and every way in which it can be wrong, with its line."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolehost.jobs.kinds import is_kind
from rolehost.jobs.parameters import Parameter, ParameterType
from rolehost.service_model import load, needs_restart
from rolehost.service_model.problems import Problems
from rolehost.service_model.worker import (
    CONFIGURED,
    THEN,
    ExitDeclaration,
    LimitsDeclaration,
    ProgressDeclaration,
    WorkerDeclaration,
)
from rolehost.service_model.worker_reading import WorkerReader, read_worker
from rolehost.workers.exit_policy import Verdict
from support.worker_tables import PLAIN, PROGRAM, examined, of_worker

WHOLE = """\
[service]
name = "s"
[roles.Jpeg.worker]
kind = "jpeg"
title = "JPEG from bitmaps"
program = ["cjpeg", "-quality", "{quality}", "{grey}", ["-map", "{map}"], "-outfile", "{target}", "{source}"]
accepts = ["image/bmp", "audio/*", ".tga"]
result_type = "image/jpeg"
result_name = "{stem}-q{quality}.jpg"
timeout_seconds = 60
stall_seconds = 30.5
concurrency = 2
bad_input_exit_codes = [1, "3-5"]
verify = ["djpeg", "-outfile", "{scratch}/x", "{result}"]
version = ["cjpeg", "-version"]
environment = { JSIMD_FORCENONE = 1 }
[roles.Jpeg.worker.parameters.quality]
type = "integer"
default = 75
least = 0
most = 100
label = "Quality"
[roles.Jpeg.worker.parameters.grey]
type = "boolean"
flag = "-grayscale"
[roles.Jpeg.worker.parameters.map]
choices = ["a", "b"]
optional = true
[roles.Jpeg.worker.limits]
memory_mb = 100
processes = 4
[[roles.Jpeg.worker.exits]]
codes = "2-4"
then = "put_back"
[[roles.Jpeg.worker.exits]]
signals = ["SIGSEGV", 9]
stderr = "bad (map|file)"
then = "fail"
[roles.Jpeg.worker.progress]
pattern = "(?P<percent>[0-9]+)%"
"""


def test_every_key_is_read(tmp_path: Path) -> None:
    role = load(None, {}, built_in=True).roles  # the built-in service declares nothing
    assert all(each.worker is None for each in role.values())
    found = examined(tmp_path, WHOLE)
    assert (found.errors, found.warnings) == ((), ())
    assert found.model is not None
    jpeg = found.model.roles["Jpeg"]
    assert (jpeg.entry_point, jpeg.program) == (CONFIGURED, "")
    assert jpeg.worker == WorkerDeclaration(
        kind="jpeg",
        title="JPEG from bitmaps",
        program=(
            *("cjpeg", "-quality", "{quality}", "{grey}", ("-map", "{map}")),
            *("-outfile", "{target}", "{source}"),
        ),
        accepts=("image/bmp", "audio/*", ".tga"),
        parameters=(
            Parameter(name="quality", type=ParameterType.INTEGER, default=75, least=0, most=100, label="Quality"),
            Parameter(name="grey", type=ParameterType.BOOLEAN, default=False),
            Parameter(name="map", choices=("a", "b"), optional=True),
        ),
        flags={"grey": "-grayscale"},
        result_type="image/jpeg",
        result_name="{stem}-q{quality}.jpg",
        timeout_seconds=60,
        stall_seconds=30.5,
        concurrency=2,
        bad_input_exit_codes=(1, 3, 4, 5),
        verify=("djpeg", "-outfile", "{scratch}/x", "{result}"),
        version=("cjpeg", "-version"),
        environment={"JSIMD_FORCENONE": "1"},
        limits=LimitsDeclaration(memory_mb=100, processes=4),
        exits=(
            ExitDeclaration(then="put_back", codes=(2, 3, 4)),
            ExitDeclaration(then="fail", signals=(9, 11), stderr="bad (map|file)"),
        ),
        progress=ProgressDeclaration(pattern="(?P<percent>[0-9]+)%"),
    )


def test_a_role_s_process_reads_what_the_definition_said(tmp_path: Path) -> None:
    model = examined(tmp_path, WHOLE).model
    assert model is not None
    worker = model.roles["Jpeg"].worker
    assert worker is not None
    assert read_worker(json.loads(json.dumps(worker.to_table()))) == worker
    with pytest.raises(ValueError, match="worker needs a kind"):
        read_worker({"program": ["p", "{source}", "{target}"]})


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (PROGRAM, "3: N16: roles.A.worker needs a kind, the name of its jobs"),
        (f'kind = "Big"\n{PROGRAM}', "4: N16: a kind of job is named by up to 46 lower-case letters"),
        (f"{PLAIN}acepts = []\n", '6: M28: unknown key "acepts" in [roles.A.worker]; did you mean "accepts"?'),
        (f'{PLAIN}accepts = ["PNG"]\n', "6: N16: 'PNG' is no media type and no ending of a name"),
        (f'{PLAIN}accepts = "image/png"\n', '6: N04: "accepts" is a list of media types and endings'),
        (f'{PLAIN}result_type = "jpeg"\n', '6: N16: "jpeg" is no media type, as "image/jpeg" is'),
        (f'{PLAIN}result_name = "{{stm}}.jpg"\n', '{stm} in "result_name" is no parameter; did you mean "stem"?'),
        (f'{PLAIN}stdin = "input"\n', '6: N16: "stdin" is "source", or it is left out, not \'input\''),
        (f'{PLAIN}stdin = "target"\n', '6: N16: "stdin" is "source", or it is left out, not \'target\''),
        ('kind = "k"\nprogram = ["p", "{source}"]\nstdout = true\n', '6: N16: "stdout" is "target", or it is left out'),
        (f'{PLAIN}stdot = "target"\n', 'unknown key "stdot" in [roles.A.worker]; did you mean "stdout"?'),
        (f'{PLAIN}stdout = "target"\n', '5: N18: an argument has {target}, and stdout = "target" makes the same file'),
        (f"{PLAIN}timeout_seconds = 0\n", "6: N04: timeout_seconds is a number of seconds above 0"),
        (f"{PLAIN}concurrency = 0\n", "6: N16: concurrency is a whole number from 1 to 1000, not 0"),
        (f'{PLAIN}bad_input_exit_codes = [256, "9-2", true]\n', "6: N19: exit codes are whole numbers up to 255"),
        (f"{PLAIN}environment = {{ RoleName = 1 }}\n", '6: N03: the host sets the variable "RoleName" itself'),
        (f"{PLAIN}limits = {{ memory_mb = -1 }}\n", "6: N16: memory_mb is a whole number from 1 to"),
        (f"{PLAIN}limits = {{ memory = 1 }}\n", 'unknown key "memory" in [roles.A.worker.limits]; did you mean "memo'),
        (f"{PLAIN}verify = []\n", '6: N18: "verify" is a list of texts, the program and its arguments, not []'),
        (f'{PLAIN}version = ["p", "{{source}}"]\n', '6: N18: {source} in "version" means nothing here'),
        (f'{PLAIN}verify = ["v", "{{reslt}}"]\n', '{reslt} in "verify" is no parameter; did you mean "result"?'),
        (f'{PLAIN}exits = [{{ then = "fail" }}]\n', "6: N19: a rule for exits needs codes, signals or stderr"),
        (f'{PLAIN}exits = [{{ codes = [], then = "fail" }}]\n', "6: N19: a rule for exits needs codes"),
        (
            f'{PLAIN}exits = [{{ codes = [1], then = "retyr" }}]\n',
            "6: M21: what follows from an exit is success, retry",
        ),
        (f'{PLAIN}exits = [{{ stderr = "(", then = "fail" }}]\n', "6: N19: '(' is no regular expression: missing )"),
        (f'{PLAIN}exits = [{{ signals = ["KILL"], then = "fail" }}]\n', "6: N19: a signal is a number from 1 to 64"),
        (f"{PLAIN}progress = {{}}\n", "6: N19: progress is read by one of pattern, key, result_bytes"),
        (f'{PLAIN}progress = {{ pattern = "[0-9]+%" }}\n', "6: N19: the pattern of the progress needs a group (?P<per"),
        (f'{PLAIN}progress = {{ pattern = "(" }}\n', '6: N19: "(" is no regular expression'),
        (f'{PLAIN}progress = {{ key = "done" }}\n', "6: N19: a key's progress needs a total"),
        (
            f'{PLAIN}progress = {{ key = "done", total = "{{n}}" }}\n',
            "6: N19: the total is a number, or a parameter that",
        ),
        (f"{PLAIN}progress = {{ result_bytes = 0 }}\n", "6: N16: result_bytes is a whole number from 1"),
    ],
)
def test_a_wrong_key_is_told_with_its_line(tmp_path: Path, table: str, told: str) -> None:
    problems = of_worker(tmp_path, table)
    assert any(told in problem for problem in problems), problems
    assert len(problems) == 1 + (told.endswith("up to 255") * 2), problems


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("[]", '"program" is a list of texts, the program and its arguments, not []'),
        ('"cjpeg {source}"', "\"program\" is a list of texts, the program and its arguments, not 'cjpeg {source}'"),
        ('["p", "{sorce}", "{source}", "{target}"]', '{sorce} in "program" is no parameter; did you mean "source"?'),
        (
            '["p", "{print}", "{source}", "{target}"]',
            '{print} in "program" is no parameter; if it is meant as text: {{print}}',
        ),
        ('["p", "{target}"]', "no argument has {source}: the program can't know what to read"),
        ('["p", "{source}"]', "no argument has {target}: the program can't know where its result goes"),
        ('["{source}", "{target}"]', "the program is the same for every job: it can't be named by {source}"),
        ('["bin/p", "{source}", "{target}"]', 'what comes with the service is "{approot}/bin/p"'),
        (
            '["p", 1, "{source}", "{target}"]',
            "an argument is a text, or a list of texts that are left out together, not 1",
        ),
        ('["p", [], "{source}", "{target}"]', "an argument is a text, or a list of texts"),
        ('[["p"], "{source}", "{target}"]', '"program" begins with the program, a text'),
    ],
)
def test_a_wrong_template_is_told(tmp_path: Path, program: str, told: str) -> None:
    (problem,) = of_worker(tmp_path, f'kind = "k"\nprogram = {program}\n')
    assert problem.startswith("5: N18: ")
    assert told in problem


@pytest.mark.parametrize(
    ("program", "streams", "worker"),
    [
        ('"tr", "a-z", "A-Z"', 'stdin = "source"\nstdout = "target"', {"stdin": "source", "stdout": "target"}),
        ('"cat", "{source}"', 'stdout = "target"', {"stdout": "target"}),
        ('"tee", "{target}"', 'stdin = "source"', {"stdin": "source"}),
        ('"p", "{source}", "{target}"', 'stdin = "source"', {"stdin": "source"}),
        ('"p", "{resources}/logo.png", "{target}"', 'stdin = "source"', {"stdin": "source"}),
        ('"p", "--log", "{scratch}/log"', 'stdout = "target"', {"stdout": "target"}),
    ],
)
def test_a_stream_takes_the_place_of_an_argument(
    tmp_path: Path, program: str, streams: str, worker: dict[str, str]
) -> None:
    text = f'[service]\nname = "s"\n[roles.A.worker]\nkind = "k"\nprogram = [{program}]\n{streams}\n'
    found = examined(tmp_path, text)
    assert (found.errors, found.warnings) == ((), ())
    assert found.model is not None
    read = found.model.roles["A"].worker
    assert read is not None
    assert {"stdin": read.stdin, "stdout": read.stdout} == {"stdin": "", "stdout": ""} | worker
    assert read_worker(json.loads(json.dumps(read.to_table()))) == read


@pytest.mark.parametrize(("stream", "name"), [('stdin = "source"', "target"), ('stdout = "target"', "source")])
def test_one_stream_says_nothing_of_the_other_end(tmp_path: Path, stream: str, name: str) -> None:
    (problem,) = of_worker(tmp_path, f'kind = "k"\nprogram = ["p"]\n{stream}\n')
    assert problem.startswith(f"5: N18: no argument has {{{name}}}: the program can't know ")
    assert problem.endswith(('stdin = "source"', 'stdout = "target"'))


ANYTHING = st.recursive(
    st.integers()
    | st.floats()
    | st.booleans()
    | st.text(max_size=5)
    | st.sampled_from(["{p}", "{source}", "a/b", "2-9"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["p", "kind", "", "then"]), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = (*(each.name for each in fields(WorkerDeclaration)), "type", "unknown")
PARTS = (
    *(each.name for each in fields(Parameter)),
    *("codes", "signals", "stderr", "then", "pattern", "key", "total", "memory_mb", "flag"),
)


@given(table=st.dictionaries(st.sampled_from(KEYS), ANYTHING), part=st.dictionaries(st.sampled_from(PARTS), ANYTHING))
@settings(deadline=None)
def test_nothing_that_a_table_can_hold_is_more_than_a_problem(table: dict[str, Any], part: dict[str, Any]) -> None:
    for each in (table, table | {"parameters": {"p": part}, "exits": [part], "progress": part, "limits": part}):
        problems = Problems("service.toml")
        worker = WorkerReader(problems).read(("roles", "A", "worker"), each)
        if not problems.errors:
            assert read_worker(json.loads(json.dumps(worker.to_table()))) == worker


def test_a_placeholder_in_braces_of_its_own_is_text(tmp_path: Path) -> None:
    assert of_worker(tmp_path, 'kind = "k"\nprogram = ["p", "{{print}}{x y}{1}", "{scratch}/source"]\n') == []


def test_a_program_that_works_in_parts_is_read_as_the_page_says(tmp_path: Path) -> None:
    pattern = r"task (?P<part>\d+) of (?P<parts>\d+), (?P<percent>[\d.]+) %"
    assert of_worker(tmp_path, f"{PLAIN}progress = {{ pattern = '{pattern}' }}\n") == []


@pytest.mark.parametrize(
    ("role", "told"),
    [
        (
            f'entry_point = "a:B"\n[roles.A.worker]\n{PLAIN}',
            "the worker's program makes the role: it has no entry point",
        ),
        (f'program = "x"\n[roles.A.worker]\n{PLAIN}', "the worker's program makes the role: it has no program besides"),
        ('program = "x"\n[roles.A.worker]\nkind = "k"', "a guest program takes its jobs itself"),
        ('[roles.A.worker]\nkind = "k"', "roles.A needs a program in its worker's table, or an entry point"),
        ("worker = 5", '"roles.A.worker" is a table: write it as [roles.A.worker]'),
    ],
)
def test_exactly_one_thing_makes_a_role(tmp_path: Path, role: str, told: str) -> None:
    found = examined(tmp_path, f'[service]\nname = "s"\n[roles.A]\n{role}')
    assert any(told in str(problem) for problem in found.errors), found.errors


def test_a_class_declares_its_kind_and_nothing_of_a_program(tmp_path: Path) -> None:
    text = '[service]\nname = "s"\n[roles.A]\nentry_point = "a:B"\n[roles.A.worker]\nkind = "k"\naccepts = [".md"]\n'
    model = examined(tmp_path, text).model
    assert model is not None
    assert model.roles["A"].entry_point == "a:B"
    assert model.roles["A"].worker == WorkerDeclaration(kind="k", accepts=(".md",))
    for key, value in (("timeout_seconds", "5"), ("stdin", '"source"'), ("stdout", '"target"')):
        (problem,) = examined(tmp_path, f"{text}{key} = {value}\n").errors
        assert problem.line == 8
        assert f'"{key}" has no effect: the table names no program' in problem.sentence


def test_two_roles_with_one_kind_declare_the_same(tmp_path: Path) -> None:
    both = f'[service]\nname = "s"\n[roles.A.worker]\n{PLAIN}concurrency = 1\n[roles.B.worker]\n{PLAIN}'
    assert examined(tmp_path, both).errors == ()
    (problem,) = examined(tmp_path, f"{both}timeout_seconds = 5\n").errors
    assert (problem.code, problem.line) == ("N16", 8)
    assert problem.sentence == 'the role "A" declares the kind "k", too, but not the same'


def test_what_no_variable_can_hold_is_refused(tmp_path: Path) -> None:
    choices = json.dumps(["x" * 200 + str(number) for number in range(600)])
    text = f'[service]\nname = "s"\n[roles.A.worker]\n{PLAIN}[roles.A.worker.parameters.p]\nchoices = {choices}\n'
    assert any("tables are too large together" in problem.sentence for problem in examined(tmp_path, text).errors)


def test_the_words_are_those_of_the_parts_that_do_it() -> None:
    assert {*THEN} == {*Verdict}
    for name in ("a", "a-b", "0", "a" * 46, "a" * 47, "A", "a--b", "-a", ""):
        refused = False
        try:
            read_worker({"kind": name})
        except ValueError:
            refused = True
        assert refused is not is_kind(name)


def test_new_kinds_start_the_roles_again_that_go_by_them(tmp_path: Path) -> None:
    text = f'[service]\nname = "s"\n[roles.F]\nentry_point = "f:F"\n[roles.G]\nprogram = "g"\n[roles.A.worker]\n{PLAIN}'
    old = examined(tmp_path, text).model
    slower = examined(tmp_path, f"{text}timeout_seconds = 5\n").model
    titled = examined(tmp_path, f'{text}title = "New"\n').model
    assert old is not None
    assert slower is not None
    assert titled is not None
    assert [needs_restart(old, slower, role) for role in "FGA"] == [False, False, True]
    assert [needs_restart(old, titled, role) for role in "FGA"] == [True, False, True]
