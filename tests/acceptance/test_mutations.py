"""Rules of the protocol taken back, one at a time, in a copy of the package: the tests that are named here then fail.

A suite that stays green when a rule is gone holds nothing. Each mutation is one line of the source, and one of its own
in a copy; the tests run in a process of their own, which imports the copy.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.service import ROOT

pytestmark = pytest.mark.acceptance
_OUTCOME = re.compile(r"^(PASSED|FAILED|ERROR) (\S+?\.py::\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mutation:
    """A line of the source and what takes its place; every test that is named has to see it.

    Args:
        file: below the package.
        line: occurs once in it.
        instead: the line without its rule.
        seen_by: tests, as `unit/test_x.py::test_y`.
    """

    file: str
    line: str
    instead: str
    seen_by: tuple[str, ...]


MUTATIONS = {
    "writes by id alone": Mutation(
        "stores/embedded/tables.py",
        "    if str(found[1]) != version:\n",
        "    if not version:\n",
        (
            "unit/test_jobs_table.py::test_a_late_writer_changes_nothing",
            "unit/test_jobs_table.py::test_of_two_writers_one_wins",
            "unit/test_jobs_table.py::test_sixteen_claims_of_one_version_open_one_attempt",
            "unit/test_workers_processing.py::test_a_late_worker_publishes_nothing",
        ),
    ),
    "one blob name for all attempts": Mutation(
        "workers/completion.py",
        'f"results/{claim.spec.id}/{claim.attempt.number}-{claim.token}/result{plain_suffix(path.name)}"',
        'f"results/{claim.spec.id}/1-shared/result{plain_suffix(path.name)}"',
        (
            "unit/test_workers_completion.py::test_a_lost_answer_on_the_last_write_is_looked_up",
            "unit/test_protocol_races.py::test_an_attempt_never_publishes_what_another_one_left",
        ),
    ),
    "recovery switched off": Mutation(
        "jobs/recovery.py",
        "        for part in parts:\n",
        "        for part in ():\n",
        (
            "unit/test_jobs_recovery.py::test_two_sweepers_do_no_harm",
            "unit/test_jobs_recovery.py::test_a_lease_that_stands_still_is_woken_once_and_taken_over",
            "unit/test_jobs_recovery.py::test_results_that_no_row_names_are_collected_and_the_others_stay",
            "unit/test_jobs_recovery.py::test_a_poisoned_job_whose_dead_letter_was_never_made_gets_it",
        ),
    ),
    "poison settled by delete": Mutation(
        "workers/claiming.py",
        "    if state is not JobState.POISONED:\n",
        "    if state is not None:\n",
        (
            "unit/test_workers_claiming.py::test_a_spent_budget_is_dead_lettered_with_its_reason_and_then_owes_nothing",
            "unit/test_workers_claiming.py::test_the_message_of_a_job_that_is_over_is_settled",
            "unit/test_workers_completion.py::test_a_spent_budget_ends_in_the_poison_queue_with_its_reason",
        ),
    ),
}


def a_copy(folder: Path) -> Path:
    """A checkout whose package can be changed, and whose tests are the real ones."""
    shutil.copytree(ROOT / "rolehost", folder / "rolehost", symlinks=True)  # compiled files too: they stay valid
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name in ("tests", "legacy_bin"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def outcomes(folder: Path, tests: set[str]) -> dict[str, set[str]]:
    """How each test ends that is run on a copy; one with parameters may end in several ways."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("ROLEHOST_", "PYTEST_"))}
    options = ["-q", "-rA", "--tb=no", "--no-header", "--show-capture=no", "-p", "no:cacheprovider", "-p", "no:xdist"]
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *options, "--rootdir", folder, *(f"tests/{test}" for test in tests)],
        cwd=folder,
        env=environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, set[str]] = {}
    for outcome, test in _OUTCOME.findall(ran.stdout):
        found.setdefault(test.removeprefix("tests/"), set()).add(outcome)
    assert found.keys() == tests, ran.stdout + ran.stderr
    return found


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
def test_a_rule_that_is_taken_back_is_seen_by_each_test_named_for_it(mutation: Mutation, tmp_path: Path) -> None:
    source = a_copy(tmp_path) / "rolehost" / mutation.file
    text = source.read_text()
    assert text.count(mutation.line) == 1, "the source has changed: the mutation has to follow it"
    source.write_text(text.replace(mutation.line, mutation.instead))
    found = outcomes(tmp_path, set(mutation.seen_by))
    assert {test for test, ends in found.items() if "FAILED" not in ends} == set()


def test_without_a_mutation_all_of_them_pass(tmp_path: Path) -> None:
    tests = {test for mutation in MUTATIONS.values() for test in mutation.seen_by}
    assert {test: ends for test, ends in outcomes(a_copy(tmp_path), tests).items() if ends != {"PASSED"}} == {}
