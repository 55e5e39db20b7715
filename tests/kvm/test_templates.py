"""``pyrovm.Template``: programs that were started once and go on in VMs of their own."""

import asyncio
import contextlib
import errno
import json
import math
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

import pyrovm
from pyrovm.errors import ConfigError, HostError
from pyrovm.programs.helper import HELPERS
from tests.fakes import program_guest
from tests.kvm.test_run_from_python import children_of, is_alive, wait_until

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(program_guest.why_not() is not None, reason=str(program_guest.why_not())),
]

BASH = shutil.which("bash")
PATIENCE = 60  # seconds; the machine may be busy


def python(program, **options):
    return pyrovm.Template([sys.executable, "-c", program], timeout=PATIENCE, **options)


def bash(script, **options):
    return pyrovm.Template([BASH, "-c", script], timeout=PATIENCE, **options)


def compiled(text, folder, **options):
    program = program_guest.compile_program(text, folder, "glibc-static")
    return pyrovm.Template([program], timeout=PATIENCE, **options)


def output(template, *arguments, **options):
    done = template.run(
        arguments, capture_output=True, text=True, timeout=PATIENCE, check=True, **options
    )
    assert done.stderr == ""
    return done.stdout


def the_template():
    """The process of the only template that there is, which has branches."""
    (pid,) = [p for p in children_of(HELPERS.pid) if children_of(p)]
    return pid


def only_the_spare_is_left():
    """The helper has no process but the one that waits for the next program."""
    return len(children_of(HELPERS.pid)) == 1


# ------------------------------------------------------------------------------- what a branch is


def test_branches_go_on_from_the_call_with_arguments_and_input_of_their_own():
    script = """
    mapfile -t before < /dev/pyrovm
    exec 3<> /dev/pyrovm
    count=41
    echo ready >&3
    mapfile -t news <&3
    read -r input
    echo "${before[@]} / $((++count)) / ${news[1]} ${news[2]} / $input"
    exit ${news[2]}
    """
    with bash(script) as template:
        for n in (3, 4):
            done = template.run(["an argument", str(n)], input=b"hallo %d\n" % n, stdout=-1)
            assert done.stdout == b"generation 1 / 42 / an argument %d / hallo %d\n" % (n, n)
            assert done.returncode == n


def test_what_a_branch_writes_to_memory_is_its_own(tmp_path):
    program = """
    #include <fcntl.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <unistd.h>
    #define SIZE (8 << 20)
    int main(void)
    {
        int fd = open("/dev/pyrovm", O_RDWR);
        volatile unsigned char *memory = malloc(SIZE);
        char text[128];
        long sum = 0;

        for (long i = 0; i < SIZE; i++)
            memory[i] = 1;
        if (write(fd, "ready", 5) != 5)
            return 2;
        text[read(fd, text, sizeof(text) - 1)] = 0;
        for (long i = 0; i < SIZE; i++)
            sum += memory[i], memory[i] = 200;
        printf("%ld %s", sum, text);
        return 0;
    }
    """
    with compiled(program, tmp_path) as template:
        branches = [template.fork([str(n)], stdout=subprocess.PIPE) for n in range(5)]
        found = [branch.wait(PATIENCE).stdout.decode().split() for branch in branches]
    assert [words[0] for words in found] == [str(8 << 20)] * 5
    assert [words[3] for words in found] == ["0", "1", "2", "3", "4"]
    assert len({words[2] for words in found}) == 5
    assert [int(words[2]) for words in found] == [branch.generation for branch in branches]


def test_random_numbers_differ_and_the_clock_goes_on():
    program = """if True:
        import os, time
        news = os.open("/dev/pyrovm", os.O_RDWR)
        os.getrandom(8)
        before, wall = time.monotonic(), time.time()
        os.write(news, b"ready")
        stood = time.monotonic() - before
        print(os.getrandom(8).hex(), 0 <= stood < 0.7, time.time())
    """
    with python(program) as template:
        time.sleep(1)
        first, second = (output(template).split() for _ in range(2))
    assert first[0] != second[0]
    assert first[1] == second[1] == "True"  # it has stood still for a second at least
    assert abs(float(second[2]) - time.time()) < PATIENCE


