"""Solo5 guests, one property each, under ``pyrovm solo5`` on a KVM of any kind."""

import contextlib
import os
import signal
import socket
import subprocess
import time

import pytest

from pyrovm.kvm.system import Kvm
from pyrovm.machine.probe import SOFTWARE, kvm_kind
from tests.fakes import solo5_guest
from tests.fakes.solo5_guest import command, run

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(solo5_guest.compiler() is None, reason="no gcc to compile guests with"),
]

MEMORY = "--mem=8"
READY_TIMEOUT = 60


@pytest.fixture(scope="session")
def guest(tmp_path_factory):
    """``guest(name)``: the path of a compiled guest."""
    folder = tmp_path_factory.mktemp("solo5")
    return lambda name: solo5_guest.build(name, folder)


@pytest.fixture
def disk(tmp_path):
    """A disk of 16 sectors, each beginning with its number."""
    path = tmp_path / "disk"
    path.write_bytes(b"".join(b"sector %-9d" % n + bytes(496) for n in range(16)))
    return path


@contextlib.contextmanager
def running(*words, port, **options):
    """A guest with the descriptor of ``port`` passed; a socket without frames in it is the end."""
    process = subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        pass_fds=[port.fileno()], **options,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def wire():
    """Both ends of a network: ours and the guest's."""
    ours, guests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(READY_TIMEOUT)
    with ours, guests:
        yield ours, guests


def test_a_guest_says_hello_with_its_arguments_and_ends_well(guest):
    done = run(guest("hello"), "one", "--two", "three four")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "hello from a unikernel\nmemory 512\nticks 1\nfeatures 0\nentries 1\n"
        "arguments [one --two three four]\n"
    )


def test_memory_size_and_exit_status_are_the_guests_and_ours(guest):
    done = run("--mem=2", "--", guest("hello"), "!7")
    assert done.returncode == 7
    assert "memory 2\n" in done.stdout


def test_four_gib_of_memory_are_reachable_to_the_end(guest):
    assert "memory 4096\n" in run("--mem=4096", guest("hello")).stdout


def test_a_guest_begins_in_the_state_of_the_contract(guest):
    done = run(MEMORY, guest("state"))
    assert done.stdout.split("\n") == [
        "bss 0",
        f"cr0 {0x80010031}",  # PG, WP, NE, ET (which cannot be 0), PE
        f"cr3 {0x2000}",
        f"cr4 {0x620}",  # OSXMMEXCPT, OSFXSR, PAE
        "interrupts 0",
        "cs 8",
        f"info {0x10000}",
        "last 0",
        "",
    ]


def test_a_disk_is_read_and_written_within_its_bounds(guest, disk):
    before = disk.read_bytes()
    done = run(MEMORY, f"--block:disk={disk}", guest("block"))
    assert done.stdout.split("\n") == [
        "attached 1",
        "capacity 8192",
        "block size 512",
        "read 0",
        "sector 1        write 0",
        "many 0",
        "past the end 2",
        "over the end 2",
        "overflow 2",
        "no handle 2",
        "reserved handle 2",
        "",
    ]
    data = disk.read_bytes()
    assert data[-512:-496] == b"Jector 1        "
    assert data[:-512] == before[:-512], "nothing else was written"
    assert len(data) == len(before)


def test_the_block_size_is_what_was_asked_for(guest, disk):
    words = MEMORY, f"--block:disk={disk}", "--block-sector-size:disk=4096", guest("block")
    assert "block size 4096\n" in run(*words).stdout


def test_frames_are_exchanged_by_hypercalls(guest, wire):
    ours, guests = wire
    words = (
        MEMORY, f"--net:net0=@{guests.fileno()}", "--net-mac:net0=02:00:00:00:00:2a", guest("net")
    )  # fmt: skip
    with running(*words, port=guests) as process:
        assert ours.recv(100) == b"ready".ljust(60, b"\0")
        for size in (60, 1514):
            ours.send(b">" * size)
            assert ours.recv(2048) == b"<" + b">" * (size - 1)
        ours.send(b".")
        output, errors = process.communicate(timeout=READY_TIMEOUT)
    assert (process.returncode, errors) == (0, "")
    assert output.split("\n") == [
        "mac 42",
        "mtu 1500",
        "none waits 1",
        "ready 0",
        "no handle 2",
        "sent 0",
        "",
    ]


