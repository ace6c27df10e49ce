"""What an exit means is data, and a result that isn't what was promised is no result."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rolehost.jobs.job import End, JobState
from rolehost.workers.exit_policy import ExitRule, Verdict
from support.console_apps import outcome, shell
from support.jobs import Bench, open_bench
from support.pictures import photograph

WORK = 'tr a-z A-Z < "$1" > "$2"'


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as bench:
        yield bench


RULES = (
    ExitRule(verdict=Verdict.PUT_BACK, codes={75}, stderr="licen[cs]e"),
    ExitRule(verdict=Verdict.SUCCESS, codes=range(1, 4)),
    ExitRule(verdict=Verdict.FAIL, codes={9}, signals={9}),
    ExitRule(verdict=Verdict.POISON_NOW, stderr="corrupt state"),
    ExitRule(verdict=Verdict.RETRY, codes={0}, stderr="gave up"),
)


@pytest.mark.parametrize(
    ("script", "end", "state"),
    [
        (f"{WORK}; exit 2", End.OK, JobState.COMPLETED),
        (f"{WORK}", End.OK, JobState.COMPLETED),
        ("exit 4", End.APP_ERROR, JobState.QUEUED),
        ("echo no licence is free >&2; exit 75", End.PUT_BACK, JobState.QUEUED),
        ("exit 75", End.APP_ERROR, JobState.QUEUED),
        ("exit 9", End.BAD_INPUT, JobState.FAILED),
        ("kill -9 $$", End.BAD_INPUT, JobState.FAILED),
        ("kill -11 $$", End.KILLED, JobState.QUEUED),
        (f"{WORK}; echo a corrupt state >&2", End.POISON_NOW, JobState.POISONED),
        (f"{WORK}; echo it gave up >&2", End.APP_ERROR, JobState.QUEUED),
        ("exit 2", End.BAD_OUTPUT, JobState.QUEUED),
    ],
)
async def test_the_first_rule_that_fits_decides(bench: Bench, script: str, end: End, state: JobState) -> None:
    job = await outcome(bench, shell(bench, script, exit_rules=RULES))
    assert (job.attempts[0].end, job.state) == (end, state), job.reason
    charged = end.charged_to
    assert job.charges.to_json() == {budget: int(budget == charged) for budget in ("app", "resource", "lost")}


async def test_poison_now_is_dead_lettered_with_what_was_said(bench: Bench) -> None:
    job = await outcome(bench, shell(bench, "echo corrupt state of the catalogue >&2; exit 4", exit_rules=RULES))
    assert job.reason.startswith("poison_now: ")
    assert "corrupt state of the catalogue" in job.reason
    assert await bench.counts() == (0, 0, 1)


@pytest.mark.parametrize("wrong", [{}, {"stderr": "("}, {"codes": ()}])
def test_a_rule_that_says_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"rule needs|regular expression"):
        ExitRule(verdict=Verdict.RETRY, **wrong)  # type: ignore[arg-type]


async def picture_job(bench: Bench, script: str, **more: object) -> object:
    """One attempt whose source, and promised result, is a JPEG."""
    path = photograph(bench.folder / "photo.jpg", megapixels=0.1)
    job = await bench.submit(content=path.read_bytes(), name="photo.jpg")
    await bench.process(shell(bench, script, **more).attempt)
    return (await bench.row(job.id)).attempts[0].end


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ('cp "$1" "$2"', End.OK),
        ('printf "%044d" 0 > "$2"', End.BAD_OUTPUT),
        (': > "$2"', End.BAD_OUTPUT),
        (r"""printf '\211PNG\r\n\032\n0000000000000000' > "$2" """, End.BAD_OUTPUT),
        ('mkdir "$2"', End.BAD_OUTPUT),
        ('ln -s "$1" "$2"', End.BAD_OUTPUT),
    ],
)
async def test_a_result_is_of_the_promised_type(bench: Bench, script: str, end: End) -> None:
    assert await picture_job(bench, script) is end


@pytest.mark.parametrize(
    ("script", "end", "said"),
    [
        ("true", End.OK, ""),
        ("echo it lacks its end >&2; exit 1", End.BAD_OUTPUT, "it lacks its end"),
        ("exit 3", End.BAD_OUTPUT, "exit code 3"),
        ("sleep 60", End.BAD_OUTPUT, "it ran longer than its timeout"),
    ],
)
async def test_a_result_is_verified(bench: Bench, script: str, end: End, said: str) -> None:
    timeout = {"timeout": 0.5} if "sleep" in script else {}
    verify = ("sh", "-c", f'test -s "$0" && {{ {script}; }}', "{result}")
    job = await outcome(bench, shell(bench, WORK, verify=verify, **timeout))
    assert job.attempts[0].end is end, job.reason
    assert said in job.attempts[0].detail
    assert (job.result is not None) == (end is End.OK)


async def test_a_verification_that_cannot_start_is_told(bench: Bench) -> None:
    job = await outcome(bench, shell(bench, WORK, verify=("no-such-program", "{result}")))
    assert job.attempts[0].end is End.BAD_OUTPUT
    assert "no-such-program" in job.reason
