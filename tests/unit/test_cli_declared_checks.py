"""`rolehost check` on workers by configuration: the program is there, and it answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rolehost.cli import declared_checks
from support.commands import invoke

WORKER = '[service]\nname = "s"\n[roles.A.worker]\nkind = "k"\nprogram = ["{program}", "{{source}}", "{{target}}"]\n'


def check(folder: Path, *lines: str, program: str = "cp", options: tuple[str, ...] = ()) -> tuple[int, list[str]]:
    """The exit code, and the problems, without the folder's name."""
    path = folder / "service.toml"
    path.write_text(WORKER.format(program=program) + "\n".join(lines))
    told = invoke("check", "--definition", path, "--json", *options)
    document = json.loads(told.stdout)
    problems = [*document["problems"], *document.get("warnings", [])]
    return told.exit_code, [problem.removeprefix(f"{path}:") for problem in problems]


def script(folder: Path, text: str, name: str = "tool") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    folder.chmod(0o755)
    return path


def test_a_program_that_is_there_is_enough(tmp_path: Path) -> None:
    assert check(tmp_path) == (0, [])
    assert check(tmp_path, 'version = ["cp", "--version"]') == (0, [])


def test_a_program_that_is_missing_is_told_with_its_line(tmp_path: Path) -> None:
    code, (problem,) = check(tmp_path, program="no-such-program")
    assert code == 1
    assert problem.startswith("5: N13: A: the program can't be started: no-such-program is not found on the PATH")
    assert check(tmp_path, program="no-such-program", options=("--no-load",)) == (0, [])


def test_every_command_is_looked_for(tmp_path: Path) -> None:
    code, problems = check(tmp_path, 'verify = ["no-verify", "{result}"]', 'version = ["no-version"]')
    assert code == 1
    assert [problem.partition(" is not found")[0] for problem in problems] == [
        "6: N13: A: the program can't be started: no-verify",
        "7: N13: A: the program can't be started: no-version",
    ]


def test_a_program_that_does_not_answer_is_told(tmp_path: Path) -> None:
    code, (problem,) = check(tmp_path, 'version = ["sh", "-c", "echo no licence >&2; exit 3"]')
    assert code == 1
    assert problem == "6: N13: A: sh answered with exit code 3: no licence"
    _, (problem,) = check(tmp_path, 'version = ["sh", "-c", "kill -9 $$"]')
    assert problem == "6: N13: A: sh answered with signal 9"


def test_a_program_that_never_answers_is_told_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared_checks, "LONGEST", 0.3)
    _, (problem,) = check(tmp_path, 'version = ["sleep", "300"]')
    assert problem == "6: N13: A: sleep did not answer within 0.3 s"


def test_the_variables_are_the_worker_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "s3cret")
    monkeypatch.setenv("ROLEHOST_SETTING_Secret", "s3cret")
    asks = 'version = ["sh", "-c", "env | grep -q s3cret && exit 1; test $OWN = yes"]'
    assert check(tmp_path, asks, 'environment = { OWN = "yes" }')[1] == [
        'ROLEHOST_SETTING_Secret: warning: N12: no role of the service declares the setting "Secret"'
    ]


def test_the_path_of_the_role_and_of_the_worker_count(tmp_path: Path) -> None:
    script(tmp_path, "exit 0", "own-tool")
    assert check(tmp_path, program="own-tool")[0] == 1
    path = f'"{tmp_path}:/usr/bin:/bin"'
    assert check(tmp_path, f"environment = {{ PATH = {path} }}", program="own-tool") == (0, [])
    assert check(tmp_path, f"[roles.A.environment]\nPATH = {path}", program="own-tool") == (0, [])


