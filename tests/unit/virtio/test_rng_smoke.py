from pyrovm.devices.virtio_rng import VirtioRng
from tests.fakes.driver import Driver


def test_a_request_is_filled_with_random_bytes():
    driver = Driver(VirtioRng(lambda n: b"\xab" * n))
    assert driver.status == 15
    gpa = driver.alloc(64)
    head = driver.queues[0].add([], [(gpa, 64)])
    driver.notify()
    assert driver.queues[0].take_used() == [(head, 64)]
    assert driver.memory.read(gpa, 64) == b"\xab" * 64
    assert driver.irqs == 1
