"""Startup tasks as real processes: their order, their types, their rights, and what is told of them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rolehost.errors import StartupTaskError
from rolehost.host.instance.plan import InstancePlan
from rolehost.host.instance.startup_tasks import TASK_ENDED, TASK_STARTED, StartupTasks
from rolehost.processes import Child, ChildIdentity, become_subreaper, end_strays
from rolehost.service_model import ExecutionContext, LocalStorage, RoleModel, StartupTask, TaskType
from rolehost.telemetry import subscribe
from support.instances import make_plan, open_place, prepared, script

IS_ROOT = os.geteuid() == 0
CURRENT = "/RoleEnvironment/CurrentInstance"
# What runs without root's rights writes to a directory that everybody may write to.
ENVIRON = {"PATH": os.environ["PATH"]}


class Log:
    """A run's log, in memory."""

    def __init__(self, name: str) -> None:
        self.path = Path(f"{name.split(maxsplit=1)[0].replace('/', '-')}.log")
        self.text = {"stdout": b"", "stderr": b""}
        self.ended: list[int | None] = []

    def add(self, stream: str, data: bytes) -> None:
        self.text[stream] += data

    def end(self, exit_code: int | None) -> None:
        self.ended.append(exit_code)


class Bench:
    """A service with startup tasks."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.out = place / "out"
        self.out.mkdir()
        self.out.chmod(0o777)
        self.logs: dict[str, Log] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []

    def task(self, name: str, text: str, **more: Any) -> StartupTask:
        """A task that is a script below `startup`; what stands after the name are its arguments."""
        script(self.place / "service" / "startup" / name.split(maxsplit=1)[0], f"cd {self.out}\n{text}")
        kind = more.pop("kind", TaskType.SIMPLE)
        return StartupTask(command_line=f"startup/{name}", task_type=kind, **more)

    def plan(self, *tasks: StartupTask, **role: Any) -> InstancePlan:
        plan = make_plan(
            self.place,
            RoleModel(name="A", entry_point="m:A", startup_tasks=tasks, **role),
            environ=ENVIRON,
        )
        prepared(plan)
        return plan

    def tasks(self, plan: InstancePlan) -> StartupTasks:
        return StartupTasks(plan, self.open)

    @asynccontextmanager
    async def running(self, *tasks: StartupTask, **role: Any) -> AsyncIterator[StartupTasks]:
        """Tasks that were run, and are ended in the end."""
        made = self.tasks(self.plan(*tasks, **role))
        try:
            await asyncio.wait_for(made.run(), 20)
            yield made
        finally:
            await made.end(0)

    def open(self, name: str) -> Log:
        self.logs[name] = Log(name)
        return self.logs[name]

    def trace(self) -> list[str]:
        path = self.out / "trace"
        return path.read_text().split() if path.exists() else []

    def told(self, event: str) -> list[dict[str, Any]]:
        return [facts for name, facts in self.events if name == event]


@pytest.fixture
def bench() -> Iterator[Bench]:
    become_subreaper()
    with open_place() as place:
        bench = Bench(place)
        unsubscribe = subscribe(lambda event, facts: bench.events.append((event, facts)))
        yield bench
        unsubscribe()


async def until(condition: Callable[[], object]) -> None:
    """Wait for what no event tells of."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.01)


def lives(pid_file: Path) -> bool:
    try:
        os.kill(int(pid_file.read_text()), 0)
    except ProcessLookupError:
        return False
    return True


async def test_simple_tasks_run_one_after_the_other_in_the_definition_s_order(bench: Bench) -> None:
    tasks = [bench.task(name, f"echo {name}-begins >> trace; sleep 0.1; echo {name}-ends >> trace") for name in "cab"]
    async with bench.running(*tasks):
        assert bench.trace() == [f"{name}-{what}" for name in "cab" for what in ("begins", "ends")]


