"""Limits of descriptors, memory and processes, reached by one clone too many."""

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

import pyrovm
from pyrovm import ApiError, MicroVM
from pyrovm.errors import HostError
from pyrovm.programs.helper import HELPERS
from tests.fakes import kernel_guest, program_guest
from tests.kvm.test_run_from_python import children_of, wait_until

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(program_guest.why_not() is not None, reason=str(program_guest.why_not())),
]

TIMEOUT = 60
BASH = shutil.which("bash")
WAITS = [BASH, "-c", "echo ready > /dev/pyrovm; read -r x; echo got $x"]
USER = 50000 + os.getpid() % 10000  # processes are counted by user: one for each test process


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where folders of machines are."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("PYROVM_LAUNCHER", "off")
    return tmp_path


@pytest.fixture
def vm(folder, tmp_path_factory):
    kernel = kernel_guest.build("lasting", tmp_path_factory.mktemp("kernel"))
    with MicroVM(kernel, cmdline="", memory="64M") as vm:
        vm.start()
        vm.console.wait_for("ready\n", TIMEOUT)
        yield vm


@pytest.fixture
def template():
    with pyrovm.Template(WAITS, timeout=TIMEOUT) as template:
        yield template


@contextlib.contextmanager
def limited(pid, what, number):
    old = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (number, old[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, old)


def ours():
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def ask(vm, question):
    vm.console.write(question)
    return vm.console.wait_for("\n", TIMEOUT).strip()


def until_refused(make, keep):
    """One after the other, without an end."""
    while True:
        keep(make())


def goes_on(vm, folder):
    """The machine is unharmed, has no clones, and can have some."""
    wait_until(lambda: not children_of(vm.pid))
    assert len(os.listdir(folder)) == 1
    assert ask(vm, "w") == "page 1"
    (copy,) = vm.fork()
    with copy:
        assert ask(copy, "s") == "sum 1"


@pytest.mark.parametrize("spare", range(5))
def test_no_more_descriptors_for_a_clone(vm, folder, spare):
    before = ours()
    copies = []
    with (
        limited(0, resource.RLIMIT_NOFILE, before[0] + 12 + spare),
        pytest.raises(OSError, match="Too many open files"),
    ):
        until_refused(vm.fork, copies.extend)
    assert copies
    for copy in copies:
        copy.close()
    assert ours() == before
    goes_on(vm, folder)


def test_no_more_descriptors_in_the_source(vm, folder):
    before = ours()
    number = len(os.listdir(f"/proc/{vm.pid}/fd")) + 5
    with (
        limited(vm.pid, resource.RLIMIT_NOFILE, number),
        pytest.raises(ApiError, match="No file descriptors available"),
    ):
        vm.fork(20)
    assert ours() == before
    goes_on(vm, folder)


def test_no_more_memory_in_the_source(vm, folder):
    vm.fork()[0].close()  # what branches need is loaded with the first
    before = ours()
    with (
        limited(vm.pid, resource.RLIMIT_AS, 1 << 20),
        pytest.raises(ApiError, match=r"Out of memory|RLIMIT_AS"),
    ):
        vm.fork(2)
    assert ours() == before
    goes_on(vm, folder)


def test_no_more_descriptors_for_a_branch(template):
    assert template.run(input=b"1\n", stdout=-1).stdout == b"got 1\n"
    before = ours()
    with (
        limited(0, resource.RLIMIT_NOFILE, before[0] + 20),
        contextlib.ExitStack() as stack,
        pytest.raises(HostError, match="No file descriptors available"),
    ):
        until_refused(
            lambda: template.fork(input=b"1\n", stdout=subprocess.PIPE), stack.enter_context
        )
    assert ours() == before
    assert template.run(input=b"2\n", stdout=-1).stdout == b"got 2\n"


def test_no_more_memory_for_a_branch(template):
    ours_in, theirs = os.pipe()
    with template.fork(stdin=ours_in) as branch:
        assert branch.generation
        (pid,) = [p for p in children_of(HELPERS.pid) if children_of(p)]
        with (
            limited(pid, resource.RLIMIT_AS, 1 << 20),
            pytest.raises(HostError, match="Out of memory"),
        ):
            template.run(input=b"1\n", stdout=-1)
    os.close(ours_in)
    os.close(theirs)
    wait_until(lambda: not children_of(pid))
    assert template.run(input=b"2\n", stdout=-1).stdout == b"got 2\n"


# -------------------------------------------------------------------------------------- processes

BEGIN = """
import json, os, resource, subprocess, sys, tempfile
import pyrovm
def limit(pid, number=None):
    _, hard = resource.prlimit(pid, resource.RLIMIT_NPROC)
    resource.prlimit(pid, resource.RLIMIT_NPROC, (hard if number is None else number, hard))
def until_refused(make, close):
    made = []
    try:
        while len(made) < 40:
            made.append(make())
        return "no limit"
    except Exception as error:
        return type(error).__name__ + ": " + str(error)
    finally:
        for one in made:
            close(one)
"""
MACHINE = """
def machine():
    vm = pyrovm.MicroVM(sys.argv[1], cmdline="", memory="64M")
    try:
        vm.start()
        vm.console.wait_for("ready", 60)
    except BaseException:
        vm.close()
        raise
    return vm
"""
CLONES = """
with machine() as vm:
    limit(vm.pid, COUNT)
    said = until_refused(lambda: vm.fork()[0], lambda copy: copy.close())
    limit(vm.pid)
    vm.fork()[0].close()
    left = len(os.listdir(tempfile.gettempdir()))
"""
BRANCHES = """
with pyrovm.Template(sys.argv[2:], timeout=60) as template:
    from pyrovm.programs.helper import HELPERS
    from tests.kvm.test_run_from_python import children_of
    def fork():
        branch = template.fork(stdin=rest, stdout=-1)
        branch.generation
        return branch
    rest, pipe = os.pipe()
    with fork():
        (pid,) = [p for p in children_of(HELPERS.pid) if children_of(p)]
    limit(pid, COUNT)
    said = until_refused(fork, lambda branch: branch.close())
    limit(pid)
    assert template.run(input=b"x\\n", stdout=-1).stdout == b"got x\\n"
    left = 1
"""
LAUNCHED = """
os.environ["PYROVM_LAUNCHER"] = "on"
pyrovm_command = [sys.executable, "-m", "pyrovm.cli.main", "launcher"]
machine().close()
told = subprocess.run([*pyrovm_command, "status", "--json"], stdout=-1, check=True).stdout
pid = json.loads(told)["pid"]
limit(pid, COUNT)
said = until_refused(machine, lambda vm: vm.close())
limit(pid)
machine().close()
left = 1 + len(os.listdir(tempfile.gettempdir()))
subprocess.run([*pyrovm_command, "stop"], stderr=-1, check=True)
"""
END = "print(json.dumps([said, left]))"


@pytest.mark.root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv")
@pytest.mark.parametrize(
    ("program", "limit"),
    [(CLONES, 9), (CLONES, 10), (CLONES, 11), (CLONES, 12), (BRANCHES, 10), (LAUNCHED, 12)],
)
def test_no_more_processes(program, limit):
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        kernel = kernel_guest.build("lasting", base)
        for folder in ("tmp", "run"):
            (base / folder).mkdir()
            os.chown(base / folder, USER, USER)
        os.chmod(base, 0o755)
        text = BEGIN + MACHINE + program.replace("COUNT", str(limit)) + END
        rights = ("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override")
        done = subprocess.run(
            [
                *("setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", *rights),
                *(sys.executable, "-c", text, str(kernel), *WAITS),
            ],
            env={
                **program_guest.environment(),
                "TMPDIR": str(base / "tmp"),
                "XDG_RUNTIME_DIR": str(base / "run"),
                "PYROVM_LAUNCHER": "off",
            },
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    said, left = json.loads(done.stdout)
    # A process of a template that gets no thread has ended before it can say why.
    assert "RLIMIT_NPROC" in said or (program is BRANCHES and "ended before it began" in said)
    assert left == 1
