"""The asynchronous client has the calls of the blocking one."""

import inspect

import pytest

from pyrovm import AsyncMicroVM, MicroVM
from pyrovm.sdk._base import drive_update


def calls(client):
    return {
        name: list(inspect.signature(member).parameters.values())
        for name, member in inspect.getmembers(client, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_clients_offer_the_same_calls_with_the_same_arguments():
    assert calls(AsyncMicroVM) == calls(MicroVM)


@pytest.mark.parametrize(
    ("path", "limiter", "body"),
    [
        (None, None, {"drive_id": "d"}),
        ("/x", None, {"drive_id": "d", "path_on_host": "/x"}),
        (None, {"ops": {}}, {"drive_id": "d", "rate_limiter": {"ops": {}}}),
    ],
)
def test_a_changed_drive_names_only_what_changes(path, limiter, body):
    assert drive_update("d", path, limiter) == body
