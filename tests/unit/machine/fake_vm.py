"""As much of a KVM VM as memory needs, with a guest that writes when it is told to."""


class FakeVm:
    """``slots`` has the flags of each memory slot that is set."""

    def __init__(self):
        self.slots = {}
        self._written = {}

    def set_memory(self, slot, gpa, size, hva, flags=0):
        self._written[slot] = bytearray(size // 4096 // 8)
        if size:
            self.slots[slot] = flags
        else:
            del self.slots[slot]

    def guest_writes(self, slot, *pages):
        for page in pages:
            self._written[slot][page // 8] |= 1 << page % 8

    def dirty_log(self, slot):
        """One bit a page written since the last call, as 64-bit words."""
        written, self._written[slot] = self._written[slot], bytearray(len(self._written[slot]))
        return memoryview(written).cast("Q")
