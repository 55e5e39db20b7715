"""Programs without KVM: on Unicorn they print and end as they do as processes."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from pyrovm.abi import libos as abi
from pyrovm.errors import HostError, Unsupported
from pyrovm.unikernel import engine, unicorn_cpu
from tests.fakes import program_guest
from tests.fakes.program_guest import TIMEOUT, compile_program, environment, run_process, run_vm

pytest.importorskip("unicorn")
needs_compilers = pytest.mark.skipif(
    program_guest.why_not() is not None, reason=str(program_guest.why_not())
)

HOW_IT_ENDS = """\
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	volatile int zero = 0;
	setbuf(stdout, NULL);
	puts(getenv("WHERE") ? getenv("WHERE") : "ready");
	switch (argv[1][0]) {
	case 'n': *(volatile char *)0 = 1; break;
	case 'd': return 5 % zero;
	case 'i': __builtin_trap();
	case 'a': abort();
	case 's': for (;;) ;
	case 'c': for (;;) getppid();
	case 'p': for (;;) pause();
	case 'u': *(volatile long *)0x3e7000000320 = 1; break; /* no such hypercall */
	case 'l': return *(volatile char *)0x3e7000000018;
	case 'm': for (;;) memset(malloc(1 << 20), 1, 1 << 20);
	}
	return 9;
}
"""

CPU_FEATURES = """\
#include <cpuid.h>
#include <stdio.h>
int main(void)
{
	unsigned a, b, c, d;
	__get_cpuid(1, &a, &b, &c, &d);
	printf("sse2 %d, avx %d, osxsave %d\\n", d >> 26 & 1, c >> 28 & 1, c >> 27 & 1);
	return 0;
}
"""


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    return compile_program(HOW_IT_ENDS, tmp_path_factory.mktemp("ends"), "glibc-static", "-O0")


def run(*words, options=(), **more):
    return run_vm(*words, options=["--engine", "unicorn", *options], **more)


@needs_compilers
@pytest.mark.parametrize("libc", ["musl-static", "glibc-static"])
@pytest.mark.parametrize("name", ["threads", "signals", "memory"])
def test_a_program_prints_the_same(name, libc, tmp_path):
    program = compile_program(name, tmp_path, libc)
    here, there = run_process(program), run(program)
    assert (there.stdout, there.stderr) == (here.stdout, here.stderr)
    assert there.returncode == here.returncode


@needs_compilers
def test_every_exception_is_told_as_a_cpu_tells_it_and_new_code_is_seen(tmp_path):
    program = compile_program("exceptions", tmp_path, "glibc-static")
    code = b"".join(bytes([0xB8, n, 0, 0, 0, 0xC3]) for n in (4, 2, 7, 1)).decode("latin-1")
    here, there = (f(program, input=code, encoding="latin-1") for f in (run_process, run))
    assert here.returncode == 0
    assert "code read: 4271" in here.stdout
    assert (there.stdout, there.returncode) == (here.stdout, 0), there.stderr


@needs_compilers
def test_a_dynamic_program_has_its_environment_and_the_report_names_the_engine(tmp_path):
    program = compile_program(HOW_IT_ENDS, tmp_path, "glibc")
    done = run(program, "-", options=["--json", "-e", "WHERE=on Unicorn"])
    assert (done.stdout, done.returncode) == ("on Unicorn\n", 9)
    report = json.loads(done.stderr)
    assert report["engine"] == "unicorn"
    assert report["exits"] > 0


@needs_compilers
@pytest.mark.parametrize(
    ("how", "status", "words"),
    [
        ("n", 139, ["SIGSEGV", "null pointer", "address 0"]),
        ("d", 136, ["SIGFPE", "division"]),
        ("i", 132, ["SIGILL"]),
        ("a", 134, []),
        ("m", 137, ["out of memory", "--memory"]),
    ],
)
def test_a_program_that_fails_says_why(ends, how, status, words):
    done = run(ends, how, options=["--memory", "64M"])
    assert done.returncode == status, done.stderr
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


@needs_compilers
@pytest.mark.parametrize("how", ["u", "l"])
def test_a_program_that_misuses_the_hypercall_page_is_ended_with_its_address(ends, how):
    done = run(ends, how)
    assert done.returncode == 125
    assert "0x7000000" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@needs_compilers
@pytest.mark.parametrize("how", ["s", "c", "p"])
def test_a_program_is_ended_after_the_timeout(ends, how):
    done = run(ends, how, options=["--timeout", "0.5"])
    assert done.returncode == 124
    assert "--timeout 0.5" in done.stderr


@needs_compilers
@pytest.mark.parametrize("how", ["s", "c", "p"])
def test_ctrl_c_reaches_the_program(ends, how):
    command = [sys.executable, "-m", "pyrovm.cli.main", "run", "--engine", "unicorn"]
    with subprocess.Popen(
        [*command, "--", str(ends), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 128 + signal.SIGINT
        assert process.stderr.read() == b""


@needs_compilers
def test_the_cpu_has_no_avx(tmp_path):
    done = run(compile_program(CPU_FEATURES, tmp_path, "musl-static"))
    assert done.stdout == "sse2 1, avx 0, osxsave 0\n"


@needs_compilers
@pytest.mark.skipif(not shutil.which("python3"), reason="no python3")
def test_python_runs():
    done = run("python3", "-c", "import json; print(json.dumps({'sum': sum(range(1000))}))")
    assert (done.stdout, done.returncode) == ('{"sum": 499500}\n', 0), done.stderr


WITHOUT_KVM = 'mount --bind /dev/null /dev/kvm && exec "$@"'


@needs_compilers
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root, unshare")
@pytest.mark.skipif(not os.path.exists("/dev/kvm"), reason="there is no /dev/kvm to hide")
def test_the_sdk_runs_programs_where_there_is_no_kvm(ends):
    script = f"import pyrovm; print(pyrovm.run([{str(ends)!r}, '-'], capture_output=True))"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", WITHOUT_KVM, "sh", sys.executable, "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert "returncode=9, stdout=b'ready\\n'" in done.stdout, done.stderr


def test_a_version_with_other_insides_is_refused(monkeypatch):
    monkeypatch.setattr(unicorn_cpu, "_OLD_EXCEPTION", unicorn_cpu._OLD_EXCEPTION + 4)
    with pytest.raises(Unsupported, match=r"Unicorn .* 2\.1"):
        unicorn_cpu.UnicornCpu()


class Opened(Exception):
    """In place of a VM."""


@pytest.fixture
def no_kvm(monkeypatch):
    def refuse():
        raise HostError("Cannot open /dev/kvm")

    def opened(*_):
        raise Opened

    monkeypatch.setattr("pyrovm.kvm.system.Kvm", refuse)
    monkeypatch.setattr("pyrovm.unikernel.unicorn_vm.UnicornVm", opened)


def open_vm(name):
    with engine.open_vm(None, "", name):
        pass


def test_without_kvm_auto_is_unicorn(no_kvm):
    with pytest.raises(Opened):
        open_vm("auto")


def test_without_kvm_kvm_is_refused(no_kvm):
    with pytest.raises(HostError, match="/dev/kvm"):
        open_vm("kvm")


def test_without_any_engine_both_are_named(no_kvm, monkeypatch):
    monkeypatch.setattr(unicorn_cpu, "is_there", lambda: False)
    with pytest.raises(Unsupported, match=r"/dev/kvm.*pyrovm\[unicorn\]"):
        open_vm("auto")


def test_every_engine_of_the_interface_has_a_name():
    numbers = (abi.PV_ENGINE_HARDWARE, abi.PV_ENGINE_SOFTWARE, abi.PV_ENGINE_UNICORN)
    assert [engine.engine_name(n) for n in numbers] == ["hardware", "software", "unicorn"]
