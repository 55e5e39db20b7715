"""Branches of programs on hardware virtualization: memory, registers, clock, random numbers."""

import json
from pathlib import Path

import pytest

from pyrovm.image import index
from pyrovm.libos import build
from tests.fakes import program_guest
from tests.fakes.program_guest import compile_program, environment

pytestmark = pytest.mark.skipif(
    program_guest.why_not() is not None, reason=str(program_guest.why_not())
)

GONE_ON = ["clock goes on", "registers 2.000", "memory is there"]


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The plan of the scenario, and its files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYROVM_CACHE", environment()["PYROVM_CACHE"])
        program = compile_program("branches", tmp_path_factory.mktemp("branches"), "musl-static")
        entry = index.find_or_build([str(program)])
        libos = Path(build.path())
    plan = {
        "asset": "branches.erofs",
        "exe": entry.exe,
        "argv": entry.argv,
        "env": dict(entry.env),
    }
    return plan, {"libos.bin": libos, "branches.erofs": Path(entry.root)}


def test_programs_are_branched_on_hardware_virtualization(scenario, image):
    plan, assets = image
    check(scenario("templates", json.dumps(plan), assets=assets, timeout=300))


def check(found):
    """What the scenario reports is as it has to be."""
    randoms, generations = set(), set()
    for name in ("rests", "rests-smp", "lives", "saved"):
        case = found[name]
        assert case["status"] == 0, name
        assert len(case["branches"]) == 3
        for number, text in enumerate(case["branches"]):
            *gone_on, random, generation, argument = text.splitlines()
            assert gone_on == GONE_ON, name
            assert argument == f"branch {number}"
            randoms.add(random)
            generations.add(generation)
        own = case["own"].splitlines()
        if name == "lives":
            assert own[:3] == GONE_ON
            assert own[4:] == ["generation 1"]
            randoms.add(own[3])
        else:
            assert own == []
    assert (len(randoms), len(generations)) == (13, 12)
