"""VMs of one program: the VMM's side of the library OS (pyrovm/libos)."""
