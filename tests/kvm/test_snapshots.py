"""Snapshots of a small kernel that ticks, reads its disk and remembers, on a KVM of any kind."""

import asyncio
import os
import shutil
import subprocess
import sys

import pytest

from pyrovm import ApiError, AsyncMicroVM, Drive, MicroVM, VmmExited
from pyrovm.arch.x86.cpuid.table import CpuidTable
from pyrovm.snapshot import state
from tests.fakes import kernel_guest, vmm_process
from tests.unit.backends.test_uring import needs_io_uring

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to compile kernels with"),
]

TIMEOUT = 20
NO_BURST = {"one_time_burst": None}
MIB = 1 << 20
SIZE = 64 * MIB


@pytest.fixture(scope="session")
def kernel(tmp_path_factory):
    return kernel_guest.build("lasting", tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def vm(kernel, tmp_path):
    """A guest of two vCPUs, of which one waits for ever to be started, with a disk."""
    kernel_guest.write_disk(tmp_path / "disk")
    drive = Drive(tmp_path / "disk", id="disk")
    with MicroVM(
        kernel, cmdline="", cpus=2, memory="64M", drives=[drive], track_dirty_pages=True
    ) as vm:
        vm.start()
        vm.console.wait_for("ready\n", TIMEOUT)
        yield vm


def ask(vm, question):
    """What the guest answers to a letter."""
    vm.console.write(question)
    return vm.console.wait_for("\n", TIMEOUT).strip()


def number(vm, question):
    return int(ask(vm, question).split()[1])


def allocated(path):
    """Bytes that a sparse file really has."""
    return os.stat(path).st_blocks * 512


def refused(*args, **kwargs):
    """The fault of a restore, whose VMM must have ended."""
    with pytest.raises((ApiError, VmmExited)) as caught:
        MicroVM.restore(*args, **kwargs).close()
    return getattr(caught.value, "fault", str(caught.value)).removeprefix("Load snapshot error: ")


def test_a_guest_goes_on_in_another_process_where_it_was(vm, tmp_path):
    assert [ask(vm, "d"), ask(vm, "w"), ask(vm, "w")] == ["sector 0", "page 1", "page 2"]
    ticks = number(vm, "t")
    snapshot = vm.snapshot(tmp_path / "state")
    config = vm.config()
    vm.stop()
    with MicroVM.restore(snapshot) as again:
        assert number(again, "t") > ticks
        assert number(again, "s") == 3
        assert [ask(again, "d"), ask(again, "w")] == ["sector 1", "page 3"]
        assert again.info()["state"] == "Running"
        config["machine-config"]["track_dirty_pages"] = False
        assert again.config() == config
        assert again.metrics()["latencies_us"]["load_snapshot"] > 0
        again.console.write("q")
        assert again.wait(TIMEOUT) == 0


def test_the_source_goes_on_and_clones_go_their_own_ways(vm, tmp_path):
    ask(vm, "w")
    snapshot = vm.snapshot(tmp_path / "state")
    with MicroVM.restore(snapshot) as one, MicroVM.restore(snapshot) as other:
        assert [number(one, "w"), number(one, "w"), number(one, "s")] == [2, 3, 6]
        assert [number(other, "w"), number(other, "s")] == [2, 3]
        assert [number(vm, "s"), number(vm, "w")] == [1, 2]
        ids = {each.snapshot(tmp_path / "of-clone") and _genid(tmp_path) for each in (one, other)}
        assert len(ids) == 2, "each has its own VM generation id"


def _genid(folder):
    gpa = state.read(str(folder / "of-clone"))["devices"]["vmgenid"]
    with open(folder / "of-clone.mem", "rb") as memory:
        memory.seek(gpa)
        return memory.read(16)


def test_a_restored_guest_may_stay_paused_and_be_saved_again(vm, tmp_path):
    ask(vm, "w")
    snapshot = vm.snapshot(tmp_path / "first")
    with MicroVM.restore(snapshot, resume=False) as paused:
        assert paused.info()["state"] == "Paused"
        paused.console.write("s")  # typed, and not read before the guest goes on
        second = paused.snapshot(tmp_path / "second")
        paused.resume()
        assert paused.console.wait_for("\n", TIMEOUT) == "sum 1\n"
    with MicroVM.restore(second) as again:
        assert again.console.wait_for("\n", TIMEOUT) == "sum 1\n", "the letter was saved as well"
        third = again.snapshot(second)  # over the very file that it lives in
        assert number(again, "w") == 2
    with MicroVM.restore(third) as again:
        assert number(again, "s") == 1


def test_a_restored_guest_gets_another_disk_before_it_goes_on(vm, tmp_path):
    snapshot = vm.snapshot(tmp_path / "state")
    data = (tmp_path / "disk").read_bytes()
    (tmp_path / "other").write_bytes(data.replace(b"sector", b"SECTOR"))
    with MicroVM.restore(snapshot, resume=False) as again:
        again.set_drive("disk", path=tmp_path / "other")
        again.resume()
        assert ask(again, "d") == "SECTOR 0"
        second = again.snapshot(tmp_path / "second")
    with MicroVM.restore(second) as again:
        assert ask(again, "d") == "SECTOR 1", "the other one is the one that was saved"
    assert ask(vm, "d") == "sector 0"


def test_a_request_that_waits_for_a_limit_waits_in_the_copy_too(kernel, tmp_path):
    kernel_guest.write_disk(tmp_path / "disk")
    limit = {"ops": {"size": 1, "refill_time": 1500}}
    drive = Drive(tmp_path / "disk", rate_limiter=limit)
    with MicroVM(kernel, cmdline="", memory="64M", drives=[drive]) as vm:
        vm.start()
        vm.console.wait_for("ready\n", TIMEOUT)
        assert ask(vm, "d") == "sector 0"
        vm.console.write("d")
        snapshot = vm.snapshot(tmp_path / "state")
        assert vm.console.wait_for("\n", TIMEOUT).strip() == "sector 1"
    with MicroVM.restore(snapshot) as again:
        assert again.config()["drives"][0]["rate_limiter"]["ops"] == {**limit["ops"], **NO_BURST}
        assert again.console.wait_for("\n", TIMEOUT).strip() == "sector 1"
        assert ask(again, "d") == "sector 2"


@needs_io_uring
def test_a_drive_of_the_asynchronous_engine_goes_on(kernel, tmp_path):
    kernel_guest.write_disk(tmp_path / "disk")
    drive = Drive(tmp_path / "disk", engine="Async")
    with MicroVM(kernel, cmdline="", memory="64M", drives=[drive], track_dirty_pages=True) as vm:
        vm.start()
        vm.console.wait_for("ready\n", TIMEOUT)
        base = vm.snapshot(tmp_path / "base")
        assert ask(vm, "d") == "sector 0"
        diff = vm.snapshot(tmp_path / "state", diff=True)
    rebase(diff.memory, base.memory)
    with MicroVM.restore(diff.state, memory=base.memory) as again:
        assert [ask(again, "d"), ask(again, "d")] == ["sector 1", "sector 2"]


def rebase(diff, base):
    """Put what the diff has into the base."""
    with open(diff, "rb") as changed, open(base, "r+b") as memory:
        at = 0
        while True:
            try:
                at = os.lseek(changed.fileno(), at, os.SEEK_DATA)
            except OSError:  # only a hole is left
                return
            end = os.lseek(changed.fileno(), at, os.SEEK_HOLE)
            os.pwrite(memory.fileno(), os.pread(changed.fileno(), end - at, at), at)
            at = end


def test_a_diff_has_what_was_written_since_and_a_chain_of_them_is_a_snapshot(vm, tmp_path):
    base = vm.snapshot(tmp_path / "base")
    for _ in range(5):
        ask(vm, "w")
    diff = vm.snapshot(tmp_path / "diff", diff=True)
    assert os.path.getsize(diff.memory) == SIZE
    assert 5 * 4096 <= allocated(diff.memory) < allocated(base.memory)
    ask(vm, "w")
    merged = tmp_path / "merged"
    shutil.copyfile(base.memory, merged)
    rebase(diff.memory, merged)
    last = vm.snapshot(tmp_path / "last", merged, diff=True)  # into a file that is there: merged
    with MicroVM.restore(last, track_dirty_pages=True) as again:
        assert number(again, "s") == 1 + 2 + 3 + 4 + 5 + 6
        assert again.config()["machine-config"]["track_dirty_pages"]
        ask(again, "w")
        third = again.snapshot(tmp_path / "third", diff=True)
        assert 4096 <= allocated(third.memory) < allocated(base.memory)
    rebase(third.memory, merged)
    with MicroVM.restore(third.state, memory=merged) as again:
        assert number(again, "s") == 28


def test_a_diff_without_tracking_has_all_that_may_have_changed(vm, kernel, tmp_path):
    ask(vm, "w")
    snapshot = vm.snapshot(tmp_path / "state")
    with MicroVM.restore(snapshot) as again:
        ask(again, "w")
        diff = again.snapshot(tmp_path / "diff", diff=True)
        assert 4096 <= allocated(diff.memory) <= allocated(snapshot.memory) + 65536
    shutil.copyfile(snapshot.memory, tmp_path / "merged")
    rebase(diff.memory, tmp_path / "merged")
    with MicroVM.restore(diff.state, memory=tmp_path / "merged") as again:
        assert number(again, "s") == 3


def test_a_full_disk_leaves_no_file_and_costs_the_guest_nothing(vm, tmp_path):
    base = vm.snapshot(tmp_path / "base")
    ask(vm, "w")
    before = sorted(os.listdir(tmp_path))
    for diff in (False, True):
        with pytest.raises(ApiError, match=r"Create snapshot error: Cannot write /dev/full: No s"):
            vm.snapshot(tmp_path / "none", "/dev/full", diff=diff)
        with pytest.raises(ApiError, match=r"Create snapshot error: Cannot write /dev/full: No s"):
            vm.snapshot("/dev/full", tmp_path / "none", diff=diff)
    assert sorted(os.listdir(tmp_path)) == before
    with pytest.raises(ApiError, match=r"Create snapshot error: .*No such file or directory"):
        vm.snapshot(tmp_path / "no" / "folder")
    ask(vm, "w")
    diff = vm.snapshot(tmp_path / "diff", diff=True)
    rebase(diff.memory, base.memory)
    with MicroVM.restore(diff.state, memory=base.memory) as again:
        assert number(again, "s") == 3, "pages of the snapshots that failed are not forgotten"


def test_what_is_missing_or_damaged_is_named(vm, tmp_path):
    snapshot = vm.snapshot(tmp_path / "state")
    path, memory = tmp_path / "state", tmp_path / "state.mem"
    from_file = "Failed to restore from snapshot: Failed to get snapshot state from file: "
    gone = "No such file or directory (os error 2)"
    assert refused(tmp_path / "none", memory=memory) == (
        f"{from_file}Failed to open snapshot file: {gone}"
    )
    load = "Failed to restore from snapshot: Failed to load guest memory: "
    assert refused(path, memory=tmp_path / "none").startswith(load)
    assert gone in refused(path, memory=tmp_path / "none")
    assert "Magic value does not match arch" in refused(memory, memory=path)
    assert f"the state says {SIZE}" in refused(path, memory=path)
    short = tmp_path / "short"
    short.write_bytes(b"")
    os.truncate(short, SIZE - 4096)
    assert f"has {SIZE - 4096} bytes; the state says {SIZE}" in refused(path, memory=short)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    short.write_bytes(data)
    assert "CRC64 validation failed" in refused(short, memory=memory)
    short.write_bytes(data[:20])
    assert "File too short to contain CRC" in refused(short, memory=memory)
    assert refused(snapshot, huge_pages="2M") == (
        f"{load}Cannot restore hugetlbfs backed snapshot by mapping the memory file. "
        "Please use uffd."
    )
    assert refused(snapshot, page_server=tmp_path / "none").startswith(
        f"{load}Error creating guest memory from uffd: Failed to connect to UDS Unix stream: {gone}"
    )
    build = "Failed to restore from snapshot: Failed to build microVM from snapshot: "
    (tmp_path / "disk").unlink()
    assert refused(snapshot) == (
        f"{build}Failed to restore devices: Unable to create the virtio block device: Virtio "
        f"backend error: Error manipulating the backing file: {gone} {tmp_path / 'disk'}"
    )


def test_devices_that_are_to_be_others_must_be_there(vm, tmp_path):
    snapshot = vm.snapshot(tmp_path / "state")
    unknown = "Failed to restore from snapshot: Unknown {} Device."
    assert refused(snapshot, taps={"eth0": "tap9"}) == unknown.format("Network")
    with MicroVM("") as again:
        again.launch()
        body = {
            "snapshot_path": snapshot.state,
            "mem_file_path": snapshot.memory,
            "vsock_override": {"uds_path": "x"},
        }
        with pytest.raises(ApiError, match=unknown.format("Vsock")):
            again.request("PUT", "/snapshot/load", body)
        assert again.wait(TIMEOUT) == 1, "a load that failed is the end"


def changed_state(path, change):
    """The same state file with something else in it."""
    found = state.read(str(path))
    change(found.values)
    state.write(str(path) + "-changed", found.kind, found.values)
    return str(path) + "-changed"


def test_a_state_of_another_machine_is_refused_by_what_is_missing(vm, tmp_path):
    snapshot = vm.snapshot(tmp_path / "state")

    def promise(values):
        table = CpuidTable.from_state(values["vcpu.0"]["cpuid"])
        table.obtain(7, 0, indexed=True).edx |= 1 << 24
        table.obtain(1).ecx |= 1 << 6
        values["vcpu.0"]["cpuid"] = table.state()

    path = changed_state(snapshot.state, promise)
    assert refused(path, memory=snapshot.memory).endswith(
        "This host's CPU lacks features that the guest was told of: smx, amx_tile"
    )


def drop_register(values):
    del values["vcpu.0"]["regs"]


def cut_register(values):
    values["vcpu.1"]["sregs"] = values["vcpu.1"]["sregs"][:-1]


def add_vcpu(values):
    values["config"]["machine-config"]["vcpu_count"] = 4


def grow_memory(values):
    values["config"]["machine-config"]["mem_size_mib"] = 65


def rename_disk(values):
    values["config"]["drives"][0]["drive_id"] = "other"


def move_queue(values):
    values["devices"]["virtio"][0]["state"]["queues"][0]["next_used"] = "x"


def no_config(values):
    values["config"] = 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_register, "no 'regs'"),
        (cut_register, "sregs: 311 bytes saved, 312 are needed"),
        (add_vcpu, "no 'vcpu.2'"),
        (grow_memory, "a machine with 65 MiB has it at"),
        (rename_disk, "saved, ('other', 2, 5) here"),
        (move_queue, "Snapshot state is invalid"),
        (no_config, "Snapshot state is invalid: config"),
    ],
)
def test_a_state_that_cannot_be_is_an_error_and_no_crash(vm, tmp_path, change, message):
    snapshot = vm.snapshot(tmp_path / "state")
    path = changed_state(snapshot.state, change)
    assert message in refused(path, memory=snapshot.memory)


