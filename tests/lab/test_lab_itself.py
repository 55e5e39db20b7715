"""The lab does what its documentation says: KVM inside, statuses, time-outs, output, clean ends."""

import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyrovm.guest import cache, programs
from pyrovm.lab import Lab, LabError, jobdisk

PROBE = """
import fcntl, json, os, sys
kvm = os.open("/dev/kvm", os.O_RDWR)
flags = open("/proc/cpuinfo").read()
print(json.dumps({
    "api": fcntl.ioctl(kvm, 0xAE00),
    "irqchip": fcntl.ioctl(kvm, 0xAE03, 0),
    "ioeventfd": fcntl.ioctl(kvm, 0xAE03, 36),
    "svm": " svm " in flags,
    "modules": [m for m in ("kvm_amd", "tun", "vhost_net", "vhost_vsock")
                if os.path.isdir(f"/sys/module/{m}")],
    "devices": [d for d in ("net/tun", "vhost-net", "vhost-vsock") if os.path.exists(f"/dev/{d}")],
    "python": sys.version_info[:3],
    "random": os.urandom(8).hex(),
}))
"""


def qemu_processes(needle):
    """Live QEMU processes with ``needle`` in their command line; a zombie has none."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"qemu" in words and needle.encode() in words:
                found.append(int(entry.name))
    return found


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def test_the_lab_has_a_complete_kvm_and_a_fresh_random_pool(lab):
    found = lab.run(["probe.py"], python=True, tree={"probe.py": PROBE.encode()}).json()
    again = lab.run(["python3", "probe.py"], tree={"probe.py": PROBE.encode()}).json()
    assert found["api"] == 12
    assert found["irqchip"] == found["ioeventfd"] == 1
    assert found["svm"]
    assert found["modules"] == ["kvm_amd", "tun", "vhost_net", "vhost_vsock"]
    assert found["devices"] == ["net/tun", "vhost-net", "vhost-vsock"]
    assert tuple(found["python"]) == sys.version_info[:3]
    assert found["random"] != again["random"], "two labs resumed from one snapshot"


def test_output_status_environment_and_files_come_back(lab):
    script = (
        "echo to-out; echo to-err >&2; echo $WORD; cat given; pwd; "
        "mkdir $LAB_OUT/deep; printf data >$LAB_OUT/deep/file; exit 7"
    )
    result = lab.run(["sh", "-c", script], tree={"given": b"gift\n"}, env={"WORD": "it's here"})
    assert result.status == 7
    assert result.stdout == b"to-out\nit's here\ngift\n/job/tree\n"
    assert result.stderr == b"to-err\n"
    assert result.files == {"deep/file": b"data"}
    assert not result.timed_out
    with pytest.raises(LabError, match="status 7"):
        result.check()


def test_the_shell_finds_programs_of_the_host_before_those_of_busybox(lab):
    if not programs.find("ip"):
        pytest.skip("the host has no iproute2")
    assert lab.run(["sh", "-c", "ip -V"]).stdout.startswith(b"ip utility, iproute2")


def test_large_output_is_complete(lab):
    result = lab.run(["sh", "-c", "seq 300000; seq 200000 >&2"])
    assert result.stdout == b"".join(b"%d\n" % n for n in range(1, 300001))
    assert result.stderr == b"".join(b"%d\n" % n for n in range(1, 200001))


def test_statuses_are_those_of_a_shell(lab):
    assert lab.run(["/no/such/program"]).status == 127
    assert lab.run(["/etc/passwd"]).status == 126
    assert lab.run(["sh", "-c", "kill -9 $$"]).status == 128 + 9


def test_a_command_that_takes_too_long_is_ended_and_its_output_kept(lab):
    script = "echo before; echo kept >$LAB_OUT/file; sleep 1000"
    result = lab.run(["sh", "-c", script], timeout=0.5)
    assert result.timed_out
    assert result.status == 124
    assert result.stdout == b"before\n"
    assert result.files == {"file": b"kept\n"}


def test_what_a_command_leaves_running_does_not_hold_up_its_end(lab):
    result = lab.run(["sh", "-c", "sleep 1000 & echo done; echo x >$LAB_OUT/x"])
    assert (result.status, result.stdout, result.files) == (0, b"done\n", {"x": b"x\n"})


def test_a_warm_interpreter_runs_a_script_as_a_cold_one_does(lab):
    script = """
