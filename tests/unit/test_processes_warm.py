"""A script can't tell a warm start from a cold one."""

# ruff: noqa: ASYNC240 - small files of the test's own

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import textwrap
import zipapp
from dataclasses import dataclass
from pathlib import Path

import pytest

from rolehost.processes import Child, ChildIdentity, Exit, WarmStarts
from support.warm import ENV, spoken, warm_starts

HELPER = 'import json\nimport tempfile\ntempfile.gettempdir()\nSTATE = ["untouched"]\n'

FACTS = """\
import atexit, ctypes, gc, inspect, json, locale, os, pickle, random, resource, signal, site, subprocess, sys, tempfile
import threading, warnings
import helper

class Thing: pass

def limits():
    return {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")}

def prctl(option):
    value = ctypes.c_int()
    ctypes.CDLL(None).prctl(option, ctypes.byref(value), 0, 0, 0)
    return value.value

main = sys.modules["__main__"]
status = [line.split() for line in open("/proc/self/status")]
wanted = {"Name:", "Umask:", "Uid:", "Gid:", "Groups:", "NoNewPrivs:", "CapEff:", "CapBnd:", "CapInh:", "Threads:",
          "SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:", "Seccomp:"}
facts = {
    "argv": sys.argv, "orig_argv": sys.orig_argv, "executable": sys.executable, "path": sys.path,
    "flags": str(sys.flags),
    "environ": list(os.environ.items()),
    "given": ascii(subprocess.run(["/usr/bin/env"], capture_output=True).stdout),
    "proc": [ascii(entry) for entry in open("/proc/self/environ", "rb").read().split(b"\\0") if entry],
    "cwd": os.getcwd(), "fds": sorted(os.listdir("/proc/self/fd")),
    "stdin": [os.readlink("/proc/self/fd/0"), sys.stdin.read()],
    "alone": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
    "status": [line for line in status if line[0] in wanted],
    "signals": {str(each): str(signal.getsignal(each)) for each in sorted(signal.valid_signals() - {0})},
    "main": sorted((name, str(value)) for name, value in vars(main).items() if name.startswith("__")),
    "builtins": __builtins__ is sys.modules["builtins"], "is_main": vars(main) is globals(),
    "source": inspect.getsource(limits), "pickle": type(pickle.loads(pickle.dumps(Thing()))) is Thing,
    "streams": [str((s.encoding, s.errors, s.line_buffering, s.write_through, s.fileno(), s.isatty(), s.name)) for s in
                (sys.stdin, sys.stdout, sys.stderr)],
    "gc": [gc.isenabled(), gc.get_threshold(), gc.get_debug()], "limits": limits(),
    "hooks": [sys.excepthook is sys.__excepthook__, sys.gettrace(), str(warnings.filters)],
    "dies": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), "pdeathsig": prctl(2), "subreaper": prctl(37),
    "user site": [site.USER_BASE, site.USER_SITE], "home": os.path.expanduser("~"), "temporary": tempfile.gettempdir(),
    "locale": locale.setlocale(locale.LC_ALL), "threads": [threading.active_count(), threading.main_thread().name],
    "score": open("/proc/self/oom_score_adj").read(), "nice": os.nice(0), "cpus": sorted(os.sched_getaffinity(0)),
    "helper": [helper.__file__, helper.STATE, helper.__name__], "recursion": sys.getrecursionlimit(),
}
print(json.dumps(facts, indent=1, default=str))
"""

