"""Programs that attack the VMM from their VM; ``fuzz/storms.py`` runs the same for as long as you
like."""

import pytest

from fuzz import storms
from tests.fakes import program_guest

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(program_guest.why_not() is not None, reason=str(program_guest.why_not())),
]

INPUTS = 30_000


def test_nor_does_one_on_several_cpus(monkeypatch):
    monkeypatch.setenv("PYROVM_CACHE", program_guest.environment()["PYROVM_CACHE"])
    state = storms.storm(INPUTS // 3, seed=30_000, cpus=3)
    assert not state.findings
    assert state.tried.total() >= INPUTS // 3


def test_no_program_gets_more_out_of_the_vmm_than_an_ending(monkeypatch):
    monkeypatch.setenv("PYROVM_CACHE", program_guest.environment()["PYROVM_CACHE"])
    state = storms.storm(INPUTS, seed=20_000)
    assert not state.findings
    assert state.tried.total() >= INPUTS
    assert set(state.tried) == set(storms.KINDS)
    # It has attacked: some have broken their own VM, and the VMM has said how.
    assert any("library OS has failed" in ending for ending in state.endings)
    assert any("is no memory" in ending for ending in state.endings)