async def test_a_simple_task_that_fails_keeps_the_later_ones_from_running(bench: Bench) -> None:
    tasks = (
        bench.task("one", "echo one >> trace"),
        bench.task("two", 'echo "first line" >&2; echo "no such codec" >&2; exit 7'),
        bench.task("three", "echo three >> trace"),
        bench.task("four", "echo four >> trace", kind=TaskType.BACKGROUND),
    )
    with pytest.raises(StartupTaskError, match=r"'startup/two' ended with exit code 7: no such codec") as caught:
        await bench.tasks(bench.plan(*tasks)).run()
    error = caught.value
    assert (error.task, error.exit_code, error.signal) == ("startup/two", 7, None)
    assert error.stderr == "first line\nno such codec\n"
    assert bench.trace() == ["one"]


async def test_a_simple_task_that_a_signal_ends_has_failed(bench: Bench) -> None:
    with pytest.raises(StartupTaskError, match="was ended by signal 9") as caught:
        await bench.tasks(bench.plan(bench.task("one", "kill -9 $$"))).run()
    assert (caught.value.exit_code, caught.value.signal) == (None, 9)


async def test_the_tail_of_a_long_stderr_is_kept(bench: Bench) -> None:
    noisy = bench.task("noisy", "yes 'nothing of interest' | head -n 100000 >&2; echo 'the end' >&2; exit 1")
    with pytest.raises(StartupTaskError) as caught:
        await bench.tasks(bench.plan(noisy)).run()
    assert len(caught.value.stderr) == 4096
    assert caught.value.stderr.endswith("nothing of interest\nthe end\n")


async def test_a_background_task_outlives_the_start_and_is_ended_with_the_instance(bench: Bench) -> None:
    background = bench.task("agent", "sleep 60 & echo $! > child; echo $$ > pid; wait", kind=TaskType.BACKGROUND)
    later = bench.task("later", "while [ ! -s pid ]; do sleep 0.02; done; echo later >> trace")
    async with bench.running(background, later) as tasks:
        assert bench.trace() == ["later"]
        assert lives(bench.out / "pid")
        await asyncio.wait_for(tasks.finish(), 1)  # nobody waits for it
        assert lives(bench.out / "pid")
        await asyncio.wait_for(tasks.end(5), 10)
        assert not lives(bench.out / "pid")
        assert not lives(bench.out / "child")


async def test_how_a_background_task_ends_is_no_matter(bench: Bench) -> None:
    async with bench.running(bench.task("agent", "exit 3", kind=TaskType.BACKGROUND)):
        await until(lambda: bench.told("task.ended"))
        assert bench.told("task.ended")[0]["exit_code"] == 3


async def test_a_task_that_ignores_being_asked_is_killed(bench: Bench) -> None:
    stubborn = bench.task("agent", "trap '' TERM; echo $$ > pid; while :; do sleep 1; done", kind=TaskType.BACKGROUND)
    async with bench.running(stubborn) as tasks:
        await until((bench.out / "pid").exists)
        await tasks.end(0.2)
        assert not lives(bench.out / "pid")
        assert bench.told("task.ended")[0]["signal"] == 9


async def test_a_foreground_task_holds_up_nothing_but_the_end(bench: Bench) -> None:
    foreground = bench.task(
        "flush", "while [ ! -e go ]; do sleep 0.02; done; echo flush >> trace", kind=TaskType.FOREGROUND
    )
    async with bench.running(foreground, bench.task("later", "echo later >> trace")) as tasks:
        assert bench.trace() == ["later"]
        finishing = asyncio.create_task(tasks.finish())
        assert not (await asyncio.wait([finishing], timeout=0.3))[0]
        (bench.out / "go").touch()
        await asyncio.wait_for(finishing, 10)
        assert bench.trace() == ["later", "flush"]


