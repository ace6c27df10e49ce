"""`rolehost convert`: the old service's two files as one, which says the same."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from rolehost.service_model import ServiceModel, examine
from support.cloud_service import CSCFG, CSDEF, Copy
from support.commands import invoke

PYTHON_ROLES = "cloud_service_pairs/python_roles"
PLUG_INS = "cloud_service_pairs/plug_ins"
MAPPED = ("--entry-point", "Shop.Web=shop.web:Web", "--entry-point", "Shop.Mailer=shop.mailer:Mailer")


def valid(definition: Path, **environ: str) -> ServiceModel:
    examined = examine(definition, environ)
    assert examined.errors == ()
    assert examined.model is not None
    return examined.model


def same(model: ServiceModel) -> ServiceModel:
    """Whichever files it came from."""
    return replace(model, source=None, configuration=None)


@pytest.mark.parametrize(
    ("pair", "csdef", "cscfg"),
    [("cloud_service", CSDEF, CSCFG), (PYTHON_ROLES, CSDEF, "ServiceConfiguration.cscfg")],
)
def test_the_result_loads_to_the_same_model(tmp_path: Path, pair: str, csdef: str, cscfg: str) -> None:
    service = Copy(tmp_path, pair)
    before = valid(service.directory / csdef)
    output = service.directory / "service.toml"
    told = invoke("convert", service.directory / csdef, service.directory / cscfg, "--output", output)
    assert (told.exit_code, told.stdout) == (0, "")
    assert same(valid(output)) == same(before)
    assert stat.S_IMODE(output.stat().st_mode) == 0o600, "settings may be secrets"
    assert "DiagnosticStore" not in output.read_text(), "every role has it, said or not"


def test_what_is_hard_to_write_is_written(tmp_path: Path) -> None:
    service = Copy(tmp_path, PLUG_INS)
    hard = "a&quot;b\\\\n'&#10;\u00e9\u007f&#9;#=[x]"
    service.change(CSCFG, 'name="_Preview" value=""', f'name="_Preview" value="{hard}"')
    (service.directory / "entry_points.toml").write_text(
        '[entry_points]\n"Shop.Web" = "shop.web:Web"\n"Shop.Mailer" = "shop.mailer:Mailer"\n'
    )
    before = valid(service.directory / "Shop.csdef", ROLEHOST_CONFIGURATION=CSCFG)
    assert before.roles["Shop.Web"].settings["_Preview"] == "a\"b\\\\n'\n\u00e9\x7f\t#=[x]"
    output = service.directory / "service.toml"
    output.write_text(invoke("convert", service.directory / "Shop.csdef", service.directory / CSCFG).stdout)
    assert same(valid(output)) == same(before)


def test_what_was_dropped_is_in_comments(tmp_path: Path) -> None:
    service = Copy(tmp_path, PLUG_INS)
    told = invoke("convert", service.directory / "Shop.csdef", service.directory / CSCFG, *MAPPED)
    comments = [line for line in told.stdout.splitlines() if line.startswith("# ")]
    assert comments[0] == f"# The service Shop, converted from Shop.csdef and {CSCFG}."
    for dropped in ("<Sites> is ignored", "<Gadgets>", 'plug-in "Caching"', 'vmsize="Medium"', 'osFamily="3"'):
        assert any(dropped in comment for comment in comments), dropped
        assert dropped in told.stderr
    assert str(tmp_path) not in told.stdout


def test_an_entry_point_that_nobody_named_is_to_be_filled_in(tmp_path: Path) -> None:
    service = Copy(tmp_path, PLUG_INS)
    arguments = ("convert", service.directory / "Shop.csdef", service.directory / CSCFG)
    told = invoke(*arguments)
    assert told.exit_code == 0
    assert '# entry_point = "module:Class"' in told.stdout
    assert "fill in the entry points of Shop.Web, Shop.Mailer" in told.stderr
    output = service.directory / "service.toml"
    output.write_text(told.stdout)
    assert [problem.code for problem in examine(output, {}).errors] == ["N06", "N06"]
    output.write_text(invoke(*arguments, *MAPPED).stdout)
    assert valid(output).roles["Shop.Mailer"].entry_point == "shop.mailer:Mailer"


def test_a_pair_with_problems_is_not_converted(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    service.change(CSDEF, 'sizeInMB="512"', 'sizeInMB="0"')
    service.change(CSCFG, 'count="4"', 'count="0"')
    output = tmp_path / "service.toml"
    told = invoke("convert", service.directory / CSDEF, service.directory / CSCFG, "--output", output)
    assert told.exit_code == 1
    assert ": M09: " in told.stderr
    assert ": M24: " in told.stderr
    assert not output.exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    output = tmp_path / "service.toml"
    output.write_text("mine")
    arguments = ("convert", service.directory / CSDEF, service.directory / CSCFG, "--output", output)
    told = invoke(*arguments)
    assert (told.exit_code, output.read_text()) == (2, "mine")
    assert "write over it with --force" in told.stderr
    assert invoke(*arguments, "--force").exit_code == 0
    assert valid(output).name == "ThumbnailCloudService"


@pytest.mark.parametrize("option", ["Shop.Web", "=x:Y", "Shop.Web="])
def test_a_mapping_has_a_role_and_a_class(tmp_path: Path, option: str) -> None:
    service = Copy(tmp_path)
    told = invoke("convert", service.directory / CSDEF, service.directory / CSCFG, "--entry-point", option)
    assert (told.exit_code, told.stdout) == (2, "")
    assert "--entry-point is ROLE=module:Class" in told.stderr


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    told = invoke("convert", tmp_path / "a.csdef", tmp_path / "a.cscfg")
    assert told.exit_code == 1
    assert f"{tmp_path}/a.csdef: N00: there is no such file" in told.stderr
    assert f"{tmp_path}/a.cscfg: N00: there is no such file" in told.stderr
