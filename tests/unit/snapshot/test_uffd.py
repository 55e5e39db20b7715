"""Memory that a page-fault handler brings: ours, and what becomes of a VM whose handler is gone."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest

from pyrovm.errors import HostError, SnapshotError
from pyrovm.host import facts, mapping
from pyrovm.snapshot import faults, guard, uffd, working_set
from pyrovm.snapshot.layout import Layout
from pyrovm.snapshot.server import Server

PAGE = 4096
SIZE = 256 * PAGE
DATA = {0, 1, 5, 100, 127, 128, 200, 255}  # pages with anything in them
TIMEOUT = 20.0
VM = Path(__file__).parents[2] / "fakes" / "uffd_vm.py"

pytestmark = pytest.mark.skipif(
    facts.userfaultfd() != facts.OK, reason="no userfaultfd for this user"
)


def content(number):
    return bytes([number % 255 + 1]) * PAGE


@pytest.fixture
def memory_file(tmp_path):
    path = tmp_path / "mem"
    with open(path, "wb") as file:
        file.truncate(SIZE)
        for number in DATA:
            file.seek(number * PAGE)
            file.write(content(number))
    return path


class Vm:
    """tests/fakes/uffd_vm.py in a process of its own."""

    def __init__(self, path, *extra, size=SIZE):
        self.process = subprocess.Popen(
            [sys.executable, VM, path, str(size), *extra],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.first = self.answer()

    def answer(self):
        ready, _, _ = select.select([self.process.stdout], [], [], TIMEOUT)
        assert ready, "the VM hangs"
        return self.process.stdout.readline().strip()

    def tell(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def ask(self, line):
        self.tell(line)
        return self.answer()

    def end(self):
        self.process.stdin.close()
        return self.process.wait(TIMEOUT)


@contextlib.contextmanager
def vm(path, *extra, **kwargs):
    found = Vm(str(path), *extra, **kwargs)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.wait()
        for stream in (found.process.stdin, found.process.stdout, found.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.close()


@contextlib.contextmanager
def served(memory_file, **options):
    """Our handler in a thread; what it said, and what stops it."""
    said = []
    path = memory_file.parent / "sock"
    server = Server(str(memory_file), str(path), say=said.append, **options)
    stop = os.eventfd(0)
    thread = threading.Thread(target=server.run, kwargs={"stop_fd": stop})
    thread.start()
    try:
        yield path, said
    finally:
        os.eventfd_write(stop, 1)
        thread.join(TIMEOUT)
        assert not thread.is_alive()
        server.close()
        os.close(stop)


def wait_until(check):
    deadline = time.monotonic() + TIMEOUT
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_page_is_what_the_file_has(memory_file):
    with served(memory_file) as (path, said), vm(path) as guest:
        assert guest.first == "ready"
        half = SIZE // 2
        expected = memory_file.read_bytes()
        assert guest.ask(f"sum 0 {half}") == str(zlib.crc32(expected[:half]))
        assert guest.ask(f"sum {half} {half}") == str(zlib.crc32(expected[half:]))
        assert guest.ask(f"write {100 * PAGE} 7") == "written"
        assert guest.ask(f"read {100 * PAGE}") == "7"
        assert guest.end() == 0
        wait_until(lambda: any("gone" in line for line in said))
    gone = next(line for line in said if "gone" in line)
    assert f"{len(DATA)} pages of the file, {SIZE // PAGE - len(DATA)} of zeros" in gone
    assert not path.exists()


def test_what_the_guest_gave_back_is_zeros(memory_file):
    with served(memory_file) as (path, _), vm(path) as guest:
        assert guest.ask(f"read {5 * PAGE}") == "6"
        for _ in range(3):
            assert guest.ask(f"drop 0 {10 * PAGE}") == "dropped"
            assert guest.ask(f"read {5 * PAGE}") == "0"
            assert guest.ask(f"read {PAGE}") == "0"  # also what was never asked for before
            assert guest.ask(f"write {5 * PAGE} 9") == "written"
            assert guest.ask(f"read {5 * PAGE}") == "9"


def test_many_vms_are_served_from_one_file(memory_file):
    with served(memory_file) as (path, _), contextlib.ExitStack() as stack:
        guests = [stack.enter_context(vm(path)) for _ in range(3)]
        for number, guest in enumerate(guests):
            assert guest.ask(f"write 0 {number + 50}") == "written"
        assert [guest.ask("read 0") for guest in guests] == ["50", "51", "52"]
        assert {guest.ask(f"read {PAGE}") for guest in guests} == {"2"}


def test_the_pages_first_asked_for_come_ahead_the_next_time(memory_file):
    with served(memory_file) as (path, said):
        with vm(path) as guest:
            assert guest.ask(f"read {100 * PAGE}") == "101"
            assert guest.ask(f"read {200 * PAGE}") == "201"
            guest.end()
        wait_until(lambda: any("working set" in line for line in said))
    ranges = working_set.load(str(memory_file))
    assert ranges == [(100 * PAGE, 101 * PAGE), (200 * PAGE, 201 * PAGE)]
    with served(memory_file) as (path, said), vm(path) as guest:
        assert guest.first == "ready"
        wait_until(lambda: any("8 KiB ahead" in line for line in said))
        guest.end()
        wait_until(lambda: any("gone" in line for line in said))
        assert any("gone after 0 faults, 2 pages of the file" in line for line in said)


def test_huge_pages_are_served_whole(tmp_path):
    if facts.huge_pages().free < 4:
        pytest.skip("no free huge pages (vm.nr_hugepages)")
    path = tmp_path / "mem"
    path.write_bytes(b"h" * (8 << 20))
    with served(path) as (sock, _), vm(sock, "2M", size=8 << 20) as guest:
        assert guest.ask(f"read {5 << 20}") == str(ord("h"))
        assert guest.ask(f"drop {4 << 20} {2 << 20}") == "dropped"
        assert guest.ask(f"read {5 << 20}") == "0"


def test_the_message_is_firecrackers(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "start", lambda *_: 0)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "sock"))
    listener.listen()
    layout = Layout([(0, 2 * PAGE), (1 << 32, PAGE)])
    mappings, handler = uffd.restore(str(tmp_path / "sock"), layout)
    with listener, listener.accept()[0] as peer:
        data, files, _, _ = socket.recv_fds(peer, 4096, 4)
        assert os.readlink(f"/proc/self/fd/{files[0]}") == "anon_inode:[userfaultfd]"
        assert (
            data
            == (
                f'[{{"base_host_virt_addr":{mappings[0].address},"size":8192,"offset":0,'
                '"page_size":4096,"page_size_kib":4096},'
                f'{{"base_host_virt_addr":{mappings[1].address},"size":4096,"offset":8192,'
                '"page_size":4096,"page_size_kib":4096}]'
            ).encode()
        )
        assert (len(files), handler.pid, handler.watch.death()) == (1, os.getpid(), "")
    for each in mappings:
        each.close()
    handler.close()
    os.close(files[0])


def test_nobody_listening_is_said_in_firecrackers_words(tmp_path):
    start = "Failed to load guest memory: Error creating guest memory from uffd: Failed to connect "
    with pytest.raises(HostError) as caught:
        uffd.restore(str(tmp_path / "none"), Layout([(0, PAGE)]))
    assert str(caught.value) == f"{start}to UDS Unix stream: No such file or directory (os error 2)"
    with pytest.raises(HostError, match="path too long"):
        uffd.restore("/" + "x" * 200, Layout([(0, PAGE)]))


HANDLER = """
import os, socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("listening", flush=True)
peer, _ = listener.accept()
message, files, _, _ = socket.recv_fds(peer, 4096, 1)
{then}
"""


@contextlib.contextmanager
def handler(path, then):
    process = subprocess.Popen(
        [sys.executable, "-c", HANDLER.format(then=then), path], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "listening\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_handler_that_dies_ends_a_vm_that_hangs_on_it(tmp_path):
    path = str(tmp_path / "sock")
    with handler(path, "time.sleep(60)") as process, vm(path) as guest:
        assert guest.ask("death") == "none"
        guest.tell("read 0")  # with the interpreter's lock held: no Python code runs there again
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        assert guest.process.wait(TIMEOUT) == -signal.SIGKILL
        said = guest.process.stderr.read()
    assert f"the page-fault handler (process {process.pid}) has ended" in said
    assert "the VM cannot go on without it" in said


def test_a_handler_that_dies_is_noticed_by_a_vm_that_does_not_hang(tmp_path):
    path = str(tmp_path / "sock")
    with handler(path, "time.sleep(60)") as process, vm(path) as guest:
        process.kill()
        process.wait()
        assert guest.ask("death") == f"the page-fault handler (process {process.pid}) has ended"
        assert guest.end() == 0
        assert guest.process.stderr.read() == ""


def test_a_handler_that_only_closes_its_connection_may_serve_on(tmp_path):
    path = str(tmp_path / "sock")
    with handler(path, "peer.close(); time.sleep(60)") as process, vm(path) as guest:
        time.sleep(0.2)
        assert guest.ask("death") == "none"
        process.kill()
        process.wait()
        assert "has ended" in guest.ask("death")


def test_a_handler_may_leave_its_work_to_another_process(tmp_path):
    path = str(tmp_path / "sock")
    then = "os.fork() and os._exit(0); time.sleep(60)"
    with handler(path, then) as process, vm(path) as guest:
        process.wait(TIMEOUT)
        assert guest.ask("death") == "none"


def test_a_memory_file_that_shrinks_ends_the_vm_with_the_reason(memory_file):
    with served(memory_file, use_working_set=False) as (path, said), vm(path) as guest:
        assert guest.ask("read 0") == "1"
        os.truncate(memory_file, 128 * PAGE)
        guest.tell(f"read {200 * PAGE}")
        assert guest.process.wait(TIMEOUT) == -signal.SIGKILL
        reason = f"the page-fault handler gives up: {memory_file}: it has become shorter"
        assert reason in guest.process.stderr.read()
        assert any("has become shorter" in line for line in said)


def test_the_guard_goes_with_the_vm(memory_file):
    with served(memory_file) as (path, _), vm(path) as guest:
        children = Path(f"/proc/{guest.process.pid}/task/{guest.process.pid}/children")
        (pid,) = children.read_text().split()
        pidfd = os.pidfd_open(int(pid))
        guest.process.kill()
        assert select.select([pidfd], [], [], TIMEOUT)[0]
        os.close(pidfd)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"hello]", "no JSON"),
        (b"[]", "1 to 512 parts"),
        (b"[1]", "part 0: no object"),
        ([{"size": PAGE}], "base_host_virt_addr: None"),
        ([{"base_host_virt_addr": 0, "size": -1, "offset": 0}], "size: -1"),
        ([{"base_host_virt_addr": 0, "size": 1, "offset": 0}], "whole pages of 4096"),
        ([{"base_host_virt_addr": 0, "size": 2 * SIZE, "offset": 0}], f"{SIZE} of the memory file"),
        (
            [{"base_host_virt_addr": 0, "size": PAGE, "offset": 0, "page_size": 1}],
            "page_size: 1; (4096, 2097152) are allowed",
        ),
        ([{"base_host_virt_addr": 0, "size": PAGE, "offset": 0}], "0 descriptors came"),
    ],
)
def test_what_no_vm_asks_for_is_refused(memory_file, message, words):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    with served(memory_file) as (path, said), socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(TIMEOUT)
        peer.connect(str(path))
        peer.sendall(data)
        assert words in peer.recv(4096).decode()
        assert peer.recv(1) == b""
        wait_until(lambda: any(words in line for line in said))


def test_a_descriptor_that_is_no_userfaultfd_is_refused(memory_file):
    part = [{"base_host_virt_addr": 0, "size": PAGE, "offset": 0}]
    with served(memory_file) as (path, _), socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(TIMEOUT)
        peer.connect(str(path))
        socket.send_fds(peer, [json.dumps(part).encode()], [0])
        assert "is no userfaultfd" in peer.recv(4096).decode()


def test_a_part_is_taken_by_either_name_of_its_page_size():
    part = {"base_host_virt_addr": 2 << 20, "size": 2 << 20, "offset": 0, "page_size_kib": 2 << 20}
    (found,) = faults.parts_of(json.dumps([part]).encode(), 2 << 20)
    assert (found.page_size, len(found.state)) == (2 << 20, 1)


def test_a_server_needs_a_memory_file_and_a_free_socket(memory_file, tmp_path):
    with pytest.raises(HostError, match="No such file"):
        Server(str(tmp_path / "none"), str(tmp_path / "s"))
    (tmp_path / "odd").write_bytes(b"x" * 100)
    with pytest.raises(SnapshotError, match="100 bytes; a memory file has whole pages"):
        Server(str(tmp_path / "odd"), str(tmp_path / "s"))
    with served(memory_file) as (path, _), pytest.raises(HostError, match="Address in use"):
        Server(str(memory_file), str(path))
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(tmp_path / "sock"))
    with served(memory_file) as (path, _), vm(path) as guest:
        assert guest.first == "ready"


def test_memory_and_handler_are_let_go_of_when_something_fails(memory_file, monkeypatch):
    before = len(os.listdir("/proc/self/fd"))

    def refuse(*_):
        raise HostError("no")

    monkeypatch.setattr(uffd, "register", refuse)
    with served(memory_file) as (path, _), pytest.raises(HostError, match="no"):
        uffd.restore(str(path), Layout([(0, SIZE)]))
    assert len(os.listdir("/proc/self/fd")) == before


def test_mappings_of_huge_pages_say_their_size():
    layout = Layout([(0, 2 << 20)])
    each = mapping.anonymous(2 << 20)
    (part,) = json.loads(uffd.message(layout, [each], 2 << 20))
    assert (part["page_size"], part["page_size_kib"]) == (2 << 20, 2 << 20)
