"""The demonstration itself, where there is a KVM for it: one ``pyrovm run``, two small servers.

The guest says what it is, writes a file to its disk, and sends the host an HTTP request each over
virtio-net and vsock.
"""

from __future__ import annotations

import os
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

PORT = 8000
COMMAND_TIMEOUT = 200.0  # seconds

# What the guest's shell does; $1 is the port.
SCRIPT = r"""
say() { printf '\n== %s\n' "$*"; }
say the guest about itself
uname -a
echo "processors: $(nproc), $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
free -m | sed -n 1,2p
say a file on the virtio block disk /dev/vdb
mkdir /tmp/data; mount -t ext4 /dev/vdb /tmp/data
{ echo "written by $(uname -n) at $(date -u +%T)"; date +%N | md5sum; } > /tmp/data/note.txt
cat /tmp/data/note.txt
umount /tmp/data
if [ -e /sys/class/net/eth0 ]; then
    say an HTTP request over virtio-net
    gateway=$(ip -4 route show default | sed 's/.*via \([0-9.]*\).*/\1/')
    curl -sS --max-time 20 "http://$gateway:8000/over/virtio-net"
fi
say an HTTP request over vsock
printf 'GET /over/vsock HTTP/1.0\r\n\r\n' | socat -t 20 - VSOCK-CONNECT:2:8000 | tail -n 1
"""


class _Handler(BaseHTTPRequestHandler):
    """Answers every GET with a line, and remembers its path."""

    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.path)
        body = f"the host has read {self.path!r}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "guest"  # a Unix socket's peer has no address to look up

    def log_message(self, *_: object) -> None:
        pass


class _TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def show(files: dict[str, Path]) -> int:
    """Boot the guest and show it; 0 if everything that was tried worked.

    ``files``: kernel, root.ext4, data.ext4 (written to), and initrd where the kernel needs one.
    """
    seen: list[str] = []

    class Handler(_Handler):
        pass

    Handler.seen = seen
    network = os.geteuid() == 0
    with tempfile.TemporaryDirectory(prefix="pyrovm-demo-") as folder:
        vsock = Path(folder, "vsock.sock")
        with (
            _TcpServer(("0.0.0.0", PORT), Handler) as tcp,
            _UnixServer(f"{vsock}_{PORT}", Handler) as unix,
        ):
            for server in (tcp, unix):
                threading.Thread(target=server.serve_forever, daemon=True).start()
            status = _run(files, vsock, network)
            for server in (tcp, unix):
                server.shutdown()
    print(f"\n== on the host\nHTTP requests answered: {', '.join(seen) or 'none'}")
    if not network:
        print("the network was left out: making a tap takes root")
    wanted = {"/over/vsock", *(["/over/virtio-net"] if network else [])}
    return status if status or wanted <= set(seen) else 1


def _run(files: dict[str, Path], vsock: Path, network: bool) -> int:
    """``pyrovm run`` with everything; its exit status."""
    command = [sys.executable, "-m", "pyrovm.cli.main", "run", "--timeline", "--cpus", "2"]
    command += ["--memory", "256M", "--kernel", str(files["kernel"])]
    if "initrd" in files:
        command += ["--initrd", str(files["initrd"])]
    command += ["--drive", f"{files['root.ext4']},root,ro", "--drive", str(files["data.ext4"])]
    command += ["--vsock", f"3:{vsock}"]
    if network:
        command += ["--net", "auto"]
    from pyrovm.guest.demo import boot_args

    print("$ pyrovm " + " ".join(_shown(word) for word in command[3:]), flush=True)
    command += ["--append", boot_args(SCRIPT)]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, timeout=COMMAND_TIMEOUT, check=False
    ).returncode


def _shown(word: str) -> str:
    folder, _, name = word.rpartition("/")
    return name if folder.startswith("/") else word


def main() -> int:
    """In the lab: the large files are this run's assets, the disk for data is in its folder."""
    files = {path.name: path for path in Path(os.environ["LAB_ASSETS"]).iterdir()}
    data = files["data.ext4"] = Path("data.ext4")
    status = show(files)
    shutil.copy(data, os.environ["LAB_OUT"])
    return status


if __name__ == "__main__":
    socket.setdefaulttimeout(30)
    sys.exit(main())
