"""Which kinds of job a service has: told to every role, and to commands that are none."""

from __future__ import annotations

import importlib
import json
import textwrap
from pathlib import Path

import pytest

from rolehost.host.instance.variables import of_task
from rolehost.jobs.declared import all_told, kinds_of, told_kinds
from rolehost.jobs.kinds import BUILT_IN, KINDS, JobKind, offered_kinds
from rolehost.service_model import BUILT_IN as BUILT_IN_SERVICE
from rolehost.service_model import RoleModel, ServiceModel, StartupTask, load
from rolehost.service_model.worker import CONFIGURED, DECLARATION, WorkerDeclaration
from rolehost.service_model.worker_reading import read_worker
from support.commands import invoke
from support.instances import make_plan, open_place

JPEG = WorkerDeclaration(kind="jpeg", program=("cjpeg", "{source}", "{target}"), title="JPEG")
CLASSES = """
from rolehost import ConsoleAppWorker, QueueWorker, RoleEntryPoint, ThumbnailWorker
NAME = "made"
class Plain(RoleEntryPoint): ...
class Slow(ConsoleAppWorker):
    kind: str = "slow"
class Slower(Slow): ...
class Small(ThumbnailWorker): ...
class Computed(QueueWorker):
    kind = NAME
class NoName(QueueWorker):
    kind = "No Name"
"""


def service(folder: Path, roles: str) -> ServiceModel:
    (folder / "classes.py").write_text(CLASSES)
    path = folder / "service.toml"
    path.write_text(f'[service]\nname = "s"\n{textwrap.dedent(roles)}')
    return load(path, {})


def classes(*names: str) -> str:
    return "\n".join(f'[roles.{name}]\nentry_point = "classes:{name}"' for name in names)


def test_kinds_come_in_the_order_of_the_definition_each_once(tmp_path: Path) -> None:
    roles = """
        [roles.Front]
        entry_point = "rolehost.frontend.role:ThumbnailFrontend"
        [roles.Slow]
        entry_point = "classes:Slower"
        [roles.Slow.worker]
        kind = "slow"
        accepts = [".md"]
        [roles.Jpeg.worker]
        kind = "jpeg"
        program = ["cjpeg", "{source}", "{target}"]
        parameters.quality = { type = "integer", default = 75 }
        [roles.Jpeg2.worker]
        kind = "jpeg"
        program = ["cjpeg", "{source}", "{target}"]
        parameters.quality = { type = "integer", default = 75 }
        [roles.Back]
        entry_point = "rolehost.workers.thumbnail:ThumbnailWorker"
    """
    model = service(tmp_path, roles)
    slow, jpeg, thumbnail = kinds_of(model)
    assert slow == JobKind(name="slow", accepts=(".md",), parameters=())
    assert [each.name for each in jpeg.parameters or ()] == ["quality"]
    assert thumbnail is BUILT_IN["thumbnail"]
    told = json.loads(told_kinds(model))
    assert [each if isinstance(each, str) else each["name"] for each in told] == ["slow", "jpeg", "thumbnail"]
    assert offered_kinds({KINDS: told_kinds(model)}) == (slow, jpeg, thumbnail)
    assert all_told(model)


def test_a_table_says_more_than_a_class(tmp_path: Path) -> None:
    table = '[roles.T]\nentry_point = "classes:Slower"\n[roles.T.worker]\nkind = "slow"\naccepts = [".md"]'
    for roles in (f"{classes('Slow')}\n{table}", f"{table}\n{classes('Slow')}"):
        assert kinds_of(service(tmp_path, roles)) == (JobKind(name="slow", accepts=(".md",), parameters=()),)


@pytest.mark.parametrize(
    ("names", "kinds", "complete"),
    [
        (["Plain"], [], True),
        (["Slow", "Slower"], ["slow"], True),
        (["Small"], ["thumbnail"], True),
        (["Computed"], [], False),
        (["Slow", "Missing"], ["slow"], False),
        (["NoName"], [], True),
    ],
)
def test_what_classes_work_on_is_read_from_their_source(
    tmp_path: Path, names: list[str], kinds: list[str], *, complete: bool
) -> None:
    model = service(tmp_path, classes(*names))
    assert [kind.name for kind in kinds_of(model)] == kinds
    assert all(kind.parameters is None for kind in kinds_of(model))
    assert all_told(model) is complete


