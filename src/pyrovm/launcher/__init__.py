"""The warm launcher: a daemon that has everything loaded and forks one process for each VM.

``client`` and ``stub`` ask it, ``server`` answers, ``child`` is what becomes of a fork.  It knows
nothing of VMs: what its children run is given to it as entries (pyrovm.cli.launcher_entries).
"""
