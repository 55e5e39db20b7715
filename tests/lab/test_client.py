"""A client library of Firecracker that is not ours drives pyrovm-firecracker: pyrecracker."""

from tests.lab.conftest import MODULES

PACKAGES = (
    *("pyrecracker", "requests-unixsocket", "requests", "urllib3", "idna", "certifi"),
    "charset-normalizer",
)
INIT = """
mkdir /mnt; mount -t ext4 -o ro /dev/vda /mnt && echo "guest: disk $(cat /mnt/hello)"
ip addr add 172.20.0.2/24 dev eth0 && ip link set eth0 up
echo "guest: mac $(cat /sys/class/net/eth0/address)"
echo "guest: cpus $(nproc)"
echo 0 >/proc/sys/kernel/ctrl-alt-del
trap 'reboot -f' INT
while :; do n=$((n + 1)); echo "tick $n"; sleep 0.3; done
"""


def test_a_public_client_of_firecracker_runs_a_microvm(
    scenario, cloud_kernel, cloud_assets, make_initramfs
):
    assets = {
        "vmlinux": cloud_assets["vmlinux"],
        "disk.ext4": cloud_assets["disk.ext4"],
        "initramfs": make_initramfs(INIT, cloud_kernel, MODULES),
    }
    assert scenario("client", assets=assets, packages=PACKAGES) == {
        "listens": True,
        "boots": True,
        "answers": 0,
        "said": [
            "guest: disk from the host",
            "guest: mac 06:00:ac:14:00:02",
            "guest: cpus 2",
        ],
        "refusal": "Error occurred while starting VM: 400 Client Error: ",
        "ticks while paused": 0,
        "goes on": True,
        "end": "Firecracker exiting successfully. exit_code=0",
        "left behind": [False, False],
    }
