"""Whoever writes a snapshot may be killed at any moment: old files or new ones, nothing else.

``PYROVM_TEST_KILLS=200`` kills so many writers of each kind.
"""

import os
import random
import subprocess
import sys
import time

import pytest

from pyrovm.snapshot import part, state
from pyrovm.snapshot.layout import Layout

KILLS = int(os.environ.get("PYROVM_TEST_KILLS", "8"))
SIZE = 8 << 20
WRITER = """
import sys
from pyrovm.host import mapping
from pyrovm.snapshot import memory, state
from pyrovm.snapshot.layout import Layout
from pyrovm.snapshot.memory import Source
from pyrovm.snapshot.part import Part
folder, kind, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
if kind == "named":
    Part._open_nameless = lambda self: -1
guest = mapping.anonymous(size)
layout = Layout([(0, size)])
number = 0
while True:
    number = number % 250 + 1
    guest.view[:] = bytes([number]) * size
    file = memory.prepare_full(f"{folder}/mem", size, [Source(guest.view, guest.address, 0)])
    sections = {"config": {"number": number}, "memory": layout.to_json(), "vm": {}, "vcpu.0": {}}
    saved = state.prepare(f"{folder}/state", "machine", sections | {"devices": {}})
    file.publish()
    saved.publish()
    print(number, flush=True)
"""


@pytest.mark.parametrize("kind", ["nameless", "named"])
def test_at_any_moment_there_are_whole_files_and_no_others(tmp_path, kind):
    moments = random.Random(kind)
    for _ in range(KILLS):
        command = [sys.executable, "-c", WRITER, tmp_path, kind, str(SIZE)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() != ""
            time.sleep(moments.uniform(0, 0.05))
            process.kill()
        part.remove_left_over(str(tmp_path))  # as the next snapshot does
        assert sorted(os.listdir(tmp_path)) == ["mem", "state"]
        found = state.read(str(tmp_path / "state"))
        assert Layout.of(found).size == os.path.getsize(tmp_path / "mem")
        data = (tmp_path / "mem").read_bytes()
        assert data == data[:1] * SIZE
        newer = (data[0] - found["config"]["number"]) % 250
        assert newer in (0, 1), "the memory is the state's, or of the snapshot being published"
