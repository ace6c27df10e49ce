"""`rolehost submit` against real stores; what needs a worker or a signal is among the acceptance tests."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rolehost.cli.report import Report
from rolehost.cli.sending import Sent
from rolehost.host.paths import only_one
from rolehost.jobs.job import End, Job, JobState
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Stores
from support.commands import ended, invoke, picture, with_stores


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("ROLEHOST_DATA", str(tmp_path / "data"))
    return tmp_path / "work"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def submit(*arguments: str | Path) -> dict[str, Any]:
    """Submit with `--json`; whatever came of it."""
    document: dict[str, Any] = json.loads(invoke("submit", *arguments, "--json").stdout)
    return document


def names(document: dict[str, Any]) -> list[str]:
    return [job["source"]["name"] for job in document["jobs"]]


def all_jobs(data: Path) -> list[Job]:
    async def act(stores: Stores) -> list[Job]:
        return list((await JobTable(stores.table(TABLE)).list()).jobs)

    return with_stores(data, act) if data.exists() else []


def end(data: Path, job_id: str, *ends: End, **facts: Any) -> None:
    """Let a submitted job go through attempts that end so."""

    async def act(stores: Stores) -> None:
        job = await JobTable(stores.table(TABLE)).read(job_id)
        assert job is not None
        await ended(stores, job, *ends, **facts)

    with_stores(data, act)


def test_a_file_becomes_a_job_whether_or_not_a_service_runs(data: Path) -> None:
    picture(Path("photo.png"))
    told = invoke("submit", "photo.png")
    (job,) = all_jobs(data)
    assert told.exit_code == 0
    assert told.stdout.split() == [job.id, "photo.png"]
    assert (job.state, job.spec.kind, job.spec.source.type) == (JobState.QUEUED, "thumbnail", "image/png")
    assert job.spec.parameters == {"size": "Medium", "width": 512, "height": 512, "format": "png"}


def test_a_folder_is_its_files_at_any_depth_without_the_hidden_ones() -> None:
    for path in ("in/b.png", "in/a.png", "in/deep/er/c.png", "in/.hidden.png", "in/.git/d.png"):
        picture(Path(path))
    assert names(submit("in")) == ["a.png", "b.png", "c.png"]


def test_a_file_named_twice_is_submitted_once() -> None:
    picture(Path("in/a.png"))
    assert names(submit("in/a.png", "in", "in/a.png")) == ["a.png"]
    told = invoke("submit", "in/a.png", "in/a.png")
    assert told.stderr.count("rolehost: in/a.png is named twice, and submitted once") == 1


def test_that_no_service_runs_is_told_once(data: Path) -> None:
    picture(Path("a.png"))
    picture(Path("b.png"))
    sentence = f"no service is running on {data}: the jobs wait until one is started"
    for options in ((), ("--timeout", "0.1")):
        assert invoke("submit", "a.png", "b.png", *options).stderr.count(sentence) == 1
    (data / "resources").mkdir(exist_ok=True)
    with only_one(data / "resources" / "Worker_IN_0.lock", ""):  # as `rolehost run` does
        assert sentence not in invoke("submit", "a.png").stderr


@pytest.mark.parametrize(
    ("source", "kind", "told"),
    [
        ('class Slow(ConsoleAppWorker):\n    kind = "slow"', "slow", ""),
        (
            'class Slow(ConsoleAppWorker):\n    kind = "slow"',
            "slwo",
            'on jobs of the kind "slwo"; did you mean "slow"?',
        ),
        ('class Slow(ConsoleAppWorker):\n    kind = "slow"', "thumbnail", "no role of service.toml works on jobs of"),
        ('class Base(QueueWorker):\n    kind: ClassVar = "x"\nclass Slow(Base):\n    pass', "slwo", 'the kind "slwo"'),
        ("class Slow(ConsoleAppWorker):\n    kind = name()", "slwo", ""),
        ("from elsewhere import Slow", "slwo", ""),
        ("class Slow(RoleEntryPoint):\n    pass", "slwo", 'the kind "slwo"'),
        ("no python", "slwo", ""),
    ],
)
def test_a_kind_that_no_role_works_on_is_told_and_submitted(source: str, kind: str, told: str) -> None:
    picture(Path("a.png"))
    Path("roles.py").write_text(source)
    Path("service.toml").write_text('[service]\nname = "s"\n[roles.Slow]\nentry_point = "roles:Slow"\n')
    result = invoke("submit", "--kind", kind, "a.png")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1
    assert told in result.stderr
    assert ("no role of" in result.stderr) is bool(told)


def test_the_kind_of_the_built_in_service_is_known() -> None:
    picture(Path("a.png"))
    assert "no role of" not in invoke("submit", "a.png").stderr
    told = invoke("submit", "--kind", "thumbnial", "a.png").stderr
    assert 'no role of the built-in service works on jobs of the kind "thumbnial"; did you mean "thumbnail"?' in told


def test_what_is_refused_is_told_with_its_reason_and_the_others_are_submitted(data: Path) -> None:
    picture(Path("good.png"))
    Path("text.jpg").write_text("no picture")
    Path("empty.png").touch()
    Path("nothing").mkdir()
    Path("circle").symlink_to("circle")
    os.mkfifo("pipe")
    told = invoke("submit", "text.jpg", "empty.png", "missing.png", "nothing", "pipe", "circle", "good.png")
    assert told.exit_code == 1
    assert [job.spec.source.name for job in all_jobs(data)] == ["good.png"]
    assert told.stdout.split()[1] == "good.png"
    for sentence in (
        "text.jpg was refused: text.jpg is not a picture of a known type",
        "empty.png was refused: empty.png is ",
        "missing.png was refused: there is no such file",
        "nothing was refused: the folder holds no files",
        "pipe was refused: this is no regular file",
        "circle was refused: ",
    ):
        assert f"rolehost: {sentence}" in told.stderr
    assert told.stderr.splitlines()[-1] == "1 submitted, 6 refused"


def test_a_file_that_cannot_be_read_is_refused() -> None:
    picture(Path("good.png"))
    told = invoke("submit", "/proc/self/mem", "good.png")  # to be opened by anybody, to be read by nobody
    assert told.exit_code == 1
    assert "/proc/self/mem was refused: it can't be read: Input/output error" in told.stderr
    assert "good.png" in told.stdout


def test_refusals_as_json() -> None:
    Path("text.jpg").write_text("no picture")
    document = submit("text.jpg")
    assert document["jobs"] == []
    assert [each["file"] for each in document["refused"]] == ["text.jpg"]


def test_names_that_are_no_text_are_submitted_all_the_same(data: Path) -> None:
    Path("in").mkdir()
    for name in (b"\xff.png", b"\xfe.png"):
        picture(Path("photo.png")).rename(Path("in") / os.fsdecode(name))
    document = submit("in", "--idempotency-key", "k")
    assert [job["source"]["name"] for job in document["jobs"]] == ["\ufffd.png", "\ufffd.png"]
    assert len(all_jobs(data)) == 2


def test_a_link_to_a_picture_is_submitted_under_its_own_name() -> None:
    picture(Path("real.png"))
    Path("link.png").symlink_to("real.png")
    assert names(submit("link.png")) == ["link.png"]


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (["--size", "small"], {"size": "Small", "width": 128, "height": 128, "format": "png"}),
        (["--size", "640x480"], {"size": "Custom", "width": 640, "height": 480, "format": "png"}),
        (["--size", "Large", "--format", "webp"], {"size": "Large", "width": 1024, "height": 1024, "format": "webp"}),
        (["--parameter", "size=Small"], {"size": "Small", "width": 128, "height": 128, "format": "png"}),
    ],
)
def test_sizes_and_formats(asked: list[str], given: dict[str, Any]) -> None:
    picture(Path("photo.png"))
    assert [job["parameters"] for job in submit("photo.png", *asked)["jobs"]] == [given]


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        (["--size", "Huge"], "Huge"),
        (["--size", "0x10"], "0"),
        (["--size", "99999x10"], "99999"),
        (["--format", "pcx"], "pcx"),
        (["--parameter", "colour=red"], "colour"),
        (["--parameter", "colour"], "NAME=VALUE"),
        (["--parameter", "=red"], "NAME=VALUE"),
        (["--kind", "Not A Kind"], "Not A Kind"),
        (["--idempotency-key", ""], "Idempotency-Key"),
        (["--timeout", "soon"], "--timeout"),
        (["--timeout", "-1"], "--timeout"),
    ],
)
def test_what_is_asked_wrongly_is_a_usage_error_before_anything_is_submitted(
    data: Path, asked: list[str], word: str
) -> None:
    picture(Path("photo.png"))
    told = invoke("submit", "photo.png", *asked)
    assert (told.exit_code, told.stdout) == (2, "")
    assert word in told.stderr
    assert all_jobs(data) == []


def test_another_kind_takes_any_file_and_any_parameters() -> None:
    Path("film.txt").write_text("a film")
    (job,) = submit("film.txt", "--kind", "film", "--parameter", "codec=av1", "--parameter", "note=a=b")["jobs"]
    assert (job["kind"], job["parameters"]) == ("film", {"codec": "av1", "note": "a=b"})


def test_the_same_idempotency_key_is_the_same_job(data: Path) -> None:
    picture(Path("photo.png"))
    first, second = (submit("photo.png", "--idempotency-key", "k1")["jobs"] for _ in range(2))
    assert first[0]["id"] == second[0]["id"]
    assert len(all_jobs(data)) == 1
    told = invoke("submit", "photo.png", "--idempotency-key", "k1", "--size", "Small")
    assert told.exit_code == 1
    assert "another body" in told.stderr


def test_an_idempotency_key_for_many_files_is_one_for_each(data: Path) -> None:
    for number in range(20):
        picture(Path(f"in/{number}.png"))
    key = "k" * 255
    first = submit("in", "--idempotency-key", key)
    assert len({job["id"] for job in first["jobs"]}) == 20
    picture(Path("in/00-more.png"))
    second = submit("in", "--idempotency-key", key)
    assert len({job["id"] for job in [*first["jobs"], *second["jobs"]]}) == 21
    assert len(all_jobs(data)) == 21


def test_waiting_without_a_service_says_so_once_and_ends_in_time(data: Path) -> None:
    picture(Path("photo.png"))
    told = invoke("submit", "photo.png", "--timeout", "0.3")
    (job,) = all_jobs(data)
    assert told.exit_code == 1
    assert told.stderr.count("no service is running") == 1
    assert "1 of 1 jobs have not ended within 0.3 seconds; they go on" in told.stderr
    assert told.stdout.split() == ["photo.png", "open", "job", job.id]


def completed(data: Path, file: str, **facts: Any) -> list[str]:
    """Submit a file whose job has completed already: the arguments with which to submit it again."""
    (job,) = submit(file, "--idempotency-key", file)["jobs"]
    end(data, job["id"], End.OK, exit_code=0, **facts)
    return [file, "--idempotency-key", file]


def test_waiting_for_completed_jobs_tells_each(data: Path) -> None:
    picture(Path("photo.png"))
    told = invoke("submit", *completed(data, "photo.png"), "--wait")
    assert told.exit_code == 0
    assert told.stdout.split() == ["photo.png", "completed", "thumbnail.png", "(10", "B)"]
    assert told.stderr.splitlines()[-1] == "1 submitted, 1 completed"


@pytest.mark.parametrize(("final", "state"), [("fail", "failed"), ("poison", "poisoned")])
def test_a_job_that_did_not_complete_makes_the_exit_code_1(data: Path, final: str, state: str) -> None:
    picture(Path("photo.png"))
    (job,) = submit("photo.png", "--idempotency-key", "k")["jobs"]
    end(data, job["id"], End.BAD_INPUT, final=final, exit_code=65, detail="the picture\nis cut off")
    told = invoke("submit", "photo.png", "--idempotency-key", "k", "--wait")
    assert told.exit_code == 1
    assert told.stdout.split(maxsplit=2) == ["photo.png", state, "the picture is cut off\n"]
    (ended,) = submit("photo.png", "--idempotency-key", "k", "--wait")["jobs"]
    assert (ended["state"], ended["attempts"][0]["exit_code"]) == (state, 65)


def test_a_job_that_was_removed_meanwhile_is_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(Path("photo.png"))
    submit("photo.png")
    (job,) = all_jobs(data)
    report = Report(outcomes={0: Sent("photo.png", job)}, ended={job.id: None})
    report.print_lines(waited=True)
    assert capsys.readouterr().out.split() == ["photo.png", "removed", "job", job.id, "was", "purged"]
    assert not report.good(waited=True)


def test_results_are_written_under_their_own_names_and_never_over_another_file(data: Path) -> None:
    out = Path("out")
    out.mkdir()
    (out / "photo.png").write_text("mine")
    for file in ("a/photo.png", "b/photo.png"):
        picture(Path(file))
        completed(data, file, result="photo.png")
    first, second = (
        invoke("submit", file, "--idempotency-key", file, "--output", out) for file in ("a/photo.png", "b/photo.png")
    )
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert {path.name for path in out.iterdir()} == {"photo.png", "photo-2.png", "photo-3.png"}
    assert (out / "photo.png").read_text() == "mine"
    assert (out / "photo-2.png").read_bytes() == b"the result"
    assert str(out / "photo-3.png") in second.stdout


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("../../evil.png", "evil.png"),
        ("/etc/passwd", "passwd"),
        ("..", "unnamed"),
        (".bashrc", "bashrc"),
        ("C:\\temp\\x.png", "x.png"),
        ("a\x1b[31mb\n.png", "a[31mb.png"),
        (f"{'ä' * 240}.png", f"{'ä' * 125}.png"),
    ],
)
def test_a_results_name_leads_nowhere_else(data: Path, tmp_path: Path, name: str, written: str) -> None:
    picture(Path("photo.png"))
    document = submit(*completed(data, "photo.png", result=name), "--output", "out")
    assert [path.name for path in Path("out").iterdir()] == [written]
    assert list(document["written"].values()) == [f"out/{written}"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "work"]


def test_results_have_the_mode_of_a_new_file(data: Path) -> None:
    picture(Path("photo.png"))
    before = os.umask(0o027)
    try:
        invoke("submit", *completed(data, "photo.png"), "--output", "out")
    finally:
        os.umask(before)
    assert Path("out/thumbnail.png").stat().st_mode & 0o777 == 0o640


def test_a_result_that_is_gone_is_told_and_leaves_nothing_behind(data: Path) -> None:
    picture(Path("photo.png"))
    arguments = completed(data, "photo.png")

    async def lose(stores: Stores) -> None:
        for name in (await stores.blobs.list("results/")).names:
            await stores.blobs.delete(name)

    with_stores(data, lose)
    told = invoke("submit", *arguments, "--output", "out")
    assert told.exit_code == 1
    assert "the result was not written: " in told.stdout
    assert list(Path("out").iterdir()) == []


def test_an_output_folder_that_cannot_be_made_is_told_before_anything_is_submitted(data: Path) -> None:
    picture(Path("photo.png"))
    told = invoke("submit", "photo.png", "--output", "photo.png/out")
    assert told.exit_code == 1
    assert "the results can't be written into" in told.stderr
    assert all_jobs(data) == []


def test_a_url_and_a_blob_are_sources_where_the_settings_allow_them(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROLEHOST_SETTING_Sources__AllowedHosts", "*.example.org")
    monkeypatch.setenv("ROLEHOST_SETTING_Sources__Blobs", "assets")
    picture(data / "photo.png")

    async def lend(stores: Stores) -> None:
        await stores.blobs.put("assets/photo.png", data / "photo.png")

    with_stores(data, lend)
    url = "https://pictures.example.org/a/one.png?sig=swordfish"
    result = invoke("submit", "--url", url, "--url", url, "--blob", "assets/photo.png", "--blob", "assets/none.png")
    assert "swordfish" not in result.output
    assert "there is no blob 'assets/none.png'" in result.output
    jobs = {job.spec.source.name: job.spec.source for job in all_jobs(data)}
    assert (sorted(jobs), jobs["one.png"].url, jobs["photo.png"].blob) == (
        ["one.png", "photo.png"],
        url,
        "assets/photo.png",
    )
    shown = invoke("job", next(job.id for job in all_jobs(data) if job.spec.source.url)).output
    assert "https://pictures.example.org/a/one.png\n" in shown


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--url", "https://example.com/x.png"], "none of those that are allowed"),
        (["--url", "https://127.0.0.1/x.png"], "not a public one"),
        (["--blob", "inputs/a/source"], "does not allow it"),
        (["--blob", "../x"], "no blob name"),
        ([], "name files, or a source that is elsewhere"),
        (["--url", "https://a.example.org/x.png", "--batch", "b"], "a batch is made of files"),
    ],
)
def test_what_no_role_would_fetch_is_refused_here(
    data: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], why: str
) -> None:
    monkeypatch.setenv("ROLEHOST_SETTING_Sources__AllowedHosts", "*.example.org")
    result = invoke("submit", *arguments)
    assert result.exit_code == 2
    assert why in " ".join(result.output.replace("│", " ").split())
    assert all_jobs(data) == []
