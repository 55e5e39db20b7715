"""Block devices as Linux uses them: ext4, O_DIRECT, io_uring, read-only, other files, limits."""

NO_FILE = (
    "Drive config error: Unable to patch the block device: Block: Virtio backend error: Error "
    "manipulating the backing file: No such file or directory (os error 2) /no/such/file "
    "Please verify the request arguments."
)


def test_disks_of_a_linux_guest(scenario, guest_assets):
    found = scenario("disk", assets=guest_assets)
    assert found["from host"] == "from the host"
    assert found["on host"] == "line 1\nline 2\nline 3\n"
    assert (found["ro flag"], found["ro data"], found["ro write"]) == ("1", "read me!", 1)
    assert found["ro untouched"]
    assert found["direct"] == "500"
    assert found["direct on host"]
    assert found["random sum"] == found["random sum on host"]

    # another file behind a live drive
    assert found["swap before"].split("\n") == ["4096", "first..."]
    assert found["swap after"].split("\n") == ["8192", "second.."]
    assert found["id changed"]
    assert found["bad path"] == NO_FILE
    assert found["after bad path"] == "second.."

    # limits on a live drive
    assert found["unlimited events"] == found["again events"] == 0
    assert found["limited events"] > 0
    assert found["limited bytes"] >= 1 << 20
    assert found["config"] == ["/tmp/second", None]
    assert found["complaints"] == []
    assert found["status"] == 0
