"""A program with no code of ours in it as a whole role (the original's ProgramEntryPoint)."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_support import Make, TinyService, is_alive, let_others_in, marked, services, until

pytestmark = pytest.mark.acceptance


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from services(tmp_path)


# What an interpreter below /root needs; elsewhere everybody's rights do.
RIGHTS = "elevated" if os.getuid() == 0 else "limited"

# Speaks the runtime protocol with the standard library alone.
CLIENT = """
import os, re, signal, socket, sys, threading, time
from pathlib import Path

def note(word):
    with open(os.environ["TRACE"], "a") as trace:
        trace.write(word + "\\n")

def connect(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    return connection

version = connect(os.environ["WaRuntimeEndpoint"]).makefile().read()
goals = connect(re.search('path="([^"]*)"', version)[1]).makefile("rb")
goal = {}

def next_goal():
    length = int(goals.readline(), 16)
    document = goals.read(length + 2).decode()
    goal.update(re.findall("<(\\\\w+)>([^<]*)</", document))
    return goal["ExpectedState"]

def say(lease):
    with connect(goal["CurrentStateEndpoint"]) as connection:
        connection.sendall(f'<CurrentState><StatusLease ClientId="me">{lease}</StatusLease></CurrentState>'.encode())
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)

def acquire(status, expiration="9999-12-31T23:59:59.9999999"):
    say(f"<Acquire><Incarnation>{goal['Incarnation']}</Incarnation><Status>{status}</Status>"
        f"<StatusDetail>{status} by the guest</StatusDetail><Expiration>{expiration}</Expiration></Acquire>")

