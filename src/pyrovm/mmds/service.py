"""What the metadata service answers: requests of a guest against the data store.

Version 1 answers anybody; version 2 wants a token that the guest fetched before (by PUT, which a
misdirected proxy does not send on; that is also why a forwarded PUT is refused).
"""

from __future__ import annotations

from pyrovm.mmds.http import (
    JSON,
    TEXT,
    HttpError,
    Request,
    build_response,
    parse_request,
    parse_u32,
)
from pyrovm.mmds.store import NotFound, UnsupportedType, collapse_slashes
from pyrovm.mmds.token import TokenError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.config.mmds import MmdsConfig
    from pyrovm.mmds.counters import MmdsCounters
    from pyrovm.mmds.store import DataStore
    from pyrovm.mmds.token import TokenAuthority

TOKEN_PATH = "/latest/api/token"

# Header names, in lower case; of two the first is preferred.
TOKEN_HEADERS = ("x-metadata-token", "x-aws-ec2-metadata-token")
TTL_HEADERS = ("x-metadata-token-ttl-seconds", "x-aws-ec2-metadata-token-ttl-seconds")
FORWARDED_HEADER = "x-forwarded-for"

ALLOWED = (("Allow", "GET, PUT"),)

NO_TOKEN = (
    "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to "
    "specify the session token."
)
NO_TTL = (
    "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or "
    "`X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime."
)


class MetadataService:
    """Answers requests from ``store``; one serves all network stacks of a VM."""

    def __init__(
        self, store: DataStore, config: MmdsConfig, tokens: TokenAuthority, counters: MmdsCounters
    ) -> None:
        self._store = store
        self._config = config
        self._tokens = tokens
        self._counters = counters

    def respond(self, data: bytes) -> bytes:
        """The response to the request in ``data``, any bytes that end with an empty line."""
        version = "HTTP/1.1"
        try:
            request = parse_request(data)
            version = request.version
            if not request.path:
                raise HttpError(400, "Invalid URI.")
            if request.method == "GET":
                return self._get(request)
            if request.method == "PUT":
                return self._put(request)
        except HttpError as error:
            return build_response(version, error.status, str(error))
        return build_response(version, 405, "Not allowed HTTP method.", extra=ALLOWED)

    def _get(self, request: Request) -> bytes:
        self._check_token(request)
        as_json = request.accept == JSON and not self._config.imds_compat
        try:
            body = self._store.render(request.path, as_json=as_json)
        except NotFound as error:
            raise HttpError(404, f"Resource not found: {request.path}.") from error
        except UnsupportedType as error:
            raise HttpError(501, str(error)) from error
        return build_response(request.version, 200, body, JSON if as_json else TEXT)

    def _check_token(self, request: Request) -> None:
        """Count a missing or wrong token; version 2 also refuses it."""
        refuses = self._config.version == "V2"
        found = request.header(*TOKEN_HEADERS)
        if found is None:
            self._counters.rx_no_token += 1
            if refuses:
                raise HttpError(401, NO_TOKEN)
        elif not self._tokens.is_valid(found[1]):
            self._counters.rx_invalid_token += 1
            if refuses:
                raise HttpError(401, "MMDS token not valid.")

    def _put(self, request: Request) -> bytes:
        forwarded = request.header(FORWARDED_HEADER)
        if forwarded is not None:
            raise HttpError(
                400, f"Invalid header. Reason: Unsupported header name. Key: {forwarded[0]}"
            )
        if collapse_slashes(request.path) != TOKEN_PATH:
            raise HttpError(404, f"Resource not found: {request.path}.")
        found = request.header(*TTL_HEADERS)
        if found is None:
            raise HttpError(400, NO_TTL)
        name, value = found
        ttl_seconds = parse_u32(value)
        if ttl_seconds is None:
            raise HttpError(
                400, f"Invalid header. Reason: Invalid value. Key:{name}; Value:{value}"
            )
        try:
            token = self._tokens.generate(ttl_seconds)
        except TokenError as error:
            raise HttpError(400, str(error)) from error
        return build_response(request.version, 200, token, extra=((name, str(ttl_seconds)),))
