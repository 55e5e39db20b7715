"""The short form of ``make soak``."""

import random
import shutil

import pytest

from tests.fakes import program_guest
from tests.soak import __main__ as soak
from tests.soak import growth
from tests.soak.world import World

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(program_guest.why_not() is not None, reason=str(program_guest.why_not())),
    pytest.mark.skipif(shutil.which("bash") is None, reason="no bash"),
]

SECONDS, SAMPLES = 20, 9
# Others make and remove them meanwhile: `make soak` has mounts and interfaces of its own.
OF_THE_MACHINE = ("mounts", "interfaces", "cgroups")


def test_nothing_grows_while_clones_come_and_go():
    world = World()
    try:
        done, samples = soak.soak(world, SECONDS, random.randrange(1 << 32), SAMPLES)
    finally:
        world.close()
    told = growth.judge(samples)
    grown = {n: row for n, row in told.items() if row["grows"] and n not in OF_THE_MACHINE}
    assert not grown
    assert sum(done.values()) > SAMPLES