def test_threads_sleeps_and_timers_go_on():
    program = """if True:
        import os, signal, threading, time
        done = []
        def sleep():
            time.sleep(0.2)
            done.append("slept")
        def spin():
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                pass
            done.append("spun")
        signal.signal(signal.SIGALRM, lambda *_: done.append("alarm"))
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        threads = [threading.Thread(target=each) for each in (sleep, spin)]
        [thread.start() for thread in threads]
        open("/dev/pyrovm", "w").write("ready")
        [thread.join() for thread in threads]
        print(*sorted(done))
    """
    with python(program) as template:
        time.sleep(0.5)
        for _ in range(3):
            assert output(template) == "alarm slept spun\n"


def test_floating_point_registers_go_on(tmp_path):
    program = """
    #include <stdio.h>
    #include <unistd.h>
    int main(void)
    {
        double x = 1.0;

        write(1, "go\\n", 3);
        for (long i = 0; i < 400000000; i++) /* it is interrupted somewhere in here */
            x = x * 0.999999 + 0.000001;
        printf("%.6f\\n", x);
        return 0;
    }
    """
    with compiled(program, tmp_path, ready="line:go", stdout=subprocess.DEVNULL) as template:
        assert {output(template) for _ in range(3)} == {"1.000000\n"}


def test_all_vcpus_rest_where_one_of_them_says_so_and_go_on(tmp_path):
    program = """
    #include <fcntl.h>
    #include <pthread.h>
    #include <stdio.h>
    #include <string.h>
    #include <unistd.h>
    static volatile long counts[3];
    static volatile int is_branch, may_end;
    static void *work(void *argument)
    {
        long n = (long)argument;

        while (!may_end)
            counts[n]++;
        return NULL;
    }
    static void *say(void *argument)
    {
        int fd = open("/dev/pyrovm", O_RDWR);
        char text[200] = "";

        usleep(50000);
        if (write(fd, "ready", 5) != 5)
            return NULL;
        is_branch++; /* nobody goes beyond this in the template */
        text[read(fd, text, sizeof(text) - 1)] = 0;
        printf("%d %s", is_branch, strchr(text, '\\n') + 1);
        return NULL;
    }
    int main(void)
    {
        pthread_t threads[4];
        long before[3];

        for (long n = 0; n < 3; n++)
            pthread_create(&threads[n], NULL, work, (void *)n);
        pthread_create(&threads[3], NULL, say, NULL);
        pthread_join(threads[3], NULL);
        memcpy(before, (void *)counts, sizeof(before));
        for (int n = 0; n < 3; n++)
            while (counts[n] == before[n]) /* it works here as well */
                usleep(1000);
        may_end = 1;
        for (long n = 0; n < 3; n++)
            pthread_join(threads[n], NULL);
        puts("end");
        return 0;
    }
    """
    with compiled(program, tmp_path, cpus=3) as template:
        branches = [template.fork([f"b{n}"], stdout=subprocess.PIPE) for n in range(4)]
        found = {branch.wait(PATIENCE).stdout for branch in branches}
        assert found == {b"1 b%d\nend\n" % n for n in range(4)}


def test_who_polls_the_device_hears_of_the_branch():
    program = """if True:
        import os, select
        news = os.open("/dev/pyrovm", os.O_RDONLY)
        poll = select.poll()
        poll.register(news, select.POLLIN)
        assert os.read(news, 4096) == b"generation 1\\n"
        assert not os.read(news, 4096)
        assert not poll.poll(0)
        print("waiting", flush=True)
        assert poll.poll(60000) == [(news, select.POLLIN)]
        print(os.read(news, 4096).decode().split()[2:])
    """
    with python(program, ready="line:waiting", stdout=subprocess.DEVNULL) as template:
        assert output(template, "a", "b") == "['a', 'b']\n"


def test_a_program_that_nobody_branches_goes_on():
    done = pyrovm.run([BASH, "-c", "echo ready > /dev/pyrovm && echo on"], stdout=-1)
    assert done.stdout == b"on\n"


# ------------------------------------------------------------------------------------- the network


