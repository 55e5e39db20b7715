"""Start a microVM and talk to it over its serial console."""

from small_linux import PATIENCE, small_linux

from pyrovm import MicroVM

GUEST = """
stty -echo
echo ready
echo "This is Linux $(uname -r) with $(nproc) processors. What is your name?"
read -r name
echo "Hello, $name!"
reboot -f
"""

with small_linux(GUEST) as linux, MicroVM(**linux, cpus=2, memory="256M") as vm:
    vm.start()
    vm.console.wait_for("ready", PATIENCE)
    print(vm.console.wait_for("name?", PATIENCE).strip())
    vm.console.write("microVM\n")
    print(vm.console.wait_for("!", PATIENCE).strip())
    print("It ended with status", vm.wait(PATIENCE))
