"""Who a child runs as. Each test shows what root gets and what anyone else gets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rolehost.errors import ProgramNotFoundError, ServiceModelError
from rolehost.processes import Child, ChildIdentity, identity, unprivileged, unprivileged_identity
from rolehost.telemetry import subscribe

ROOT = os.getuid() == 0
ENV = {"PATH": os.environ["PATH"]}


async def status(who: ChildIdentity | None) -> dict[str, str]:
    child = await Child.spawn(
        ["cat", "/proc/self/status"], env=ENV, cwd=Path("/"), marker=f"test-identity/{os.getpid()}", identity=who
    )
    end = await child.wait()
    assert end.code == 0, child.stderr.text()
    return {
        name: value.strip() for name, _, value in (line.partition(":") for line in child.stdout.text().splitlines())
    }


async def test_by_default_a_child_is_what_we_are() -> None:
    seen = await status(None)
    assert seen["Uid"].split()[0] == str(os.getuid())
    assert seen["NoNewPrivs"] == "0"


async def test_no_new_privs() -> None:
    assert (await status(ChildIdentity()))["NoNewPrivs"] == "1"


async def test_another_user_has_no_groups_and_no_capabilities() -> None:
    if not ROOT:
        child = await Child.spawn(["true"], env=ENV, cwd=Path("/"), marker="test", identity=ChildIdentity(65534, 65534))
        assert (await child.wait()).code != 0
        return
    seen = await status(ChildIdentity(65534, 65534))
    assert set(seen["Uid"].split()) == set(seen["Gid"].split()) == {"65534"}
    assert seen["Groups"] == ""
    assert int(seen["CapEff"], 16) == int(seen["CapPrm"], 16) == 0


async def test_root_without_capabilities() -> None:
    if not ROOT:
        assert int((await status(ChildIdentity()))["CapEff"], 16) == 0
        return
    seen = await status(ChildIdentity(drop_capabilities=True))
    assert seen["Uid"].split()[0] == "0"
    assert {int(seen[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")} == {0}


async def test_limits_take_nothing_from_what_a_user_reaches(tmp_path: Path) -> None:
    inside = tmp_path / "ours"  # an interpreter in root's own folder is nothing else
    inside.mkdir(mode=0o700)
    program = shutil.copy("/bin/sh", f"{inside}/program")
    who = ChildIdentity(65534, 65534) if ROOT else ChildIdentity()
    told = []
    for prefix in ([], ["prlimit", "--nofile=40", "--"]):
        child = await Child.spawn(
            [program, "-c", "ulimit -n"], env=ENV, cwd=Path("/"), marker="test-reach", identity=who, prefix=prefix
        )
        assert (await child.wait()).code == 0, child.stderr.text()
        told.append(child.stdout.text())
    assert told[1] == "40\n"


async def test_a_program_that_is_not_there_is_told_beside_its_limits() -> None:
    with pytest.raises(ProgramNotFoundError, match="no-such-program"):
        await Child.spawn(
            ["/no-such-program"], env=ENV, cwd=Path("/"), marker="test-none", prefix=["prlimit", "--nofile=40", "--"]
        )


async def test_the_unprivileged_identity_is_one_that_was_seen_to_work(tmp_path: Path) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    unsubscribe = subscribe(lambda event, facts: told.append((event, facts)))
    anyone = await unprivileged_identity(["/bin/true"], Path("/"))
    told.clear()
    private = tmp_path / "private"  # a program that only its owner may run
    private.write_text("#!/bin/sh\nexit 0\n")
    private.chmod(0o700)
    ours = await unprivileged_identity([str(private)], Path("/"))
    unsubscribe()
    if ROOT:
        assert anyone == ChildIdentity(65534, 65534)
        assert ours == ChildIdentity(drop_capabilities=True)
        assert [event for event, _ in told] == ["child.runs_as_root"]
        assert "65534" in told[0][1]["reason"]
        assert "private" in told[0][1]["reason"]
    else:
        assert anyone == ours == ChildIdentity()
        assert not told


async def test_the_user_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(unprivileged.USER_VARIABLE, "12345")
    expected = ChildIdentity(12345, 12345) if ROOT else ChildIdentity()
    assert await unprivileged_identity(["/bin/true"], Path("/")) == expected


async def test_a_user_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(unprivileged.USER_VARIABLE, "no-such-user")
    if ROOT:
        with pytest.raises(ServiceModelError, match="no-such-user"):
            await unprivileged_identity(["/bin/true"], Path("/"))
    else:
        assert await unprivileged_identity(["/bin/true"], Path("/")) == ChildIdentity()


async def test_without_setpriv_an_identity_is_refused_and_never_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "setpriv", lambda: None)
    assert await status(None)  # a child that only had to die with us starts as it is
    with pytest.raises(ProgramNotFoundError, match="setpriv"):
        await status(ChildIdentity(65534, 65534))


AS_IN_A_CONTAINER = """
import asyncio, os, pathlib, sys
from rolehost.processes import Child, ChildIdentity, become_subreaper, procfs

async def spawn(script, name):
    line, who = ["sh", "-c", script], ChildIdentity(65534, 65534) if os.getuid() == 0 else ChildIdentity()
    return await Child.spawn(line, env=os.environ, cwd=pathlib.Path("/"), marker=f"{sys.argv[1]}/{name}", identity=who)

async def main():
    become_subreaper()
    neighbour = await spawn("setsid sleep 60 & sleep 60", "neighbour")
    child = await spawn("(setsid sh -c 'echo $$; sleep 60' &); sleep 0.3", "child")
    await child.wait()
    left = procfs.process(int(child.stdout.text()))
    print("gone" if left is None else "left", procfs.process(neighbour.pid) is not None)
    await neighbour.stop()

asyncio.run(main())
"""


def test_strays_of_another_user_are_found_by_a_root_that_may_not_look_at_them(tmp_path: Path) -> None:
    lesser = ["setpriv", "--bounding-set=-sys_ptrace,-perfmon,-sys_admin", "--inh-caps=-all"] if ROOT else []
    line = [*lesser, sys.executable, "-c", AS_IN_A_CONTAINER, f"test-identity/{tmp_path.name}/{os.getpid()}"]
    seen = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert seen.stdout == "gone True\n", seen.stderr
