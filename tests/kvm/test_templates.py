"""``pyrovm.Template``: programs that were started once and go on in VMs of their own."""

import asyncio
import contextlib
import errno
import json
import math
import os
import random
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

import pyrovm
from pyrovm.errors import ConfigError, HostError, PyrovmError
from pyrovm.programs import store
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


# ------------------------------------------------------------------------------- while it runs


def test_a_program_is_branched_while_it_computes_and_goes_on(tmp_path):
    end = tmp_path / "end"
    end.write_text("")
    program = """if True:
        count, mine = 0, open("/dev/pyrovm").read()
        open("/host/begun", "w").close()
        while True:
            count += 1
            if count % 500 == 0:
                news = open("/dev/pyrovm").read()
                if news != mine:
                    print("branch", *news.split()[2:])
                    break
                if open("/host/end").read():
                    print("end")
                    break
    """
    with pyrovm.start(
        [sys.executable, "-c", program], volumes=[f"{tmp_path}:/host"], capture_output=True
    ) as running:
        wait_until((tmp_path / "begun").exists)
        branches = [running.fork([f"no{n}"], capture_output=True) for n in range(4)]
        for n, branch in enumerate(branches):
            done = branch.wait(PATIENCE)
            assert (done.stdout, done.stderr) == (b"branch no%d\n" % n, b"")
        end.write_text("now")
        done = running.wait(PATIENCE)
        assert (done.stdout, done.stderr, done.returncode) == (b"end\n", b"", 0)


def test_a_server_is_branched_while_it_waits():
    with pyrovm.start(
        [sys.executable, "-c", SERVER], publish=["0:8000"], stdout=-1, stderr=-1
    ) as server:
        published = re.compile(rb"port 8000 of the program is published at 127.0.0.1:(\d+)")
        wait_until(lambda: published.search(said(server)))
        port = "127.0.0.1", int(published.search(said(server))[1])
        assert ask(port) == b"who 1"
        with server.fork(["one"]) as first, server.fork(["two"]) as second:
            assert len({port, first.ports["8000/tcp"], second.ports["8000/tcp"]}) == 3
            assert ask(first.ports["8000/tcp"]) == b"who one"
            assert ask(second.ports["8000/tcp"]) == b"who two"
        assert ask(port) == b"who 1"
        server.kill()
        with pytest.raises(HostError, match="ended"):
            server.wait(PATIENCE)
    wait_until(only_the_spare_is_left)


