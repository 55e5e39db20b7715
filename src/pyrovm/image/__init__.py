"""Images: one program, all files that it needs, and why each is there.

An image is a folder of the cache named by its digest: ``manifest.json`` says what to run and what
went in, ``root.erofs`` is the file system, uncompressed, to be mapped.

:mod:`~pyrovm.image.index` finds what was built before and is all that a start needs;
:mod:`~pyrovm.image.build` makes new ones, :mod:`~pyrovm.image.store` keeps them.
"""
