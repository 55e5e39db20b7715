"""The programs in examples/ do what they say, run as a user would run them."""

import re
from pathlib import Path

import pytest

from pyrovm.guest import kernels
from tests.kvm import test_run_from_python

ROOT = Path(__file__).resolve().parents[2]
SAYS = {
    "clones": r"""clone 0: (\d+ words since the boot)
clone 1: \1
clone 2: \1
from the snapshot: \1
the source: \1
""",
    "console": r"""This is Linux 6\.\S+ with 2 processors\. What is your name\?
(?:\[.*\] reboot: Restarting system\n\n)?Hello, microVM!
It ended with status 0
""",
    "many": r"""3 x 3 = 9
5 x 5 = 25
7 x 7 = 49
""",
    "pause": r"""It is Paused
In a second it said: nothing
It is Running
Bytes to the console: \d{2,}
Exits for ports: \d{2,}
Time to pause, in microseconds: \d+
""",
    "web": r"""200 served by Linux \S+, \d+\.\d+ s old
""",
}


@pytest.fixture(scope="module")
def kernel_in_the_lab(cloud_kernel):
    """The kernel that examples find in their cache, as files to send along."""
    kernel = kernels.find("lean") or cloud_kernel
    names = ("kernel.json", "vmlinux", "modules")
    files = {f"kernels/{kernel.name}/{name}": kernel.folder / name for name in names}
    return {name: path for name, path in files.items() if path.exists()}


def test_every_example_is_tested():
    programs = {path.stem for path in (ROOT / "examples").glob("*.py")}
    elsewhere = {"small_linux", *test_run_from_python.EXAMPLES}
    assert programs - elsewhere == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_an_example(lab, kernel_in_the_lab, name):
    result = lab.run(
        ["python3", f"examples/{name}.py"],
        tree={"src": ROOT / "src", "examples": ROOT / "examples"},
        env={"PYTHONPATH": "src", "PYROVM_CACHE": "/job/assets"},
        assets=kernel_in_the_lab,
        timeout=180,
    )
    assert re.fullmatch(SAYS[name], result.check().stdout.decode().replace("\r", ""))
    assert result.stderr == b""
