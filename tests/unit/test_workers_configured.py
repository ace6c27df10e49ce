"""A worker by configuration: what its program is started with, what is refused before, and what its exits mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rolehost.environment import RoleEnvironment
from rolehost.errors import EntryPointError
from rolehost.jobs.sniffing import UNKNOWN
from rolehost.service_model.worker import DECLARATION, WorkerDeclaration
from rolehost.service_model.worker_reading import read_worker
from rolehost.testing import run_once
from rolehost.workers.configured import ConfiguredWorker

# Writes its own arguments, behind the first, into the file that the first names.
TELL = "import json, sys; open(sys.argv[1], 'w').write(json.dumps(sys.argv[2:]))"
TELLING = ["{python}", "-c", TELL, "{target}"]
# Writes its variables there.
VARIABLES = "import json, os, sys; open(sys.argv[1], 'w').write(json.dumps(dict(os.environ)))"


def declared(**table: Any) -> WorkerDeclaration:
    return read_worker({"kind": "told", "result_name": "told.json"} | table)


def telling(*arguments: str | list[str], **parameters: dict[str, Any]) -> WorkerDeclaration:
    return declared(program=[*TELLING, *arguments, "{source}"], parameters=parameters)


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    path = tmp_path / "letter.md"
    path.write_text("# One")
    return path


def arguments(worker: WorkerDeclaration, source: Path, **parameters: object) -> list[str]:
    """What the program was started with, the source's path at the end left out."""
    ran = run_once(ConfiguredWorker(worker), source, parameters=parameters)
    assert ran.ok, ran
    told: list[str] = json.loads(ran.result_text)
    return told[:-1]


def refused(worker: WorkerDeclaration, source: Path, **parameters: object) -> str:
    """Why the job failed at once, without a start of the program."""
    ran = run_once(ConfiguredWorker(worker), source, parameters=parameters)
    assert (ran.end, ran.state, ran.exit_code) == ("bad_input", "failed", None), ran
    return ran.detail


def test_parameters_become_arguments_and_never_two(letter: Path) -> None:
    worker = telling("-t", "{title}", "--n={number}", title={}, number={"type": "number", "default": 1})
    assert arguments(worker, letter, title="a b; $(c) 'd' *") == ["-t", "a b; $(c) 'd' *", "--n=1"]
    assert arguments(worker, letter, title="ä\n\t", number="-2.50") == ["-t", "ä\n\t", "--n=-2.5"]


@pytest.mark.parametrize(
    ("given", "argument"), [("5", "5"), ("5.0", "5"), (".00001", "0.00001"), ("2e4", "20000"), ("-0.5", "-0.5")]
)
def test_a_number_is_an_argument_that_any_program_reads(letter: Path, given: str, argument: str) -> None:
    """No exponent, and a whole number as one: many programs take no other."""
    assert arguments(telling("{n}", n={"type": "number"}), letter, n=given) == [argument]


def test_what_a_client_sends_is_no_template(letter: Path) -> None:
    worker = telling("{title}", "{{title}}", "{x y}", title={})
    for title in ("{source}", "{title}", "{_open}", "{{python}}", "{approot}/x"):
        assert arguments(worker, letter, title=title) == [title, "{title}", "{x y}"]


def test_a_switch_is_its_flag_or_nothing(letter: Path) -> None:
    worker = telling(
        *("{fast}", "--slow={slow}"),
        fast={"type": "boolean", "flag": "--fast"},
        slow={"type": "boolean", "default": True},
    )
    assert arguments(worker, letter) == ["--slow=true"]
    assert arguments(worker, letter, fast="on", slow="no") == ["--fast", "--slow=false"]


def test_what_has_no_value_takes_its_group_along(letter: Path) -> None:
    worker = telling(
        *("{note}", ["-r", "{rate}"], ["--both={rate}/{note}"], ["--title={note}"], "--keep={note}"),
        rate={"type": "integer", "optional": True},
        note={"default": ""},
    )
    assert arguments(worker, letter) == ["--keep="]
    assert arguments(worker, letter, rate="5") == ["-r", "5", "--keep="]
    everything = ["n", "-r", "5", "--both=5/n", "--title=n", "--keep=n"]
    assert arguments(worker, letter, rate="5", note="n") == everything


@pytest.mark.parametrize("value", ["-o", "--output=/etc/passwd", "@list", "|id", "-"])
def test_a_text_becomes_no_option_by_itself(letter: Path, value: str) -> None:
    """Whoever submitted it: here the front door knew nothing of the declaration."""
    assert refused(telling("{title}", title={}), letter, title=value) == f"title must not begin with {value[0]}"
    assert arguments(telling("{title}", title={"any_start": True}), letter, title=value) == [value]


def test_what_no_program_can_be_given_is_refused(letter: Path) -> None:
    text = {"longest": 10_000, "default": ""}
    worker = telling("{a}{a}{b}{b}{b}{b}", a=text, b=text)
    long = "\U0001f600" * 10_000
    assert refused(worker, letter, b=long).startswith("the parameters make more than 100000 bytes of arguments")
    assert arguments(worker, letter, a=long) == [2 * long]


