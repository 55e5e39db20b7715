"""vsock as Linux uses it: both directions, many connections, none, and through a pause."""


def test_vsock_of_a_linux_guest(scenario, guest_assets):
    assert scenario("vsock", assets=guest_assets) == {
        "refused": "vsock port 5000 of the guest refused the connection",
        "echo": True,
        "several": [f"connection {number}" for number in range(5)],
        "sent": True,
        "answer": "thank you",
        "nobody on the host": [1, "Connection reset by peer"],
        "across a pause": "before after",
        "metrics": {"received": True, "sent": True, "connections": True, "faults": 0},
        "complaints": [],
        "status": 0,
    }
