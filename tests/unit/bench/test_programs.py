"""What the measurements of programs in VMs read: wrk's words, the loops' lines, two clocks."""

import os
import sys

import pytest

from pyrovm.bench import programs
from pyrovm.bench.many import at_once
from pyrovm.bench.questions.programs.server import Load, parse
from pyrovm.bench.questions.programs.speed import parse as parse_loops
from pyrovm.bench.questions.programs.start import Clock, first_byte_ms, ns_at
from pyrovm.bench.smaps import children

WRK = """\
Running 2s test @ http://127.0.0.1:9191/
  1 threads and 8 connections
  Latency Distribution
     50%  782.00us
     99%   54.46ms
  29085 requests in 3.05s, 1.22MB read
Requests/sec:   9541.02
Transfer/sec:    409.96KB
"""


def test_a_load_is_what_wrk_says_of_it():
    assert parse(WRK) == Load(requests=29085, rate=9541.02, p99_ms=54.46)
    assert parse(WRK.replace("54.46ms", "782.00us")).p99_ms == pytest.approx(0.782)


@pytest.mark.parametrize(
    "trouble", ["Non-2xx or 3xx responses: 3", "Socket errors: connect 0, read 5, write 0"]
)
def test_a_load_with_errors_is_no_figure(trouble):
    with pytest.raises(RuntimeError, match=trouble):
        parse(WRK + f"  {trouble}\n")


def test_a_server_that_did_not_answer_is_no_figure():
    with pytest.raises(RuntimeError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:9191 Connection refused\n")


def test_each_loop_has_its_median_and_its_fastest_slice():
    assert list(parse_loops("compute 1.057 1.029\nping-pong 5127.740 4943.365\n")) == [
        ("compute", 1.057, 1.029),
        ("ping-pong", 5127.74, 4943.365),
    ]


def test_the_hosts_time_of_a_tsc_lies_between_two_that_are_known():
    before, after = Clock(tsc=1_000, ns=5_000), Clock(tsc=3_000, ns=6_000)
    assert [ns_at(tsc, before, after) for tsc in (1_000, 2_000, 3_000)] == [5_000, 5_500, 6_000]


def test_a_process_is_measured_to_its_first_byte_and_to_its_end():
    ran = programs.timed([sys.executable, "-I", "-S", "-c", "print('hello')"])
    assert ran.output == "hello\n"
    assert 0 < ran.first_ms <= ran.end_ms
    assert ran.cpu_ms > 0


def test_a_process_that_fails_or_is_silent_is_no_figure():
    for code, words in (("raise SystemExit(3)", "status 3"), ("pass", "output b''")):
        with pytest.raises(RuntimeError, match=words):
            programs.timed([sys.executable, "-I", "-S", "-c", code])


def test_a_first_byte_counts_from_the_call():
    assert first_byte_ms(lambda fd: os.write(fd, b"!")) > 0
    with pytest.raises(RuntimeError, match="nothing was written"):
        first_byte_ms(lambda fd: None)


def test_children_are_those_of_all_threads():
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    try:
        assert pid in children(os.getpid())
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_many_of_one_command_are_alive_at_once_with_what_each_takes():
    script = "import sys; print('hello', flush=True); sys.stdin.read()"
    curve, kib = at_once(lambda: [sys.executable, "-I", "-S", "-c", script], 4, 2)
    assert [alive for alive, _ in curve] == [2, 4]
    assert all(rate > 0 for _, rate in curve)
    assert len(kib) == 4
    assert min(kib) > 500  # an interpreter takes more than that


def test_a_command_that_says_nothing_is_no_figure():
    with pytest.raises(RuntimeError, match="does not start"):
        at_once(lambda: ["true"], 1, 1)