SCRIPTS = {
    "facts": FACTS,
    "raises": "def f():\n    raise ValueError('no')\ntry:\n    f()\nexcept ValueError as e:\n    raise KeyError from e",
    "raises after output": "print('not flushed')\nraise OSError(5, 'five')",
    "group": "raise ExceptionGroup('two', [ValueError(1), TypeError(2)])",
    "wrong": "print('a'\nfor",
    "latin-1": "# coding: utf-8\nprint('ä', ascii('ä'))",
    "exit none": "import sys; print('x', end=''); sys.exit()",
    "exit 3": "raise SystemExit(3)",
    "exit 300": "raise SystemExit(300)",
    "exit negative": "raise SystemExit(-1)",
    "exit text": "import sys; sys.exit('it is over')",
    "exit true": "raise SystemExit(True)",
    "exit in a function": "def f(): exit(4)\nf()",
    "at once": "import os; print('lost'); os._exit(7)",
    "at exit": "import atexit; atexit.register(print, 'bye'); print('hello'); raise SystemExit(5)",
    "at exit fails": "import atexit\ndef f(): 1/0\natexit.register(f)",
    "own hook": "import sys\nsys.excepthook = lambda t, v, b: print(t, v, b.tb_lineno, b.tb_next)\nraise OSError('x')",
    "hook fails": "import sys\ndef hook(t, v, b): raise KeyError('hook')\nsys.excepthook = hook\nraise OSError('x')",
    "hook exits": "import sys\ndef hook(t, v, b): sys.exit(9)\nsys.excepthook = hook\nraise OSError('x')",
    "interrupted": "print('here'); raise KeyboardInterrupt('no')",
    "really interrupted": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "segmentation fault": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "term": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "broken pipe": "import os; r, w = os.pipe(); os.close(r); os.write(w, b'x')",
    "no stdout": "import os; os.close(1); print('x')",
    "full": "import sys\nsys.stdout = open('/dev/full', 'w'); print('x')",
    "a thread outlives main": (
        "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print('t'))).start(); print('main')"
    ),
    "a thread raises": "import threading\nt = threading.Thread(target=lambda: 1/0, name='t'); t.start(); t.join()",
    "destructor": "class D:\n    def __del__(self): print('deleted', __name__)\nd = D()",
    "huge": "import sys; sys.stdout.write('x' * 5_000_000); sys.stderr.write('y' * 3_000_000)",
    "bytes": "import sys; sys.stdout.buffer.write(bytes(range(256)))",
    "warns": "import warnings; warnings.warn('old', DeprecationWarning); warnings.warn('bad')",
    "forks": "import os\nif os.fork() == 0: print('child', __name__)\nelse: os.wait(); print('parent')",
    "spawns": (
        "import multiprocessing, os\ndef f(q): print('in', __name__, flush=True)\n"
        "if __name__ == '__main__':\n    c = multiprocessing.get_context('spawn'); p = c.Process(target=f, args=(1,));"
        " p.start(); p.join(); print(p.exitcode)"
    ),
    "asyncio": "import asyncio\nasync def f(): print(await asyncio.to_thread(lambda: 3))\nasyncio.run(f())",
    "not Unicode": "import os, sys; print(ascii(sys.argv), ascii(os.environ['ODD']), ascii(os.environb[b'ODD']))",
    "names": "print(sorted(name for name in globals()))",
    "runs itself": "import runpy\nif __name__ == '__main__': print(sorted(runpy.run_path(__file__, run_name='again')))",
}


_CAPABILITIES = Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0]
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}")


@dataclass(frozen=True)
class Ended:
    exit: Exit
    stdout: str
    stderr: str


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "real").mkdir()
    (tmp_path / "app").symlink_to("real")
    (tmp_path / "work").mkdir()
    (tmp_path / "app" / "helper.py").write_text(HELPER)
    return tmp_path


def written(place: Path, code: str) -> str:
    script = place / "app" / "script"
    script.write_text(f"#!/usr/bin/env python3\n{code}\n")
    return str(script)


def job_env(place: Path) -> dict[str, str]:
    of_the_job = {name: str(place / "work") for name in ("HOME", "TMPDIR", "TEMP", "TMP")}
    return {**ENV, **of_the_job, "TRACEPARENT": "00-1", "ODD": os.fsdecode(b"\xff\xc3\xa4"), "EMPTY": ""}


