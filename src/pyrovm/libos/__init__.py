"""The library OS: C, compiled by :mod:`pyrovm.libos.build`.  README.md says how it works."""