# ------------------------------------------------------------------------ page-fault handlers


@pytest.fixture
def serve(tmp_path):
    """``serve(memory, pages)``: the socket of a handler that serves it."""
    handlers = []

    def start(memory, *words):
        path = tmp_path / f"uffd{len(handlers)}.sock"
        handler = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.page_server", path, memory, *map(str, words)],
            stdout=subprocess.PIPE,
        )
        handlers.append(handler)
        assert handler.stdout.readline() == b"listening\n"
        return path

    yield start
    for handler in handlers:
        handler.kill()
        handler.stdout.close()
        handler.wait(TIMEOUT)


def test_a_handler_of_others_brings_the_pages(vm, tmp_path, serve):
    ask(vm, "w")
    snapshot = vm.snapshot(tmp_path / "state")
    with MicroVM.restore(snapshot, page_server=serve(snapshot.memory)) as again:
        assert [number(again, "s"), number(again, "w"), ask(again, "d")] == [1, 2, "sector 0"]
        second = again.snapshot(tmp_path / "second")
    with MicroVM.restore(second) as again:
        assert number(again, "s") == 3


def test_a_handler_that_dies_takes_its_guest_with_it_and_says_so(vm, tmp_path, serve):
    snapshot = vm.snapshot(tmp_path / "state")
    with MicroVM.restore(snapshot, page_server=serve(snapshot.memory, 60)) as again:
        again.console.write("s")  # touches 4096 pages
        assert again.wait(TIMEOUT) != 0
        assert "the page-fault handler" in again.log


# ------------------------------------------------------------------------------- command line


def test_the_version_of_a_snapshot_is_told(vm, tmp_path):
    snapshot = vm.snapshot(tmp_path / "state")
    done = vmm_process.run("--describe-snapshot", snapshot.state)
    assert (done.returncode, done.stdout) == (0, f"v{state.version_text(state.VERSION)}\n")
    done = vmm_process.run("--describe-snapshot", snapshot.memory)
    assert done.returncode == 1
    assert "Magic value does not match arch" in done.stderr


def test_snapshots_from_asyncio(vm, tmp_path):
    ask(vm, "w")
    snapshot = vm.snapshot(tmp_path / "state")

    async def go_on():
        async with await AsyncMicroVM.restore(snapshot) as again:
            await again.console.write("w")
            assert await again.console.wait_for("\n", TIMEOUT) == "page 2\n"
            return await again.snapshot(tmp_path / "second")

    with MicroVM.restore(asyncio.run(go_on())) as again:
        assert number(again, "s") == 3
