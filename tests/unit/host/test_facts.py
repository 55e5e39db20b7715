"""What is read from /proc and /sys, on hosts made of a few files."""

import os

import pytest

from pyrovm.host import facts


@pytest.fixture
def host(tmp_path):
    """Write files of an imaginary host: ``host({"/proc/swaps": "..."})`` returns its root."""

    def make(files):
        for path, text in files.items():
            target = tmp_path / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return str(tmp_path)

    return make


def test_a_device_is_there_denied_or_missing(host, monkeypatch):
    root = host({"/dev/kvm": ""})
    assert facts.device_access("/dev/kvm", root) == facts.OK
    assert facts.device_access("/dev/vhost-net", root) == facts.MISSING

    def refuse(*_args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert facts.device_access("/dev/kvm", root) == facts.DENIED


def test_the_first_cpu_speaks_for_all(host):
    root = host(
        {
            "/proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\n"
            "model name\t: Intel(R) Xeon(R) : strange\nflags\t\t: fpu vmx hypervisor\n\n"
            "processor\t: 1\nvendor_id\t: other\n"
        }
    )
    cpu = facts.cpu(root)
    assert (cpu.vendor, cpu.model) == ("GenuineIntel", "Intel(R) Xeon(R) : strange")
    assert cpu.flags == {"fpu", "vmx", "hypervisor"}


@pytest.mark.parametrize(
    ("files", "nested"),
    [
        ({"/sys/module/kvm_intel/parameters/nested": "Y\n"}, True),
        ({"/sys/module/kvm_amd/parameters/nested": "1\n"}, True),
        ({"/sys/module/kvm_intel/parameters/nested": "N\n"}, False),
        ({}, None),
    ],
)
def test_nesting_is_a_parameter_of_the_module(host, files, nested):
    assert facts.nested_virtualization(host(files)) is nested


def test_huge_pages_of_both_kinds(host):
    pool = "/sys/kernel/mm/hugepages/hugepages-2048kB"
    root = host(
        {
            f"{pool}/nr_hugepages": "512\n",
            f"{pool}/free_hugepages": "100\n",
            "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        }
    )
    pages = facts.huge_pages(root)
    assert (pages.total, pages.free, pages.transparent) == (512, 100, "madvise")


def test_a_kernel_without_huge_pages_has_none(host):
    pages = facts.huge_pages(host({}))
    assert (pages.total, pages.free, pages.transparent) == (0, 0, "")


V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"
V1 = "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"
HYBRID = V1 + "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"


def test_a_delegated_unified_hierarchy(host):
    root = host(
        {
            "/proc/mounts": "proc /proc proc rw 0 0\n" + V2,
            "/proc/self/cgroup": "0::/user.slice/us\n",
            "/sys/fs/cgroup/cgroup.controllers": "cpu memory pids\n",
            "/sys/fs/cgroup/user.slice/us/cgroup.controllers": "memory pids\n",
            "/sys/fs/cgroup/user.slice/us/cgroup.subtree_control": "",
        }
    )
    groups = facts.cgroups(root)
    assert (groups.version, groups.path) == (2, "/user.slice/us")
    assert groups.controllers == ("memory", "pids")
    assert groups.delegated


def test_a_group_without_our_files_is_not_delegated(host):
    root = host(
        {
            "/proc/mounts": V2,
            "/proc/self/cgroup": "0::/else\n",
            "/sys/fs/cgroup/cgroup.controllers": "memory\n",
        }
    )
    assert not facts.cgroups(root).delegated


@pytest.mark.parametrize(("mounts", "version"), [("", 0), (V1, 1), (HYBRID, 1)])
def test_the_version_is_that_of_the_hierarchy_with_the_controllers(host, mounts, version):
    root = host({"/proc/mounts": mounts, "/proc/self/cgroup": "3:memory:/\n0::/\n"})
    assert facts.cgroups(root).version == version


def test_swap_adds_up(host):
    root = host(
        {
            "/proc/swaps": "Filename Type Size Used Priority\n/dev/sda2 partition 2048 0 -2\n"
            "/swap file 1024 0 -3\n"
        }
    )
    assert facts.swap_bytes(root) == 3072 << 10
    assert facts.swap_bytes(root + "/nowhere") == 0


@pytest.mark.parametrize(("text", "on"), [("1\n", True), ("0\n", False), ("2\n", False)])
def test_merging_runs_or_not(host, text, on):
    assert facts.same_page_merging(host({"/sys/kernel/mm/ksm/run": text})) is on


def test_numbers_are_numbers_or_nothing(host):
    root = host({"/a": "-1\n", "/b": "many", "/c": ""})
    assert [facts.read_int(path, root) for path in ("/a", "/b", "/c", "/d")] == [
        -1,
        None,
        None,
        None,
    ]


def test_programs_are_found_by_their_execute_bit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}/a:{tmp_path}/b::")
    for folder, mode in (("a", 0o644), ("b", 0o755)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "pyrovm-test-program").write_text("")
        (tmp_path / folder / "pyrovm-test-program").chmod(mode)
    assert facts.find_program("pyrovm-test-program") == f"{tmp_path}/b/pyrovm-test-program"
    assert facts.find_program("pyrovm-no-such-program") == ""


def test_what_is_asked_of_the_kernel_has_an_answer():
    assert facts.io_uring() in (facts.OK, facts.DENIED, facts.MISSING)
    assert facts.userfaultfd() in (facts.OK, facts.DENIED, facts.MISSING)
    limits = facts.limits()
    assert limits.nofile[0] is None or limits.nofile[0] > 0
    assert facts.kernel_release() == os.uname().release
