"""``pyrovm run --vhost``: the host's kernel moves the data of network and vsock."""

import http.server
import json
import os
import socket
import subprocess
import sys
import threading

from tests.lab.guests import RunGuest, asset

HOST, GUEST, CID = "172.20.0.1", "172.20.0.2", 42
BODY = bytes(range(256)) * 1024
SOCAT = "chroot /t /usr/bin/socat"
report = {}

for words in ("tuntap add tap0 mode tap", f"addr add {HOST}/24 dev tap0", "link set tap0 up"):
    subprocess.run(["ip", *words.split()], check=True)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_):
        pass


def kernel_threads(pid):
    """How many threads the kernel has for vhost on behalf of ``pid``."""
    found = 0
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/comm") as file:
                found += file.read().strip() == f"vhost-{pid}"
        except FileNotFoundError:  # a process that has ended
            continue
    return found


def ask(data):
    """Send ``data`` to the echo in the guest; what comes back."""
    with socket.socket(socket.AF_VSOCK) as connection:
        connection.settimeout(30)
        connection.connect((CID, 5000))
        connection.sendall(data)
        answer = b""
        while len(answer) < len(data):
            answer += connection.recv(65536)
        return answer


server = http.server.ThreadingHTTPServer((HOST, 8000), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()

guest = RunGuest(
    *("--net", "tap0", "--vsock", str(CID), "--drive", f"{asset('tools.ext4')},ro"), "--vhost"
)
report["kernel threads"] = kernel_threads(guest.pid)
guest.run(f"ip link set eth0 up; ip addr add {GUEST}/24 dev eth0; ping -c 1 -W 5 {HOST}")
report["fetched"] = guest.run(f"wget -q -O - http://{HOST}:8000/ | wc -c")
guest.run("mkdir /t; mount -t ext4 -o ro /dev/vda /t; mount -t devtmpfs dev /t/dev")
guest.run(f"{SOCAT} -b 4096 VSOCK-LISTEN:5000,fork,reuseaddr PIPE &")
guest.run(
    "until grep -q 1388 /proc/net/vsock 2>/dev/null || [ $((n=n+1)) -gt 20 ]; do sleep 0.1; done"
)
report["echo"] = ask(BODY[:32768]) == BODY[:32768]

with socket.socket(socket.AF_VSOCK) as listener:
    listener.bind((socket.VMADDR_CID_ANY, 6000))
    listener.listen()
    listener.settimeout(60)
    guest.run(f"echo from the guest | {SOCAT} - VSOCK-CONNECT:2:6000 &")
    connection, (report["peer"], _) = listener.accept()
    with connection:
        report["said"] = connection.recv(64).decode()
report["warned"] = "vhost was asked for" in guest.log
report["complaints"] = guest.complaints()
report["status"] = guest.power_off()
report["kernel threads afterwards"] = kernel_threads(guest.pid)
json.dump(report, sys.stdout)
