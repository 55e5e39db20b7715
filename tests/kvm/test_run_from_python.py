"""``pyrovm.run``: programs in VMs as ``subprocess.run`` has them as processes."""

import asyncio
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pyrovm
from pyrovm.errors import ConfigError, HostError
from pyrovm.programs.helper import HELPERS
from tests.fakes import program_guest

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(program_guest.why_not() is not None, reason=str(program_guest.why_not())),
]

BUSYBOX = shutil.which("busybox")
PATIENCE = 60  # seconds; the machine may be busy
MIB = 1 << 20


def busybox(*words, **options):
    return pyrovm.run([BUSYBOX, *words], **{"timeout": PATIENCE, **options})


def children_of(pid):
    """The processes below a process, with their parents."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found += [int(folder.name), *children_of(int(folder.name))]
    return found


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ------------------------------------------------------------------------- as subprocess.run does


@pytest.mark.parametrize("options", [{}, {"text": True}])
def test_results_are_those_of_subprocess(options):
    words = [BUSYBOX, "tr", "a-z", "A-Z"]
    data = "first\nsecond\n" if options else b"first\r\n\xff"
    here = subprocess.run(words, input=data, capture_output=True, check=False, **options)
    there = pyrovm.run(words, input=data, capture_output=True, **options)
    for name in ("args", "returncode", "stdout", "stderr"):
        assert getattr(there, name) == getattr(here, name)
    assert there.run_ms > 0


def test_output_and_errors_are_apart_or_together():
    words = ["sh", "-c", "echo out; nosuchfile < nosuchfile; exit 3"]
    done = busybox(*words, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("out\n", 3)
    assert "nosuchfile" in done.stderr
    done = busybox(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.stdout.startswith("out\n")
    assert "nosuchfile" in done.stdout
    assert done.stderr is None


def test_streams_can_be_files(tmp_path):
    (tmp_path / "in").write_text("from a file")
    with open(tmp_path / "in") as source, open(tmp_path / "out", "wb") as target:
        busybox("cat", stdin=source, stdout=target, check=True)
    assert (tmp_path / "out").read_text() == "from a file"
    assert busybox("cat", stdin=subprocess.DEVNULL, capture_output=True).stdout == b""


def test_a_failure_is_raised_where_that_is_asked_for():
    with pytest.raises(subprocess.CalledProcessError) as caught:
        busybox("sh", "-c", "echo before; exit 7", capture_output=True, check=True)
    assert (caught.value.returncode, caught.value.stdout) == (7, b"before\n")


def test_a_signal_that_ends_the_program_is_negative():
    assert busybox("sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM


def test_a_timeout_ends_the_program_and_keeps_what_it_said():
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        busybox("sh", "-c", "echo before; while :; do :; done", capture_output=True, timeout=2)
    assert caught.value.stdout == b"before\n"
    assert busybox("true").returncode == 0


def test_environment_and_folder_are_those_that_are_given(monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    done = busybox("env", env={"A": "b=c", "PATH": "/bin"}, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert {"A=b=c", "PATH=/bin"} <= set(lines)
    assert "SECRET" not in done.stdout
    assert busybox("pwd", cwd="/tmp", capture_output=True).stdout == b"/tmp\n"


def test_folders_of_the_host_are_seen_where_that_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "given").mkdir()
    monkeypatch.chdir(tmp_path)
    busybox("sh", "-c", "echo hi >/data/there", volumes=["given:/data"], check=True)
    assert (tmp_path / "given" / "there").read_text() == "hi\n"


def test_the_network_is_closed_unless_it_is_allowed():
    done = busybox("wget", "-O-", "http://127.0.0.9:9/", capture_output=True, text=True)
    assert done.returncode != 0
    with pytest.raises(ConfigError, match="nonsense!"):
        busybox("true", allow=["nonsense!"])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"memory": "1K"}, ConfigError, "1K"),
        ({"memory": 2}, ConfigError, "8 MiB"),
        ({"cpus": 9}, ConfigError, "cpus: 9"),
        ({"cwd": "here"}, ConfigError, "cwd: 'here'"),
        ({"env": {"A=B": "c"}}, ConfigError, "A=B"),
        ({"env": {"A": "\0"}}, ConfigError, "NUL"),
        ({"allow": "example.org"}, TypeError, "allow"),
        ({"volumes": ["/nosuchfolder:/x"]}, HostError, "/nosuchfolder"),
        ({"input": b"", "stdin": subprocess.DEVNULL}, ValueError, "stdin"),
        ({"input": "text"}, TypeError, "text=True"),
        ({"stdout": subprocess.PIPE, "capture_output": True}, ValueError, "capture_output"),
        ({"nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_options_that_do_not_fit_are_named(options, error, words):
    with pytest.raises(error, match=words):
        busybox("true", **options)


def test_a_program_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match="/no/such/program"):
        pyrovm.run(["/no/such/program"])
    with pytest.raises(ConfigError):
        pyrovm.run([])


# -------------------------------------------------------------------------------- many, and much


def test_twenty_threads_at_once():
    def one(number):
        done = busybox(
            "sh",
            "-c",
            f"read line; echo $line {number}; exit {number}",
            input=b"x\n",
            capture_output=True,
        )
        return done.stdout == f"x {number}\n".encode() and done.returncode == number

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(one, range(40)))


def test_a_hundred_megabytes_in_and_out():
    data = bytes(range(256)) * (100 * MIB // 256)
    done = busybox("cat", input=data, stdout=subprocess.PIPE)
    assert len(done.stdout) == len(data)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_one_vm_feeds_another_through_a_pipe():
    reader, writer = os.pipe()

    def feed():
        with open(writer, "wb") as target:
            words = ("dd", "if=/dev/zero", "bs=64k", "count=1600")
            busybox(*words, stdout=target, stderr=subprocess.DEVNULL)

    with ThreadPoolExecutor(1) as pool, open(reader, "rb") as source:
        fed = pool.submit(feed)
        done = busybox("wc", "-c", stdin=source, stdout=subprocess.PIPE)
        fed.result(PATIENCE)
    assert int(done.stdout) == 1600 * 65536


def test_a_program_that_leaves_its_input_unread_ends_well():
    assert busybox("true", input=b"x" * MIB).returncode == 0


# ------------------------------------------------------------------------------- nothing is left


SLEEPER = """
import signal, sys, threading, time, pyrovm
signal.signal(signal.SIGIO, signal.SIG_IGN)
for _ in range(3):
    threading.Thread(target=pyrovm.run, args=([{busybox!r}, "sleep", "1000"],), daemon=True).start()
{then}
"""


def start_sleepers(then):
    """A program with a helper, three VMs that do nothing, one in waiting; what is below it."""
    program = SLEEPER.format(busybox=BUSYBOX, then=then)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", program], **pipes)
    wait_until(lambda: len(children_of(process.pid)) == 5)
    return process, children_of(process.pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_vm_outlives_its_program(number):
    process, below = start_sleepers("time.sleep(1000)")
    with process:
        process.send_signal(number)
    wait_until(lambda: not any(map(is_alive, below)))


def test_a_fork_of_the_program_keeps_no_vm_alive():
    process, below = start_sleepers(
        """