async def test_a_task_may_wait_for_one_before_it(bench: Bench) -> None:
    """The original's way of letting a long task run beside others: a background task, and later one that waits."""
    long = bench.task("long", "sleep 0.2; echo long >> trace", kind=TaskType.BACKGROUND)
    waits = bench.task("waits", "until grep -q long trace; do sleep 0.02; done 2> /dev/null; echo waits >> trace")
    async with bench.running(long, waits):
        assert bench.trace() == ["long", "waits"]


async def test_what_a_simple_task_leaves_running_ends_with_it(bench: Bench) -> None:
    async with bench.running(bench.task("one", "sleep 60 > /dev/null 2>&1 & echo $! > pid")):
        assert not lives(bench.out / "pid")


async def test_a_start_that_is_given_up_ends_the_task_that_runs(bench: Bench) -> None:
    tasks = bench.tasks(bench.plan(bench.task("one", "echo $$ > pid; sleep 60"), bench.task("two", "echo x >> trace")))
    running = asyncio.create_task(tasks.run())
    await until((bench.out / "pid").exists)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not lives(bench.out / "pid")
    assert bench.trace() == []


async def test_the_command_line_is_split_and_never_given_to_a_shell(bench: Bench) -> None:
    task = bench.task(
        """args $RoleName '$HOME' "two  words" %RoleRoot% `id` ; > file *.txt | cat && C:\\old\\path --x="a b" #end""",
        'for each; do echo "$each" >> arguments; done',
    )
    plan = bench.plan(task, StartupTask(command_line=f"sh -c 'pwd > {bench.out}/cwd'"))
    await bench.tasks(plan).run()
    assert (bench.out / "arguments").read_text().splitlines() == [
        *("$RoleName", "$HOME", "two  words", "%RoleRoot%", "`id`", ";", ">", "file", "*.txt", "|", "cat", "&&"),
        *("C:\\old\\path", "--x=a b", "#end"),
    ]
    assert (bench.out / "cwd").read_text().strip() == str(plan.data.role_root("A_IN_0") / "approot")


async def test_a_program_of_the_path_and_a_path_with_backslashes_are_found(bench: Bench) -> None:
    bench.task("deep/one", "echo deep >> trace")
    bench.task("said", "echo said >> trace", kind=TaskType.SIMPLE)
    tasks = (StartupTask(command_line="startup\\deep\\one"), StartupTask(command_line="sh startup/said"))
    async with bench.running(*tasks):
        assert bench.trace() == ["deep", "said"]


async def test_a_task_has_its_own_variables_with_instance_values_and_not_the_runtime_s(bench: Bench) -> None:
    task = bench.task(
        "env",
        "env > env",
        environment={"VERSION": "1.4.0"},
        instance_values={
            "WORK": f"{CURRENT}/LocalResources/LocalResource[@name='Work']/@path",
            "QUEUE": f"{CURRENT}/ConfigurationSettings/ConfigurationSetting[@name='Jobs.QueueName']/@value",
        },
    )
    plan = bench.plan(
        task,
        environment={"RUNTIME_ONLY": "1"},
        settings={"Jobs.QueueName": "jobs"},
        local_resources={"Work": LocalStorage(name="Work")},
    )
    await bench.tasks(plan).run()
    env = dict(line.split("=", 1) for line in (bench.out / "env").read_text().splitlines())
    assert (env["VERSION"], env["QUEUE"]) == ("1.4.0", "jobs")
    assert env["WORK"] == plan.snapshot().local_resources["Work"].root_path
    assert (env["RoleName"], env["RoleInstanceID"], env["RdRoleId"]) == ("A", "A_IN_0", "A_IN_0")
    assert env["RoleDeploymentID"] == plan.deployment_id
    assert env["RoleRoot"] == str(plan.data.role_root("A_IN_0"))
    assert env["TMPDIR"] == env["TEMP"] == env["TMP"] == str(plan.data.temp("A_IN_0"))
    assert not {"RUNTIME_ONLY", "WaRuntimeEndpoint"} & env.keys()


