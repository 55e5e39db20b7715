"""``pyrovm run --vhost``: network and vsock of a Linux guest through the host's kernel."""


def test_the_kernel_moves_the_data_of_a_linux_guest(scenario, guest_assets):
    assert scenario("vhost", assets=guest_assets) == {
        "kernel threads": 2,
        "fetched": str(256 << 10),
        "echo": True,
        "peer": 42,
        "said": "from the guest\n",
        "warned": False,
        "complaints": [],
        "status": 0,
        "kernel threads afterwards": 0,
    }
