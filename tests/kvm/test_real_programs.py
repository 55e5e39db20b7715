"""Programs of others, unmodified: packages of Debian, each in a VM of its own."""

import sys
from pathlib import Path

import pytest

from tests.fakes import program_guest, real_root

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import programs
import programs_table

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(program_guest.why_not() is not None, reason=str(program_guest.why_not())),
]
CASES = [case for case in programs_table.CASES if case.package in real_root.PACKAGES]


@pytest.fixture(scope="module")
def cache():
    """Images of tests go to a cache of their own."""
    if real_root.why_not() is not None:
        pytest.skip(real_root.why_not())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYROVM_CACHE", program_guest.environment()["PYROVM_CACHE"])
        yield


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_programs_of_others_do_what_they_do_as_processes(cache, case):
    said = programs.run(case, in_vm=True, image=real_root.image(case.command[0]))
    assert said.split() == case.says.split()


def test_every_package_has_a_program_in_the_table():
    assert {case.package for case in CASES} == set(real_root.PACKAGES)
