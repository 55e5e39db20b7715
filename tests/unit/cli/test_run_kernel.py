"""The command lines that ``pyrovm run`` gives to kernels other than Linux."""

import pytest

from pyrovm.boot.cmdline import Cmdline
from pyrovm.boot.identify import LINUX, MULTIBOOT_KERNEL, Kernel
from pyrovm.boot.loader import LINUX64, PVH
from pyrovm.cli import run_options
from pyrovm.cli.run_kernel import identify_file, unikernel_words

UNIKRAFT = Kernel(is_linux=False, protocol=LINUX64, takes_name=True)
OSV = Kernel(is_linux=False, protocol=LINUX64)
OTHER = Kernel(is_linux=False, protocol=PVH)


def words(kernel, *options):
    return unikernel_words(run_options.parse(["--kernel", "k", *options]), kernel, "/x/app")


@pytest.mark.parametrize(
    ("kernel", "options", "line"),
    [
        (UNIKRAFT, (), "app"),
        (UNIKRAFT, ("--", "a", "b"), "app a b"),
        (UNIKRAFT, ("--append", "netdev.ip=1", "--", "a"), "app netdev.ip=1 -- a"),
        (UNIKRAFT, ("--drive", "d", "--", "a"), "app -- a"),
        (UNIKRAFT, ("--net", "tap0"), "app -- "),
        (UNIKRAFT, ("--cmdline", "own words"), "own words"),
        (UNIKRAFT, ("--cmdline", "own words", "--", "a"), "own words -- a"),
        (UNIKRAFT, ("--boot", "multiboot", "--", "a"), "a"),
        (MULTIBOOT_KERNEL, (), ""),
        (MULTIBOOT_KERNEL, ("--", "a"), "a"),
        (MULTIBOOT_KERNEL, ("--net", "tap0", "--", "a"), "-- a"),
        (OSV, ("--append", "--nopci --rootfs=rofs", "--drive", "d", "--", "/hello", "x"),
         "--nopci --rootfs=rofs /hello x"),
        (OSV, ("--cmdline=--nopci", "--", "/hello"), "--nopci /hello"),
        (OTHER, ("--", "a"), "a"),
    ],
)  # fmt: skip
def test_each_kernel_finds_its_words_where_it_looks(kernel, options, line):
    assert words(kernel, *options) == line


def test_devices_are_announced_before_the_mark():
    line = Cmdline(words(UNIKRAFT, "--net", "tap0"))
    line.add("virtio_mmio.device=4K@0xc0001000:5")
    assert str(line) == "app virtio_mmio.device=4K@0xc0001000:5 -- "


def test_what_cannot_be_read_counts_as_linux(tmp_path):
    assert identify_file(str(tmp_path / "nothing")) is LINUX
    assert identify_file(str(tmp_path)) is LINUX
