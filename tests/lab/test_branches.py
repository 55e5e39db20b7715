"""Branches of Linux guests: clones and snapshots by fork(2), each clone with devices of its own."""

import pytest

OWN = {
    "net": 0,
    "own disk": "1",
    "vsock": "anybody?",
    "memory": "unharmed",
    "counts on": "0",
    "clock": True,
}


def works(name):
    return OWN | {"disk": f"was here {name} "}


@pytest.mark.parametrize("kernel", ["cloud", "lean"])
def test_a_busy_linux_guest_goes_on_in_clones_and_by_itself(scenario, request, kernel):
    found = scenario("branches", assets=request.getfixturevalue(f"{kernel}_assets"), timeout=540)
    assert "drive data can be written: pause the machine" in found["a writable drive"]
    assert "interface eth0 needs a tap of its own" in found["no tap"]

    assert found["pause_us"] > 0
    assert found["connection of the source"] == "still here"
    (snapshot,) = found["live snapshot"]
    assert snapshot["state"] == "written", snapshot

    assert "clones of this machine read its file" in found["resume of a base"]
    assert found["clones"] == [works("clone 0"), works("clone 1")]
    if kernel == "lean":  # Debian's kernel does not know of VM generation ids
        assert found["random"] == 2
        assert found["vmgenid"] == "1"
    assert found["complaints"] == []
    assert found["ended"] == [0, 0]

    assert found["source"] == works("source")
    assert found["source is later"] == "later"
    assert found["connection after all"] == "still here"
    assert found["complaints of the source"] == []

    assert found["restored"] == works("restored")
    assert found["not later"] == 1
