"""`[roles.X.worker.parameters.P]`, and the arguments that they are put into: what is told of those that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.worker_tables import PLAIN, PROGRAM, of_worker


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('tpye = "text"', 'unknown key "tpye" in [roles.A.worker.parameters.p]; did you mean "type"?'),
        ('type = "integer"\nmin = 1', 'unknown key "min" in [roles.A.worker.parameters.p]; did you mean "least"?'),
        ('enum = ["a"]', 'unknown key "enum" in [roles.A.worker.parameters.p]; did you mean "choices"?'),
        ('type = "int"', 'M21: a parameter\'s type is text, integer, number or boolean, not "int"'),
        ('type = "integer"\ndefault = 7\nmost = 5', "the default is none that the parameter allows: p must be a whole"),
        ('type = "integer"\ndefault = 7.5', "the default is a whole number, not 7.5"),
        ('type = "integer"\ndefault = true', "the default is a whole number, not True"),
        ('type = "number"\ndefault = nan', "the default is a number, not nan"),
        ('type = "boolean"\ndefault = 1', "the default is true or false, not 1"),
        ("default = 5", "the default is a text, not 5"),
        ('type = "number"\nleast = inf', '"least" is a number, not inf'),
        ('type = "integer"\nleast = 0.5', '"least" is a whole number of up to 18 digits, as the parameter is, not 0.5'),
        ('type = "integer"\nmost = 1000000000000000000', '"most" is a whole number of up to 18 digits'),
        (f'type = "number"\nmost = 0x{"f" * 5000}', '"most" is a number, not a number of thousands of digits'),
        (f'type = "integer"\ndefault = 0x{"f" * 5000}', "the default is a whole number of up to 18 digits, not a num"),
        ('type = "integer"\nleast = 2000000\nmost = 1000000', "the least (2000000) is above the most (1000000)"),
        ('choices = ["a"]\ndefault = ""', "an empty text is none of the choices: where none needs to be taken, say `"),
        ('choices = ["a"]\ndefault = " a"', "the default ' a' has spaces around it"),
        ('type = "boolean"\nflag = ""', 'roles.A.worker.parameters.p needs "flag", a text'),
        ('type = "number"\nleast = 5\nmost = 2', "the least (5) is above the most (2)"),
        ("least = 5", '"least" goes with integer or number, not with text'),
        ('type = "integer"\nchoices = ["1"]', '"choices" goes with text, not with integer'),
        ("choices = []", "choices are a list of 1 to 1000 different texts, without spaces around them, not []"),
        ('choices = ["a", "a"]', "different texts"),
        ('choices = [" a"]', "without spaces around them"),
        ('choices = ["a"]\ndefault = "b"', "the default is none that the parameter allows: p must be a, not 'b'"),
        ('choices = ["a"]\npattern = "a"', "a parameter has choices or a pattern, not both"),
        ('pattern = "["', "N19: '[' is no regular expression"),
        ('pattern = "[0-9]+"\ndefault = "x"', "the default is none that the parameter allows: p must match"),
        ('default = "-x"', "the default is none that the parameter allows: p must not begin with -"),
        ("longest = 10001", "longest is a whole number from 1 to 10000"),
        ('flag = "-x"', '"flag" goes with boolean, not with text'),
        ('type = "boolean"\nflag = "{source}"', '{source} in "parameters.p.flag" means nothing here'),
        ('type = "boolean"\noptional = true', '"optional" goes with text or integer or number, not with boolean'),
        ('default = "x"\noptional = true', "what has a default needn't be given: leave `optional` out"),
        ("any_start = 1", "any_start is true or false"),
    ],
)
def test_a_wrong_parameter_is_told_with_its_line(tmp_path: Path, table: str, told: str) -> None:
    problems = of_worker(
        tmp_path,
        f'kind = "k"\nprogram = ["x", "{{p}}", "{{source}}", "{{target}}"]\n[roles.A.worker.parameters.p]\n{table}',
    )
    assert any(told in problem for problem in problems), problems
    assert all(6 <= int(problem.partition(":")[0]) <= 9 for problem in problems)


@pytest.mark.parametrize("name", ["source", "File", "Group", "stem", "resources", "_x", "a-b", "1a", "a" * 51])
def test_names_that_mean_something_else_are_refused(tmp_path: Path, name: str) -> None:
    problems = of_worker(tmp_path, f'{PLAIN}[roles.A.worker.parameters.{name}]\ntype = "integer"\noptional = true\n')
    assert any(f'"{name}"' in problem and "N17" in problem for problem in problems), problems


def test_what_a_client_may_give_and_nothing_takes_is_a_warning(tmp_path: Path) -> None:
    (problem,) = of_worker(tmp_path, f"{PLAIN}[roles.A.worker.parameters.p]\n")
    assert problem == '6: warning: N18: the parameter "p" is used nowhere: no argument has {p}'


def test_an_option_whose_value_may_be_missing_is_a_warning(tmp_path: Path) -> None:
    table = 'kind = "k"\nprogram = ["x", "-r", "{p}", "{source}", "{target}"]\nparameters.p = { optional = true }'
    (problem,) = of_worker(tmp_path, table)
    assert "warning: N18: without {p} the argument -r stays alone: write them as ['-r', '{p}']" in problem


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('program = ["x", "<", "{source}", ">", "{target}"]', 'the program gets "<" as an argument: say stdin = "sour'),
        ('program = ["x", "{source}", "|", "y", "{target}"]', 'there is no shell here, the program gets "|" as an arg'),
        ('program = ["x", "-q 75", "{source}", "{target}"]', '"-q 75" is one argument: an option and its value are tw'),
        ('program = ["x", ["--to  {p}"], "{source}", "{target}"]', 'are two, "--to" and "{p}"'),
        (f'{PROGRAM}verify = ["v", "--as {{p}}", "{{result}}"]', 'are two, "--as" and "{p}"'),
        (f'{PROGRAM}environment = {{ LIB = "{{approot}}/lib" }}', 'in here: the variable "LIB" has the text {approot}'),
    ],
)
def test_what_a_shell_would_have_understood_is_a_warning(tmp_path: Path, table: str, told: str) -> None:
    problems = of_worker(tmp_path, f'kind = "k"\n{table}\nresult_name = "{{p}}"\nparameters.p = {{}}\n')
    assert all("warning: N18: " in problem for problem in problems), problems
    assert told in problems[0]
    assert len(problems) == 1 + ("stdin" in told)


@pytest.mark.parametrize("argument", ["-c", "s/a b/c/", "--title=a b", "-x{p} y", "- x", "import x", "a > b", "-"])
def test_texts_with_spaces_are_arguments_like_any_other(tmp_path: Path, argument: str) -> None:
    program = json.dumps(["x", argument, "{p}", "{source}", "{target}"])
    assert of_worker(tmp_path, f'kind = "k"\nprogram = {program}\nparameters.p = {{}}\n') == []