@pytest.mark.parametrize("module", ["thumbnail", "transcode", "contact_sheet"])
def test_workers_that_ship_are_known_by_their_kind_and_those_that_derive_from_them(tmp_path: Path, module: str) -> None:
    name = f"{module.title().replace('_', '')}Worker"
    kind = getattr(importlib.import_module(f"rolehost.workers.{module}"), name).kind
    (tmp_path / "mine.py").write_text(f"class Mine({name}): ...")
    for entry_point in (f"rolehost.workers.{module}:{name}", "mine:Mine"):
        model = service(tmp_path, f'[roles.A]\nentry_point = "{entry_point}"')
        assert kinds_of(model) == (BUILT_IN[kind],)
        assert json.loads(told_kinds(model)) == [kind]


@pytest.mark.parametrize("source", ["class (", "\0", "(" * 5000, "#" * (1 << 20) + "\nclass Slow: kind = 'slow'"])
def test_source_that_can_t_be_read_says_nothing(tmp_path: Path, source: str) -> None:
    model = service(tmp_path, classes("Slow"))
    (tmp_path / "classes.py").write_text(source)
    assert kinds_of(model) == ()
    assert not all_told(model)


def test_a_guest_tells_nothing_and_the_built_in_service_thumbnails(tmp_path: Path) -> None:
    guest = service(tmp_path, '[roles.G]\nprogram = "g"')
    assert (told_kinds(guest), all_told(guest)) == ("[]", False)
    (tmp_path / "service.toml").write_text(BUILT_IN_SERVICE)
    assert told_kinds(load(tmp_path / "service.toml", {})) == '["thumbnail"]'


def test_every_role_is_told_the_kinds_and_a_configured_one_its_declaration() -> None:
    roles = (
        RoleModel(name="Jpeg", entry_point=CONFIGURED, worker=JPEG),
        RoleModel(name="Front", entry_point="rolehost.frontend.role:ThumbnailFrontend"),
        RoleModel(name="Back", entry_point="rolehost.workers.thumbnail:ThumbnailWorker"),
    )
    with open_place() as place:
        environ = {KINDS: '["of somebody else"]', DECLARATION: "{}"}
        plans = [make_plan(place, *roles[number:], *roles[:number], environ=environ) for number in range(3)]
        jpeg, front, back = (plan.role_variables("", "") for plan in plans)
        task = of_task(plans[0], plans[0].snapshot(), StartupTask(command_line="x"))
    assert read_worker(json.loads(jpeg[DECLARATION])) == JPEG
    assert [DECLARATION in each for each in (front, back, task)] == [False] * 3
    assert KINDS not in task
    assert {kind.name for kind in offered_kinds(front)} == {"jpeg", "thumbnail"}
    assert [kind.name for kind in offered_kinds(jpeg)] == ["jpeg", "thumbnail"]


def test_a_command_knows_the_kinds_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROLEHOST_DATA", str(tmp_path / "data"))
    monkeypatch.delenv(KINDS, raising=False)
    Path("letter.md").write_text("# One")
    before = offered_kinds()
    asked = ("submit", "letter.md", "--kind", "jpeg", "--parameter", "quality=101")
    assert invoke(*asked).exit_code == 0, "any kind, any parameters: nothing is known of it"
    Path("service.toml").write_text(
        '[service]\nname = "s"\n[roles.J.worker]\nkind = "jpeg"\nprogram = ["j", "{quality}", "{source}", "{target}"]\n'
        'parameters.quality = { type = "integer", most = 100 }\naccepts = ["image/png"]\n'
    )
    refused = invoke(*asked)
    assert refused.exit_code == 2
    assert "quality must be a whole number up to 100, not 101" in " ".join(refused.stderr.split())
    told = invoke(*asked[:-1], "quality=5")
    assert told.exit_code == 1
    assert "letter.md is not accepted for jpeg (image/png)" in told.stderr
    assert offered_kinds() == before, "what a command learns is gone with it"
    monkeypatch.setenv(KINDS, "[]")
    assert invoke(*asked).exit_code == 0, "within a role the role's own kinds hold"
    monkeypatch.delenv(KINDS)
    Path("service.toml").write_text("no definition")
    assert invoke(*asked).exit_code == 0