SERVER = """if True:
    import asyncio
    async def serve(reader, writer):
        word = await reader.readline()
        writer.write(word + open("/dev/pyrovm").read().split()[-1].encode())
        await writer.drain()
        writer.close()
    async def main():
        server = await asyncio.start_server(serve, "0.0.0.0", 8000)
        await server.serve_forever()
    asyncio.run(main())
"""


def ask(endpoint):
    with socket.create_connection(endpoint, timeout=PATIENCE) as client:
        client.sendall(b"who ")
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(100), b""))


def is_refused(endpoint):
    with socket.socket() as client:
        return client.connect_ex(endpoint) == errno.ECONNREFUSED


def test_each_branch_listens_at_a_port_of_its_own():
    with python(SERVER, ready="port:8000", publish=["0:8000"], stderr=-1) as template:
        with contextlib.ExitStack() as stack:
            branches = [stack.enter_context(template.fork([f"no{n}"])) for n in range(6)]
            ports = [branch.ports["8000/tcp"] for branch in branches]
            assert len(set(ports)) == 6
            assert [ask(port) for port in ports] == [b"who no%d" % n for n in range(6)]
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                number = taken.getsockname()[1]
                with pytest.raises(HostError, match=f"127.0.0.1:{number}: Address in use"):
                    template.run(publish=[f"{number}:8000"])
            with template.fork(["named"], publish=[f"{number}:8000"]) as branch:
                assert branch.ports == {"8000/tcp": ("127.0.0.1", number)}
                assert ask(("127.0.0.1", number)) == b"who named"
        wait_until(lambda: all(map(is_refused, ports)))


def test_connections_that_were_open_are_reset_in_the_branch():
    program = """if True:
        import os, select, socket
        out = socket.create_connection(("127.0.0.1", PORT))
        waiting = socket.create_connection(("127.0.0.1", PORT))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.connect(("127.0.0.1", PORT))
        out.sendall(b"before")
        poll = select.epoll()
        poll.register(waiting, select.EPOLLIN)
        open("/dev/pyrovm", "w").write("ready")
        print(len(poll.poll(60)))
        for connection in (out, waiting):
            try:
                connection.recv(10)
            except ConnectionResetError:
                print("reset")
        udp.send(b"after")
        with socket.create_connection(("127.0.0.1", PORT)) as again:
            again.sendall(b"again")
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("127.0.0.1", port))
        receiver.settimeout(PATIENCE)
        with receiver, python(program.replace("PORT", str(port)), allow=["127.0.0.1"]) as template:
            first, _ = server.accept()
            second, _ = server.accept()
            with first, second:
                assert first.recv(100) == b"before"
                assert first.recv(100) == b""  # the template rests for good
                for _ in range(2):
                    assert output(template) == "1\nreset\nreset\n"
                    assert receiver.recv(10) == b"after"
                    with server.accept()[0] as third:
                        assert third.recv(100) == b"again"


# ----------------------------------------------------------------------------- folders of the host


def test_folders_of_the_host_go_on(tmp_path):
    for n in range(50):
        (tmp_path / f"file{n}").write_text(f"{n}\n" * 1000)
    script = """
    exec 3< /host/file7 4>> /host/log
    for n in 1 2 3; do read -r line <&3; done
    echo ready > /dev/pyrovm
    while read -r line <&3; do ((count++)); done
    mapfile -t news < /dev/pyrovm
    files=(/host/file*)
    echo "${news[1]}" >&4
    echo "$count ${#files[@]}"
    """
    with bash(script, volumes=[f"{tmp_path}:/host"]) as template:
        branches = [template.fork([str(n)], stdout=subprocess.PIPE) for n in range(4)]
        assert {branch.wait(PATIENCE).stdout for branch in branches} == {b"997 50\n"}
    assert sorted((tmp_path / "log").read_text().split()) == ["0", "1", "2", "3"]


# --------------------------------------------------------------------------------- when it is ready


def test_ready_by_a_line_in_pieces_on_either_stream():
    script = "printf rea; printf 'dy %s' now >&2; printf 'd'; printf 'y now, go\\n'; echo more"
    with bash(script, ready="line:ready now", stdout=-1, stderr=-1) as template:
        assert output(template) == "more\n"


@pytest.mark.parametrize(
    ("ready", "problem"),
    [
        ("lines", "ready: 'lines' given; call, line:TEXT or port:NUMBER is needed"),
        ("line:", "ready: 'line:' given"),
        ("port:70000", "ports are 1 to 65535"),
        ("port:x", "ready: 'port:x' given"),
    ],
)
def test_a_condition_that_is_none_is_refused(ready, problem):
    with pytest.raises(ConfigError, match=problem):
        bash("true", ready=ready)


def test_a_template_that_is_never_ready_or_ends_is_an_error():
    with pytest.raises(pyrovm.TemplateError, match=r"not ready \(port:1\) after 0.5 s") as caught:
        pyrovm.Template(
            [BASH, "-c", "echo said; while :; do :; done"],
            ready="port:1",
            timeout=0.5,
            stdout=subprocess.PIPE,
        )
    assert caught.value.stdout == b"said\n"
    with pytest.raises(pyrovm.TemplateError, match=r"ended with status 3 before it was ready"):
        bash("exit 3")
    with pytest.raises(pyrovm.TemplateError, match=r"ended with signal 15 before it was ready"):
        bash("kill -TERM $$")
    assert pyrovm.run([BASH, "-c", "echo fine"], stdout=-1).stdout == b"fine\n"


def test_arguments_that_do_not_fit_are_refused_and_harm_nobody():
    with bash("echo ready > /dev/pyrovm; echo on") as template:
        with pytest.raises(ConfigError, match="each has to be one line"):
            template.run(["two\nlines"])
        with pytest.raises(ConfigError, match="16384 are allowed"):
            template.run(["x" * 20000])
        with pytest.raises(TypeError, match="arguments: 'text' given"):
            template.fork("text")
        with pytest.raises(ConfigError, match="-p nonsense"):
            template.run(publish=["nonsense"])
        assert output(template) == "on\n"


# ------------------------------------------------------------------------------------------ Python

SETUP = """
import json, random
from pyrovm.programs.ready import after, before

