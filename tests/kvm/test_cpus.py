"""Programs on several vCPUs: their threads run at once, and see each other as on Linux."""

import json
import signal
import subprocess
import sys

import pytest

import pyrovm
from tests.fakes import program_guest
from tests.fakes.program_guest import (
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

PYTHON = """\
import concurrent.futures, hashlib, os, queue, sys, threading, time
print(os.cpu_count(), len(os.sched_getaffinity(0)))
print(open("/sys/devices/system/cpu/online").read().strip())
print(open("/proc/cpuinfo").read().count("processor"))
sys.setswitchinterval(1e-4)
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    data = b"x" * 300000
    digests = set(pool.map(lambda n: hashlib.sha256(data).hexdigest(), range(200)))
    print(len(digests), sum(pool.map(lambda n: sum(range(n)), range(500))))
todo, done = queue.Queue(10), queue.Queue()
def work():
    while (item := todo.get()) is not None:
        done.put(item * item)
threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads: t.start()
for n in range(2000): todo.put(n)
for t in threads: todo.put(None)
for t in threads: t.join()
print(sum(done.get() for _ in range(2000)))
lock, total = threading.Lock(), 0
def add():
    global total
    for _ in range(5000):
        with lock:
            total += 1
threads = [threading.Thread(target=add) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
print(total)
"""

SPIN = """\
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
static void *spin(void *arg) { for (;;); }
static void handler(int number) { _exit(5); }
int main(int argc, char **argv)
{
	pthread_t thread;
	if (argc > 1)
		signal(SIGINT, handler);
	for (int i = 0; i < 3; i++)
		pthread_create(&thread, NULL, spin, NULL);
	puts("started");
	fflush(stdout);
	for (;;)
		pause();
}
"""

CRASH = """\
#include <pthread.h>
#include <unistd.h>
static void *spin(void *arg) { for (;;); }
static void *crash(void *arg) { usleep(20000); *(volatile int *)8 = 1; return 0; }
int main(void)
{
	pthread_t threads[3];
	pthread_create(&threads[0], 0, spin, 0);
	pthread_create(&threads[1], 0, spin, 0);
	pthread_create(&threads[2], 0, crash, 0);
	pthread_join(threads[2], 0);
}
"""


@pytest.fixture(scope="module")
def parallel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    return compile_program("parallel", folder)


def test_every_case_holds_in_a_process(parallel):
    check(run_process(parallel))


@pytest.mark.parametrize("cpus", [1, 2, 4, 8])
def test_every_case_holds_on_several_cpus(parallel, cpus):
    check(run_vm(parallel, options=["--cpus", str(cpus)]))


def check(done):
    assert done.returncode == 7, done.stdout + done.stderr
    results = [line.rpartition(": ")[2] for line in done.stdout.splitlines()]
    assert set(results) == {"yes", "ok", "EINVAL"}, done.stdout
    assert len(results) == 30


@pytest.mark.parametrize("name", ["futexes", "identity", "threads", "signals", "epoll", "mapping"])
def test_what_holds_on_one_cpu_holds_on_three(name, tmp_path):
    program = compile_program(name, tmp_path)
    one = run_vm(program, options=["-w", "/tmp"])
    three = run_vm(program, options=["-w", "/tmp", "--cpus", "3"])
    assert three.stdout == one.stdout
    assert three.returncode == one.returncode


def test_python_has_threads_on_all_cpus():
    done = run_vm("python3", "-c", PYTHON, options=["--cpus", "3"])
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "3 3",
        "0-2",
        "3",
        f"1 {sum(sum(range(n)) for n in range(500))}",
        str(sum(n * n for n in range(2000))),
        "20000",
    ]


@pytest.mark.parametrize(("words", "status"), [((), 130), (("handles",), 5)])
def test_a_signal_reaches_a_program_whose_cpus_are_all_busy(words, status, tmp_path):
    program = compile_program(SPIN, tmp_path)
    command = [sys.executable, "-m", "pyrovm.cli.main", "run", "--cpus", "2", "--", str(program)]
    with subprocess.Popen(
        [*command, *words], stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == status


def test_a_timeout_ends_all_cpus(tmp_path):
    program = compile_program(SPIN, tmp_path)
    done = run_vm(program, options=["--cpus", "4", "--timeout", "2", "--json"])
    assert done.returncode == 124
    report = json.loads(done.stderr.splitlines()[-1])
    assert (report["timed_out"], report["cpus"]) == (True, 4)


def test_a_fault_of_one_thread_ends_all(tmp_path):
    program = compile_program(CRASH, tmp_path)
    done = run_vm(program, options=["--cpus", "3"])
    assert done.returncode == 128 + signal.SIGSEGV
    assert "null pointer" in done.stderr


def test_the_sdk_gives_cpus():
    program = "import os; print(os.cpu_count())"
    done = pyrovm.run(["python3", "-c", program], cpus=2, capture_output=True, text=True)
    assert done.stdout == "2\n"


@pyrovm.function(cpus=2)
def number_of_cpus():
    import os

    return os.cpu_count()


def test_a_function_has_cpus():
    assert number_of_cpus() == 2


def test_unicorn_has_one():
    done = run_vm("true", options=["--cpus", "2", "--engine", "unicorn"])
    assert done.returncode == 125
    assert "cpus: 2 given; Unicorn runs 1" in done.stderr


def test_several_cpus_of_a_program_with_one_thread_cost_no_exit():
    exits = []
    for cpus in ("1", "8"):
        done = run_vm("true", options=["--json", "--cpus", cpus])
        exits.append(json.loads(done.stderr)["exits"])
    assert exits[0] == exits[1]
