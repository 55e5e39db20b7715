"""What a restored guest needs first, remembered beside its memory file, on a KVM of any kind."""

import shutil

import pytest

from pyrovm import MicroVM
from pyrovm.snapshot import working_set
from tests.fakes import kernel_guest

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to compile kernels with"),
]

TIMEOUT = 20


@pytest.fixture
def snapshot(tmp_path):
    kernel = kernel_guest.build("lasting", tmp_path)
    with MicroVM(kernel, cmdline="", memory="64M") as vm:
        vm.start()
        vm.console.wait_for("ready\n", TIMEOUT)
        return vm.snapshot(tmp_path / "state")


def use(snapshot):
    """Let a restored guest work, and end."""
    with MicroVM.restore(snapshot) as vm:
        vm.console.write("w")
        assert vm.console.wait_for("\n", TIMEOUT) == "page 1\n"
        vm.console.write("q")
        assert vm.wait(TIMEOUT) == 0


def test_a_guest_has_its_pages_remembered_where_that_is_asked_for(snapshot):
    path = str(snapshot.memory)
    use(snapshot)
    assert working_set.load(path) == [], "nobody asked"
    open(path + working_set.SUFFIX, "wb").close()
    use(snapshot)
    ranges = working_set.load(path)
    assert 0 < sum(end - start for start, end in ranges) <= 64 << 20
    use(snapshot)
    assert working_set.load(path) == ranges


def test_a_list_that_is_damaged_or_cannot_be_written_stops_nobody(snapshot, tmp_path):
    path = str(snapshot.memory)
    with open(path + working_set.SUFFIX, "wb") as file:
        file.write(b"nonsense")
    use(snapshot)
    (tmp_path / f"state.mem{working_set.SUFFIX}").unlink()
    (tmp_path / f"state.mem{working_set.SUFFIX}").mkdir()
    use(snapshot)
