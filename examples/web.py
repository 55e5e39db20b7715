"""Ask a web server in a microVM for a page.  Needs root, for the tap."""

import subprocess
import urllib.request

from small_linux import PATIENCE, small_linux

from pyrovm import MicroVM, Network

TAP, HOST, VM = "pyrovm-web", "172.31.7.1", "172.31.7.2"
GUEST = f"""
ip addr add {VM}/24 dev eth0
ip link set eth0 up
mkdir /www
echo "served by Linux $(uname -r), $(cut -d ' ' -f 1 /proc/uptime) s old" >/www/index.html
httpd -h /www
echo serving
sleep 86400
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


ip("tuntap", "add", TAP, "mode", "tap")
try:
    ip("addr", "add", f"{HOST}/24", "dev", TAP)
    ip("link", "set", TAP, "up")
    with small_linux(GUEST) as linux, MicroVM(**linux, networks=[Network(TAP)]) as vm:
        vm.start()
        vm.console.wait_for("serving", PATIENCE)
        with urllib.request.urlopen(f"http://{VM}/", timeout=PATIENCE) as page:
            print(page.status, page.read().decode().strip())
finally:
    ip("link", "delete", TAP)
