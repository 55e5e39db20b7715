"""Guests to run: kernels, initial RAM file systems and disks, from Debian's packages."""
