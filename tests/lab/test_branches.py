"""Branches of Linux guests: clones and snapshots by fork(2), each clone with devices of its own."""

import pytest


def unharmed(name):
    return {"disk": f"was here {name} ", "memory": "unharmed"}


WORKS = unharmed("clone") | {
    "net": 0,
    "own disk": "1",
    "vsock": "anybody?",
    "counts on": "0",
    "clock": True,
}


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
    assert found["clone"] == WORKS
    assert found["other clone"] == unharmed("other")
    if kernel == "lean":  # Debian's kernel does not know of VM generation ids
        assert found["random"] == 2
        assert found["vmgenid"] == "1"
    assert found["complaints"] == []
    assert found["ended"] == [0, 0]

    assert found["source"] == unharmed("source")
    assert found["source is later"] == "later"
    assert found["connection after all"] == "still here"
    assert found["complaints of the source"] == []

    assert found["restored"] == unharmed("restored")
    assert found["not later"] == 1
