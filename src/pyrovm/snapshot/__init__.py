"""Snapshots as files: the state file, the memory file, page-fault serving.

``tree``     structured data with bytes in it, as one run of bytes
``state``    the state file: head, sections, checksums
``layout``   what a memory file holds
``part``     files that appear whole or not at all
``memory``   guest memory into a file, and from a file into mappings
``pages``    which pages hold anything
``uffd``     guest memory that another process serves page by page

Nothing here knows a machine: what is saved comes as plain data and views of memory.
"""
