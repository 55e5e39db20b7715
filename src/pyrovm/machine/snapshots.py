"""Snapshots into files: a paused machine's state and memory, both or none."""

from __future__ import annotations

from pyrovm.machine.saving import save_machine
from pyrovm.snapshot import state
from pyrovm.snapshot.layout import Layout
from pyrovm.snapshot.memory import Source, prepare_diff, prepare_full

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrovm.config.snapshot import SnapshotCreateParams
    from pyrovm.machine.dirty import DirtyPages
    from pyrovm.machine.machine import Machine
    from pyrovm.snapshot.memory import MemoryFile

DIFF = "Diff"


def create_snapshot(
    machine: Machine, config: dict[str, Any], params: SnapshotCreateParams
) -> MemoryFile:
    """Save ``machine``, configured as ``config`` says, as ``params`` ask for; what was written.

    Raises:
        StateError: the machine runs, or has a device that cannot be saved.
        HostError: a file cannot be written, or KVM did not tell its state.  The machine can go on,
            and what was under the files' names before is there still.
    """
    return write_snapshot(machine, save_machine(machine), config, params, machine.dirty)


def write_snapshot(
    machine: Machine,
    sections: dict[str, Any],
    config: dict[str, Any],
    params: SnapshotCreateParams,
    dirty: DirtyPages | None = None,
) -> MemoryFile:
    """The same of a machine whose ``sections`` are saved, here or in a process forked since.

    ``dirty`` begins anew with this snapshot.

    Raises:
        HostError: a file cannot be written; what was under the files' names before is there still.
    """
    ram = machine.ram
    layout = Layout(
        ram.saved_ranges(), huge_pages=ram.huge_pages, snapshot_type=params.snapshot_type
    )
    slots = ram.saved_slots()
    sources = []
    for slot in slots:
        mapping = slot.mapping
        assert slot.saved_at is not None
        sources.append(
            Source(mapping.view, mapping.address, slot.saved_at, mapping.origin, mapping.base)
        )
    if dirty is not None:
        dirty.collect()
    if params.snapshot_type == DIFF:
        is_known = dirty is not None and not any(s.device.writes_unseen for s in machine.slots)
        changed = [dirty.ranges(slot) for slot in slots] if dirty and is_known else None
        memory = prepare_diff(params.mem_file_path, layout.size, sources, changed)
        layout.written = memory.written
    else:
        memory = prepare_full(params.mem_file_path, layout.size, sources)
    try:
        layout.samples = memory.samples()
        sections |= {"config": config, "memory": layout.to_json()}
        with state.prepare(params.snapshot_path, "machine", sections) as part:
            memory.publish()
            part.publish()
    except BaseException:
        memory.discard()
        raise
    if dirty is not None:
        dirty.forget()
    return memory
