"""`rolehost new worker`: what it refuses, and what it leaves alone."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from typer.testing import Result

from rolehost.cli.new_worker import Wanted, write_worker
from support.commands import invoke

DEFINITION = """\
# Ours, with a comment that stays.
[service]
name = "shop"   # and this one

[roles.Orders]
entry_point = "orders:OrdersWorker"
[roles.Orders.local_resources.Scratch]
size_in_mb = 100"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(*arguments: str) -> Result:
    return invoke("new", "worker", *arguments)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["Invoice_Scan"], "lower-case letters, digits and single hyphens, not 'Invoice_Scan'"),
        (["../elsewhere"], "lower-case letters"),
        (["3d"], "3d can't be the name of a Python module"),
        (["class"], "class can't be the name of a Python module"),
        (["json"], "there is a Python module json already"),
        (["rolehost"], "there is a Python module rolehost already"),
        (["frontend"], 'service.toml has a role "Frontend" already'),
        (["scan", "--toml"], "--toml needs --program"),
        (["scan", "--program", ""], "--program is a command line"),
        (["scan", "--program", "scan 'it {source} {target}"], "can't be read as words: No closing quotation"),
        (["scan", "--program", "scan {target}"], "can't know the file of a job, unless service.toml says that it is"),
        (["scan", "--program", "scan {source}"], "has no {target}"),
        (["scan", "--program", "scan {form} {source} {target}"], '"form" can\'t be the name of a parameter'),
        (["scan", "--program", "./scan {source} {target}"], "is {approot}/scan"),
        (["scan", "--program", "scan < {source} > {target}"], "no shell here, the program would get < as an argument"),
    ],
)
def test_what_it_refuses(folder: Path, arguments: list[str], reason: str) -> None:
    answer = new(*arguments)
    assert answer.exit_code == 2
    assert reason in answer.stderr
    assert list(folder.iterdir()) == []


def test_it_writes_over_nothing(folder: Path) -> None:
    (folder / "scan.py").write_text("mine\n")
    answer = new("scan")
    assert (answer.exit_code, "scan.py would be written over" in answer.stderr) == (2, True)
    assert [path.name for path in folder.iterdir()] == ["scan.py"]
    assert new("scan", "--program", "scan {source} {target}").exit_code == 0, "by configuration it needs no module"
    again = new("scan", "--program", "scan {source} {target}")
    assert (again.exit_code, "test_scan.py would be" in again.stderr) == (2, True)
    (folder / "test_scan.py").unlink()
    again = new("scan", "--program", "scan {source} {target}")
    assert (again.exit_code, 'has a role "Scan" already' in again.stderr) == (2, True)
    assert (folder / "scan.py").read_text() == "mine\n"


def test_a_definition_keeps_what_it_says(folder: Path) -> None:
    (folder / "service.toml").write_text(DEFINITION)
    (folder / "README.md").write_text("# Ours\n")
    answer = new("invoice-scan", "--program", "scan --level {level} {source} -o {target}.pdf")
    assert answer.exit_code == 0, answer.stderr
    assert "wrote test_invoice_scan.py\nadded a role to service.toml\n" in answer.stdout
    assert "rolehost submit --kind invoice-scan --parameter level=1 sample.txt" in answer.stdout
    text = (folder / "service.toml").read_text()
    assert text.startswith(f"{DEFINITION}\n\n")
    worker = tomllib.loads(text)["roles"]["InvoiceScan"]["worker"]
    assert (worker["kind"], worker["title"], list(worker["parameters"])) == ("invoice-scan", "Invoice scan", ["level"])
    assert worker["program"] == ["scan", "--level", "{level}", "{source}", "-o", "{target}.pdf"]
    assert (folder / "README.md").read_text() == "# Ours\n"


def test_a_definition_that_is_not_valid_stays_as_it_is(folder: Path) -> None:
    (folder / "service.toml").write_text("[service]\nnam = 'x'\n")
    answer = new("scan")
    assert answer.exit_code == 1
    assert '"nam"' in answer.stderr
    assert [path.name for path in folder.iterdir()] == ["service.toml"]


def test_beside_a_csdef_it_says_what_to_do(folder: Path) -> None:
    (folder / "Shop.csdef").write_text("<ServiceDefinition/>")
    answer = new("scan")
    assert (answer.exit_code, "`rolehost convert` makes a service.toml of it" in answer.stderr) == (2, True)


def test_lines_are_no_longer_than_formatters_let_them(folder: Path) -> None:
    """Names of the longest kinds, too."""
    kind = "-".join(["sixteen-letters-x"] * 2) + "-and-a-bit"
    for python in (True, False):
        write_worker(Wanted.of(kind, None if python else "a {source} {target}", python=None), folder)
        (test,) = folder.glob("test_*.py")
        code = [line for line in test.read_text().splitlines() if '"""' not in line]
        assert [line for line in code if len(line) > 88] == []
        for path in folder.iterdir():
            path.unlink()
