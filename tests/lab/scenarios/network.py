"""Network interfaces and the metadata service as a Linux guest uses them."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import urllib.request

from pyrovm import Network
from tests.lab.guests import Guest

HOST, GUEST = "172.20.0.1", "172.20.0.2"
MMDS = "169.254.169.254"
BODY = bytes(range(256)) * 1024  # 256 KiB
report = {}


def ip(*words):
    subprocess.run(["ip", *words], check=True)


for tap, address in (("tap0", HOST), ("tap1", "172.21.0.1")):
    ip("tuntap", "add", tap, "mode", "tap")
    ip("addr", "add", f"{address}/24", "dev", tap)
    ip("link", "set", tap, "mtu", "9000", "up")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer((HOST, 8000), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()

networks = [
    Network("tap0", mac="06:00:ac:14:00:02", mtu=4000, id="eth0"),
    Network("tap1", id="eth1"),
]
metadata = {"latest": {"meta-data": {"ami-id": "ami-12345678", "tags": ["a", "b"]}, "n": 7}}


def mmds(request, wait=1):
    """An HTTP request that the guest makes, written out; the answer's head and body."""
    lines = "".join(f"{line}\\r\\n" for line in request)
    text = guest.run(f"printf '{lines}\\r\\n' | nc -w {wait} {MMDS} 80; true").replace("\r", "")
    head, _, body = text.partition("\n\n")
    return [head.partition("\n")[0].strip(), body]


with Guest(networks=networks, metadata=metadata, mmds_version="V1") as guest:
    guest.boot()
    guest.run(
        f"ip link set lo up; ip addr add {GUEST}/24 dev eth0; ip link set eth0 up; "
        f"ip link set eth1 up; ip addr add 172.21.0.2/24 dev eth1"
    )
    report["mac"] = guest.run("cat /sys/class/net/eth0/address")
    report["mtu"] = guest.run("cat /sys/class/net/eth0/mtu /sys/class/net/eth1/mtu").split()
    report["link"] = guest.run("cat /sys/class/net/eth0/carrier")
    guest.run(f"ping -c 1 -W 5 {HOST} >/dev/null; ping -c 1 -W 5 172.21.0.1 >/dev/null")
    # 3972 bytes, 28 of headers: one packet of the MTU, which may not be broken up
    guest.run(f"ping -c 1 -W 5 -s 3972 {HOST} >/dev/null")

    # HTTP both ways
    report["get"] = guest.run(f"wget -q -O - http://{HOST}:8000/ | md5sum | cut -c1-32")
    guest.run("mkdir -p /www; head -c 300000 /dev/urandom >/www/file; httpd -p 80 -h /www")
    report["served sum"] = guest.run("md5sum </www/file | cut -c1-32")
    with urllib.request.urlopen(f"http://{GUEST}/file", timeout=60) as reply:
        report["served"] = hashlib.md5(reply.read()).hexdigest()
    report["body sum"] = hashlib.md5(BODY).hexdigest()
    metrics = guest.metrics()
    report["metrics"] = {
        "eth0 sent more than it served": metrics["net_eth0"]["tx_bytes_count"] > 300000,
        "eth0 got more than it fetched": metrics["net_eth0"]["rx_bytes_count"] > len(BODY),
        "sum of both": metrics["net"]["rx_packets_count"]
        == metrics["net_eth0"]["rx_packets_count"] + metrics["net_eth1"]["rx_packets_count"],
        "faults": sum(
            metrics["net"][name]
            for name in ("tx_malformed_frames", "tx_fails", "rx_fails", "tap_write_fails")
        ),
    }

    # a limit for a live interface, and no limit again
    limit = {"bandwidth": {"size": 16384, "refill_time": 100}}
    guest.request(
        "PATCH", "/network-interfaces/eth0", {"iface_id": "eth0", "rx_rate_limiter": limit}
    )
    guest.run(f"wget -q -O /dev/null http://{HOST}:8000/")
    report["rx throttled"] = guest.metrics()["net_eth0"]["rx_rate_limiter_throttled"]
    no_limit = {"bandwidth": {"size": 0, "refill_time": 0}}
    guest.request(
        "PATCH",
        "/network-interfaces/eth0",
        {"iface_id": "eth0", "rx_rate_limiter": no_limit, "tx_rate_limiter": limit},
    )
    with urllib.request.urlopen(f"http://{GUEST}/file", timeout=60) as reply:
        report["served slowly"] = hashlib.md5(reply.read()).hexdigest() == report["served sum"]
    metrics = guest.metrics()
    report["then"] = [
        metrics["net_eth0"]["rx_rate_limiter_throttled"],
        metrics["net_eth0"]["tx_rate_limiter_throttled"] > 0,
    ]
    guest.request(
        "PATCH", "/network-interfaces/eth0", {"iface_id": "eth0", "tx_rate_limiter": no_limit}
    )

    # version 1 of the metadata service: no token needed
    guest.run(f"ip route add {MMDS} dev eth0")
    base = f"http://{MMDS}/latest"
    report["v1 keys"] = guest.run(f"wget -q -O - {base}/meta-data").split()
    report["v1 value"] = guest.run(f"wget -q -O - {base}/meta-data/ami-id")
    report["v1 json"] = json.loads(
        guest.run(f"wget -q -O - --header 'Accept: application/json' {base}")
    )
    report["v1 missing"] = mmds(["GET /none HTTP/1.0"])
    guest.request("PATCH", "/mmds", {"latest": {"meta-data": {"ami-id": "ami-new"}}})
    report["v1 patched"] = guest.run(f"wget -q -O - {base}/meta-data/ami-id")
    report["answered by"] = guest.run(f"ip neigh show {MMDS}").split()[4]
    report["complaints"] = guest.complaints()
    report["status"] = guest.power_off()

with Guest(networks=networks[:1], metadata=metadata, mmds_version="V2") as guest:
    guest.boot()
    guest.run(f"ip link set eth0 up; ip addr add {GUEST}/24 dev eth0; ip route add {MMDS} dev eth0")
    report["v2 no token"] = mmds(["GET /latest HTTP/1.0"])
    answer, token = mmds(["PUT /latest/api/token HTTP/1.0", "X-metadata-token-ttl-seconds: 60"])
    report["v2 token"] = [answer, len(token)]
    report["v2 value"] = guest.run(
        f"wget -q -O - --header 'X-metadata-token: {token}' {base}/meta-data/ami-id"
    )
    report["v2 bad token"] = mmds(["GET /latest HTTP/1.0", f"X-metadata-token: A{token[1:]}"])
    report["v2 bad ttl"] = mmds(
        ["PUT /latest/api/token HTTP/1.0", "X-metadata-token-ttl-seconds: 0"]
    )
    report["mmds metrics"] = {
        key: value
        for key, value in guest.metrics()["mmds"].items()
        if key in ("rx_no_token", "rx_invalid_token", "connections_created")
    }
    report["status 2"] = guest.power_off()
report["taps left to us"] = sorted(n for n in os.listdir("/sys/class/net") if n.startswith("tap"))
json.dump(report, sys.stdout)