def test_frames_are_exchanged_over_the_ring(guest, wire):
    ours, guests = wire
    words = MEMORY, f"--net:net0=@{guests.fileno()}", guest("ring")
    with running(*words, port=guests) as process:
        assert [ours.recv(100).rstrip(b"\0") for _ in range(2)] == [b"ready", b"steady"]
        for number in range(1100):  # more than the ring has slots
            ours.send(b">%d" % number)
            assert ours.recv(2048) == b"<%d" % number
        ours.send(b".")
        output, errors = process.communicate(timeout=READY_TIMEOUT)
    assert (process.returncode, errors) == (0, "")
    assert output.split("\n") == ["feature 1", "above memory 0", "none waits 1", "frames 1100", ""]


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ("tail", "network ring: 5001 entries between head 0 and tail 5001, 1024 allowed"),
        ("pointer", "the guest passed the pointer 0x800000 to 0x40 bytes"),
    ],
)
def test_a_guest_that_breaks_the_rings_rules_ends(guest, wire, lie, message):
    _, guests = wire
    words = MEMORY, f"--net:net0=@{guests.fileno()}", guest("ring"), lie
    with running(*words, port=guests) as process:
        _, errors = process.communicate(timeout=READY_TIMEOUT)
    assert process.returncode == 1
    assert message in errors
    assert "Traceback" not in errors


def test_time_passes_as_the_guest_asked(guest):
    off = []
    for _ in range(5):  # a busy machine may take the guest away between its two looks at a clock
        before = time.time()
        said = run(MEMORY, guest("time")).stdout.splitlines()
        found = {name: int(value) for name, value in (line.rsplit(" ", 1) for line in said)}
        assert found["ready"] == 0, "no device is ready, and poll says so in both answers"
        assert int(before) <= found["seconds"] <= time.time()
        assert found["slept"] >= 50
        off.append(abs(found["counted"] - found["slept"]) / found["slept"])
        if off[-1] <= 0.1:
            return
    raise AssertionError(off)


# ------------------------------------------------------------------------- broken rules

FAULT = "KVM: host/guest translation fault, rip=0x10"
ABUSE = {
    "null": "KVM: triple fault",
    "text": FAULT,
    "rodata": FAULT,
    "bootinfo": "KVM: triple fault",
    "beyond": "KVM: triple fault",
    "block-beyond": "the guest passed the pointer 0x7ffff8 to 0x10 bytes",
    "block-high": "the guest passed the pointer 0xfffffff8 to 0x10 bytes",
    "answer-in-text": "the guest passed the pointer 0x100000 for an answer: read-only memory",
    "answer-in-tables": "the guest passed the pointer 0x2000 for an answer: reserved memory",
    "read-into-text": "the guest passed the pointer 0x100000 for an answer: read-only memory",
    "pointer": "the guest passed the pointer 0x7ffffc to 0x8 bytes, its memory ends at 0x800000",
    "length": "to 0xffffffffffffffff bytes, its memory ends at 0x800000",
    "net-pointer": "the guest passed the pointer 0x8000000000000000 to 0x40 bytes",
    "cookie": "the guest passed the pointer 0x7ffe01 to 0x200 bytes",
    "number": "Invalid guest port access: port=0x509, rip=0x10",
    "zero": "Invalid guest port access: port=0x500",
    "port": "Invalid guest port access: port=0x3f8",
    "width": "Invalid guest port access: port=0x502",
    "in": "Invalid guest port access: port=0x502",
    "halt": "KVM: the guest halted, and nothing can wake it, rip=0x10",
}


