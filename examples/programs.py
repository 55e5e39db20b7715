"""Run programs of this machine, each in a VM of its own: subprocess.run, with walls."""

import subprocess
import tempfile
from pathlib import Path

import pyrovm

done = pyrovm.run(["python3", "-c", "print(6 * 7)"], capture_output=True, text=True)
print("Python says:", done.stdout.strip())

# It sees what it is given, and nothing else.
with tempfile.TemporaryDirectory() as folder:
    Path(folder, "names").write_text("pear\napple\nfig\n")
    pyrovm.run(
        ["sort", "-o", "/data/sorted", "/data/names"], volumes=[f"{folder}:/data"], check=True
    )
    print("Sorted:", *Path(folder, "sorted").read_text().split())
done = pyrovm.run(["cat", "/etc/shadow"], capture_output=True, text=True)
print("Without folders:", done.stderr.strip())

# It can take no more than it is given.
try:
    pyrovm.run(["python3", "-c", "while True: pass"], timeout=1)
except subprocess.TimeoutExpired:
    print("It was ended after a second")
