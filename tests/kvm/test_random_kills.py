"""Whoever is killed, and whenever: all others behave as promised, and nothing is left."""

import random
import shutil

import pytest

from tests.fakes import program_guest
from tests.soak import kills
from tests.soak.world import World

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(program_guest.why_not() is not None, reason=str(program_guest.why_not())),
    pytest.mark.skipif(shutil.which("bash") is None, reason="no bash"),
]

KILLS = 40
SECONDS = 40  # at most, beside what was begun; `make soak` has hundreds of kills


def test_nothing_is_left_whoever_is_killed():
    world = World()
    try:
        with kills.Killer(world, random.randrange(1 << 32)) as killer:
            kills.run(killer, SECONDS, KILLS)
    finally:
        world.close()
    found = [count for who, count in killer.report.items() if not who.startswith(kills.NOBODY)]
    assert sum(found) > killer.number / 2
