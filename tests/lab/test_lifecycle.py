"""Linux guests are paused, go on, and end: each end with its status and its last words."""

FAILED = "RunWithApiError error: MicroVM stopped with an error: GenericError"
ENDED_WELL = "Firecracker exiting successfully. exit_code=0"


def test_the_life_of_a_linux_guest(scenario, guest_assets):
    found = scenario("lifecycle", assets=guest_assets)
    assert found["states"] == ["Running", "Paused", "Running"]
    assert found["ticks while paused"] <= 2, "of 10 ms, in 3 s"
    assert found["silent while paused"]
    assert (found["paused twice"], found["resumed twice"]) == ("accepted", "accepted")
    assert found["api while paused"] == 2
    assert found["a little progress at the most"]
    assert found["goes on"]
    assert found["watchdog"] == "0"
    assert found["latencies"] == [True, True]
    assert found["start again"] == (
        "The requested operation is not supported after starting the microVM."
    )
    assert found["complaints"] == []

    assert found["powered off"] == "Running"
    assert found["stopped while paused"] == -15
    assert found["keys"][0] == 0
    assert found["keys"][1][-1] == ENDED_WELL
    assert found["panic"] == [0, ["the guest reset the machine", "Vmm is stopping.", ENDED_WELL]]
    status, words = found["triple fault"]
    assert (status, words[0], words[1]) == (1, "Vmm is stopping.", FAILED)
    assert words[2] == "Firecracker exiting with error. exit_code=1"
