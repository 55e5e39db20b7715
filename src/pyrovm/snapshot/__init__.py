"""Snapshots as files: the state file, the memory file, page-fault serving.

``tree``         structured data with bytes in it, as one run of bytes
``state``        the state file: head, sections, checksums
``layout``       what a memory file holds
``memory``       guest memory into a file, and from a file into mappings
``pages``        which pages hold anything
``part``         files that appear whole or not at all
``working_set``  the pages that are needed first
``uffd``         guest memory that another process brings page by page; ``guard`` for when it dies
``faults``       the other process: the faults of one VM; ``server`` for any number
``compare``      what two snapshots differ in
``rebase``       a diff merged into the memory file before it

Nothing here knows a machine: what is saved comes as plain data and views of memory.
"""
