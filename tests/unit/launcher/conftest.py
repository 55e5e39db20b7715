import pytest

from tests.fakes.launcher import Launcher


@pytest.fixture
def launcher():
    """A launcher that is not started yet; it and all that it starts end with the test."""
    made = Launcher()
    yield made
    made.close()


@pytest.fixture
def start(launcher, tmp_path):
    """``start(*arguments)``: a VMM that finds our launcher; it ends with the test."""
    processes = []

    def start(*arguments, **options):
        folder = tmp_path / str(len(processes))
        folder.mkdir()
        process = launcher.vmm(folder, *arguments, **options)
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.process.poll() is None:
            process.process.kill()
        process.process.communicate()