def test_parameters_are_looked_at_again(letter: Path) -> None:
    worker = telling("{n}", n={"type": "integer", "least": 1, "most": 5})
    assert refused(worker, letter) == "n is missing"
    assert refused(worker, letter, n="6") == "n must be a whole number from 1 to 5, not 6"
    assert refused(worker, letter, n="1", m="2") == "m is not a parameter of told jobs: n is"
    assert arguments(worker, letter, n=" 5 ") == ["5"]


def test_the_source_is_looked_at_again_by_its_content(tmp_path: Path) -> None:
    worker = declared(program=[*TELLING, "{source}"], accepts=["image/png", ".md"])
    picture = tmp_path / "picture.png"
    Image.new("RGB", (2, 2)).save(picture)
    assert arguments(worker, picture) == []
    picture.write_bytes(b"GIF89a" + bytes(30))
    assert refused(worker, picture) == "picture.png is not accepted for told (image/png, .md): it is image/gif"
    disguised = tmp_path / "picture.md"
    disguised.write_bytes(b"GIF89a" + bytes(30))
    assert "it is image/gif" in refused(worker, disguised), "an ending makes no text of a picture"


def test_a_source_that_was_accepted_by_its_ending_has_it(tmp_path: Path) -> None:
    path = tmp_path / "-o.MD"
    path.write_text("# One")
    worker = declared(program=[*TELLING, "{source}"], accepts=[".md"])
    ran = run_once(ConfiguredWorker(worker), path)
    (source,) = json.loads(ran.result_text)
    assert Path(source).is_absolute()
    assert Path(source).name == "source.md"
    any_file = run_once(ConfiguredWorker(declared(program=[*TELLING, "{source}"])), path)
    assert Path(json.loads(any_file.result_text)[0]).name == "source", "no ending that nobody asked for"


@pytest.mark.parametrize(
    ("table", "name", "media_type"),
    [
        ({"result_name": "{stem}-{p}.html"}, "letter-x.html", "text/html"),
        ({"result_name": "{name}.gz", "result_type": "application/x-{p}"}, "letter.md.gz", "application/x-x"),
        ({"result_name": "{stem}.unheard-of"}, "letter.unheard-of", "application/octet-stream"),
        ({"result_name": "../../{p}/{{p}}.txt"}, "{p}.txt", "text/plain"),
        ({"result_name": ""}, "letter.md", "text/plain"),
        ({"result_name": "{name}"}, "letter.md", "text/markdown"),
        ({"result_name": "{stem}.ass"}, "letter.ass", "text/x-ssa"),
        ({"result_name": "{stem}.tar.xz"}, "letter.tar.xz", "application/x-xz"),
        ({"result_name": "{stem}.txt.br"}, "letter.txt.br", "application/octet-stream"),
    ],
)
def test_the_result_is_named_and_typed(letter: Path, table: dict[str, str], name: str, media_type: str) -> None:
    worker = declared(program=[*TELLING, "{source}"], parameters={"p": {"default": "x"}}, **table)
    ran = run_once(ConfiguredWorker(worker), letter)
    assert (ran.result_name, ran.result_type) == (name, media_type)


def test_a_value_that_makes_no_media_type_makes_none_up(letter: Path) -> None:
    worker = declared(program=[*TELLING, "{source}"], parameters={"p": {}}, result_type="application/{p}")
    for value, media_type in (("x-b", "application/x-b"), ("x\r\ny", UNKNOWN), ("x; a=b", UNKNOWN), ("ä", UNKNOWN)):
        assert run_once(ConfiguredWorker(worker), letter, parameters={"p": value}).result_type == media_type