@pytest.mark.parametrize("folder", ["bin", "approot/bin", "A/bin"])
def test_what_comes_with_the_service_is_found_below_approot(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    tool = script(tmp_path / folder, "exit 0")
    assert check(tmp_path, 'version = ["{approot}/bin/tool"]', program="{approot}/bin/tool") == (0, [])
    tool.chmod(0o644)
    assert "is not executable" in check(tmp_path, program="{approot}/bin/tool")[1][0]
    tool.unlink()
    assert "does not exist" in check(tmp_path, program="{approot}/bin/tool")[1][0]


def test_what_comes_with_the_role_s_contents_is_found_there(tmp_path: Path) -> None:
    (tmp_path / "built").mkdir()
    script(tmp_path / "built", "exit 0")
    contents = ('version = ["{approot}/tools/tool"]', "[roles.A.contents]", 'tools = "built"')
    assert check(tmp_path, *contents, program="{approot}/tools/tool") == (0, [])
    assert "does not exist" in check(tmp_path, *contents[:1], program="{approot}/tools/tool")[1][0]


def test_a_file_of_the_service_that_an_argument_names_and_is_not_there_is_a_warning(tmp_path: Path) -> None:
    """The program is `sh`, which is there; the script isn't. A startup task may still make it."""
    for each in ("render", "approot/models/small", "A/settings"):
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each).write_text("")
    named = '"{approot}/render", "{approot}/models", "{approot}/settings", "{approot}/legacy_bin", "{approot}/{source}"'
    path = tmp_path / "service.toml"
    program = 'program = ["sh", ["{approot}/rendr"], NAMED, "{source}", "{target}"]'.replace("NAMED", named)
    path.write_text(f'[service]\nname = "s"\n[roles.A.worker]\nkind = "k"\n{program}\n')
    document = json.loads(invoke("check", "--definition", path, "--json").stdout)
    assert document["valid"]
    (warning,) = document["warnings"]
    assert warning.removeprefix(f"{path}:") == (
        "5: warning: N15: A: there is no rendr in the service's folder, which {approot}/rendr names"
    )


def test_a_type_that_nothing_is_known_by_is_a_warning(tmp_path: Path) -> None:
    code, (problem,) = check(tmp_path, 'accepts = ["image/x-unheard-of", "image/png", "text/*", "audio/*", ".md"]')
    assert code == 0
    assert problem.startswith("6: warning: N16: A: no file is known here to be image/x-unheard-of by its content")


@pytest.mark.parametrize(
    ("kind", "told"), [("k", ""), ("other", 'Mine.kind is "other", and the role\'s table declares the kind "k"')]
)
def test_a_class_and_its_table_name_the_same_kind(tmp_path: Path, kind: str, told: str) -> None:
    (tmp_path / f"classes_{kind}.py").write_text(
        "from rolehost import QueueWorker\n"
        f"class Mine(QueueWorker):\n    kind = {kind!r}\n    def process(self, job, scratch): return scratch.source\n"
    )
    path = tmp_path / "service.toml"
    path.write_text(
        f'[service]\nname = "s"\n[roles.A]\nentry_point = "classes_{kind}:Mine"\n[roles.A.worker]\nkind = "k"\n'
    )
    document = json.loads(invoke("check", "--definition", path, "--json").stdout)
    assert document["valid"] is not bool(told)
    assert all(told in problem for problem in document["problems"])


def test_the_worker_s_class_alone_is_no_worker(tmp_path: Path) -> None:
    path = tmp_path / "service.toml"
    path.write_text('[service]\nname = "s"\n[roles.A]\nentry_point = "rolehost.workers.configured:ConfiguredWorker"\n')
    (problem,) = json.loads(invoke("check", "--definition", path, "--json").stdout)["problems"]
    assert "N13: A: ConfiguredWorker takes all from the table [roles.A.worker], and that names no program" in problem


def test_check_says_what_runs(tmp_path: Path) -> None:
    check(tmp_path)
    told = invoke("check", "--definition", tmp_path / "service.toml")
    assert "cp (jobs of the kind k)" in told.stdout
    document = json.loads(invoke("check", "--definition", tmp_path / "service.toml", "--json").stdout)
    assert document["roles"][0]["worker"] == {"kind": "k", "program": ["cp", "{source}", "{target}"]}
