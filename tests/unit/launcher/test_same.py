"""By the launcher everything is as it is without: output, status, signals, descriptors, limits."""

import os
import pty
import re
import resource
import select
import signal
import subprocess

import pytest

from tests.fakes.launcher import ENTRY, TIMEOUT, wait_until

TIMES = re.compile(r"^\S+T\S+ ", re.M)
CASES = (
    ["--version"],
    ["--help"],
    ["--snapshot-version"],
    ["--foo"],
    ["--id"],
    ["--id", "a_b"],
    ["--no-api"],
    ["--level", "loud"],
    ["--describe-snapshot", "/nonexistent"],
    ["--config-file", "/nonexistent"],
    ["--log-path", "/nonexistent/log"],
    ["--api-sock", "/nonexistent/api.sock"],
    ["--api-sock", "taken"],
    ["--no-api", "--config-file", "empty.json"],
)
SIGNALS = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1),
    *(signal.SIGSYS, signal.SIGBUS, signal.SIGSEGV, signal.SIGXFSZ, signal.SIGXCPU),
    *(signal.SIGILL, signal.SIGALRM, signal.SIGKILL, signal.SIGIO, signal.SIGRTMIN + 5),
)


def outcome(environment, words, folder, **options):
    done = subprocess.run(
        [*ENTRY, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        **options,
    )
    return done.returncode, TIMES.sub("", done.stdout), done.stderr


def both(launcher):
    """Environments: without, then with."""
    return {**launcher.environment, "PYROVM_LAUNCHER": "off"}, launcher.environment


def test_every_end_is_the_same(launcher, tmp_path):
    (tmp_path / "taken").touch()
    (tmp_path / "empty.json").write_text("{}")
    launcher.run()
    cold, warm = both(launcher)
    for words in CASES:
        assert outcome(warm, words, tmp_path) == outcome(cold, words, tmp_path), words
    assert launcher.status()["started"] == len(CASES)


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_end_it_as_ever(launcher, start, number):
    launcher.run("--pool", "1")
    cold, warm = (start(env=environment) for environment in both(launcher))
    assert launcher.status()["started"] == 1
    assert warm.end(number) == cold.end(number)
    assert TIMES.sub("", warm.log).replace(warm.socket, cold.socket) == TIMES.sub("", cold.log)
    wait_until(lambda: not launcher.status()["children"], "the child has ended too")


def test_ignored_and_blocked_signals_stay_so(launcher, start):
    launcher.run()
    seen = []
    for environment in both(launcher):
        process = start(env=environment, wrapper=("nohup",))
        seen.append(signals_of(child_of(launcher, process)))
        process.end()
    assert seen[0] == seen[1]


def signals_of(pid):
    """What is ignored, and what the main thread blocks."""
    with open(f"/proc/{pid}/status") as file:
        return [line for line in file if line.startswith(("SigIgn", "SigBlk"))]


def child_of(launcher, process):
    """The process that is the VMM."""
    children = launcher.status()["children"]
    return children[0]["pid"] if children else process.process.pid


def test_a_stopped_program_goes_on(launcher, start):
    launcher.run()
    process = start()
    pid = child_of(launcher, process)
    process.process.send_signal(signal.SIGTSTP)
    wait_until(lambda: state(pid) == "T" and state(process.process.pid) == "T", "both stop")
    process.process.send_signal(signal.SIGCONT)
    wait_until(lambda: state(pid) in "SR", "it goes on")
    assert '"state":"Not started"' in process.request("GET", "/")


def state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_killing_the_stub_kills_the_vmm(launcher, start):
    launcher.run()
    process = start()
    pid = child_of(launcher, process)
    process.process.kill()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the VMM is gone")
    assert launcher.status()["ended"] == 1


def test_killing_the_vmm_ends_the_stub_by_the_same_signal(launcher, start):
    launcher.run()
    process = start()
    os.kill(child_of(launcher, process), signal.SIGKILL)
    assert process.finish() == -signal.SIGKILL


def test_a_child_has_the_descriptors_of_a_cold_start(launcher, start, tmp_path):
    launcher.run("--pool", "2")
    launcher.wait_for_pool()
    extra = os.open(tmp_path, os.O_RDONLY)
    kinds = []
    for environment in both(launcher):
        process = start(env=environment, pass_fds=(extra,))
        pid = child_of(launcher, process)
        wait_until(lambda at=pid: has_vm(at) or not os.path.exists("/dev/kvm"), "the VM is made")
        kinds.append(descriptors(pid))
        assert os.readlink(f"/proc/{pid}/fd/{extra}") == str(tmp_path)
        process.end()
    os.close(extra)
    cold, warm = kinds
    assert warm.pop("socket") == cold.pop("socket") + 1  # the lifeline
    assert warm == cold


def descriptors(pid):
    """How many of each kind."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        kind = os.readlink(f"/proc/{pid}/fd/{name}").partition(":[")[0]
        found[kind] = found.get(kind, 0) + 1
    return found


def has_vm(pid):
    return "anon_inode:kvm-vm" in descriptors(pid)


def test_a_child_takes_over_what_its_caller_is(launcher, start, tmp_path):
    launcher.run("--pool", "1")
    launcher.wait_for_pool()
    seen = []
    for environment in both(launcher):
        process = start(
            env={**environment, "TZ": "Asia/Kathmandu"},
            cwd=tmp_path,
            preexec_fn=change,
        )
        pid = child_of(launcher, process)
        process.wait_for("API server started")
        seen.append((facts(pid), re.search(r"T(\d\d:\d\d)", process.log)[1]))
        process.end()
    assert seen[0][0] == seen[1][0]
    assert seen[0][0]["Umask"] == "0027"
    assert seen[0][0]["cwd"] == str(tmp_path)
    minutes = [60 * int(at[:2]) + int(at[3:]) for _, at in seen]
    assert (minutes[1] - minutes[0]) % (24 * 60) <= 2  # the same time zone


def change():
    os.umask(0o027)
    os.nice(3)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, 400))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def facts(pid):
    found = {"cwd": os.readlink(f"/proc/{pid}/cwd")}
    with open(f"/proc/{pid}/limits") as file:
        found["limits"] = file.read()
    with open(f"/proc/{pid}/stat") as file:
        found["nice"] = file.read().rpartition(")")[2].split()[16]
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name in ("Umask", "Cpus_allowed", "SigIgn", "SigCgt"):
                found[name] = value.strip()
    return found


def test_a_descriptor_above_the_limit_is_taken_over(launcher, start):
    launcher.run("--pool", "1")
    for environment in both(launcher):
        process = start(env=environment, preexec_fn=keep_one_above_the_limit, close_fds=False)
        pid = child_of(launcher, process)
        assert os.path.exists(f"/proc/{pid}/fd/300")
        assert re.search(r"Max open files +200 +200 ", facts(pid)["limits"])
        process.end()


def keep_one_above_the_limit():
    os.dup2(1, 300)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))


def test_a_closed_standard_input_is_closed_there_too(launcher, start):
    launcher.run()
    for environment in both(launcher):
        process = start(env=environment, preexec_fn=lambda: os.close(0))
        pid = child_of(launcher, process)
        assert not os.path.lexists(f"/proc/{pid}/fd/0") or "pyrovm" not in os.readlink(
            f"/proc/{pid}/fd/0"
        )
        assert '"state":"Not started"' in process.request("GET", "/")
        process.end()


def test_on_a_terminal_ctrl_c_ends_it(launcher, tmp_path):
    launcher.run()
    ends = []
    for number, environment in enumerate(both(launcher)):
        pid, master = pty.fork()
        if not pid:
            os.environ.clear()
            os.environ.update(environment)
            os.execv(ENTRY[0], [*ENTRY, "--api-sock", str(tmp_path / f"{number}.sock")])
        said = b""
        while b"API server started." not in said:
            assert select.select([master], [], [], TIMEOUT)[0], said
            said += os.read(master, 1000)
        os.write(master, b"\x03")
        ends.append(os.waitpid(pid, 0)[1])
        os.close(master)
    assert ends == [signal.SIGINT, signal.SIGINT]
    assert launcher.status()["started"] == 1