count = 0

@before
def rest():
    global count
    count += 1

@after
def go_on():
    global count
    count += 10

random.seed(1)
"""


def chance(text):
    import __main__

    return [json.loads(text), __main__.count, random.random(), round(math.sqrt(16))]


def fails(number):
    raise ValueError(f"no {number}")


def test_functions_are_called_in_branches():
    with pyrovm.Template(setup=SETUP, timeout=PATIENCE) as template:
        call = template.function(chance, timeout=PATIENCE)
        first, second = call("[1]"), call('{"a": 2}')
        assert [first[:2], second[:2]] == [[[1], 11], [{"a": 2}, 11]]
        assert first[2] != second[2]  # seeded anew in each
        assert first[3] == 4
        results = list(template.map(chance, map(str, range(10)), workers=3))
        assert [result[0] for result in results] == list(range(10))
        assert len({result[2] for result in results}) == 10
        with pytest.raises(pyrovm.FunctionError, match="no 3") as caught:
            template.function(fails)(3)
        assert caught.value.type == "ValueError"
        assert "raise ValueError" in caught.value.traceback


def test_templates_for_asyncio():
    async def use():
        async with pyrovm.AsyncTemplate(setup="import json", timeout=PATIENCE) as template:
            found = [x async for x in template.map(abs_of, range(-5, 0))]
        script = "echo ready > /dev/pyrovm; read -r x; echo $x; [[ $x ]] || sleep 1000"
        async with pyrovm.AsyncTemplate([BASH, "-c", script]) as template:
            runs = (template.run(input=b"%d" % n, capture_output=True) for n in range(1, 4))
            found += [done.stdout for done in await asyncio.gather(*runs)]
            ours, theirs = os.pipe()
            task = asyncio.create_task(template.run(stdin=ours))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            os.close(ours)
            os.close(theirs)
        return found

    assert asyncio.run(use()) == [5, 4, 3, 2, 1, b"1\n", b"2\n", b"3\n"]
    wait_until(only_the_spare_is_left)


def abs_of(number):
    return abs(number)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"setup": "pass", "args": [BASH]}, "either args or setup"),
        ({"requirements": ["six"], "args": [BASH]}, "for a template with setup"),
    ],
)
def test_what_does_not_go_together_is_refused(options, problem):
    with pytest.raises(ConfigError, match=problem):
        pyrovm.Template(**options)


def test_functions_need_a_template_with_setup():
    with bash("echo ready > /dev/pyrovm") as template, pytest.raises(ConfigError, match="setup"):
        template.map(abs_of, [1])


# ------------------------------------------------------------------------------------- many, faults


@pytest.mark.parametrize("pool", [0, 3])
def test_a_hundred_at_once(pool):
    with bash("echo ready > /dev/pyrovm; read -r x; echo $((x * x))", pool=pool) as template:
        branches = [
            template.fork(input=b"%d\n" % n, stdout=subprocess.PIPE, stderr=-1) for n in range(100)
        ]
        for n, branch in enumerate(branches):
            assert branch.wait(PATIENCE).stdout == b"%d\n" % (n * n)
        assert len({branch.generation for branch in branches}) == 100


def test_a_branch_outlives_its_template_and_can_be_waited_for_in_parts():
    with bash("echo ready > /dev/pyrovm; read -r x; echo got $x") as template:
        ours, theirs = os.pipe()
        branch = template.fork(stdin=ours, stdout=subprocess.PIPE)
        assert branch.generation
    os.close(ours)
    with pytest.raises(HostError, match="The template has ended"):
        template.fork()
    with pytest.raises(subprocess.TimeoutExpired):
        branch.wait(0.1)
    os.write(theirs, b"it\n")
    os.close(theirs)
    assert branch.wait(PATIENCE).stdout == b"got it\n"
    assert branch.wait().returncode == 0


def test_a_run_that_takes_too_long_is_ended():
    with bash("echo ready > /dev/pyrovm; echo begun; while :; do :; done") as template:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            template.run(timeout=1, stdout=subprocess.PIPE)
        assert caught.value.stdout == b"begun\n"
    wait_until(only_the_spare_is_left)


@pytest.mark.parametrize("pool", [0, 2])
def test_a_template_that_is_killed_leaves_only_its_branches(pool):
    with bash("echo ready > /dev/pyrovm; read -r x; echo got $x", pool=pool) as template:
        ours, theirs = os.pipe()
        branch = template.fork(stdin=ours, stdout=subprocess.PIPE)
        os.close(ours)
        assert branch.generation
        pid = the_template()
        wait_until(lambda: len(children_of(pid)) == 1 + pool)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid) and len(children_of(HELPERS.pid)) == 2)
        with pytest.raises(HostError, match="The template has ended"):
            template.fork()
        os.write(theirs, b"it\n")
        os.close(theirs)
        assert branch.wait(PATIENCE).stdout == b"got it\n"
    wait_until(only_the_spare_is_left)


def test_branches_that_are_killed_harm_nobody_else():
    script = "echo ready > /dev/pyrovm; read -r x; echo got $x"
    with bash(script, pool=2) as template:
        ours, theirs = os.pipe()
        with template.fork(stdin=ours) as branch:
            assert branch.generation
            pid = the_template()
            wait_until(lambda: len(children_of(pid)) == 3)
            for process in children_of(pid):  # the spares, too
                os.kill(process, signal.SIGKILL)
            with pytest.raises(HostError, match="ended without a report"):
                branch.wait(PATIENCE)
        os.close(ours)
        os.close(theirs)
        assert output(template, input="more\n") == "got more\n"
        wait_until(lambda: len(children_of(pid)) == 2)


def test_a_caller_that_is_killed_leaves_nothing():
    program = f"""if True:
        import os, pyrovm, subprocess, time
        from pyrovm.programs.helper import HELPERS
        template = pyrovm.Template([{BASH!r}, "-c",
            "echo ready > /dev/pyrovm; while :; do :; done"], pool=2)
        branches = [template.fork() for _ in range(3)]
        [branch.generation for branch in branches]
        print(HELPERS.pid, flush=True)
        time.sleep(1000)
    """
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=-1, env=program_guest.environment()
    ) as caller:
        assert select.select([caller.stdout], [], [], PATIENCE)[0]
        helper = int(caller.stdout.readline())
        processes = children_of(helper)
        assert len(processes) >= 4
        caller.kill()
        caller.wait()
    wait_until(lambda: not any(map(is_alive, [helper, *processes])))