def soon(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S.0000000", time.gmtime(time.time() + seconds))

def until(name):
    while not Path(os.environ["HOME_OF_TEST"], name).exists():
        time.sleep(0.02)

signal.signal(signal.SIGTERM, lambda *_: (note("term"), sys.exit(0)))
next_goal()
"""


def guest(make: Make, program: str, definition: str = "", context: str = RIGHTS, **times: float) -> TinyService:
    head = f"[roles.Worker]\nprogram = {json.dumps(program)}\nexecution_context = {json.dumps(context)}\n"
    service = make("", head + definition, **times)
    service.environ["HOME_OF_TEST"] = str(service.directory)
    service.trace.chmod(0o666)
    let_others_in(service.directory)
    return service


def script(service: TinyService, name: str, text: str) -> None:
    (service.directory / name).write_text(text)
    (service.directory / name).chmod(0o755)


def speaking(make: Make, code: str, definition: str = "", **times: float) -> TinyService:
    service = guest(make, "speak.py 'a word'", definition, RIGHTS, **times)
    script(service, "speak.py", f"#!{sys.executable}\n{CLIENT}\n{code}")
    return service


def test_a_program_is_ready_when_it_starts_and_its_exit_recycles_it(make: Make) -> None:
    service = guest(make, "serve.sh '$HOME * `id`' \"a b\"", "[roles.Worker.environment]\nDECLARED = 'yes'\n")
    text = """#!/bin/sh
for each in "$@"; do echo "argument:$each" >> "$TMPDIR/said"; done
echo "$RoleName $RoleInstanceID $DECLARED $(pwd)" >> "$TMPDIR/said"
echo life >> "$TRACE"
while [ ! -e "$HOME_OF_TEST/end" ]; do sleep 0.05; done
"""
    script(service, "serve.sh", text)
    service.start_instance()
    service.until_ready()
    service.until_words("life")
    service.fabric.until(status="ReadyRole", generation=1)
    said = (service.data / "resources" / "Worker_IN_0" / "RoleTemp" / "said").read_text().splitlines()
    assert said[:2] == ["argument:$HOME * `id`", "argument:a b"]
    role, instance, declared, where = said[2].split()
    assert (role, instance, declared) == ("Worker", "Worker_IN_0", "yes")
    assert (Path(where).name, (Path(where) / "serve.sh").exists()) == ("approot", True)
    (service.directory / "end").touch()
    service.until_words("life", "life", "life")
    crash = service.fabric.facts["last_crash"]
    assert (crash["reason"], crash["exit_code"]) == ("The program ended with exit code 0.", 0)
    service.fabric.until(status="CyclingRole")
    assert service.stop()[0] == 0
    assert marked(f"{service.deployment_id}/") == []


def test_a_program_that_does_not_listen_gets_term_and_is_killed_at_the_deadline(make: Make) -> None:
    service = guest(make, "serve.sh", drain_seconds=3)
    text = """#!/bin/sh
trap 'echo term >> "$TRACE"; [ -e "$HOME_OF_TEST/obey" ] && exit 0' TERM
echo life >> "$TRACE"
while true; do sleep 0.05; done
"""
    script(service, "serve.sh", text)
    (service.directory / "obey").touch()
    service.start_instance()
    service.until_words("life")
    code, seconds = service.stop()
    assert (code, seconds < 2.9) == (0, True)
    assert service.words() == ["life", "term"]
    (service.directory / "obey").unlink()
    service.start_instance()
    service.until_words("life", "life")
    code, seconds = service.stop()
    assert code == 0
    assert 2.9 < seconds < 6
    assert service.words()[2:] == ["life", "term"]
    assert marked(f"{service.deployment_id}/") == []


def test_a_program_that_term_ends_at_a_stop_has_not_crashed(make: Make) -> None:
    service = guest(make, "sleep 600")
    service.start_instance()
    service.until_ready()
    assert service.stop()[0] == 0
    assert service.fabric.until(state="Stopped")["last_crash"] is None
    assert "role.crashed" not in service.stderr


def test_a_program_that_listens_is_told_first_and_gets_term_once_it_has_stopped(make: Make) -> None:
    code = """
note("life")
if next_goal() == "Stopped":
    note("told")
    time.sleep(0.5)
    note("stopped")
    acquire("Stopped")
time.sleep(600)
"""
    service = speaking(make, code)
    service.start_instance()
    service.until_words("life")
    exit_code, seconds = service.stop()
    assert (exit_code, seconds < 4) == (0, True)
    assert service.words() == ["life", "told", "stopped", "term"]


def test_a_program_that_listens_and_never_stops_gets_term_before_it_is_killed(make: Make) -> None:
    service = speaking(make, 'note("life")\nnext_goal()\nnote("told")\ntime.sleep(600)', drain_seconds=4)
    service.start_instance()
    service.until_words("life")
    exit_code, seconds = service.stop()
    assert exit_code == 0
    assert 1.8 < seconds < 4
    assert service.words() == ["life", "told", "term"]


def test_a_busy_lease_withdraws_it_until_it_is_released_or_has_run_out(make: Make) -> None:
    code = """
acquire("Busy")
note("busy")
until("release")
say("<Release/>")
note("released")
until("again")
acquire("Busy", soon(2))
note("busy_for_a_while")
time.sleep(600)
"""
    service = speaking(make, code)
    service.start_instance()
    service.until_words("busy")
    assert service.fabric.until(status="BusyRole")["detail"] == "Busy by the guest"
    assert service.probe("/readyz")[0] == 503
    assert service.probe("/healthz")[0] == 200
    (service.directory / "release").touch()
    service.until_words("released")
    service.until_ready()
    (service.directory / "again").touch()
    service.until_words("busy_for_a_while")
    service.fabric.until(status="BusyRole")
    service.fabric.until(status="ReadyRole")
    assert service.probe("/readyz")[0] == 200
    assert service.fabric.facts["recycles"] == 0
    assert service.stop()[0] == 0


def test_a_program_that_says_by_itself_that_it_has_stopped_is_out_of_rotation_until_it_says_otherwise(
    make: Make,
) -> None:
    code = 'acquire("Stopped")\nnote("stopped")\nuntil("release")\nsay("<Release/>")\ntime.sleep(600)'
    service = speaking(make, code)
    service.start_instance()
    service.until_words("stopped")
    service.fabric.until(state="Stopping")
    assert service.probe("/readyz")[0] == 503
    (service.directory / "release").touch()
    service.until_ready()
    assert service.fabric.facts["recycles"] == 0
    assert service.stop()[0] == 0


def test_a_program_asks_for_a_recycle(make: Make) -> None:
    service = speaking(make, 'note("life")\nacquire("Recycle")\nnext_goal()\nacquire("Stopped")\ntime.sleep(600)')
    service.start_instance()
    service.until_words("life", "term", "life")
    recycled = [each["facts"]["reason"] for each in service.fabric.events if each["name"] == "instance.recycled"]
    assert recycled[0] == "recycle requested"
    assert service.stop()[0] == 0


SETTING = '[roles.Worker.settings]\nMood = "calm"\n'


def test_a_program_that_never_spoke_takes_a_change_at_once(make: Make) -> None:
    service = guest(make, "sleep 600", SETTING)
    service.start_instance()
    service.fabric.until(state="Ready", generation=1)
    pid = service.fabric.facts["pid"]
    service.change('"calm"', '"merry"')
    service.fabric.assign(service.assignment(2))
    service.fabric.until(state="Ready", generation=2, pid=pid, recycles=0)
    assert service.stop()[0] == 0


def test_a_program_that_spoke_takes_a_change_when_it_says_so_or_after_its_time(make: Make) -> None:
    code = """
acquire("Started")
note("spoke")
for incarnation in range(2):
    next_goal()
    note("told")
    if incarnation == 0:
        until("take")
        acquire("Started")
time.sleep(600)
"""
    service = speaking(make, code, SETTING, changing_seconds=3)
    service.start_instance()
    service.until_words("spoke")
    service.fabric.until(state="Ready", generation=1)
    service.change('"calm"', '"merry"')
    service.fabric.assign(service.assignment(2))
    service.until_words("told")
    assert service.fabric.facts["generation"] == 1
    (service.directory / "take").touch()
    service.fabric.until(state="Ready", generation=2)
    service.change('"merry"', '"sad"')
    service.fabric.assign(service.assignment(3))
    service.until_words("told", "told")
    assert service.fabric.facts["generation"] == 2
    service.fabric.until(state="Ready", generation=3, recycles=0)
    assert service.stop()[0] == 0


@pytest.mark.parametrize("context", ["limited", "elevated"])
def test_a_program_has_the_rights_that_are_declared(make: Make, context: str) -> None:
    service = guest(make, "who.sh", context=context)
    text = """#!/bin/sh
echo "uid:$(id -u)" >> "$TRACE"
[ -w "$WaRuntimeEndpoint" ] && echo endpoint >> "$TRACE"
touch "$TMPDIR/mine" && echo temp >> "$TRACE"
sleep 600
"""
    script(service, "who.sh", text)
    service.start_instance()
    if context == "elevated" and os.getuid() != 0:
        assert "asks for elevated rights" in service.fabric.until(status="FailedStartingRole")["detail"]
    else:
        service.until_words("endpoint", "temp")
        uid = int(service.words()[0].partition(":")[2])
        assert (uid == os.getuid()) is (context == "elevated" or os.getuid() != 0)
    assert service.stop()[0] == 0


def test_a_limited_program_can_use_the_runtime_endpoint(make: Make) -> None:
    """Its documents, too, whoever it runs as."""
    service = guest(make, "read.sh", SETTING, context="limited")
    text = """#!/bin/sh
echo "endpoint:$WaRuntimeEndpoint" >> "$TRACE"
while [ ! -e "$HOME_OF_TEST/document" ]; do sleep 0.05; done
grep -q 'value="calm"' "$(cat "$HOME_OF_TEST/document")" && echo read >> "$TRACE"
sleep 600
"""
    script(service, "read.sh", text)
    service.start_instance()
    endpoint = Path(until(service.words, "the endpoint")[0].partition(":")[2])
    (document,) = endpoint.parent.glob("*.xml")
    (service.directory / "path").write_text(str(document))
    (service.directory / "path").rename(service.directory / "document")
    service.until_words("read")
    assert service.stop()[0] == 0


def test_a_program_that_is_not_there_says_so(make: Make) -> None:
    service = guest(make, "nowhere.sh")
    service.start_instance()
    facts = service.fabric.until(status="FailedStartingRole")
    assert "nowhere.sh is not in approot, nor on the PATH" in facts["detail"]
    assert "ReadyRole" not in service.fabric.statuses()
    assert service.stop()[0] == 0


def test_a_killed_program_leaves_nothing_behind(make: Make) -> None:
    service = guest(make, "parent.sh")
    script(service, "parent.sh", '#!/bin/sh\nsetsid sleep 600 &\necho "child:$!" >> "$TRACE"\nwait\n')
    service.start_instance()
    child = int(until(service.words, "a child")[0].partition(":")[2])
    os.kill(service.fabric.until(state="Ready")["pid"], signal.SIGKILL)
    until(lambda: len(service.words()) == 2, "the next life")
    assert not is_alive(child)
    assert service.fabric.facts["last_crash"]["signal"] == signal.SIGKILL
    assert service.stop()[0] == 0