import os
input()
print(os.fork(), flush=True)
time.sleep(1000)
"""
    )
    with process:
        process.stdin.write("\n")
        process.stdin.flush()
        fork = max(int(process.stdout.readline()) for _ in range(2))
        process.kill()
    wait_until(lambda: not any(map(is_alive, below)))
    assert is_alive(fork)
    os.kill(fork, signal.SIGKILL)


def test_an_interrupted_call_ends_its_vm():
    helper = helper_pid()
    killer = threading.Timer(2, os.kill, [os.getpid(), signal.SIGINT])
    killer.start()
    with pytest.raises(KeyboardInterrupt):
        busybox("sleep", "1000")
    wait_until(lambda: len(children_of(helper)) == 1)


def helper_pid():
    """Of the helper, which has no VM now but the one that waits for a program."""
    busybox("true")
    wait_until(lambda: len(children_of(HELPERS.pid)) == 1)
    return HELPERS.pid


def test_a_killed_vm_is_an_error_and_the_next_one_runs():
    helper = helper_pid()
    with ThreadPoolExecutor(1) as pool:
        (vm,) = children_of(helper)
        future = pool.submit(busybox, "sleep", "1000")
        wait_until(lambda: len(children_of(helper)) == 2)
        os.kill(vm, signal.SIGKILL)
        with pytest.raises(HostError, match="without a report"):
            future.result(PATIENCE)
    assert busybox("true").returncode == 0
    assert helper_pid() == helper


def test_a_vm_that_is_killed_before_its_program_comes_is_replaced():
    helper = helper_pid()
    for _ in range(3):
        (vm,) = children_of(helper)
        os.kill(vm, signal.SIGKILL)
        wait_until(lambda vm=vm: not is_alive(vm))
        assert busybox("echo", "here", stdout=subprocess.PIPE).stdout == b"here\n"
        assert helper_pid() == helper


def test_other_sizes_than_the_one_that_is_ready_are_made():
    words = ("grep", "MemTotal", "/proc/meminfo")
    sizes = [
        int(busybox(*words, memory=memory, stdout=subprocess.PIPE).stdout.split()[1])
        for memory in ("64M", "512M", "1G")
    ]
    assert [round(size, -5) for size in sizes] == [100_000, 500_000, 1_000_000]


def test_a_killed_helper_is_replaced_and_vms_that_run_go_on():
    helper = helper_pid()
    (vm,) = children_of(helper)
    with ThreadPoolExecutor(1) as pool:
        reader, writer = os.pipe()
        future = pool.submit(busybox, "cat", stdin=reader, stdout=subprocess.PIPE)
        wait_until(lambda: len(children_of(helper)) == 2)
        (waiting,) = set(children_of(helper)) - {vm}
        os.kill(helper, signal.SIGKILL)
        wait_until(lambda: not is_alive(helper) and not is_alive(waiting))
        assert busybox("echo", "again", stdout=subprocess.PIPE).stdout == b"again\n"
        os.write(writer, b"still here")
        os.close(writer)
        assert future.result(PATIENCE).stdout == b"still here"
        os.close(reader)
    assert helper_pid() != helper


def test_a_forked_process_has_a_helper_of_its_own():
    ours = helper_pid()
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            done = busybox("echo", "from the fork", stdout=subprocess.PIPE)
            os.write(writer, done.stdout + str(HELPERS.pid).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        line, theirs = answer.read().splitlines()
    os.waitpid(pid, 0)
    assert line == "from the fork"
    assert int(theirs) != ours
    wait_until(lambda: not is_alive(int(theirs)))
    assert helper_pid() == ours


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: there is nothing to give up")
def test_who_gives_up_rights_has_a_helper_without_them():
    program = f"""
