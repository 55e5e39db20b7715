"""A CPUID table in KVM's form: leaves looked up by number, changed in place.

KVM answers the guest's CPUID from the entries that KVM_SET_CPUID2 gave it.  A leaf that is missing
reads as zeros, or on Intel past the highest basic leaf as that leaf.
"""

from __future__ import annotations

from pyrovm.abi.kvm import KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

INTEL = "GenuineIntel"
AMD = "AuthenticAMD"

MAX_ENTRIES = 256  # KVM_MAX_CPUID_ENTRIES


class CpuidTable:
    """The entries of one table, keyed by leaf and subleaf (0 where a leaf has none)."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Iterable[kvm_cpuid_entry2]) -> None:
        """Copy ``entries``; the first of several with the same leaf and subleaf counts."""
        self._entries: dict[tuple[int, int], kvm_cpuid_entry2] = {}
        for entry in entries:
            self._entries.setdefault((entry.function, entry.index), entry.copy())

    @property
    def entries(self) -> list[kvm_cpuid_entry2]:
        """What KVM_SET_CPUID2 takes; the live entries, not copies."""
        return list(self._entries.values())

    def copy(self) -> CpuidTable:
        """A table of the same contents."""
        return CpuidTable(self._entries.values())

    def state(self) -> bytes:
        """The entries in KVM's layout, one behind the other."""
        return b"".join(bytes(entry) for entry in self._entries.values())

    @classmethod
    def from_state(cls, data: bytes) -> CpuidTable:
        """The table that :meth:`state` described.

        Raises:
            ValueError: not whole entries, or more than KVM takes.
        """
        count, rest = divmod(len(data), kvm_cpuid_entry2.SIZE)
        if rest or count > MAX_ENTRIES:
            raise ValueError(f"{len(data)} bytes are no CPUID table of up to {MAX_ENTRIES} entries")
        size = kvm_cpuid_entry2.SIZE
        return cls(
            kvm_cpuid_entry2.from_bytes(data[at : at + size]) for at in range(0, len(data), size)
        )

    def get(self, leaf: int, subleaf: int = 0) -> kvm_cpuid_entry2 | None:
        """The live entry, or None."""
        return self._entries.get((leaf, subleaf))

    def obtain(self, leaf: int, subleaf: int = 0, *, indexed: bool = False) -> kvm_cpuid_entry2:
        """The live entry, made of zeros where there was none.

        ``indexed``: the leaf has subleaves, so the guest's ECX selects among them.
        """
        entry = self._entries.get((leaf, subleaf))
        if entry is None:
            entry = kvm_cpuid_entry2()
            entry.function = leaf
            entry.index = subleaf
            entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX if indexed else 0
            self._entries[leaf, subleaf] = entry
        return entry

    def subleaves(self, leaf: int) -> list[kvm_cpuid_entry2]:
        """All live entries of one leaf, by subleaf."""
        return [self._entries[key] for key in sorted(self._entries) if key[0] == leaf]

    def remove(self, leaf: int, subleaf: int | None = None) -> None:
        """Drop one entry, or with ``subleaf`` None the whole leaf; nothing where it is absent."""
        for key in [k for k in self._entries if k[0] == leaf and subleaf in (None, k[1])]:
            del self._entries[key]

    @property
    def vendor(self) -> str:
        """The twelve letters of leaf 0; empty without that leaf."""
        entry = self.get(0)
        if entry is None:
            return ""
        raw = b"".join(v.to_bytes(4, "little") for v in (entry.ebx, entry.edx, entry.ecx))
        return raw.decode("latin-1")

    @property
    def model(self) -> tuple[int, int, int]:
        """Family, model and stepping as software counts them (Intel SDM vol. 2A, CPUID leaf 1)."""
        entry = self.get(1)
        signature = 0 if entry is None else entry.eax
        family, model = signature >> 8 & 0xF, signature >> 4 & 0xF
        if family in (6, 15):
            model |= signature >> 12 & 0xF0
        if family == 15:
            family += signature >> 20 & 0xFF
        return family, model, signature & 0xF

    def set_text(self, leaf: int, text: str) -> None:
        """Spread ``text`` (at most 47 letters, padded with NULs) over three leaves' registers."""
        raw = text.encode("ascii").ljust(48, b"\0")
        for part in range(3):
            entry = self.obtain(leaf + part)
            words = memoryview(raw)[16 * part : 16 * part + 16].cast("I")
            entry.eax, entry.ebx, entry.ecx, entry.edx = words
