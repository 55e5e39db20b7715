"""One boot, many guests: clones of a microVM that has started, and one from a snapshot of it."""

import tempfile
from pathlib import Path

from small_linux import PATIENCE, small_linux

from pyrovm import MicroVM

# What takes long is done once; each guest then has a question of its own.
GUEST = """
words=$(dmesg | wc -w)
echo ready
while read name; do echo "$name: $words words since the boot"; done
"""


def ask(vm: MicroVM, name: str) -> str:
    """What the guest says to its name; the terminal repeats what is typed."""
    vm.console.write(f"{name}\n")
    vm.console.wait_for(f"{name}: ", PATIENCE)
    return f"{name}: {vm.console.wait_for(chr(10), PATIENCE).strip()}"


with (
    small_linux(GUEST) as linux,
    MicroVM(**linux) as vm,
    tempfile.TemporaryDirectory() as folder,
):
    vm.start()
    vm.console.wait_for("ready", PATIENCE)

    for number, clone in enumerate(vm.fork(3)):
        with clone:
            print(ask(clone, f"clone {number}"))

    saved = vm.snapshot(Path(folder, "warm"))
    with MicroVM.restore(saved) as again:
        print(ask(again, "from the snapshot"))
    print(ask(vm, "the source"))
