"""Programs in VMs of their own behave as they do as processes, and end as a shell would say."""

import json
import re
import shutil
import signal
import subprocess
import sys

import pytest

from tests.fakes import program_guest
from tests.fakes.program_guest import (
    COMPILERS,
    TIMEOUT,
    compile_program,
    environment,
    run_process,
    run_vm,
)

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(program_guest.why_not() is not None, reason=str(program_guest.why_not())),
]

HELLO = """\
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
	printf("hello %s from %s\\n", argc > 1 ? argv[1] : "", getenv("WHERE"));
	fprintf(stderr, "to standard error\\n");
	return argc;
}
"""

ENDS = """\
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int recurse(int n)
{
	volatile char room[4096];
	room[0] = n;
	return recurse(n + 1) + room[0];
}
int main(int argc, char **argv)
{
	volatile int zero = 0;
	volatile char *at = 0;
	switch (argv[1][0]) {
	case 'n': *at = 1; break;
	case 'd': return printf("%d", 5 % zero);
	case 'r': return recurse(0);
	case 'x': ((void (*)(void))main + 4096000)(); break;
	case 'i': __builtin_trap(); break;
	case 'a': abort();
	case 't': raise(SIGTERM); break;
	case 's': puts("ready"), fflush(stdout); for (;;) ;
	case 'p': puts("ready"), fflush(stdout); for (;;) pause();
	case 'm': for (;;) memset(malloc(1 << 20), 1, 1 << 20);
	case 'f': printf("fork %d\\n", fork()); return 5;
	case 'o': for (;;) puts("yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy");
	}
	return 9;
}
"""


@pytest.fixture(scope="module")
def hello(tmp_path_factory):
    return compile_program(HELLO, tmp_path_factory.mktemp("hello"))


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    return compile_program(ENDS, tmp_path_factory.mktemp("ends"), "glibc-static", "-O0")


@pytest.mark.parametrize("libc", COMPILERS)
@pytest.mark.parametrize("name", ["threads", "signals", "memory", "large", "vdso"])
def test_a_program_prints_the_same_in_a_vm(name, libc, tmp_path):
    program = compile_program(name, tmp_path, libc)
    here, there = run_process(program), run_vm(program)
    assert there.stderr == here.stderr
    assert there.stdout == here.stdout
    assert there.returncode == here.returncode


def test_streams_arguments_environment_and_status(hello):
    done = run_vm(hello, "you", options=["-e", "WHERE=a VM"])
    assert done.stdout == "hello you from a VM\n"
    assert done.stderr == "to standard error\n"
    assert done.returncode == 2


def test_every_exception_is_told_as_a_cpu_tells_it_and_new_code_is_seen(tmp_path):
    program = compile_program("exceptions", tmp_path)
    code = b"".join(bytes([0xB8, n, 0, 0, 0, 0xC3]) for n in (4, 2, 7, 1)).decode("latin-1")
    here, there = (f(program, input=code, encoding="latin-1") for f in (run_process, run_vm))
    assert here.returncode == 0
    assert (there.stdout, there.returncode) == (here.stdout, 0), there.stderr


def test_standard_input_is_the_programs():
    text = "".join(f"line {n}\n" for n in range(5000))
    done = run_vm(shutil.which("busybox"), "cat", input=text)
    assert (done.stdout, done.returncode) == (text, 0)


def test_closed_standard_input_is_an_end():
    done = run_vm(shutil.which("busybox"), "wc", "-c", stdin=subprocess.DEVNULL)
    assert done.stdout.strip() == "0"


@pytest.mark.parametrize(
    ("how", "status", "words"),
    [
        ("n", 139, ["SIGSEGV", "null pointer", "address 0"]),
        ("d", 136, ["SIGFPE", "division"]),
        ("r", 139, ["SIGSEGV", "off its stack"]),
        ("x", 139, ["SIGSEGV", "no code"]),
        ("i", 132, ["SIGILL"]),
        ("a", 134, []),
        ("t", 143, []),
        ("m", 137, ["out of memory", "--memory"]),
        ("f", 5, ["fork", "one process"]),
    ],
)
def test_a_program_that_fails_says_why_and_ends_as_in_a_shell(ends, how, status, words):
    done = run_vm(ends, how, options=["--memory", "64M"])
    assert done.returncode == status, done.stderr
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_that_spins_for_ever_is_ended_after_the_timeout(ends):
    done = run_vm(ends, "s", options=["--timeout", "0.5"])
    assert done.returncode == 124
    assert "--timeout 0.5" in done.stderr


@pytest.mark.parametrize("how", ["s", "p"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_program(ends, how, number):
    command = [sys.executable, "-m", "pyrovm.cli.main", "run", "--", str(ends), how]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(TIMEOUT) == 128 + number
        assert process.stderr.read() == b""


def test_a_reader_that_has_seen_enough_ends_the_program(ends):
    command = [sys.executable, "-m", "pyrovm.cli.main", "run", "--", str(ends), "o"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout.read(100_000).startswith(b"yyyy")
        process.stdout.close()
        assert process.wait(TIMEOUT) == 128 + signal.SIGPIPE


def test_json_tells_how_it_went(hello):
    done = run_vm(hello, options=["--json"])
    report = json.loads(done.stderr.splitlines()[-1])
    assert report["status"] == 1
    assert not report["timed_out"]
    assert report["exits"] > 0


def test_a_trace_names_the_calls_and_what_is_missing(hello):
    done = run_vm(hello, options=["--trace"])
    assert "write(1, " in done.stderr
    assert "exit_group(1) = ?" in done.stderr
    assert "(rseq) is not implemented: called 1 times" in done.stderr


CLOCKS = """\
#include <stdio.h>
#include <sys/time.h>
#include <time.h>
int main(void)
{
	struct timespec t;
	struct timeval now;
	for (int i = 0; i < 100; i++)
		if (clock_gettime(CLOCK_MONOTONIC, &t) || gettimeofday(&now, NULL) || time(NULL) < 1)
			return 1;
	puts("read");
	return 0;
}
"""


@pytest.mark.parametrize("libc", COMPILERS)
def test_clocks_are_read_without_a_system_call(libc, tmp_path):
    done = run_vm(compile_program(CLOCKS, tmp_path, libc), options=["--trace"])
    assert (done.returncode, done.stdout) == (0, "read\n")
    assert "exit_group(0)" in done.stderr
    assert not re.search(r"\] (clock_gettime|gettimeofday|time)\(", done.stderr)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--memory", "1K"], "1K"),
        (["--cpus", "9"], "--cpus"),
        (["--timeout", "soon"], "soon"),
        (["--workdir", "here"], "here"),
        (["--no-such-option"], "--no-such-option"),
        (["-e", "=x"], "=x"),
    ],
)
def test_options_that_do_not_fit_are_named(options, word):
    done = run_vm("true", options=options)
    assert done.returncode == 2
    assert word in done.stderr


def test_a_missing_program_is_named():
    done = run_vm("/no/such/program")
    assert done.returncode == 125
    assert "/no/such/program" in done.stderr


def test_the_machines_own_python_runs():
    script = "import json, hashlib, sqlite3, sys; print(json.dumps(sys.argv[1:])); sys.exit(3)"
    done = run_vm(
        "/usr/bin/python3" if shutil.which("/usr/bin/python3") else "python3",
        "-c",
        script,
        "a",
        "b",
    )
    assert (done.stdout, done.returncode) == ('["a", "b"]\n', 3), done.stderr
