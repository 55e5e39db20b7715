"""The API against Firecracker's own description of it, over the Unix socket.

schemathesis makes requests from the description, good ones and bad ones; whatever it sends has to
be answered with a documented status and a body of the documented shape, before and after the start.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest

schemathesis = pytest.importorskip("schemathesis")
yaml = pytest.importorskip("yaml")

import requests  # noqa: E402  comes with schemathesis
from hypothesis import HealthCheck, Phase, settings  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.config import SchemathesisConfig  # noqa: E402
from schemathesis.specs.openapi import checks as openapi_checks  # noqa: E402
from urllib3.connection import HTTPConnection  # noqa: E402
from urllib3.connectionpool import HTTPConnectionPool  # noqa: E402

from tests.fakes.api import Api  # noqa: E402

DESCRIPTION = Path(__file__).parents[2] / "data" / "firecracker-api.yaml"
CHECKS = [not_a_server_error, openapi_checks.status_code_conformance]
CHECKS_OF_CONTENT = [
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
]
CREATED = [("Logger", "log_path"), ("Metrics", "metrics_path"), ("Vsock", "uds_path")]
EXAMPLES = 25
METHODS = ("get", "put", "patch", "delete")


def described():
    """The description, with what Swagger 2.0 cannot say put in: fields that are null when unset."""
    document = yaml.safe_load(DESCRIPTION.read_text())
    document["paths"] = {
        path: {
            method: operation | {"responses": _statuses(operation["responses"])}
            for method, operation in methods.items()
            if method in METHODS
        }
        for path, methods in document["paths"].items()
    }
    definitions = document["definitions"]
    for definition in definitions.values():
        for field, schema in definition.get("properties", {}).items():
            if field not in definition.get("required", ()):
                definition["properties"][field] = {"x-nullable": True, "allOf": [schema]}
    # The program's store takes and gives back any JSON.
    document["paths"]["/mmds"]["get"]["responses"]["200"]["schema"] = {}
    for name, field in CREATED:  # the test may create these files: in its own folder
        definitions[name]["properties"][field] = {"type": "string", "pattern": "^[a-z]{1,8}$"}
    return document


def _statuses(responses):
    return {str(status): response for status, response in responses.items()}


class UnixConnection(HTTPConnection):
    """To the socket in the environment of the test, whatever the host's name is."""

    path = ""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self.path)


class UnixAdapter(requests.adapters.HTTPAdapter):
    """Sends requests to the Unix socket at ``path``."""

    def __init__(self, path):
        super().__init__()
        connection = type("Connection", (UnixConnection,), {"path": path})
        self.pool = HTTPConnectionPool("localhost", maxsize=1)
        self.pool.ConnectionCls = connection

    def get_connection_with_tls_context(self, request, verify, proxies=None, cert=None):
        return self.pool

    def close(self):
        self.pool.close()
        super().close()


class Served:
    """An API that serves in a thread of its own."""

    def __init__(self, folder, is_started):
        self.api = Api(folder)
        if is_started:
            for name in ("kernel", "disk"):
                (folder / name).touch()
            self._start(folder)
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.mount("http://", UnixAdapter(self.api.path))
        self.thread = threading.Thread(target=self.api.loop.run)
        self.thread.start()

    def _start(self, folder):
        client = self.api.connect()
        for path, body in (
            ("/boot-source", f'{{"kernel_image_path":"{folder}/kernel"}}'),
            ("/balloon", '{"amount_mib":1,"deflate_on_oom":true,"stats_polling_interval_s":1}'),
            ("/hotplug/memory", '{"total_size_mib":1024}'),
            ("/actions", '{"action_type":"InstanceStart"}'),
        ):
            assert client.request("PUT", path, body).status == 204
        client.close()

    def close(self):
        self.session.close()
        self.api.loop.post(self.api.loop.stop)
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.api.__exit__()


@pytest.fixture(params=[False, True], ids=["before the start", "after the start"], scope="module")
def served(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    with contextlib.chdir(folder):
        served = Served(folder, request.param)
        yield served
        served.close()


SCHEMA = schemathesis.openapi.from_dict(described(), config=SchemathesisConfig())


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_request_gets_a_documented_answer(case, served):
    response = case.call(session=served.session, base_url="http://localhost", timeout=5)
    if response.content.startswith(b'{ "error": '):  # it was no HTTP, to us
        assert response.status_code == 400
        return
    if response.status_code == 204:
        assert not response.content
        case.validate_response(response, checks=CHECKS)
    else:
        case.validate_response(response, checks=CHECKS + CHECKS_OF_CONTENT)
