"""Programs and functions in VMs of their own, from Python: ``pyrovm.run``, ``pyrovm.function``.

The caller's process runs no VM.  It starts a helper once (:mod:`pyrovm.programs.zygote`), which has
the engine loaded and forks a process for each VM; a VM lives no longer than who asked for it.
"""
