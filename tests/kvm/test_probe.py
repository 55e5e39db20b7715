"""The probe against the KVM at hand, whatever it is."""

import pytest

from pyrovm.host import facts
from pyrovm.kvm.system import Kvm
from pyrovm.machine import probe

pytestmark = pytest.mark.kvm


@pytest.fixture
def kvm():
    with Kvm() as kvm:
        yield kvm


def test_a_cpu_without_vmx_and_svm_has_a_software_only_kvm_and_one_with_them_has_not(kvm):
    kind = probe.kvm_kind(kvm, thorough=True)
    has_extensions = bool(facts.cpu().flags & {"vmx", "svm"})
    assert kind == (probe.HARDWARE if has_extensions else probe.SOFTWARE)


def test_hints_never_call_a_software_only_kvm_hardware(kvm):
    if probe.hints_at_hardware(kvm):
        assert probe.probe(kvm) == probe.HARDWARE


def test_the_answer_is_the_same_every_time_and_from_the_cache(kvm, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    answers = {probe.kvm_kind(kvm), probe.kvm_kind(kvm), probe.kvm_kind(kvm, thorough=True)}
    assert len(answers) == 1