async def test_an_instance_value_that_is_not_there_is_said(bench: Bench) -> None:
    task = bench.task("env", "", instance_values={"PORT": f"{CURRENT}/Endpoints/Endpoint[@name='Http']/@port"})
    with pytest.raises(StartupTaskError, match=r"Http.*names nothing"):
        await bench.tasks(bench.plan(task)).run()


async def test_a_limited_task_has_no_rights_of_root_and_writes_to_the_instance_s_own_directories(bench: Bench) -> None:
    work = f"{CURRENT}/LocalResources/LocalResource[@name='Work']/@path"
    text = 'id -u > uid; touch "$WORK/made" "$TMPDIR/made" "$HOME/made"; touch "$RoleRoot/approot/made"; echo $? > code'
    task = bench.task("limited", text, instance_values={"WORK": work})
    plan = bench.plan(task, local_resources={"Work": LocalStorage(name="Work")})
    plan = replace(plan, environ={**ENVIRON, "HOME": str(bench.out)})
    await bench.tasks(plan).run()
    assert (bench.out / "uid").read_text() == f"{65534 if IS_ROOT else os.geteuid()}\n"
    assert (plan.data.resource("A_IN_0", "Work") / "made").exists()
    assert (plan.data.temp("A_IN_0") / "made").exists()
    assert ((bench.out / "code").read_text() != "0\n") is IS_ROOT


async def test_resources_are_open_to_limited_tasks_only_and_closed_again_at_the_next_start(bench: Bench) -> None:
    """A console application is the same user as a limited task, and of another group."""
    storages = {"Work": LocalStorage(name="Work", clean_on_role_recycle=False)}
    plan = bench.plan(bench.task("limited", ""), local_resources=storages)
    await bench.tasks(plan).run()
    paths = [plan.data.temp("A_IN_0"), *(plan.data.resource("A_IN_0", name) for name in plan.storages)]
    for path in paths:
        assert stat_of(path) == ((0, 65530, 0o771) if IS_ROOT else (os.geteuid(), path.stat().st_gid, 0o711))
    application = ChildIdentity(65534, 65534) if IS_ROOT else ChildIdentity()
    line = ["touch", *(str(path / "x") for path in paths)]
    child = await Child.spawn(line, env=ENVIRON, cwd=Path("/"), marker="application", identity=application)
    assert ((await child.wait()).code == 0) is not IS_ROOT
    plan = bench.plan(bench.task("elevated", ""), local_resources=storages)
    assert {stat_of(path) for path in paths} == {(os.geteuid(), os.getegid(), 0o711)}


def stat_of(path: Path) -> tuple[int, int, int]:
    facts = path.stat()
    return facts.st_uid, facts.st_gid, facts.st_mode & 0o7777


async def test_an_elevated_task_has_the_host_s_rights_or_is_refused(bench: Bench) -> None:
    task = bench.task("elevated", "id -u > uid", execution_context=ExecutionContext.ELEVATED)
    tasks = bench.tasks(bench.plan(task, execution_context=ExecutionContext.LIMITED))
    if IS_ROOT:
        await tasks.run()
        assert (bench.out / "uid").read_text() == "0\n"
    else:
        with pytest.raises(StartupTaskError, match=rf"elevated rights, and this host runs as uid {os.geteuid()}"):
            await tasks.run()
        assert not (bench.out / "uid").exists()


async def test_a_task_s_rights_are_independent_of_the_runtime_s(bench: Bench) -> None:
    task = bench.task("limited", "id -u > uid")
    await bench.tasks(bench.plan(task, execution_context=ExecutionContext.ELEVATED)).run()
    assert (bench.out / "uid").read_text() == f"{65534 if IS_ROOT else os.geteuid()}\n"


