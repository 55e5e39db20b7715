"""The SDK's VMMs by the launcher: the same as those that it starts itself."""

import asyncio
import os
import re

import pytest

from pyrovm import AsyncMicroVM, MicroVM, MicroVMError, VmmExited
from pyrovm.launcher import client
from pyrovm.sdk._warm import AsyncWarmProcess, WarmProcess
from tests.fakes.launcher import wait_until


@pytest.fixture
def served(launcher, monkeypatch):
    """A launcher that this very process finds."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", launcher.base)
    monkeypatch.delenv("PYROVM_LAUNCHER", raising=False)
    return launcher.run()


def test_a_vmm_of_the_blocking_client(served):
    before = os.listdir("/proc/self/fd")
    with MicroVM("vmlinux", id="blocking") as vm:
        vm.launch()
        assert isinstance(vm._process, WarmProcess)
        assert vm.info()["id"] == "blocking"
        assert served.status()["children"][0]["pid"] == vm.pid
        assert vm.returncode is None
        assert vm.stop() == -15
        assert vm.returncode == -15
        with pytest.raises(VmmExited, match="the VMM was killed by signal 15"):
            vm.info()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_vmm_of_the_asynchronous_client(served):
    async def use():
        async with AsyncMicroVM("vmlinux", id="waiting") as vm:
            await vm.launch()
            assert isinstance(vm._process, AsyncWarmProcess)
            assert (await vm.info())["id"] == "waiting"
            assert served.status()["children"][0]["pid"] == vm.pid
            assert vm.returncode is None
            assert await vm.stop() == -15
            assert await vm.wait() == -15

    asyncio.run(use())


def test_closing_a_vm_ends_its_process(served):
    vm = MicroVM("vmlinux")
    vm.launch()
    pid = vm.pid
    vm.close()
    wait_until(lambda: not served.status()["children"], "it is reaped")
    assert not os.path.exists(f"/proc/{pid}")


def test_a_vm_survives_the_launcher_and_its_end_is_known(served):
    async def use():
        async with AsyncMicroVM("vmlinux") as waiting:
            with MicroVM("vmlinux") as blocking:
                blocking.launch()
                await waiting.launch()
                served.kill()
                assert blocking.info()["state"] == "Not started"
                assert (await waiting.info())["state"] == "Not started"
                assert blocking.stop() in (-15, 1)  # 1: an older kernel does not tell
                assert await waiting.stop() in (-15, 1)

    asyncio.run(use())


def test_a_start_that_fails_says_why(served, tmp_path):
    with MicroVM("vmlinux", id="a_b") as vm, pytest.raises(VmmExited, match="signal 6"):
        vm.launch()
    assert served.status()["started"] == 1


def test_the_limit_is_an_error_of_the_client(launcher, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", launcher.base)
    launcher.run("--max-children", "1")
    with MicroVM("vmlinux") as first, MicroVM("vmlinux") as second:
        first.launch()
        with pytest.raises(MicroVMError, match="1 children at work, which is its limit"):
            second.launch()
        assert first.info()["state"] == "Not started"


@pytest.mark.parametrize(
    ("fds", "words", "reason"),
    [
        ({5000: 1}, [], "the child cannot be as its caller: descriptors up to 4095 can be taken"),
        ({0: 1}, ["x" * 200_000], "bytes of arguments and options; 131072 are allowed"),
        ({0: 1}, ["a\0b"], "word: 'a\\x00b' has a NUL byte"),
    ],
)
def test_what_cannot_be_asked_for_is_done_without_it(served, fds, words, reason):
    with pytest.raises(client.Unavailable, match=re.escape(reason)):
        client.Launched(client.connect(), "firecracker", words, fds, environment={})
    wait_until(lambda: not served.status()["children"], "the child has given up")
    with MicroVM("vmlinux") as vm:
        vm.launch()
        assert served.status()["children"][0]["pid"] == vm.pid


def test_a_kind_that_nobody_knows_is_refused(served):
    with pytest.raises(client.Unavailable, match="not understood: 'other'"):
        client.Launched(client.connect(), "other", [], {0: 1}, environment={})
    assert served.status()["refused"] == 1