def said(running):
    """What it has written to standard error by now."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.wait(0.05)
    return running._execution.stderr or b""


# --------------------------------------------------------------------------------------- on disk


def test_a_template_is_kept_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("PYROVM_CACHE", program_guest.environment()["PYROVM_CACHE"])
    program = """if True:
        import os, socket, sys, threading, time
        server = socket.create_server(("0.0.0.0", 8000), reuse_port=True)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 9000))
        thread = threading.Thread(target=time.sleep, args=(0.2,))
        thread.start()
        open("/tmp/file", "w").write("kept")
        news, before, wall = os.open("/dev/pyrovm", os.O_RDWR), time.monotonic(), time.time()
        os.write(news, b"ready")
        assert before <= time.monotonic() < before + 1
        assert wall <= time.time()
        thread.join()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"within", ("127.0.0.1", 9000))
        words = [udp.recv(10).decode(), open("/tmp/file").read(), os.urandom(4).hex()]
        connection, _ = server.accept()
        connection.sendall(" ".join(words).encode())
        print(os.read(news, 1000).decode().split()[2:], sys.stdin.read(), time.time())
    """
    name = f"test-{os.getpid()}"
    with python(program, name=name, publish=["0:8000"]) as template:
        assert tell(template)[1] == ["within", "kept"]
    try:
        with pytest.raises(ConfigError, match="there is one already"):
            python(program, name=name)
        with pyrovm.Template.load(name, pool=1) as template:
            first, second = tell(template), tell(template)
        assert first[1] == second[1] == ["within", "kept"]
        assert first[0] != second[0]
    finally:
        store.remove(name)
    with pytest.raises(ConfigError, match=f"template '{name}': there is none"):
        pyrovm.Template.load(name)


def tell(template):
    """Of the program above: its random number, and what else it tells who connects."""
    with template.fork(["x"], input="in", stdout=-1, text=True) as branch:
        with socket.create_connection(branch.ports["8000/tcp"], timeout=PATIENCE) as client:
            *words, number = client.recv(100).decode().split()
        words_out = branch.wait(PATIENCE).stdout.rsplit(" ", 1)
        assert words_out[0] == "['x'] in"
        assert abs(float(words_out[1]) - time.time()) < PATIENCE
    return number, words


def test_files_of_a_template_that_are_damaged_are_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("PYROVM_CACHE", program_guest.environment()["PYROVM_CACHE"])
    name = f"test-damaged-{os.getpid()}"
    with bash("echo ready > /dev/pyrovm; echo on", name=name):
        pass
    folder = store.folder_of(name)
    try:
        for file, damage, problem in (
            ("state", lambda data: data[:-1], "state"),
            ("state", lambda data: data[:99] + b"?" + data[100:], "state"),
            ("memory", lambda data: data[: 1 << 20], "memory has 1048576 bytes"),
            ("libos", lambda data: data[:4096], "library OS"),
        ):
            good = (folder / file).read_bytes()
            (folder / file).write_bytes(damage(good))
            with pytest.raises(PyrovmError, match=problem):
                pyrovm.Template.load(name)
            (folder / file).write_bytes(good)
        with pyrovm.Template.load(name) as template:
            assert output(template) == "on\n"
    finally:
        store.remove(name)


def test_the_command_line_makes_runs_and_removes_templates():
    def pyrovm_template(*words, **options):
        return subprocess.run(
            [sys.executable, "-m", "pyrovm.cli.main", "template", *words],
            **{"capture_output": True, "text": True, "timeout": 3 * PATIENCE, **options},
            env=program_guest.environment(),
            check=False,
        )

    name = f"test-cli-{os.getpid()}"
    script = (
        'echo ready > /dev/pyrovm; mapfile -t l < /dev/pyrovm; read -r x; echo "$x ${l[1]}"; exit 3'
    )
    made = pyrovm_template("create", name, "--memory", "64M", "--", BASH, "-c", script)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.startswith(f"{name}: ready (call) after ")
    try:
        ran = pyrovm_template("run", name, "--", "a line", input="hello\n")
        assert (ran.stdout, ran.stderr, ran.returncode) == ("hello a line\n", "", 3)
        forked = pyrovm_template("fork", "-n", "3", name, "--json", "--", "x")
        assert forked.returncode == 3
        facts = [json.loads(line) for line in forked.stdout.splitlines() if line[0] == "{"]
        assert len({each["generation"] for each in facts}) == 3
        assert forked.stdout.splitlines().count(" x") == 3
        (found,) = [
            t for t in json.loads(pyrovm_template("list", "--json").stdout) if t["name"] == name
        ]
        assert found["memory_bytes"] == 64 << 20
        assert found["command"] == [BASH, "-c", script]
        again = pyrovm_template("create", name, "--", BASH)
        assert again.returncode == 1
        assert "there is one already; --replace makes it anew" in again.stderr
    finally:
        assert pyrovm_template("remove", name).returncode == 0
    gone = pyrovm_template("run", name)
    assert (gone.returncode, "there is none" in gone.stderr) == (1, True)


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
    return [json.loads(text), count, random.random(), round(math.sqrt(16))]  # noqa: F821


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


def test_at_the_limit_of_descriptors_there_is_an_error_and_no_harm():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with bash("echo ready > /dev/pyrovm; read -r x; echo got $x") as template:
        ours, theirs = os.pipe()
        there = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (there + 20, before[1]))
        branches = []

        def fork_on():
            while True:
                branches.append(template.fork(stdin=ours, stdout=subprocess.PIPE))

        try:
            with pytest.raises(HostError, match=r"A branch cannot be made: .*descriptor"):
                fork_on()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert branches
        os.close(ours)
        os.close(theirs)
        assert {branch.wait(PATIENCE).stdout for branch in branches} == {b"got\n"}
        assert output(template, input="more\n") == "got more\n"
        assert len(os.listdir("/proc/self/fd")) == there - 2


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
