"""What a program may touch outside of its VM: the network under its policy, folders of the host."""

from __future__ import annotations

import os

from pyrovm.abi import libos as abi
from pyrovm.errors import ConfigError, HostError, PyrovmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from pyrovm.unikernel.addresses import Endpoint
    from pyrovm.unikernel.calls import Calls
    from pyrovm.unikernel.folders import Folders
    from pyrovm.unikernel.policy import Policy
    from pyrovm.unikernel.share import Share
    from pyrovm.unikernel.sockets import Sockets

STDERR = 2


class Outside:
    """The rules as given on the command line; :meth:`attach` is run()'s ``prepare``."""

    def __init__(
        self,
        allow: Iterable[str] = (),
        publish: Iterable[str] = (),
        folders: Iterable[str] = (),
        hostname: str = "localhost",
    ) -> None:
        """Parse the rules and open the folders; ``hostname`` is the VM's own name.

        Raises:
            ConfigError: a rule is malformed.
            HostError: a folder cannot be opened.
        """
        self._hostname = hostname
        self._policy: Policy | None = None
        self._sockets: Sockets | None = None
        self._folders: Folders | None = None
        self.listens: Callable[[int], object] | None = None  # is told where the program listens
        self.shares: list[Share] = []
        rules, texts = (list(allow), list(publish)), list(folders)
        if any(rules):
            from pyrovm.unikernel.policy import Policy

            self._policy = Policy(*rules)
        if len(texts) > abi.PV_SHARES_MAX:
            raise ConfigError(f"-v: {len(texts)} folders given; {abi.PV_SHARES_MAX} are possible")
        for text in texts:
            self._add_share(text)

    def _add_share(self, text: str) -> None:
        from pyrovm.unikernel.share import Share

        try:
            self.shares.append(Share(text))
        except PyrovmError:
            self.close()
            raise

    def close(self) -> None:
        """Close the folders."""
        while self.shares:
            self.shares.pop().close()

    def attach(self, calls: Calls) -> Callable[[], None]:
        """Serve the guest's calls about all this; what to call when it has ended."""

        def first_socket(a: int, b: int, c: int, d: int, e: int, f: int) -> int:
            self._serve_sockets(calls)  # what most programs never use costs nothing before that
            return calls.handlers[abi.PV_SOCKET](a, b, c, d, e, f)

        def finish() -> None:
            if self._sockets:
                self._sockets.close()

        calls.handlers[abi.PV_SOCKET] = first_socket
        if self.shares:
            from pyrovm.unikernel.folders import Folders

            self._folders = Folders(calls, self.shares)
        return finish

    def _serve_sockets(self, calls: Calls) -> Sockets:
        from pyrovm.unikernel.policy import Policy
        from pyrovm.unikernel.sockets import Sockets

        self._policy = self._policy or Policy()
        self._sockets = Sockets(
            calls, self._policy, _log, hostname=self._hostname, listens=self.listens
        )
        return self._sockets

    def state(self) -> dict[str, Any]:
        """What a guest that is saved has open, as plain data.

        Raises:
            HostError: it has files of the host open, which cannot be saved.
        """
        if self._folders and (count := self._folders.open_count):
            raise HostError(f"{count} files of the host's folders are open: they cannot be saved")
        return {"sockets": self._sockets.state() if self._sockets else []}

    def restore(self, calls: Calls, saved: dict[str, Any]) -> None:
        """Have what :meth:`state` told of; :meth:`branch` makes it work.

        Raises:
            KeyError, TypeError, ValueError: it is no such data.
            OSError: there are no descriptors left.
        """
        if saved["sockets"]:
            self._serve_sockets(calls).restore(saved["sockets"])

    def published(self) -> list[tuple[int, int, Endpoint]]:
        """(kind, port, where on the host) of the ports that are published by now."""
        return self._sockets.published() if self._sockets else []

    def let_go(self) -> None:
        """The VM rests for good: give its ports back and end its connections."""
        if self._sockets:
            self._sockets.let_go()

    def branch(self, publish: Sequence[str]) -> list[tuple[int, int, Endpoint]]:
        """In a forked process: have sockets of our own, with ports published as ``publish`` says
        and the others anywhere; (kind, port, where on the host) of those that are there by now.

        Raises:
            ConfigError: a rule is malformed.
            HostError: a port cannot be had, or there are no descriptors left.
        """
        if publish or self._policy:
            from pyrovm.unikernel.policy import Policy

            self._policy = self._policy or Policy()
            self._policy.republish(publish)
        if self._folders:
            try:
                self._folders.branch()
            except OSError as error:
                raise HostError.wrap("A branch cannot have folders of its own", error) from None
        return self._sockets.renew() if self._sockets else []


def _log(text: str) -> None:
    try:
        os.write(STDERR, f"pyrovm: {text}\n".encode())
    except OSError:  # closed or full: the program gets its error all the same
        pass
