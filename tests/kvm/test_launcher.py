"""Programs in VMs by the launcher, on a KVM of any kind."""

import os
import signal
import subprocess
import sys

import pytest

from pyrovm import Drive, MicroVM, Vsock
from tests.fakes import program_guest
from tests.fakes.launcher import PYROVM, Launcher, wait_until
from tests.fakes.program_guest import TIMEOUT
from tests.fakes.register_guest import CODE, ENTRY, TABLE, say
from tests.unit.boot.images import elf, pvh_note

pytestmark = pytest.mark.kvm

needs_compiler = pytest.mark.skipif(
    program_guest.why_not() is not None, reason=str(program_guest.why_not())
)
TALKS = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char line[100];
    if (argc > 1 && !strcmp(argv[1], "abort")) abort();
    printf("VARIABLE=%s\n", getenv("VARIABLE") ? getenv("VARIABLE") : "");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        fprintf(stderr, "heard %s", line);
        fflush(stderr);
    }
    return argc > 1 ? atoi(argv[1]) : 0;
}
"""


@pytest.fixture
def launcher():
    made = Launcher()
    made.environment["PYROVM_CACHE"] = program_guest.environment()["PYROVM_CACHE"]
    yield made
    made.close()


def run(launcher, *words, given="", switch="auto", **options):
    done = subprocess.run(
        [*PYROVM, "run", *map(str, words)],
        env={**launcher.environment, "PYROVM_LAUNCHER": switch, **options},
        input=given,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@needs_compiler
def test_a_program_is_the_same_by_the_launcher(launcher, tmp_path):
    program = program_guest.compile_program(TALKS, tmp_path)
    launcher.run("--pool", "1")
    launcher.wait_for_pool()
    cases = [
        (["-e", "VARIABLE", program, "7"], "one\ntwo\n", {"VARIABLE": "ours"}),
        ([program, "abort"], "", {}),
        (["--nonsense", program], "", {}),
        (["--allow", "nonsense:", program], "", {}),
        ([tmp_path / "missing"], "", {}),
    ]
    for words, given, variables in cases:
        cold = run(launcher, *words, given=given, switch="off", **variables)
        assert run(launcher, *words, given=given, **variables) == cold, words
    assert launcher.status()["started"] == len(cases)
    assert run(launcher, "-e", "VARIABLE", program, "7", given="one\n", VARIABLE="ours") == (
        7,
        "VARIABLE=ours\n",
        "heard one\n",
    )


@needs_compiler
def test_a_program_runs_on_when_the_launcher_is_killed(launcher, tmp_path):
    program = program_guest.compile_program(TALKS, tmp_path)
    launcher.run("--pool", "0")
    process = subprocess.Popen(
        [*PYROVM, "run", str(program), "5"],
        env=launcher.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert process.stdout.readline() == "VARIABLE=\n"
    assert launcher.status()["children"][0]["kind"] == "run"
    launcher.kill()
    process.communicate("more\n", timeout=TIMEOUT)
    assert process.returncode == 5
    wait_until(lambda: not launcher.pids(), "nothing is left")


@needs_compiler
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_reach_the_program(launcher, tmp_path, number):
    program = program_guest.compile_program(TALKS, tmp_path)
    launcher.run()
    ends = []
    for switch in ("off", "auto"):
        process = subprocess.Popen(
            [*PYROVM, "run", str(program)],
            env={**launcher.environment, "PYROVM_LAUNCHER": switch},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout.readline() == b"VARIABLE=\n"
        process.send_signal(number)
        process.communicate(timeout=TIMEOUT)
        ends.append(process.returncode)
    assert ends[0] == ends[1]
    wait_until(lambda: not launcher.status()["children"], "the VM is gone too")


@pytest.mark.parametrize("pool", ["0", "1"])
def test_a_guest_with_devices_runs_by_the_launcher(launcher, tmp_path, monkeypatch, pool):
    monkeypatch.setenv("XDG_RUNTIME_DIR", launcher.base)
    launcher.run("--pool", pool)
    if pool != "0":
        launcher.wait_for_pool()
    kernel, disk = tmp_path / "kernel", tmp_path / "disk"
    table = say("hello") + bytes(16)
    segments = [(ENTRY, CODE, len(CODE)), (TABLE, table, len(table))]
    kernel.write_bytes(elf(segments, entry=ENTRY, notes=pvh_note(ENTRY)))
    disk.write_bytes(bytes(1 << 20))
    vm = MicroVM(
        kernel,
        memory=32,
        drives=[Drive(disk)],
        vsock=Vsock(),
        vmm=[sys.executable, "-I", "-c", "from pyrovm.cli.firecracker_entry import main; main()"],
    )
    with vm:
        vm.start()
        vm.console.wait_for("hello")
        (child,) = launcher.status()["children"]
        assert child["pid"] != vm.pid
        assert any(
            os.readlink(f"/proc/{child['pid']}/fd/{fd}").startswith("anon_inode:kvm-vcpu")
            for fd in os.listdir(f"/proc/{child['pid']}/fd")
        )
        vm.pause()
        vm.resume()
    wait_until(lambda: not launcher.status()["children"], "the VM is gone")