async def cold_and_warm(
    place: Path, script: str, *arguments: str, identity: ChildIdentity | None = None
) -> tuple[Ended, Ended]:
    """The same run both ways, and proof that the second was warm."""
    env = job_env(place)
    argv = [sys.executable, script, "plain", "with space", "", os.fsdecode(b"\xff"), *arguments]
    async with warm_starts(script, "helper", "tempfile", "random", env=env, identity=identity) as warm:
        ends = []
        for start in (Child.spawn, warm.spawn):
            child = await start(argv, env=env, cwd=place / "work", marker="test-warm/a", identity=identity)
            assert (child.pid in served(warm)) == (start == warm.spawn)
            async with asyncio.timeout(30):
                ends.append(
                    Ended(
                        await child.wait(), *(_ADDRESS.sub("0x", each.text()) for each in (child.stdout, child.stderr))
                    )
                )
    return ends[0], ends[1]


def served(warm: WarmStarts) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{warm.server_pid}/task/{warm.server_pid}/children").read_text().split()]


@pytest.mark.parametrize("name", SCRIPTS)
async def test_what_can_be_seen_is_the_same(place: Path, name: str) -> None:
    cold, warm = await cold_and_warm(place, written(place, SCRIPTS[name]))
    if name == "facts" and cold != warm:  # pytest shows a difference of two dicts better
        assert cold.stderr == warm.stderr
        assert json.loads(cold.stdout) == json.loads(warm.stdout)
    assert cold == warm
    if name == "facts":
        assert json.loads(warm.stdout)["home"] == str(place / "work")


@pytest.mark.skipif(int(_CAPABILITIES, 16) == 0, reason="it takes capabilities to give a child another identity")
async def test_the_identity_is_the_same(place: Path) -> None:
    identity = ChildIdentity(gid=65534, drop_capabilities=True)
    cold, warm = await cold_and_warm(place, written(place, FACTS), identity=identity)
    assert cold == warm
    status = {name: values for name, *values in json.loads(warm.stdout)["status"]}
    assert status["NoNewPrivs:"] == ["1"]
    assert status["CapEff:"] == ["0" * 16]
    assert status["Gid:"] == ["65534"] * 4


async def test_a_script_of_another_line_ending_and_encoding_is_read_as_ever(place: Path) -> None:
    script = Path(written(place, ""))
    script.write_bytes(b"#!/usr/bin/python3\r\nprint('''a\r\nb''')\r\n")
    latin = place / "app" / "latin.py"
    latin.write_bytes(b"# -*- coding: latin-1 -*-\nprint(ascii('\xe4'))\n")
    for each in (script, latin):
        cold, warm = await cold_and_warm(place, str(each))
        assert cold == warm
        assert cold.exit == Exit(0)


async def test_a_job_sees_nothing_of_an_earlier_one(place: Path) -> None:
    code = """\
    import gc, os, random, sys, tempfile, helper
    print(helper.STATE, os.environ.get("LEFT"), os.getcwd(), tempfile.gettempdir(), gc.isenabled(), len(sys.argv))
    print(random.random(), sys.getrecursionlimit(), os.umask(0o077))
    helper.STATE.append("touched"); os.environ["LEFT"] = "over"; os.chdir("/"); gc.disable(); sys.argv.append("x")
    sys.setrecursionlimit(500); sys.modules["json"] = None; sys.path.clear()
    """
    script, env = written(place, textwrap.dedent(code)), job_env(place)
    said = []
    async with warm_starts(script, "helper", "random", env=env) as warm:
        for number in range(2):
            work = place / str(number)
            work.mkdir()
            own = {**env, "HOME": str(work), "TMPDIR": str(work)}
            said.append((await spoken(warm, script, env=own, cwd=work)).replace(str(work), "WORK").splitlines())
    assert said[0][0] == said[1][0] == "['untouched'] None WORK WORK True 1"
    assert said[0][1].split()[0] != said[1][1].split()[0], "the same random numbers twice"
    assert said[0][1].split()[1:] == said[1][1].split()[1:]


