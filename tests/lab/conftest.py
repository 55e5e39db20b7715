"""Fixtures for tests that run in the lab.

Time is dear there: Python runs some thirty times slower.  A *scenario* therefore makes many checks
in one session: a Python script, run against this source tree, whose last line of output is JSON.
The test looks at that.
"""

import hashlib
import importlib.metadata
import os
from pathlib import Path

import pytest

from pyrovm.errors import HostError
from pyrovm.guest import cache, disk, initramfs, kernels, programs
from pyrovm.lab import Lab, LabError
from pyrovm.lab.stage import Stage
from tests.lab.guests import INIT

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = Path(__file__).parent / "scenarios"

# Everything that a microVM can have; other guests find nothing to drive and are none the slower.
MODULES = (
    *("virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng", "virtio_balloon", "virtio_mem"),
    *("vmw_vsock_virtio_transport", "virtio_pmem", "nd_pmem", "ext4"),
)


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="session")
def lab():
    """The lab with one CPU; its images and snapshot are made if need be."""
    try:
        opened = Lab()
        opened.__enter__()
    except LabError:
        raise
    except HostError as error:
        pytest.skip(f"no images for the lab: {error}")
    with opened:
        yield opened


@pytest.fixture(scope="session")
def cloud_kernel(lab):
    """Debian's cloud kernel, which the lab itself runs on; its drivers are modules."""
    return kernels.get("debian")


@pytest.fixture(scope="session")
def lean_kernel():
    """The lean kernel, everything built in; minutes to build, so only where it has been."""
    kernel = kernels.find("full")
    if kernel is None:
        pytest.skip("no lean kernel in the cache; make one: pyrovm kernel build")
    return kernel


@pytest.fixture(scope="session")
def make_initramfs():
    """``make_initramfs(script, kernel, modules)``: a file; the script is a guest's process 1.

    The same input gives the same file in the cache, so that the lab's copy of it is kept, too.
    """

    def make(script, kernel=None, modules=()):
        tree = kernel.modules if kernel else None
        data = initramfs.shell_init(script, modules=tree, names=modules if tree else ())
        name = hashlib.sha256(data).hexdigest()[:16]
        path = cache.folder("tests") / f"{name}.cpio"
        if not path.exists():
            part = path.with_suffix(f".{os.getpid()}")
            part.write_bytes(data)
            part.rename(path)
        return path

    return make


@pytest.fixture(scope="session")
def cloud_assets(cloud_kernel, make_initramfs):
    """What ``tests.lab.guests`` boots: Debian's kernel with its modules, and disks.

    One set for all scenarios, since the lab keeps only so many disks of assets.
    """
    return {
        "vmlinux": cloud_kernel.vmlinux,
        "bzImage": cloud_kernel.bzimage,
        "initramfs": make_initramfs(INIT, cloud_kernel, MODULES),
        "disk.ext4": _image("hello", lambda root: (root / "hello").write_text("from the host\n")),
        "tools.ext4": _image("tools", _tools),
    }


@pytest.fixture(scope="session")
def lean_assets(cloud_assets, lean_kernel, make_initramfs):
    """The same with the lean kernel."""
    return {
        **cloud_assets,
        "vmlinux": lean_kernel.vmlinux,
        "bzImage": lean_kernel.bzimage,
        "initramfs": make_initramfs(INIT),
    }


@pytest.fixture(params=["cloud", "lean"])
def guest_assets(request):
    """Each of the two kernels, where it is to be had."""
    return request.getfixturevalue(f"{request.param}_assets")


def _tools(root):
    """socat and its libraries, for guests that have nothing but busybox."""
    stage = Stage(root)
    for folder in ("dev", "tmp"):
        stage.add_dir(folder)
    stage.add_program(*programs.require("socat"))


def _image(name, fill):
    """An ext4 image in the cache of what ``fill`` puts into a folder, the same each time."""
    with cache.scratch(cache.folder("tests")) as scratch:
        root = scratch / "root"
        root.mkdir()
        fill(root)
        made = scratch / "image"
        disk.make_ext4(made, root, journal=True, reproducible=True)
        digest = hashlib.sha256(made.read_bytes()).hexdigest()[:16]
        path = cache.folder("tests") / f"{name}-{digest}.ext4"
        if not path.exists():  # one that is there keeps its time, which the lab goes by
            made.rename(path)
    return path


def _files_of(package):
    """The files of an installed distribution, below site/ in the lab's tree."""
    try:
        files = importlib.metadata.files(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed; 'make test' does it")
    return {
        f"site/{file}": Path(file.locate())
        for file in files
        if file.suffix in (".py", ".so", ".pem") and file.parts[0] != ".."
    }


@pytest.fixture(scope="session")
def scenario(lab):
    """``scenario(script, *args, assets=..., env=..., timeout=...)``: what it found out, from JSON.

    ``script`` is the name of a file in tests/lab/scenarios, or Python source.  In the lab it
    finds this source tree on its path; assets (kernels, disks) lie in ``$LAB_ASSETS`` by name.
    ``packages`` are distributions of this environment that are taken along.
    ``within`` is another lab than the usual one, with more CPUs for instance.
    """

    def run(script, *args, assets=None, env=None, timeout=240, packages=(), within=lab):
        if "\n" in script:
            source = script.encode()
        else:
            source = (SCENARIOS / script).with_suffix(".py").read_bytes()
        tree = {"src": ROOT / "src", "tests": ROOT / "tests", "scenario.py": source}
        for package in packages:
            tree |= _files_of(package)
        result = within.run(
            ["scenario.py", *map(str, args)],
            python=True,
            tree=tree,
            skip=("data", "unit"),
            env={"PYTHONPATH": "/job/tree/src:/job/tree/site", **(env or {})},
            assets=assets,
            timeout=timeout,
        )
        return result.json()

    return run
