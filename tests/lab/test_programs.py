"""Programs in VMs of their own on hardware virtualization: the same library OS, the same output."""

import json
import shutil
from pathlib import Path

import pytest

from pyrovm.image import index
from pyrovm.libos import build
from tests.fakes import program_guest
from tests.fakes.program_guest import compile_program, environment, run_process

pytestmark = pytest.mark.skipif(
    program_guest.why_not() is not None, reason=str(program_guest.why_not())
)

PROGRAMS = (
    *(("threads", "glibc"), ("signals", "musl-static"), ("memory", "glibc")),
    *(("large", "glibc"), ("parallel", "glibc"), ("vdso", "glibc")),
)
CPUS = {"threads": 2, "parallel": 4}
PYTHON = "import hashlib, json; print(json.dumps([1, hashlib.sha256(b'x').hexdigest()]))"


def plan_of(entry, asset, *arguments, cpus=1):
    return {
        "cpus": cpus,
        "asset": asset,
        "exe": entry.exe,
        "argv": [*entry.argv, *arguments],
        "env": dict(entry.env),
    }


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images of test programs in the cache of tests, and what each prints as a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYROVM_CACHE", environment()["PYROVM_CACHE"])
        folder = tmp_path_factory.mktemp("programs")
        plan, assets, expected = {}, {"libos.bin": Path(build.path())}, {}
        for name, libc in PROGRAMS:
            program = compile_program(name, folder, libc)
            entry = index.find_or_build([str(program)])
            plan[name] = plan_of(entry, f"{name}.erofs", cpus=CPUS.get(name, 1))
            assets[f"{name}.erofs"] = Path(entry.root)
            expected[name] = run_process(program)
        python = shutil.which("python3", path="/usr/bin") or "python3"
        entry = index.find_or_build([python])
        plan["python"] = plan_of(entry, "python.erofs", "-c", PYTHON)
        assets["python.erofs"] = Path(entry.root)
        expected["python"] = run_process(python, "-c", PYTHON)
    return plan, assets, expected


def test_programs_print_the_same_on_hardware_virtualization(scenario, images):
    plan, assets, expected = images
    found = scenario("programs", json.dumps(plan), assets=assets, timeout=240)
    for name, process in expected.items():
        assert found[name] == {
            "status": process.returncode,
            "panic": "",
            "output": process.stdout,
            "errors": process.stderr,
        }, name