async def test_two_jobs_at_once_have_their_own_streams_and_no_descriptor_of_the_other(place: Path) -> None:
    code = "import os, sys, time\nprint(os.listdir('/proc/self/fd'), sys.argv[1], flush=True)\ntime.sleep(60)"
    script, env = written(place, code), job_env(place)
    async with warm_starts(script, env=env) as warm:
        children = [
            await warm.spawn([sys.executable, script, name], env=env, cwd=place, marker=f"test-warm/{name}")
            for name in "ab"
        ]
        for child, name in zip(children, "ab", strict=True):
            async with asyncio.timeout(20):
                while "\n" not in child.stdout.text():  # noqa: ASYNC110 - an Output has no event
                    await asyncio.sleep(0.005)
            assert child.stdout.text() == f"['0', '1', '2', '3'] {name}\n"
        first = asyncio.create_task(children[0].stop())
        assert await first == Exit(None, signal.SIGTERM)
        Path(f"/proc/{children[1].pid}").stat()
        await children[1].stop(0)


async def test_a_changed_script_and_a_changed_module_are_read_again(place: Path) -> None:
    script, env = written(place, "import helper; print(helper.STATE)"), job_env(place)
    async with warm_starts(script, "helper", env=env) as warm:
        assert await spoken(warm, script, env=env) == "['untouched']\n"
        written(place, "import helper; print('new', helper.STATE)")
        assert await spoken(warm, script, env=env) == "new ['untouched']\n"
        old = warm.server_pid
        (place / "app" / "helper.py").write_text("STATE = 'new, too'\n")
        assert await spoken(warm, script, env=env) == "new new, too\n"
        assert await warm.ready()
        assert warm.server_pid != old
        assert await spoken(warm, script, env=env, must_be_warm=True) == "new new, too\n"


@pytest.mark.parametrize(
    "what", ["another script", "another interpreter", "another variable", "options", "a long line"]
)
async def test_what_does_not_fit_starts_cold(place: Path, what: str) -> None:
    script, env = written(place, "import os; print(os.getppid())"), job_env(place)
    argv = [sys.executable, script]
    async with warm_starts(script, env=env) as warm:
        assert await spoken(warm, script, env=env) == f"{warm.server_pid}\n"
        match what:
            case "another script":
                argv[1] += ".py"
                Path(argv[1]).write_bytes(Path(script).read_bytes())
            case "another interpreter":
                argv[0] = str(place / "python")
                Path(argv[0]).symlink_to(sys.executable)
            case "another variable":
                env["PYTHONWARNINGS"] = "error"
            case "options":
                argv.insert(1, "-u")
            case "a long line":
                argv += ["x" * 100_000] * 5
        child = await warm.spawn(argv, env=env, cwd=place, marker="test-warm/cold")
        assert await child.wait() == Exit(0)
        assert child.stdout.text() == f"{os.getpid()}\n"
        assert await spoken(warm, script, env=job_env(place), must_be_warm=True)


async def test_a_script_that_is_gone_or_an_archive_is_the_interpreters_to_run(place: Path) -> None:
    script, env = Path(written(place, "print('here')")), job_env(place)
    async with warm_starts(str(script), env=env) as warm:
        (place / "__main__.py").write_text("print('from the archive')")
        zipapp.create_archive(place, script, "/usr/bin/python3", filter=lambda path: path.name == "__main__.py")
        assert await spoken(warm, str(script), env=env) == "from the archive\n"
        script.unlink()
        child = await warm.spawn([sys.executable, str(script)], env=env, cwd=place, marker="test-warm/x")
        assert (await child.wait()).code == 2
        assert "can't open file" in child.stderr.text()
