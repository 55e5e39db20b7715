"""vsock in both directions, through the guest's own kernel."""

import hashlib
import json
import os
import socket
import sys
import threading

from pyrovm import Drive, MicroVMError, Vsock
from tests.lab.guests import Guest, asset

DATA = os.urandom(1 << 20)
SOCAT = "chroot /t /usr/bin/socat"
report = {}


def digest(data):
    return hashlib.md5(data).hexdigest()


def exchange(connection, data):
    """Send ``data``, say that this was all, and read to the end."""
    received = bytearray()

    def receive():
        while chunk := connection.recv(65536):
            received.extend(chunk)

    reader = threading.Thread(target=receive)
    reader.start()
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
    reader.join(60)
    connection.close()
    return bytes(received)


with Guest(vsock=Vsock(cid=42), drives=[Drive(asset("tools.ext4"), read_only=True)]) as guest:
    guest.boot()
    guest.run("mkdir /t; mount -t ext4 -o ro /dev/vda /t; mount -t devtmpfs dev /t/dev")

    # host to guest: nobody listens at first, then an echo
    try:
        guest.connect_vsock(5000)
    except MicroVMError as error:
        report["refused"] = str(error)
    # Blocks of a page: a larger one may not fit a pipe that has some room, and socat, which is all
    # that reads from it, would wait for itself.
    guest.run(f"{SOCAT} -b 4096 VSOCK-LISTEN:5000,fork,reuseaddr PIPE &")

    def connect():
        for _ in range(100):
            try:
                connection = guest.connect_vsock(5000)
                connection.settimeout(60)
                return connection
            except MicroVMError:  # socat takes its time to listen
                guest.run("sleep 0.1")
        raise AssertionError("no echo in the guest")

    connection = connect()
    report["echo"] = digest(exchange(connection, DATA)) == digest(DATA)
    several = [connect() for _ in range(5)]
    for number, each in enumerate(several):
        each.sendall(b"connection %d" % number)
    report["several"] = [each.recv(64).decode() for each in several]
    for each in several:
        each.close()

    # guest to host
    path = f"{guest.vsock_path}_6000"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(60)
        guest.run(
            "head -c 500000 /dev/urandom >/tmp/sent; "
            f"{SOCAT} -t 30 - VSOCK-CONNECT:2:6000 </tmp/sent >/tmp/answer & "
        )
        with listener.accept()[0] as connection:
            connection.settimeout(60)
            got = bytearray()
            while chunk := connection.recv(65536):
                got.extend(chunk)
            connection.sendall(b"thank you")
    report["sent"] = digest(got) == guest.run("md5sum </tmp/sent | cut -c1-32")
    report["answer"] = guest.run("wait $!; cat /tmp/answer")
    os.unlink(path)
    status, text = guest.attempt(f"{SOCAT} - VSOCK-CONNECT:2:6000 </dev/null 2>&1")
    report["nobody on the host"] = [status, text.strip().rpartition(": ")[2]]

    # a connection lives through a pause
    connection = connect()
    connection.sendall(b"before ")
    first = connection.recv(64)
    with guest.paused():
        connection.sendall(b"after")
    report["across a pause"] = (first + connection.recv(64)).decode()
    connection.close()

    metrics = guest.metrics()["vsock"]
    report["metrics"] = {
        "received": metrics["rx_bytes_count"] > len(DATA),
        "sent": metrics["tx_bytes_count"] > len(DATA) + 500000,
        "connections": metrics["conns_added"] >= 8,
        "faults": sum(value for name, value in metrics.items() if name.endswith("_fails")),
    }
    report["complaints"] = guest.complaints()
    report["status"] = guest.power_off()
json.dump(report, sys.stdout)
