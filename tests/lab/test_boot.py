"""Linux boots to a shell: from every form of a kernel, on one and on several vCPUs."""

import pytest

PROTOCOLS = {"pvh": "PVH", "elf64": "Linux 64-bit", "bzImage": "Linux 64-bit"}
COUNTS = (1, 2, 4)


@pytest.mark.parametrize("form", PROTOCOLS)
def test_linux_boots_from_every_form_of_its_kernel(scenario, guest_assets, form):
    found = scenario("boot", form, *COUNTS, assets=guest_assets)
    assert list(found) == [str(count) for count in COUNTS]
    for count in COUNTS:
        assert found[str(count)] == {
            "protocol": f"Kernel loaded using {PROTOCOLS[form]} boot protocol",
            "cpus": str(count),
            "online": "0" if count == 1 else f"0-{count - 1}",
            "clock": "kvm-clock",
            "memory fits": True,
            "complaints": [],
            "status": 0,
        }
