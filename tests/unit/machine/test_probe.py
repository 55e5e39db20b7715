"""The kind of KVM: hints first, a cache that nobody else can write, the probe last."""

import os

import pytest

from pyrovm.abi import kvm as abi
from pyrovm.errors import Unsupported
from pyrovm.machine import probe


class FakeKvm:
    def __init__(self, *present):
        self.present = present

    def check_extension(self, capability):
        return int(capability in self.present)


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def answers(monkeypatch):
    """Stands in for the probe's VM; the list counts how often it was run."""
    runs = []

    def run(_kvm):
        runs.append(probe.SOFTWARE)
        return probe.SOFTWARE

    monkeypatch.setattr(probe, "probe", run)
    return runs


@pytest.mark.parametrize(
    ("present", "hardware"),
    [
        ((abi.KVM_CAP_NESTED_STATE, abi.KVM_CAP_X86_SMM), True),
        ((abi.KVM_CAP_X86_SMM,), False),
        ((abi.KVM_CAP_NESTED_STATE,), False),
        ((), False),
    ],
)
def test_only_both_hints_together_spare_the_probe(runtime, answers, present, hardware):
    kind = probe.kvm_kind(FakeKvm(*present))
    assert kind == (probe.HARDWARE if hardware else probe.SOFTWARE)
    assert len(answers) == (0 if hardware else 1)
    assert (runtime / "pyrovm").exists() != hardware


def test_the_answer_is_kept_until_the_next_boot(runtime, answers):
    for _ in range(3):
        assert probe.kvm_kind(FakeKvm()) == probe.SOFTWARE
    assert len(answers) == 1
    assert probe.KindCache(str(runtime / "pyrovm"), "another boot").load() is None


def test_a_thorough_look_believes_neither_hints_nor_cache(runtime, answers):
    both = FakeKvm(abi.KVM_CAP_NESTED_STATE, abi.KVM_CAP_X86_SMM)
    assert probe.kvm_kind(both, thorough=True) == probe.SOFTWARE
    assert probe.kvm_kind(both, thorough=True) == probe.SOFTWARE
    assert len(answers) == 2


def cache(directory):
    return probe.KindCache(str(directory), "boot")


def test_the_cache_is_private(tmp_path):
    cache(tmp_path / "c").store(probe.HARDWARE)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "c" / "kvm-kind").stat().st_mode & 0o777 == 0o600
    assert cache(tmp_path / "c").load() == probe.HARDWARE


def test_a_directory_that_others_may_enter_is_not_trusted(tmp_path):
    cache(tmp_path / "c").store(probe.HARDWARE)
    for mode in (0o755, 0o770, 0o702):
        (tmp_path / "c").chmod(mode)
        assert cache(tmp_path / "c").load() is None
        cache(tmp_path / "c").store(probe.SOFTWARE)
    (tmp_path / "c").chmod(0o700)
    assert cache(tmp_path / "c").load() == probe.HARDWARE


def test_links_are_not_followed(tmp_path):
    cache(tmp_path / "real").store(probe.HARDWARE)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert cache(tmp_path / "link").load() is None
    (tmp_path / "real" / "kvm-kind").rename(tmp_path / "elsewhere")
    (tmp_path / "real" / "kvm-kind").symlink_to(tmp_path / "elsewhere")
    assert cache(tmp_path / "real").load() is None


@pytest.mark.parametrize(
    "text", ["", "boot", "boot maybe", "other hardware", "\x00" * 300, "hardware"]
)
def test_a_damaged_file_is_no_answer(tmp_path, text):
    cache(tmp_path / "c").store(probe.HARDWARE)
    (tmp_path / "c" / "kvm-kind").write_text(text)
    assert cache(tmp_path / "c").load() is None


def test_no_place_for_a_cache_is_no_error(tmp_path):
    nowhere = probe.KindCache("", "boot")
    nowhere.store(probe.HARDWARE)
    assert nowhere.load() is None
    missing = cache(tmp_path / "not" / "there")
    missing.store(probe.HARDWARE)
    assert missing.load() is None


def test_without_a_boot_id_nothing_is_kept(tmp_path):
    probe.KindCache(str(tmp_path / "c"), "").store(probe.HARDWARE)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("environment", "root", "expected"),
    [
        ("/run/user/1000", False, "/run/user/1000/pyrovm"),
        ("relative", False, ""),
        ("", False, ""),
        ("", True, "/run/pyrovm"),
    ],
)
def test_the_directory_is_the_users_own(monkeypatch, environment, root, expected):
    monkeypatch.setenv("XDG_RUNTIME_DIR", environment)
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    assert probe.runtime_directory() == expected


def test_a_software_only_kvm_is_refused_with_a_way_out(runtime, answers):
    with pytest.raises(Unsupported, match=r"no VMX or SVM.*pyrovm lab run -- "):
        probe.require_linux_capable(FakeKvm())
    probe.require_linux_capable(FakeKvm(abi.KVM_CAP_NESTED_STATE, abi.KVM_CAP_X86_SMM))


def test_the_probes_guest_maps_its_memory_and_the_page_behind_it():
    memory = memoryview(bytearray(probe.MEMORY_SIZE))
    probe.write_guest(memory)

    def walk(gva):
        table = probe.PML4
        for shift in (39, 30, 21):
            entry = int.from_bytes(memory[table + (gva >> shift & 511) * 8 :][:8], "little")
            assert entry & 7 == 7
            table = entry & ~0xFFF
        return int.from_bytes(memory[table + (gva >> 12 & 511) * 8 :][:8], "little")

    for gva in (0, probe.CODE, probe.STUB, probe.MARK_GPA):
        assert walk(gva) == gva & ~0xFFF | 7
    assert walk(probe.MARK_GPA + 0x1000) == 0
