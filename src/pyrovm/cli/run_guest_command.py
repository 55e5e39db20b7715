"""``pyrovm run ... -- CMD``: a command as the guest's init, with its exit status as ours.

The kernel starts ``/bin/sh -c SCRIPT``; the script makes the usual mounts, runs the command, says
its exit status (run_signs.py) and resets the machine.  It goes through the kernel's command line,
where double quotes group words and cannot be escaped, so it contains none.
"""

from __future__ import annotations

SHELL = "/bin/sh"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SCRIPT = (
    "export PATH={path} HOME=/root; "
    "mount -t proc proc /proc 2>/dev/null; mount -t sysfs sys /sys 2>/dev/null; "
    "mount -t devtmpfs dev /dev 2>/dev/null; Q=$(printf '\\042'); "
    "printf '\\033]7777;init\\007'; {command}; "
    "s=$?; printf '\\033]7777;exit=%s\\007' $s; sync; reboot -f; echo b >/proc/sysrq-trigger"
)


def kernel_words(command: list[str], *, initrd_only: bool) -> tuple[str, str]:
    """What to add to the kernel's parameters, and what to put behind `` -- ``."""
    name = "rdinit" if initrd_only else "init"
    script = _SCRIPT.format(path=PATH, command=quote(command))
    return f"{name}={SHELL}", f'-c "{script}"'


def quote(command: list[str]) -> str:
    """The command for a shell, without a double quote: each is put in by the variable Q."""
    words = []
    for word in command:
        quoted = "'" + word.replace("'", "'\\''") + "'"
        words.append(quoted.replace('"', "'$Q'"))
    return " ".join(words)
