"""Whether a quantity grows: a line through its samples, and a comparison of its ends.

Both have to say so: the slope alone is moved by one high sample at an end, the ends alone by two
plateaus, as an allocator has them.  What is counted at rest (descriptors, processes, files) must
not grow by one; memory has a tolerance for what allocators and caches keep, which does not depend
on how long the run is: a leak of 1 KiB an operation shows after some thousand of them.
Proportional memory is shown and not judged: it changes with what other processes share.
"""

from __future__ import annotations

from math import inf
from statistics import median

MEMORY_KIB = 2048
DISK_KIB = 1024
COUNT = 0.5
LEAST = 6  # samples: with fewer nothing can be said


def tolerance(name):
    """How much more of the quantity ``name`` there may be at the end than at the beginning."""
    if name.startswith("pss"):
        return inf
    if name.endswith("_kib"):
        return DISK_KIB if name.startswith("disk") else MEMORY_KIB
    return COUNT


def growth(values):
    """By how much ``values``, evenly spaced in time, grow from the first to the last: the lesser
    of what the line of least squares says and of the difference of the medians of both thirds."""
    count = len(values)
    if count < LEAST:
        return 0.0
    middle, mean = (count - 1) / 2, sum(values) / count
    slope = sum((n - middle) * (value - mean) for n, value in enumerate(values))
    slope /= sum((n - middle) ** 2 for n in range(count))
    third = count // 3
    return min(slope * (count - 1), median(values[-third:]) - median(values[:third]))


def judge(samples):
    """Of samples that are alike, by name: first, last, most, growth, and whether that is much."""
    told = {}
    for name in sorted(samples[0]):
        values = [sample[name] for sample in samples]
        more = growth(values)
        told[name] = {
            "first": values[0],
            "last": values[-1],
            "most": max(values),
            "growth": round(more, 1),
            "grows": more > tolerance(name),
        }
    return told
