"""Approot: where a role finds its service's files, and what it must not find there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rolehost.errors import StartupError
from rolehost.host.instance import approot
from rolehost.host.paths import DataDirectory
from rolehost.service_model import (
    RoleModel,
    ServiceModel,
)
from rolehost.service_model.hooks import HookDeclaration, ProofKind
from support.instances import make_plan, open_place, prepared, script


@pytest.fixture
def place() -> Iterator[Path]:
    with open_place() as place:
        yield place


def test_approot_has_the_service_s_files_and_neither_its_definition_nor_its_secrets(place: Path) -> None:
    plan = make_plan(place, RoleModel(name="A", entry_point="m:A"))
    service = plan.model.directory
    for name in ("service.toml", "x.csdef", "X.Cloud.CSCFG", ".env", "module.py", "certificates/C/tls.key"):
        (service / name).parent.mkdir(parents=True, exist_ok=True)
        (service / name).write_text(name)
    script(service / "startup" / "one.sh", "")
    inside = replace(plan, data=DataDirectory.at(service / "data"))
    root = prepared(inside)
    assert root == approot.role_root(inside) / "approot"
    assert {each.name for each in root.iterdir()} == {"module.py", "startup", "legacy_bin"}
    assert (root / "startup" / "one.sh").is_file()
    assert (root / "legacy_bin" / "thumbnail").exists()


def test_approot_has_no_other_definition_and_no_certificates_wherever_they_are(place: Path) -> None:
    names = ("service.prod.toml", "Service-2.toml", "pyproject.toml", "deploy/keys/C/tls.key", "deploy/run.sh")
    for named in ("deploy/keys", str(place / "service" / "deploy" / "keys")):
        plan = make_plan(place, RoleModel(name="A", entry_point="m:A"), environ={"ROLEHOST_CERTIFICATES": named})
        for name in names:
            (plan.model.directory / name).parent.mkdir(parents=True, exist_ok=True)
            (plan.model.directory / name).write_text(name)
        root = prepared(plan)
        assert {each.name for each in root.iterdir()} == {"pyproject.toml", "deploy", "legacy_bin"}
        assert [each.name for each in (root / "deploy").iterdir()] == ["run.sh"]


def test_approot_has_no_file_that_a_setting_names_as_a_key(place: Path) -> None:
    settings = {"Frontend.JwtKeyFile": "issuer.pem", "Webhooks.SecretFile": "keys/hook", "Own.PresetsFile": "presets"}
    plan = make_plan(place, RoleModel(name="A", entry_point="m:A", settings=settings))
    for name in ("issuer.pem", "keys/hook", "keys/notes.txt", "presets"):
        (plan.model.directory / name).parent.mkdir(exist_ok=True)
        (plan.model.directory / name).write_text(name)
    root = prepared(plan)
    assert {each.name for each in root.iterdir()} == {"keys", "presets", "legacy_bin"}
    assert [each.name for each in (root / "keys").iterdir()] == ["notes.txt"]


def test_approot_has_no_file_of_secrets_that_a_hook_names(place: Path) -> None:
    plan = make_plan(place, RoleModel(name="A", entry_point="m:A"))
    hook = HookDeclaration(kind="k", proof=ProofKind.GITHUB, secret_file="github", source_url="/url")  # noqa: S106 - a name
    for name in ("github", "other"):
        (plan.model.directory / name).write_text(name)
    root = prepared(replace(plan, model=replace(plan.model, hooks={"a": hook})))
    assert {each.name for each in root.iterdir()} == {"other", "legacy_bin"}


def test_approot_is_laid_over_by_its_folder_the_role_s_and_the_contents(place: Path) -> None:
    role = RoleModel(
        name="A",
        entry_point="m:A",
        contents={"tools": Path("dist/tools"), "startup\\deep": Path("dist/deep"), ".": Path("dist/top")},
    )
    plan = make_plan(place, role)
    for name in (
        *("startup/common.sh", "startup/both.sh", "approot/startup/more.sh", "A/startup/both.sh", "A/own.txt"),
        *("dist/tools/bin/t", "dist/deep/d", "dist/top/top.txt", "tools/there"),
    ):
        (plan.model.directory / name).parent.mkdir(parents=True, exist_ok=True)
        (plan.model.directory / name).write_text(name)
    for _ in range(2):
        root = prepared(plan)
        names = ("startup/common.sh", "startup/both.sh", "startup/more.sh", "own.txt", "tools/bin/t", "startup/deep/d")
        assert {name: (root / name).read_text() for name in (*names, "top.txt", "tools/there")} == {
            "startup/common.sh": "startup/common.sh",
            "startup/both.sh": "A/startup/both.sh",
            "startup/more.sh": "approot/startup/more.sh",
            "own.txt": "A/own.txt",
            "tools/bin/t": "dist/tools/bin/t",
            "startup/deep/d": "dist/deep/d",
            "top.txt": "dist/top/top.txt",
            "tools/there": "tools/there",
        }


def test_a_content_s_source_may_name_variables(place: Path) -> None:
    role = RoleModel(name="A", entry_point="m:A", contents={"tools": Path("%BUILD%/out/%NONE%")})
    plan = make_plan(place, role, environ={"BUILD": str(place / "build")})
    (place / "build" / "out" / "%NONE%").mkdir(parents=True)
    (place / "build" / "out" / "%NONE%" / "tool").touch()
    assert (prepared(plan) / "tools" / "tool").exists()


def test_a_content_that_is_missing_or_leads_out_is_said(place: Path) -> None:
    role = RoleModel(name="A", entry_point="m:A", contents={"tools": Path("nowhere")})
    with pytest.raises(StartupError, match=r"'tools' of the role A: .*nowhere is no directory"):
        prepared(make_plan(place, role))
    (place / "service" / "there").mkdir()
    with pytest.raises(StartupError, match="not below approot"):
        prepared(make_plan(place, replace(role, contents={"../out": Path("there")})))


def test_approot_follows_the_service_and_keeps_what_the_role_made_there(place: Path) -> None:
    plan = make_plan(place, RoleModel(name="A", entry_point="m:A"))
    service = plan.model.directory
    for name in ("goes", "stays", "replaced"):
        (service / name).write_text(name)
    root = prepared(plan)
    (root / "made").write_text("by a task")
    (root.parent / "marker").touch()
    (root / "replaced").unlink()
    (root / "replaced").write_text("by a task")
    (service / "goes").unlink()
    (service / "comes").write_text("comes")
    prepared(plan)
    texts = {each.name: each.read_text() for each in root.iterdir() if each.is_file()}
    assert texts == {"stays": "stays", "comes": "comes", "made": "by a task", "replaced": "by a task"}
    assert (root.parent / "marker").exists()


def test_another_host_or_another_version_of_the_service_begins_with_a_fresh_approot(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(place, RoleModel(name="A", entry_point="m:A"))
    root = prepared(plan)
    (root / "made").touch()
    (place / "other").mkdir()
    prepared(replace(plan, model=replace(plan.model, directory=place / "other")))
    assert not (root / "made").exists()
    (root / "made").touch()
    monkeypatch.setattr(approot, "_this_host", "another")
    prepared(replace(plan, model=replace(plan.model, directory=place / "other")))
    assert not (root / "made").exists()


def test_what_a_crash_left_of_an_approot_is_no_obstacle(place: Path) -> None:
    plan = make_plan(place, RoleModel(name="A", entry_point="m:A"))
    (plan.model.directory / "file").touch()
    root = prepared(plan)
    (root / "file").unlink()
    (root.parent / ".rolehost.json").write_text("{half")
    assert (prepared(plan) / "file").exists()


def test_the_built_in_service_s_role_root_is_the_package_s_own(place: Path) -> None:
    model = ServiceModel(name="s", roles={"A": RoleModel(name="A", entry_point="m:A")})
    plan = replace(make_plan(place, *model.roles.values()), model=model)
    assert (prepared(plan) / "legacy_bin").is_dir()
    assert not (plan.data.root / "roots").exists()


def test_a_child_finds_its_application_from_role_root(place: Path) -> None:
    plan = make_plan(place, RoleModel(name="A", entry_point="m:A"), environ={"PATH": os.environ["PATH"]})
    script(plan.model.directory / "bin" / "app", 'echo "$RoleInstanceID in $RoleRoot"')
    prepared(plan)
    line = ["/bin/sh", "-c", '"$RoleRoot/approot/bin/app"']
    done = subprocess.run(line, env=plan.role_variables("", ""), capture_output=True, text=True, check=True)
    assert done.stdout == f"A_IN_0 in {approot.role_root(plan)}\n"
