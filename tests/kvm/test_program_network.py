"""Programs in VMs, the network as far as they may use it, and folders of the host."""

import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from tests.fakes import program_guest
from tests.fakes.program_guest import TIMEOUT, compile_program, run_process, run_vm

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(program_guest.why_not() is not None, reason=str(program_guest.why_not())),
]


def remarks(text):
    """What pyrovm said, but for how the image was made."""
    return [line for line in text.splitlines() if not line.startswith("image: ")]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compile_program("network", tmp_path_factory.mktemp("network"), "musl-static")


@pytest.mark.parametrize("libc", ["glibc-static", "musl-static"])
def test_sockets_within_the_vm_are_those_of_linux(libc, tmp_path):
    sockets = compile_program("sockets", tmp_path, libc)
    here, there = run_process(sockets), run_vm(sockets)
    assert remarks(there.stderr) == []
    assert there.stdout == here.stdout
    assert there.returncode == here.returncode == 0


@contextmanager
def serving(*words, options):
    """A program in a VM that has said that it is ready, and where its port is on the host."""
    command = [sys.executable, "-m", "pyrovm.cli.main", "run", *options, "--", *map(str, words)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            # pyrovm: port ... is published at 127.0.0.1:NNN
            said = next(line for line in process.stderr if remarks(line))
            yield process, int(said.rpartition(":")[2])
        finally:
            process.kill()


def test_a_published_port_is_reached_from_the_host(program):
    blob = os.urandom(3_000_000)
    words = (program, "serve", 8080, 101)
    with serving(*words, options=["-p", "127.0.0.1:0:8080"]) as (process, port):
        many = [socket.create_connection(("127.0.0.1", port), TIMEOUT) for _ in range(100)]
        for number, connection in enumerate(many):
            connection.sendall(b"%d" % number)
            connection.shutdown(socket.SHUT_WR)
        assert [c.recv(100) for c in many] == [b"%d" % number for number in range(100)]
        for connection in many:
            connection.close()
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
            sender = threading.Thread(target=connection.sendall, args=(blob,))
            sender.start()
            back = bytearray()
            while len(back) < len(blob):
                back += connection.recv(1 << 16)
            sender.join()
        assert back == blob
        # The host's loopback is not the program's.
        assert process.stdout.readline() == "203.0.113.2:8080 from 203.0.113.1\n"
        assert process.wait(TIMEOUT) == 0


def test_a_published_port_for_datagrams(program):
    words = (program, "serve-datagrams", 53, 1)
    with (
        serving(*words, options=["-p", "0:53/udp"]) as (process, port),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(TIMEOUT)
        client.sendto(b"a question", ("127.0.0.1", port))
        assert client.recvfrom(100) == (b"a question", ("127.0.0.1", port))
        assert process.wait(TIMEOUT) == 0


def test_a_port_that_is_not_published_is_not_reached(program):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        # The program may have it all the same: it is another network.
        port = taken.getsockname()[1]
        done = run_vm(program, "serve", port, 0)
    assert (done.stdout, remarks(done.stderr)) == ("ready\n", [])


@contextmanager
def echo(kind):
    """A server on the host's loopback: its port."""
    with socket.socket(socket.AF_INET, kind) as server:
        server.bind(("127.0.0.1", 0))

        def serve_stream():
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(1 << 16):
                    connection.sendall(data)

        def serve_datagrams():
            data, source = server.recvfrom(1 << 16)
            server.sendto(data, source)

        if kind == socket.SOCK_STREAM:
            server.listen()
        serve = serve_stream if kind == socket.SOCK_STREAM else serve_datagrams
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def test_what_is_denied_fails_at_once_and_says_what_would_allow_it(program):
    done = run_vm(program, "talk", "198.51.100.7", 80, 5)
    assert (done.stdout, done.returncode) == ("connect: EACCES\n", 1)
    assert "--allow 198.51.100.7:80" in done.stderr
    assert len(remarks(done.stderr)) == 1


def test_the_hosts_loopback_and_the_metadata_service_are_not_in_a_star(program):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = run_vm(program, "talk", "127.0.0.1", port, 5, options=["--allow", "*"])
    assert done.stdout == "connect: ECONNREFUSED\n"
    done = run_vm(program, "talk", "169.254.169.254", 80, 5, options=["--allow", "*"])
    assert done.stdout == "connect: EACCES\n"


def test_what_is_allowed_works_both_ways(program):
    with echo(socket.SOCK_STREAM) as port:
        options = ["--allow", f"127.0.0.1:{port}"]
        done = run_vm(program, "talk", "127.0.0.1", port, 2_000_000, options=options)
    assert (done.stdout, remarks(done.stderr)) == ("2000000 bytes, the same\n", [])
    with echo(socket.SOCK_DGRAM) as port:
        options = ["--allow", f"127.0.0.1:{port}"]
        done = run_vm(program, "talk-datagrams", "127.0.0.1", port, 1000, options=options)
    assert (done.stdout, remarks(done.stderr)) == ("1000 bytes, the same\n", [])


def test_names_are_resolved_as_the_rules_say(program):
    done = run_vm(program, "resolve", "localhost")
    assert done.stdout == "localhost: 127.0.0.1\n"
    name = "no-such-host.invalid"
    done = run_vm(program, "resolve", name, options=["--allow", f"{name}:80"])
    assert done.stdout.startswith(f"{name}: ")
    assert remarks(done.stderr) == []


FOLDERS = """\
#include "case.h"
#include <dirent.h>
#include <sys/stat.h>
int main(void)
{
	struct stat st;
	struct dirent *e;
	int fd, n = 0;
	char text[100];

	chdir("/shared");
	TEXT("from the host", "%s", get_file("hello"));
	put_file("back", "from the program");
	CALL("mkdir", mkdir("folder", 0755));
	put_file("folder/inner", "0123456789");
	CALL("append", (fd = open("folder/inner", O_WRONLY | O_APPEND), write(fd, "abc", 3)));
	CALL("truncate", truncate("folder/inner", 5));
	CALL("rename", rename("folder/inner", "renamed"));
	CALL("size", (stat("renamed", &st), st.st_size));
	CALL("chmod", chmod("renamed", 0600));
	CALL("set-user-ID", (chmod("renamed", 04755), stat("renamed", &st), st.st_mode & 07777));
	CALL("symlink", symlink("renamed", "link"));
	TEXT("through it", "%s", get_file("link"));
	CALL("readlink", readlink("link", text, sizeof(text)));
	CALL("rmdir", rmdir("folder"));
	for (DIR *d = opendir("."); (e = readdir(d));)
		n++;
	CALL("entries", n);
	CALL("escape by ..", open("/shared/../../etc/hostname.outside", O_RDONLY));
	CALL("escape by a link", open("outside", O_RDONLY));
	CALL("escape by a relative link", open("upwards", O_RDONLY));
	CALL("fifo", open("fifo", O_RDONLY | O_NONBLOCK));
	TEXT("read-only", "%s", get_file("/read-only/hello"));
	CALL("write", open("/read-only/hello", O_WRONLY));
	CALL("create", open("/read-only/new", O_WRONLY | O_CREAT, 0600));
	CALL("unlink", unlink("/read-only/hello"));
	CALL("mkdir", mkdir("/read-only/folder", 0700));
	return 0;
}
"""

FOLDERS_SAY = """\
from the host: hello
mkdir: 0
append: 3
truncate: 0
rename: 0
size: 5
chmod: 0
set-user-ID: 493
symlink: 0
through it: 01234
readlink: 7
rmdir: 0
entries: 9
escape by ..: ENOENT
escape by a link: ENOENT
escape by a relative link: ENOENT
fifo: EACCES
read-only: hello
write: EROFS
create: EROFS
unlink: EROFS
mkdir: EROFS
"""


def test_folders_of_the_host(tmp_path):
    shared, secret = tmp_path / "shared", tmp_path / "secret"
    shared.mkdir()
    (shared / "hello").write_text("hello")
    secret.write_text("not for the program")
    (shared / "outside").symlink_to(secret)
    (shared / "upwards").symlink_to("../secret")
    os.mkfifo(shared / "fifo")
    program = compile_program(FOLDERS, tmp_path, "musl-static", "-I", str(program_guest.SOURCES))
    options = ["-v", f"{shared}:/shared", "-v", f"{shared}:/read-only:ro"]
    done = run_vm(program, options=options)
    assert (done.stdout, remarks(done.stderr)) == (FOLDERS_SAY, [])
    assert (shared / "back").read_text() == "from the program"
    assert (shared / "renamed").read_text() == "01234"
    assert (shared / "renamed").stat().st_mode & 0o7777 == 0o755
    assert os.readlink(shared / "link") == "renamed"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--allow", "1.2.3"], ["--allow 1.2.3", "no IPv4 address"]),
        (["--allow", "host:99999"], ["99999", "65535"]),
        (["-p", "80"], ["-p 80", "GUEST_PORT"]),
        (["-p", "80:80/sctp"], ["sctp"]),
        (["-v", "/no/such/folder:/x"], ["/no/such/folder"]),
        (["-v", "/tmp:relative"], ["relative"]),
    ],
)
def test_rules_that_do_not_fit_are_named(options, words):
    done = run_vm("true", options=options)
    assert done.returncode in (2, 125)
    for word in words:
        assert word in done.stderr