@pytest.mark.parametrize("rule", ABUSE)
def test_a_guest_that_breaks_a_rule_ends_with_its_name(guest, disk, wire, rule):
    _, guests = wire
    done = run(
        MEMORY, f"--block:disk={disk}", f"--net:net0=@{guests.fileno()}", guest("abuse"), rule,
        pass_fds=[guests.fileno()],
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert ABUSE[rule] in done.stderr
    assert len(done.stderr.splitlines()) == 1, "one sentence, no traceback"


@pytest.mark.parametrize(("argument", "status"), [("data", 0), ("", 0), ("abort", 255)])
def test_what_a_guest_may_do_it_can_do(guest, disk, wire, argument, status):
    _, guests = wire
    done = run(
        MEMORY, f"--block:disk={disk}", f"--net:net0=@{guests.fileno()}", guest("abuse"), argument,
        pass_fds=[guests.fileno()],
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout == ("" if status else "still here\n")


def test_a_call_for_a_kind_of_device_that_the_guest_has_none_of_does_not_exist(tmp_path):
    code = bytes.fromhex("66ba0405 b800001000 ef f4")  # mov dx, 0x504; mov eax, 0x100000; out; hlt
    path = tmp_path / "image"
    path.write_bytes(solo5_guest.elf([(0x100000, code, len(code), 5)]))
    done = run(MEMORY, path)
    assert (done.returncode, done.stderr) == (1, "pyrovm solo5: Invalid guest hypercall: num=4\n")


def test_control_c_ends_a_guest_that_never_exits(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(solo5_guest.elf([(0x100000, b"\xeb\xfe", 2, 5)]))
    process = subprocess.Popen(command(MEMORY, path), stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + READY_TIMEOUT
        while "kvm-vcpu" not in _open_files(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        while process.poll() is None and time.monotonic() < deadline:
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        assert process.returncode in (-signal.SIGINT, 130)
    finally:
        process.kill()
        process.communicate()


def _open_files(pid):
    folder = f"/proc/{pid}/fd"
    return " ".join(os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder))


def test_an_instruction_that_a_software_only_kvm_does_not_know_is_named(guest):
    with Kvm() as kvm:
        if kvm_kind(kvm) != SOFTWARE:
            pytest.skip("this KVM runs every instruction")
    done = run(MEMORY, guest("sse"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "suberror=0x1: it cannot emulate the instruction" in done.stderr
    assert "'pyrovm lab run -- ...' runs them, rip=0x10" in done.stderr


# ----------------------------------------------------------------- images and options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "Resource declared in manifest but not attached: 'disk' (--block:disk=FILE)"),
        (("--block:other={disk}",), "Resource not declared in manifest: 'other' (block devices"),
        (
            ("--net:disk=tap0",),
            "Resource not declared in manifest: 'disk' (net devices declared: n",
        ),
        (("--block:disk=/nowhere",), "Could not open block device: /nowhere: No such file"),
        (("--block:disk={odd}",), "the backing storage has 700 bytes, a multiple of the block"),
        (("--block:disk={empty}",), "the backing storage has 0 bytes"),
    ],
)
def test_devices_that_do_not_fit_are_named(guest, disk, tmp_path, options, message):
    (tmp_path / "odd").write_bytes(bytes(700))
    (tmp_path / "empty").write_bytes(b"")
    paths = {"disk": disk, "odd": tmp_path / "odd", "empty": tmp_path / "empty"}
    done = run(MEMORY, *(option.format(**paths) for option in options), guest("block"))
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nosuchtap0", "Could not attach interface: nosuchtap0: No such device"),
        ("lo", "Could not attach interface: lo"),
        ("@1023", "Could not attach interface: @1023: Bad file descriptor"),
        ("@x", "a descriptor from 0 to 1023 is expected"),
        ("a-name-that-is-too-long", "an interface's name has 1 to 15 bytes"),
    ],
)
def test_networks_that_cannot_be_attached_are_named(guest, target, message):
    done = run(MEMORY, f"--net:net0={target}", guest("net"))
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr


def test_what_is_no_solo5_image_is_refused_with_its_name(tmp_path):
    (tmp_path / "text").write_text("#!/bin/sh\n")
    done = run(tmp_path / "text")
    assert (done.returncode, done.stderr) == (
        1,
        f"pyrovm solo5: {tmp_path}/text: not an ELF file\n",
    )
    assert "/nowhere: Could not open: No such file" in run("/nowhere").stderr
    done = run(MEMORY, "/bin/true")
    assert (done.returncode, "ELF type 3" in done.stderr) == (1, True)
