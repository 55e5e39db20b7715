import pytest

from tests.fakes.vmm_process import Process


@pytest.fixture
def start(tmp_path):
    """``start(*arguments)``: a ``pyrovm-firecracker`` whose API is open; it ends with the test."""
    processes = []

    def start(*arguments, **options):
        process = Process(tmp_path, *arguments, **options)
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.process.poll() is None:
            process.process.kill()
            process.process.communicate()
