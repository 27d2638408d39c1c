"""Where the credentials of a GCS store come from: the first of all ways that is configured."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from obstore._auth.gcp import GcpCredential, GcpSource, provider_source
from obstore._auth.google_auth import (
    INSTALL,
    GoogleSource,
    Impersonation,
    Info,
    default_credentials,
    from_info,
    have_google_auth,
    read_info,
)
from obstore._auth.google_http import ClientFor
from obstore._auth.sources import Anonymous, Static
from obstore._effects import Call, Op

if TYPE_CHECKING:
    from obstore._config.gcs import GCSSettings

__all__ = ["choose"]


def choose(
    settings: GCSSettings, provider: Callable[[], Any] | None, client_for: ClientFor
) -> tuple[GcpSource | Anonymous, str | None]:
    """The source of credentials, and the service's address where a service account's file names one.

    Nothing is sent, but files that are named are read.

    Args:
        settings: the store's configuration, environment included.
        provider: ``credential_provider`` of the store.
        client_for: connection options for requests to where tokens come from.

    Raises:
        GenericError: a file cannot be read.
        ImportError: what is configured needs google-auth, which is not installed.
        TypeError: the provider is none.
        ValueError: the bearer token cannot be one.
    """
    if settings.emulated and not settings.credentials_given and provider is None:
        return Anonymous(_default(client_for, None)), None
    if settings.skip_signature:
        # Only signed URLs need credentials then: a broken file is no reason to refuse anything else.
        return Anonymous(_Late(lambda: _signing_source(settings, provider, client_for)[0])), None
    return _signing_source(settings, provider, client_for)


def _signing_source(
    settings: GCSSettings, provider: Callable[[], Any] | None, client_for: ClientFor
) -> tuple[GcpSource | Anonymous, str | None]:
    if provider is not None:
        return provider_source(provider), None
    if settings.bearer_token is not None:
        return Static(GcpCredential(settings.bearer_token)), None
    impersonate = _impersonation(settings)
    if settings.service_account is not None or settings.service_account_key is not None:
        if settings.service_account is not None:
            info = read_info("service_account", path=settings.service_account)
        else:
            info = read_info("service_account_key", text=settings.service_account_key)
        info.setdefault("type", "service_account")
        base_url = info.get("gcs_base_url")
        if info.get("disable_oauth") is True:
            return Anonymous(_Late(lambda: _of_info(info, impersonate, client_for))), base_url
        return _of_info(info, impersonate, client_for), base_url
    if settings.application_credentials is not None:
        info = read_info("application_credentials", path=settings.application_credentials)
        return _of_info(info, impersonate, client_for), None
    return _default(client_for, impersonate), None


def _impersonation(settings: GCSSettings) -> Impersonation | None:
    email = settings.impersonate_service_account
    if email is None:
        return None
    base = settings.iam_url
    url = None if base is None else f"{base}/v1/projects/-/serviceAccounts/{email}:generateAccessToken"
    return Impersonation(email, url)


def _of_info(info: Info, impersonate: Impersonation | None, client_for: ClientFor) -> GoogleSource:
    if not have_google_auth():
        raise ImportError(f"google-auth is not installed, and Google credentials from a file need it: {INSTALL}")

    def load() -> Op[Any]:
        return (yield Call(from_info, info, impersonate))

    account = info.get("client_email")
    description = f"file of type {info.get('type')}" + (f" for {account}" if isinstance(account, str) else "")
    return GoogleSource(load, client_for, _acting(description, impersonate))


def _default(client_for: ClientFor, impersonate: Impersonation | None) -> GoogleSource:
    description = _acting("gcloud's login, else the account of the machine", impersonate)
    return GoogleSource(lambda: default_credentials(client_for, impersonate), client_for, description)


def _acting(description: str, impersonate: Impersonation | None) -> str:
    return description if impersonate is None else f"{description}, acting as {impersonate.email}"


class _Late:
    """A source that is made when it is first asked for anything."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._source: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._source is None:
            self._source = self._make()
        return getattr(self._source, name)
