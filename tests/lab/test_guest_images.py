"""The kernels, the initramfs and the disk of pyrovm.guest, booted by pyrovm in the lab."""

from pathlib import Path

import pytest

from pyrovm.errors import HostError
from pyrovm.guest import boot_initramfs, demo, kernels

ROOT = Path(__file__).resolve().parents[2]
COMMAND = """
. /etc/os-release; echo "it is $ID"
ip -4 -o address show dev eth0
ip route
findmnt -no SOURCE,FSTYPE /
curl --version >/dev/null && socat -V >/dev/null && echo "programs run"
exit 7
"""


@pytest.fixture(scope="module")
def demo_disk(lab):
    try:
        return demo.root_disk()
    except HostError as error:
        pytest.skip(f"no packages for the guest's disk: {error}")


def boot(lab, kernel, disk, root=("--drive", "/job/assets/root,ro")):
    """Boot the demonstration guest; its console."""
    assets = {"vmlinux": kernel.vmlinux, "root": disk}
    argv = ["python3", "-m", "pyrovm.cli.main", "run", "--kernel", "/job/assets/vmlinux"]
    argv += [*root, "--net", "tap0"]
    argv += ["--append", demo.boot_args(COMMAND, address="10.0.0.2", gateway="10.0.0.1")]
    if initramfs := boot_initramfs.path(kernel):
        assets["initrd"] = initramfs
        argv += ["--initrd", "/job/assets/initrd"]
    result = lab.run(
        argv,
        tree={"src": ROOT / "src"},
        env={"PYTHONPATH": "/job/tree/src"},
        assets=assets,
        timeout=120,
    )
    return result.stdout.decode(errors="replace") + result.stderr.decode(errors="replace")


def check(console, root="/dev/vda"):
    assert demo.exit_status(console) == 7, console
    assert "it is debian" in console
    assert "inet 10.0.0.2/24" in console
    assert "default via 10.0.0.1 dev eth0" in console
    assert f"{root} ext4" in " ".join(console.split())
    assert "programs run" in console


def test_the_demonstration_guest_runs_on_debian_s_kernel(lab, cloud_kernel, demo_disk):
    check(boot(lab, cloud_kernel, demo_disk))


def test_debian_s_kernel_boots_from_persistent_memory(lab, cloud_kernel, demo_disk):
    console = boot(lab, cloud_kernel, demo_disk, ("--pmem", "/job/assets/root,root,ro"))
    check(console, "/dev/pmem0")


def test_the_demonstration_guest_runs_on_the_lean_kernel(lab, lean_kernel, demo_disk):
    check(boot(lab, lean_kernel, demo_disk))


def test_the_demonstration_guest_runs_on_the_serverless_kernel(lab, demo_disk):
    kernel = kernels.find("serverless")
    if kernel is None:
        pytest.skip("no serverless kernel in the cache; make one: pyrovm kernel build serverless")
    check(boot(lab, kernel, demo_disk))
