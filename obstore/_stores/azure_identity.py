"""azure-identity over our own engine: its requests go where the store's go, with the same proxies and certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from obstore._effects import COLLECT, AttemptFailed, Op, Send
from obstore._run import ClientHandle, sync

if TYPE_CHECKING:
    from obstore._config.azure import AzureSettings
    from obstore._config.client import ClientOptions

__all__ = ["default_credential", "transport"]


def default_credential(settings: AzureSettings | None, options: ClientOptions) -> Any:
    """azure-identity's DefaultAzureCredential, told what the store's settings say.

    Args:
        settings: the store's, or ``None``.
        options: how its requests are sent.

    Raises:
        ImportError: azure-identity is not installed.
    """
    from azure.identity import DefaultAzureCredential

    arguments: dict[str, Any] = {}
    if settings is not None:
        arguments["authority"] = settings.authority_host
        if settings.client_id is not None:
            arguments["managed_identity_client_id"] = settings.client_id
            arguments["workload_identity_client_id"] = settings.client_id
        if settings.tenant_id is not None:
            arguments["workload_identity_tenant_id"] = settings.tenant_id
            arguments["additionally_allowed_tenants"] = [settings.tenant_id]
    return DefaultAzureCredential(transport=transport(options), **arguments)


def transport(options: ClientOptions) -> Any:
    """An ``azure.core.pipeline.transport.HttpTransport`` that sends by our engine.

    It is called on threads that may block, inside a provider's call; plain HTTP is let through for metadata services, which
    know nothing else.

    Args:
        options: how requests are sent.

    Raises:
        ImportError: azure-core is not installed.
    """
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError
    from azure.core.pipeline.transport import HttpRequest, HttpResponse, HttpTransport

    class Answer(HttpResponse):  # type: ignore[misc, unused-ignore]
        """A whole answer; it is small, and was read before this exists."""

        def __init__(self, request: Any, response: Any) -> None:
            super().__init__(request, response)
            self.status_code = response.status
            self.headers = dict(response.headers())
            self.content_type = self.headers.get("content-type")
            self.reason = None
            self._body = bytes(response.body())

        def body(self) -> bytes:
            return self._body

        def stream_download(self, pipeline: Any, **kwargs: Any) -> Any:
            del pipeline, kwargs
            return iter((self._body,))

    class Transport(HttpTransport[HttpRequest, HttpResponse]):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self._clients: dict[float | None, ClientHandle] = {}

        def _client(self, connect_s: float | None, read_s: float | None) -> ClientHandle:
            key = (connect_s or 0.0) + (read_s or 0.0) * 1e6
            if key not in self._clients:
                chosen = options._replace(
                    allow_http=True,
                    connect_timeout_s=connect_s or options.connect_timeout_s,
                    read_timeout_s=read_s or options.read_timeout_s,
                )
                self._clients[key] = ClientHandle(chosen, "azure-identity")
            return self._clients[key]

        def send(self, request: Any, **kwargs: Any) -> Any:
            client = self._client(kwargs.get("connection_timeout"), kwargs.get("read_timeout"))
            try:
                return Answer(request, sync.run(_send(client, request)))
            except AttemptFailed as failure:
                kind = ServiceResponseError if failure.sent else ServiceRequestError
                raise kind(failure.message or failure.kind) from None

        def open(self) -> None:
            """Connections are the engine's."""

        def close(self) -> None:
            """Connections are the engine's."""

        def __exit__(self, *args: object) -> None:
            self.close()

    return Transport()


def _send(client: ClientHandle, request: Any) -> Op[Any]:
    body = request.body
    if isinstance(body, dict):
        from urllib.parse import urlencode

        body = urlencode(body)
    if isinstance(body, str):
        body = body.encode()
    headers = [
        (name.lower(), str(value)) for name, value in request.headers.items() if name.lower() != "content-length"
    ]
    return (yield Send(client, request.method, request.url, headers, None if body is None else (body,), COLLECT))