async def test_an_elevated_task_is_refused_where_the_host_is_not_root(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    task = bench.task("elevated", "id -u > uid", execution_context=ExecutionContext.ELEVATED)
    with pytest.raises(StartupTaskError, match=r"startup/elevated.*elevated rights, and this host runs as uid 1234"):
        await bench.tasks(bench.plan(task)).run()
    assert not (bench.out / "uid").exists()


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("missing", None, r"startup/missing is not in approot"),
        ("plain", "#!/bin/sh\n", r"is not executable \(chmod \+x\)"),
        ("install.cmd", "@echo off\r\n", r"startup/install\.cmd is a batch file of Windows, which can't run here"),
        ("install.BAT", None, r"is a batch file of Windows"),
        ("install.ps1", None, r"is a PowerShell script"),
        ("tool.exe", "MZ\x90", r"is a program of Windows"),
        ("interpreter", "#!/no/such/shell -e\n", r"needs the interpreter /no/such/shell, which is not there"),
        ("crlf", "#!/bin/sh\r\necho\r\n", r"has the line ends of Windows"),
        ("env", "#!/usr/bin/env no-such-thing\n", r"needs the interpreter no-such-thing, which is not on the PATH"),
        ("none", "echo hello\n", r"has no first line that names its interpreter"),
        ("'quote", None, r"can't be split: No closing quotation"),
    ],
)
async def test_a_task_that_can_t_be_started_says_why(bench: Bench, name: str, text: str | None, told: str) -> None:
    if text is not None:
        mode = 0o644 if name == "plain" else 0o755
        script(bench.place / "service" / "startup" / name, text, mode=mode, interpreter="")
    for kind in TaskType:
        task = StartupTask(command_line=f"startup/{name}", task_type=kind)
        with pytest.raises(StartupTaskError, match=told) as caught:
            await bench.tasks(bench.plan(task)).run()
        assert str(caught.value).startswith(f"the startup task {task.command_line!r} can't be started: ")
        log = bench.logs[task.command_line]
        assert log.ended == [None]
        assert str(caught.value) in log.text["stderr"].decode()


async def test_every_run_is_told_and_logged_with_its_exit_code_and_output(bench: Bench) -> None:
    simple = bench.task("one --fast", "echo out; echo err >&2")
    background = bench.task("two", "echo more; exit 5", kind=TaskType.BACKGROUND)
    async with bench.running(simple, background):
        await until(lambda: len(bench.told("task.ended")) == 2)
    started, ended = bench.told("task.started"), bench.told("task.ended")
    assert {facts["event_id"] for facts in started} == {TASK_STARTED} == {10001}
    assert {facts["event_id"] for facts in ended} == {TASK_ENDED} == {10002}
    assert [(facts["task"], facts["type"]) for facts in started] == [
        ("startup/one --fast", "simple"),
        ("startup/two", "background"),
    ]
    assert [(facts["task"], facts["exit_code"], facts["run"]) for facts in ended] == [
        ("startup/one --fast", 0, "startup-one"),
        ("startup/two", 5, "startup-two"),
    ]
    logs = bench.logs
    assert logs["startup/one --fast"].text == {"stdout": b"out\n", "stderr": b"err\n"}
    assert [logs[name].ended for name in logs] == [[0], [5]]


async def test_tasks_run_again_at_each_start_and_no_flag_says_so(bench: Bench) -> None:
    plan = bench.plan(bench.task("one", "env | sort | grep -v '^_=' > env.$$; echo run >> trace"))
    for _ in range(2):
        prepared(plan)
        await bench.tasks(plan).run()
    assert bench.trace() == ["run", "run"]
    first, second = (each.read_text() for each in bench.out.glob("env.*"))
    assert first == second


async def test_the_tasks_carry_the_instance_s_marker(bench: Bench) -> None:
    plan = bench.plan(bench.task("agent", "echo $$ > pid; exec sleep 60", kind=TaskType.BACKGROUND))
    tasks = bench.tasks(plan)
    await tasks.run()
    await until((bench.out / "pid").exists)
    await tasks.end(0)
    assert await end_strays(plan.marker_prefix) == 0
    assert not lives(bench.out / "pid")
