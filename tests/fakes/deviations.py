"""Where a program in a VM of its own sees something else than as a process, and means to.

For each program of tests/guests/programs, case by case, what the VM answers.  Everything else in
their output is the same in both; docs/reference/system-calls.md is made of this table too.
"""

NO_ATTRIBUTES = "files have no extended attributes"
NO_PACKETS = "pipes carry bytes only: no O_DIRECT"
PARTIAL = "a pipe takes what lies before the first address that is not there"

# program -> {case: (what the VM answers, why)}
DEVIATIONS: dict[str, dict[str, tuple[str, str]]] = {
    "attributes": {"no such attribute": ("EOPNOTSUPP", NO_ATTRIBUTES)},
    "errors": {
        "pipe write over the edge": ("4", PARTIAL),
        "first good, second bad": ("2", PARTIAL),
    },
    "pipes": {
        "packets": ("EINVAL", NO_PACKETS),
    },
}
