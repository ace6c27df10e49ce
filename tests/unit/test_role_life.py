"""A role's life in its process, seen by its host: real processes, the real channel."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.role_process import HostedRole

TRACED = """
class Worker(RoleEntryPoint):
    def on_start(self):
        note("on_start")
        def stopping(e):
            note("stopping")
        self.role_environment.stopping += stopping
        until_there("go")
        note("started")
        return True

    def run(self):
        note("run")
        super().run()
        note("run returned")

    def on_stop(self):
        note("on_stop")
"""


async def test_an_empty_role_starts_goes_on_and_stops(tmp_path: Path) -> None:
    async with HostedRole(tmp_path, "class Worker(RoleEntryPoint): pass") as role:
        await role.until_status("Started")
        assert role.process is not None
        assert role.process.returncode is None
        assert await role.stop() == 0
        assert role.seen[-1] == "Stopped"


async def test_the_role_is_busy_until_on_start_returns_and_only_then_runs(tmp_path: Path) -> None:
    async with HostedRole(tmp_path, TRACED) as role:
        await role.until_words("on_start")
        assert role.leases.status == "Busy"
        assert "Started" not in role.seen
        role.touch("go")
        await role.until_status("Started")
        await role.until_words("on_start", "started", "run")
        assert await role.stop() == 0
        # By default `run` never returns.
        assert role.words() == ["on_start", "started", "run", "stopping", "on_stop"]


async def test_a_refused_start_ends_the_process_at_once(tmp_path: Path) -> None:
    refused = TRACED.replace('note("started")\n        return True', 'note("refused")\n        return False')
    async with HostedRole(tmp_path, refused) as role:
        role.touch("go")
        assert await role.end() == 3
        assert role.words() == ["on_start", "refused"]
        assert not {"Started", "Stopped", "Recycle"} & set(role.seen)


async def test_a_run_that_returns_asks_for_a_recycle_and_stops_in_order(tmp_path: Path) -> None:
    async with HostedRole(tmp_path, TRACED.replace("super().run()", "pass")) as role:
        role.touch("go")
        await role.until_status("Recycle")
        assert "its run returned" in role.leases.detail
        assert role.words() == ["on_start", "started", "run", "run returned"]  # it waits for the host to stop it
        assert await role.stop() == 0
        assert role.words()[-2:] == ["stopping", "on_stop"]
        assert role.seen[-1] == "Stopped"


@pytest.mark.parametrize("hook", ["on_start", "run", "on_stop"])
async def test_an_exception_reaches_the_hook_and_ends_the_process_without_a_stop(tmp_path: Path, hook: str) -> None:
    code = f"""
        def report(kind, error, traceback):
            note("unhandled", kind.__name__, error)
            sys.__excepthook__(kind, error, traceback)
        sys.excepthook = report

        class Worker(RoleEntryPoint):
            def on_start(self):
                def stopping(e):
                    note("stopping")
                self.role_environment.stopping += stopping
                return self.step("on_start")
            def run(self):
                self.step("run")
                super().run()
            def on_stop(self):
                self.step("on_stop")
            def step(self, name):
                note(name)
                if name == {hook!r}:
                    raise ArithmeticError("broken in " + name)
                return True
    """
    async with HostedRole(tmp_path, code) as role:
        if hook == "on_stop":
            await role.until_words("run")
            role.channel.expect_stopped(10)
        assert await role.end() != 0
        lives = {
            "on_start": ["on_start"],
            "run": ["on_start", "run"],
            "on_stop": ["on_start", "run", "stopping", "on_stop"],
        }
        assert role.words() == [*lives[hook], f"unhandled ArithmeticError broken in {hook}"]
        assert "Stopped" not in role.seen
        assert f"ArithmeticError: broken in {hook}" in role.stderr


async def test_stopping_then_on_stop_then_the_end_while_run_goes_on(tmp_path: Path) -> None:
    code = """
        class Worker(RoleEntryPoint):
            def on_start(self):
                def stopping(e):
                    note("stopping")
                self.role_environment.stopping += stopping
                return True
            def run(self):
                note("run")
                while True:
                    if Path("tick").exists():
                        note("tick")
                    time.sleep(0.01)
            def on_stop(self):
                note("on_stop")
                Path("tick").touch()
                until_there("go")
                note("on_stop done")
    """
    async with HostedRole(tmp_path, code) as role:
        await role.until_words("run")
        role.channel.expect_stopped(10)
        await role.until_words("stopping", "on_stop", "tick", "tick")
        assert "Stopped" not in role.seen
        role.touch("go")
        assert await role.end() == 0
        words = [word for word in role.words() if word != "tick"]
        assert words == ["run", "stopping", "on_stop", "on_stop done"]
        assert role.seen[-1] == "Stopped"


async def test_a_run_that_is_a_coroutine_goes_on_until_on_stop_has_returned(tmp_path: Path) -> None:
    code = """
        class Worker(RoleEntryPoint):
            async def run(self):
                note("run")
                try:
                    while True:
                        if Path("tick").exists():
                            note("tick")
                        await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    note("cancelled")
                    raise
            def on_stop(self):
                note("on_stop")
                Path("tick").touch()
                until_there("go")
                note("on_stop done")
    """
    async with HostedRole(tmp_path, code) as role:
        await role.until_words("run")
        role.channel.expect_stopped(10)
        await role.until_words("on_stop", "tick", "tick")
        role.touch("go")
        assert await role.end() == 0
        words = [word for word in role.words() if word != "tick"]
        assert words[:3] == ["run", "on_stop", "on_stop done"]


async def test_a_stop_without_a_limit_has_none(tmp_path: Path) -> None:
    code = """
        class Worker(ServedRole):
            async def serve(self, stopping):
                note("serve")
                await stopping.wait()
                note("deadline", self.stop_deadline)
    """
    async with HostedRole(tmp_path, code) as role:
        await role.until_words("serve")
        assert await role.stop(None) == 0
        assert role.words() == ["serve", "deadline None"]


async def test_of_several_classes_the_first_one_of_the_module_is_the_role(tmp_path: Path) -> None:
    code = """
        class First(RoleEntryPoint):
            def run(self):
                note("first")
                super().run()
        class Second(First):
            def run(self):
                note("second")
                super().run()
    """
    async with HostedRole(tmp_path, code, "roles") as role:
        await role.until_words("first")
        assert await role.stop() == 0
        assert role.words() == ["first"]


async def test_a_recycle_that_is_asked_for_is_heard_before_the_call_returns(tmp_path: Path) -> None:
    code = TRACED.replace(
        "super().run()",
        'until_there("ask"); self.role_environment.request_recycle(); note("asked"); super().run()',
    )
    async with HostedRole(tmp_path, code) as role:
        role.touch("go")
        await role.until_status("Started")
        role.touch("ask")
        await role.until_words("asked")
        assert role.leases.status == "Recycle"
        assert await role.stop() == 0
        assert role.words()[-3:] == ["asked", "stopping", "on_stop"]


async def test_a_recycle_without_a_host_that_listens_is_an_error(tmp_path: Path) -> None:
    code = """
        class Worker(RoleEntryPoint):
            def run(self):
                states = self.role_environment
                until_there("ask")
                try:
                    states.request_recycle()
                except RoleEnvironmentError as error:
                    note("refused:", error)
                super().run()
    """.replace("class Worker", "from rolehost.errors import RoleEnvironmentError\n        class Worker", 1)
    async with HostedRole(tmp_path, code) as role:
        await role.until_status("Started")
        (Path(role.channel.endpoint).parent / "s").unlink()
        role.touch("ask")
        await role.until_words("refused: the instance can't be recycled: the host doesn't answer")


async def test_a_status_that_is_set_ends_at_its_time_or_when_it_is_cleared(tmp_path: Path) -> None:
    code = """
        class Worker(RoleEntryPoint):
            def run(self):
                environment = self.role_environment
                until_there("for a while")
                environment.set_status(RoleInstanceStatus.BUSY, timedelta(seconds=0.3))
                until_there("for ever")
                environment.set_status(RoleInstanceStatus.BUSY, datetime.max.replace(tzinfo=UTC))
                until_there("clear")
                environment.clear_status()
                super().run()
    """
    async with HostedRole(tmp_path, code) as role:
        await role.until_status("Started")
        role.touch("for a while")
        await role.until(lambda: role.seen[-3:] == ["Started", "Busy", "Started"], "busy, and ready again")
        role.touch("for ever")
        await role.until_status("Busy")
        role.touch("clear")
        await role.until_status("Started")
        assert await role.stop() == 0


async def test_every_state_of_a_role_is_said_in_the_words_of_the_protocol(tmp_path: Path) -> None:
    async with HostedRole(tmp_path, TRACED.replace("super().run()", "pass")) as role:
        role.touch("go")
        await role.until_status("Recycle")
        await role.stop()
        said = [state.status for state in role.states]
        assert [word for word, before in zip(said, [None, *said], strict=False) if word != before] == [
            "Busy",
            "Started",
            "Recycle",
            "Stopped",
        ]


async def test_a_recycle_that_was_asked_for_stands_whatever_the_role_does_then(tmp_path: Path) -> None:
    code = TRACED.replace('note("on_start")', 'note("on_start"); self.role_environment.request_recycle()')
    async with HostedRole(tmp_path, code) as role:
        role.touch("go")
        await role.until_words("run")
        await role.until_status("Recycle")
        assert "Started" not in role.seen
        assert await role.stop() == 0
        assert role.words()[-2:] == ["stopping", "on_stop"]


async def test_what_the_runtime_traces_is_seen_where_it_is_asked_for(tmp_path: Path) -> None:
    code = """
        class Worker(RoleEntryPoint):
            def run(self):
                environment = self.role_environment
                environment.get_setting("Heard")
                environment.trace_source.setLevel(logging.CRITICAL)
                environment.get_setting("Silenced")
                note("done")
                super().run()
    """
    async with HostedRole(tmp_path, code, environ={"ROLEHOST_VERBOSE": "1"}) as role:
        await role.until_words("done")
        assert 'Getting \\"Heard\\" from ServiceRuntime: FAIL.' in role.stderr
        assert "Silenced" not in role.stderr