import os, pyrovm
from pyrovm.programs.helper import HELPERS

def whose():
    pyrovm.run([{BUSYBOX!r}, "true"], check=True)
    return HELPERS.pid, os.stat(f"/proc/{{HELPERS.pid}}").st_gid

print(*whose())
os.setresgid(65534, 65534, 65534)
print(*whose())
"""
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, stdout=subprocess.PIPE, timeout=PATIENCE, check=True)
    (first, root), (second, nobody) = (line.split() for line in done.stdout.splitlines())
    assert first != second
    assert (root, nobody) == (b"0", b"65534")


def test_no_descriptors_are_left():
    busybox("true")
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(5):
        busybox("cat", input=b"x", capture_output=True)
        with pytest.raises(subprocess.TimeoutExpired):
            busybox("sleep", "9", capture_output=True, timeout=0.05)
        with pytest.raises(HostError):
            busybox("true", volumes=["/nosuchfolder:/x"], capture_output=True)
    assert sorted(os.listdir("/proc/self/fd")) == before


# ---------------------------------------------------------------------------------------- asyncio


def test_several_at_once_with_asyncio():
    async def both():
        return await asyncio.gather(
            *(pyrovm.arun([BUSYBOX, "echo", word], capture_output=True) for word in ("a", "b"))
        )

    assert [done.stdout for done in asyncio.run(both())] == [b"a\n", b"b\n"]


def test_a_cancelled_call_ends_its_vm():
    helper = helper_pid()

    async def cancelled():
        await asyncio.wait_for(pyrovm.arun([BUSYBOX, "sleep", "1000"]), 1)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(cancelled())
    wait_until(lambda: len(children_of(helper)) == 1)


# --------------------------------------------------------------------------------------- examples

EXAMPLES = {
    "programs": """\
Python says: 42
Sorted: apple fig pear
Without folders: .*/etc/shadow: No such file or directory
It was ended after a second
""",
    "templates": r"""(\[\d+, \d+, \d+\] +mean +\d+\.\d\d, deviation +\d+\.\d\d
){20}20 VMs, \d+\.\d ms each
""",
    "untrusted": """\
average: 3.0
spread: 5.0
broken: IndexError: list index out of range
endless: took too long
curious: localhost
""",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example(name):
    example = Path(__file__).resolve().parents[2] / "examples" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, example], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert re.fullmatch(EXAMPLES[name], done.stdout)