def test_what_is_packed_is_no_longer_what_is_in_it(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.new("RGB", (2, 2)).save(picture)
    worker = read_worker(
        {"kind": "pack", "program": ["gzip", "-c"], "stdin": "source", "stdout": "target", "result_name": "{name}.gz"}
    )
    ran = run_once(ConfiguredWorker(worker), picture)
    assert (ran.end, ran.result_name, ran.result_type) == ("ok", "picture.png.gz", "application/gzip"), ran


def test_an_ending_promises_a_type_that_is_looked_at(letter: Path) -> None:
    worker = declared(program=["cp", "{source}", "{target}"], result_name="{stem}.webp")
    ran = run_once(ConfiguredWorker(worker), letter)
    assert (ran.end, "no picture, not image/webp" in ran.detail) == ("bad_output", True), ran


def test_a_value_in_the_result_s_name_makes_no_path(letter: Path) -> None:
    worker = declared(program=[*TELLING, "{source}"], parameters={"p": {}}, result_name="{stem}-{p}.json")
    assert run_once(ConfiguredWorker(worker), letter, parameters={"p": "a/../b\r\n"}).result_name == "b.json"


def test_exits_mean_what_is_declared(letter: Path) -> None:
    worker = declared(
        program=["sh", "-c", "echo $0 >&2; echo x >$1; exit $2", "{say}", "{target}", "{code}", "{source}"],
        parameters={"say": {"default": "said"}, "code": {"type": "integer"}},
        bad_input_exit_codes=[65],
        exits=[
            {"codes": "3-4", "then": "success"},
            {"codes": [5], "stderr": "licence", "then": "put_back"},
            {"codes": [6], "then": "poison_now"},
        ],
    )
    ends = {
        code: run_once(ConfiguredWorker(worker), letter, parameters={"code": code}).end for code in (0, 4, 5, 6, 7, 65)
    }
    assert ends == {0: "ok", 4: "ok", 5: "app_error", 6: "poison_now", 7: "app_error", 65: "bad_input"}
    assert run_once(ConfiguredWorker(worker), letter, parameters={"code": 5, "say": "no licence"}).end == "put_back"


def test_a_result_is_verified_and_its_type_is_looked_at(letter: Path) -> None:
    copying = {"program": ["cp", "{source}", "{target}"], "result_name": "copy"}
    for verify, end in ((["grep", "-q", "One", "{result}"], "ok"), (["grep", "-q", "{p}", "{result}"], "bad_output")):
        worker = declared(**copying, verify=verify, parameters={"p": {"default": "Two"}})
        assert run_once(ConfiguredWorker(worker), letter).end == end
    worker = declared(**copying, result_type="image/png")
    ran = run_once(ConfiguredWorker(worker), letter)
    assert ran.end == "bad_output"
    assert "not image/png" in ran.detail


@pytest.mark.parametrize(
    ("script", "table", "end"),
    [
        ("sleep 60", {"timeout_seconds": 0.2}, "timeout"),
        ("sleep 60", {"stall_seconds": 0.4}, "stalled"),
        ("head -c 3000000 /dev/zero >$0", {"limits": {"file_mb": 1}}, "killed"),
    ],
)
def test_a_program_is_held_to_its_bounds(letter: Path, script: str, table: dict[str, Any], end: str) -> None:
    worker = declared(program=["sh", "-c", f"exec {script}", "{target}", "{source}"], **table)
    assert run_once(ConfiguredWorker(worker), letter).end == end


def test_a_program_sees_its_own_variables_and_none_of_ours(letter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = declared(program=["{python}", "-c", VARIABLES, "{target}", "{source}"], environment={"OWN": "1"})
    monkeypatch.setenv(DECLARATION, json.dumps(worker.to_table()))
    monkeypatch.setenv("ROLEHOST_KINDS", "[]")
    seen = json.loads(run_once(ConfiguredWorker(), letter).result_text)
    assert seen["OWN"] == "1"
    assert {name for name in seen if name.startswith("ROLEHOST_")} <= {"ROLEHOST_CHILD"}


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        ({"pattern": "(?P<percent>[0-9]+)%"}, r"10%%\r60%%\n"),
        ({"pattern": r"\((?P<done>\d+) of (?P<total>\d+)\)"}, r"(1 of 10)\n(6 of 10)\n"),
        ({"key": "frame", "total": 50}, r"frame=5\nframe=30\n"),
        ({"key": "frame", "total": "{frames}"}, r"frame=20\nframe=120\n"),
    ],
)
def test_progress_is_read_as_declared(letter: Path, progress: dict[str, Any], said: str) -> None:
    worker = declared(
        program=["sh", "-c", f"printf '{said}'; sleep 0.5; echo x >$0", "{target}", "{source}"],
        parameters={"frames": {"type": "integer", "default": 200}},
        progress=progress,
    )
    ran = run_once(ConfiguredWorker(worker), letter)
    assert ran.ok, ran
    assert ran.progress[-1] == pytest.approx(60)


@pytest.mark.parametrize(
    ("settings", "slots"), [({}, 3), ({"Worker.Slots": "7"}, 7), ({"Worker.TimeoutSeconds": "5"}, 3)]
)
def test_how_many_run_at_a_time_is_declared_unless_a_setting_says_it(settings: dict[str, str], slots: int) -> None:
    worker = ConfiguredWorker(declared(program=[*TELLING, "{source}"], concurrency=3))
    worker.role_environment = RoleEnvironment.for_testing(settings=settings)
    assert worker.read_settings().slots == slots


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "takes all from a"),
        ('{"kind": "k"}', "names no program"),
        ('{"kind": "K", "program": []}', "can't be read"),
        ("[", "can't be read"),
    ],
)
def test_without_a_declaration_there_is_no_worker(monkeypatch: pytest.MonkeyPatch, text: str | None, told: str) -> None:
    monkeypatch.delenv(DECLARATION, raising=False)
    if text is not None:
        monkeypatch.setenv(DECLARATION, text)
    with pytest.raises(EntryPointError, match=told):
        ConfiguredWorker()