import atexit, module, os, sys, threading
atexit.register(print, "at exit", flush=True)
threading.Thread(target=lambda: print("thread")).start()
print(sys.argv, __name__, __file__, module.NAME, os.getcwd())
sys.exit(5)
"""
    tree = {"script.py": script.encode(), "lib/module.py": b"NAME = 'found'\n"}
    arguments = {"tree": tree, "env": {"PYTHONPATH": "/job/tree/lib"}}
    warm = lab.run(["script.py", "a b"], python=True, **arguments)
    cold = lab.run(["python3", "script.py", "a b"], **arguments)
    assert warm.status == cold.status == 5
    assert warm.stderr == cold.stderr == b""
    assert sorted(warm.stdout.splitlines()) == sorted(
        cold.stdout.replace(b"/job/tree/script.py", b"script.py").splitlines()
    )


def test_an_interpreter_ends_well_while_its_threads_still_run(lab):
    script = (
        "import _thread, time\n"
        "def spin():\n"
        "    while True: time.sleep(0)\n"
        "for _ in range(4): _thread.start_new_thread(spin, ())\n"
        "print('done')\n"
    )
    result = lab.run(["s.py"], python=True, tree={"s.py": script.encode()})
    assert (result.status, result.stdout, result.stderr) == (0, b"done\n", b"")


def test_assets_are_there_and_read_only_and_their_disk_is_made_once(lab, tmp_path):
    (tmp_path / "big").write_bytes(bytes(range(256)) * 4096)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "small").write_bytes(b"x")
    assets = {"one": tmp_path / "big", "two": tmp_path / "folder"}
    script = "ls $LAB_ASSETS $LAB_ASSETS/two; sha256sum <$LAB_ASSETS/one; touch $LAB_ASSETS/new"
    first = lab.run(["sh", "-c", script], assets=assets)
    made = jobdisk.asset_disk(assets).stat().st_ino
    second = lab.run(["sh", "-c", script], assets=assets)
    assert jobdisk.asset_disk(assets).stat().st_ino == made
    assert first.stdout == second.stdout
    checksum = hashlib.sha256(bytes(range(256)) * 4096).hexdigest()
    words = ["/job/assets:", "one", "two", "/job/assets/two:", "small", checksum, "-"]
    assert first.stdout.decode().split() == words
    assert b"Read-only file system" in first.stderr


def test_labs_run_at_the_same_time_without_meeting(lab):
    def run(number):
        script = f"echo {number} >/tmp/mine; sleep 0.5; cat /tmp/mine"
        return lab.run(["sh", "-c", script]).stdout

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(run, range(3))) == [b"0\n", b"1\n", b"2\n"]


def test_with_icount_the_same_work_takes_the_same_time():
    script = """
import json, time
before = time.process_time_ns()
sum(n * n % 7 for n in range(20000))
print(json.dumps(time.process_time_ns() - before))
"""
    with Lab(icount=0) as exact:
        runs = [
            exact.run(["work.py"], python=True, tree={"work.py": script.encode()}).json()
            for _ in range(2)
        ]
    assert abs(runs[0] - runs[1]) <= max(runs) * 0.02


def test_two_cpus_are_two():
    with Lab(cpus=2) as two:
        assert two.run(["nproc"]).stdout == b"2\n"


def test_a_killed_lab_command_leaves_no_process_and_no_folder(lab):
    argv = [sys.executable, "-m", "pyrovm.cli.main", "lab", "run", "--", "sh", "-c"]
    sessions = cache.folder("lab", "sessions")
    before = set(sessions.glob("tmp-*"))
    process = subprocess.Popen([*argv, "echo up; sleep 1000"], stdout=subprocess.PIPE)
    with process:
        assert process.stdout.readline() == b"up\n"
        (session,) = [
            path
            for path in set(sessions.glob("tmp-*")) - before
            if process_has_open(process.pid, path)
        ]
        assert qemu_processes(str(session))
        os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not qemu_processes(str(session)))
    assert session.exists(), "nobody has had the time to remove it"
    assert lab.run(["true"]).status == 0
    assert not session.exists(), "the next start sweeps"


def process_has_open(pid, folder):
    """Whether a process holds the lock of a session's folder."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if str(folder) in os.readlink(fd):
                return True
        except OSError:
            continue
    return False


def test_the_command_line_passes_output_and_status_on(lab, tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("from the tree\n")
    argv = [sys.executable, "-m", "pyrovm.cli.main", "lab", "run"]
    argv += ["--tree", tmp_path / "tree", "--out", tmp_path / "out", "--env", "A=b c", "--times"]
    argv += ["--", "sh", "-c", 'cat file; echo "$A"; echo oops >&2; cp file $LAB_OUT; exit 3']
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 3
    assert done.stdout == "from the tree\nb c\n"
    assert done.stderr.startswith("oops\npyrovm lab: seconds: disk ")
    assert (tmp_path / "out" / "file").read_text() == "from the tree\n"


def test_the_shell_is_on_a_terminal_of_its_own(lab):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (33, 99))
    argv = [sys.executable, "-m", "pyrovm.cli.main", "lab", "shell", "--env", "WORD=told"]
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs) as shell:
        os.close(theirs)
        said = b""
        while b"# " not in said:
            said += os.read(ours, 4096)
        os.write(ours, b"tty; stty size; echo $((6*7)) $WORD; exit 5\n")
        while True:
            try:
                said += os.read(ours, 4096)
            except OSError:  # what a terminal says when its other end is closed
                break
    os.close(ours)
    assert shell.returncode == 5
    for line in (b"/dev/hvc0\r\n", b"33 99\r\n", b"42 told\r\n"):
        assert line in said


def test_status_tells_of_the_images(lab):
    argv = [sys.executable, "-m", "pyrovm.cli.main", "lab", "status", "--json"]
    report = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    assert report["ready"]
    assert report["bytes"] > 1 << 20
    assert any(each["snapshots"] for each in report["images"])


def test_a_scenario_sees_this_source_tree(scenario):
    found = scenario(
        """
import json, sys
import pyrovm.errors
print("whatever else it says")
print(json.dumps([pyrovm.errors.__file__, sys.argv[1:]]))
""",
        "argument",
    )
    assert found == ["/job/tree/src/pyrovm/errors.py", ["argument"]]


def test_a_scenario_that_fails_says_why(scenario):
    with pytest.raises(LabError, match="ZeroDivisionError"):
        scenario("print('line')\n1 / 0\n")
