import dataclasses
import json
import socket
import threading
from pathlib import Path

import pytest

from pyrovm.errors import Unsupported
from pyrovm.lab import qemu
from pyrovm.lab.errors import LabError
from pyrovm.lab.images import Images
from pyrovm.lab.qemu import Machine, Monitor, Wiring, command

IMAGES = Images(Path("/images"))


@pytest.fixture(autouse=True)
def no_host(monkeypatch):
    monkeypatch.setattr(qemu.programs, "require", lambda *names: [Path("/bin", n) for n in names])
    monkeypatch.setattr(qemu, "tsc_khz", lambda: 2_700_000)


def option(words, name):
    return [words[at + 1] for at, word in enumerate(words) if word == name]


def test_a_machine_is_described_with_the_host_s_clock_rate():
    words = command(Machine(), IMAGES, Wiring())
    assert words[0] == "/bin/qemu-system-x86_64"
    assert option(words, "-accel") == ["tcg,thread=single"]
    assert option(words, "-cpu") == ["EPYC,+svm,+npt"]
    assert "tsc_early_khz=2700000" in option(words, "-append")[0]
    assert "memory-backend-file" not in " ".join(words)


def test_more_cpus_have_a_thread_each():
    words = command(Machine(cpus=2), IMAGES, Wiring())
    assert option(words, "-accel") == ["tcg,thread=multi"]
    assert option(words, "-smp") == ["2"]


def test_with_icount_the_clock_counts_nanoseconds():
    words = command(Machine(icount=0), IMAGES, Wiring())
    assert option(words, "-icount") == ["shift=0,sleep=off"]
    assert "tsc_early_khz=1000000" in option(words, "-append")[0]


def test_a_snapshot_s_memory_is_mapped_privately_and_its_maker_s_shared():
    resumed = " ".join(command(Machine(), IMAGES, Wiring(memory=Path("/m"))))
    making = " ".join(command(Machine(), IMAGES, Wiring(memory=Path("/m"), memory_shared=True)))
    assert "mem-path=/m,share=off" in resumed
    assert "mem-path=/m,share=on" in making
    assert "pc,memory-backend=ram" in resumed


def test_commas_in_paths_are_doubled():
    words = " ".join(command(Machine(), IMAGES, Wiring(job=Path("/a,b"), memory=Path("/c,d"))))
    assert "file=/a,,b," in words
    assert "mem-path=/c,,d," in words


@pytest.mark.parametrize(
    "change", [{"cpus": 2}, {"memory_mib": 512}, {"icount": 0}, {"cpu": "max"}, {"append": "x"}]
)
def test_every_kind_of_machine_has_a_command_line_of_its_own(change):
    other = dataclasses.replace(Machine(), **change)
    assert command(other, IMAGES, Wiring()) != command(Machine(), IMAGES, Wiring())


def test_another_processor_than_x86_is_refused(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(qemu.platform, "machine", lambda: "aarch64")
    with pytest.raises(Unsupported, match="x86-64"):
        qemu.tsc_khz()


def test_the_clock_rate_is_measured_once_for_each_start_of_the_host(monkeypatch, fresh_cache):
    monkeypatch.undo()
    monkeypatch.setenv("PYROVM_CACHE", str(fresh_cache))
    monkeypatch.setattr(qemu, "_measure_tsc_khz", lambda: 1_234_500)
    assert qemu.tsc_khz() == 1_234_500
    monkeypatch.setattr(qemu, "_measure_tsc_khz", lambda: 9_999_900)
    assert qemu.tsc_khz() == 1_234_500
    (fresh_cache / "lab" / "tsc-khz").write_text("another-boot 5")
    assert qemu.tsc_khz() == 9_999_900


@pytest.fixture
def monitor():
    """A monitor, and what to answer to its next requests."""
    ours, far = socket.socketpair()
    answers, requests = [], []

    def serve():
        with far, far.makefile("rwb", buffering=0) as stream:
            stream.write(b'{"QMP": {}}\n')
            for line in stream:
                requests.append(json.loads(line))
                for answer in answers.pop(0) if len(requests) > 1 else [{"return": {}}]:
                    stream.write(json.dumps(answer).encode() + b"\n")
                if not answers:
                    return

    thread = threading.Thread(target=serve)

    def start(*each):
        answers.extend(each)
        thread.start()
        return Monitor(ours), requests

    yield start
    ours.close()
    thread.join(30)


def test_the_monitor_returns_what_qemu_returns_and_skips_events(monitor):
    speak, requests = monitor([{"event": "STOP"}, {"return": {"status": "completed"}}])
    assert speak.execute("query-migrate", detail=1) == {"status": "completed"}
    assert requests[1] == {"execute": "query-migrate", "arguments": {"detail": 1}}
    speak.close()


def test_what_qemu_refuses_and_its_end_are_errors(monitor):
    speak, _ = monitor([{"error": {"desc": "no such thing"}}])
    with pytest.raises(LabError, match="refused migrate: no such thing"):
        speak.execute("migrate")
    with pytest.raises((LabError, OSError)):
        speak.execute("quit")
    speak.close()
