"""Making images: a source in, an image of the cache out."""

from __future__ import annotations

import os
from pathlib import Path

from pyrovm.errors import ConfigError, HostError
from pyrovm.guest import cache
from pyrovm.guest.progress import Progress, Silent
from pyrovm.image import erofs, index, manifest, store
from pyrovm.image.draft import Draft, Options
from pyrovm.image.manifest import File, Manifest
from pyrovm.image.store import Image
from pyrovm.image.which import find_source

__all__ = ["Options", "build", "build_for_run"]

_DEFAULTS = Options()
_KEPT_S = 24 * 3600  # seconds for which an image stays that no program is started from


def build(
    source: str | Path, options: Options = _DEFAULTS, progress: Progress | None = None
) -> Image:
    """Make an image of a program, script, source or folder, and name it.

    The same input makes the same image, wherever and whenever.

    Raises:
        ConfigError: the source cannot become an image; says why.
        HostError: a tool failed or is missing.
    """
    found = find_source(str(source))
    if found is None:
        raise ConfigError(f"{source}: no such file or program")
    name = manifest.check_name(options.name) if options.name else default_name(found)
    progress = progress or Silent("image")
    with cache.scratch(store.home()) as folder:
        draft = Draft(options, folder, progress)
        draft.take(found)
        return store.add(folder, _make(draft, folder, name, progress), name)


def build_for_run(source: str, progress: Progress | None = None) -> index.Entry:
    """Make the image for a program (an absolute path) that is about to run, and remember it.

    Of several processes that want it at once, one makes it.
    """
    progress = progress or Silent("image")
    key = os.path.basename(index.index_path(source))
    lock = cache.folder("images", "index", index.LOCKS) / key
    with cache.locked(lock, on_wait=lambda: progress.step("waiting for another process")):
        found = index.find(source)
        if found is None:
            with cache.scratch(store.home()) as folder:
                draft = Draft(_DEFAULTS, folder, progress)
                draft.take(source)
                made = _make(draft, folder, default_name(source), progress)
                image = store.add(folder, made, None)
            index.remember(source, image.digest, draft.inputs)
            store.prune(min_age_s=_KEPT_S)  # what older versions of programs have left
            found = image.entry
    return found


def default_name(source: str) -> str:
    """An image's name after its source: hello for /tmp/hello.c."""
    stem = os.path.basename(source.rstrip("/"))
    for suffix in (".py", ".c"):
        stem = stem.removesuffix(suffix)
    word = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in stem.lower())
    word = word.lstrip("._-")[: manifest.MAX_NAME]
    return "image" if not word or index.is_digest(word) else word


def _make(draft: Draft, folder: Path, name: str, progress: Progress) -> Manifest:
    """Write the draft's tree as ``root.erofs`` into ``folder``; the manifest for it."""
    progress.step("writing the file system")
    staging = folder / "root"
    staging.mkdir()
    staging.chmod(0o755)
    draft.tree.write(staging, progress.at)
    made = folder / "made"
    erofs.make(made, staging)
    cache.remove(staging)
    digest, size = store.take_root(made, folder / index.ROOT)
    described = Manifest(
        name=name,
        exe=draft.exe,
        argv=tuple(draft.argv),
        env=draft.env,
        cwd=draft.cwd,
        root_sha256=digest,
        root_size_bytes=size,
        files={
            path: File(node.size_bytes, node.why)
            for path, node in draft.tree.nodes.items()
            if node.kind == "file"
        },
        remarks=tuple(sorted(set(draft.tree.remarks))),
    )
    try:
        return manifest.parse(described.encode())
    except ConfigError as error:
        raise HostError(f"cannot be described: {error}") from None
