"""Credentials for Azure: what they are, which are given, and which of a store's settings decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from obstore._auth.cache import Source, Unpicklable
from obstore._auth.shared_key import Hmac
from obstore._auth.sources import Anonymous, Static, problem_of, read_expiry
from obstore._config.azure import AzureSettings, parse_sas
from obstore._lazy import setting_up
from obstore.exceptions import BaseError, GenericError

if TYPE_CHECKING:
    from obstore._auth.provided import ProviderSource
    from obstore._config.azure import AzureCredentialType

__all__ = ["AccountKey", "AzureCredential", "AzureSource", "BearerToken", "SasToken", "default_source"]

IMDS_ENDPOINT = "http://169.254.169.254/metadata/identity/oauth2/token"


class AccountKey(Unpicklable):
    """The key of a storage account: signs every request (Shared Key) and makes shared access signatures.

    Args:
        key: in base64.
        expires_at: seconds since the epoch, or ``None`` where it does not expire.

    Raises:
        ValueError: it is not base64.
    """

    __slots__ = ("expires_at", "hmac")

    def __init__(self, key: str, expires_at: float | None = None) -> None:
        try:
            self.hmac = Hmac(str.__str__(key))
        except ValueError as error:
            problem = str(error)
            del self, key
            raise ValueError(f"access_key: {problem}") from None
        self.expires_at = expires_at

    def __repr__(self) -> str:
        return f"AccountKey(expires_at={self.expires_at!r})"


class SasToken(Unpicklable):
    """A shared access signature: goes into the query of every request.

    Args:
        pairs: decoded name-value pairs.
        expires_at: seconds since the epoch, or ``None`` where nothing is known.
    """

    __slots__ = ("expires_at", "pairs")

    def __init__(self, pairs: Sequence[tuple[str, str]], expires_at: float | None = None) -> None:
        self.pairs = tuple(pairs)
        self.expires_at = expires_at

    def __repr__(self) -> str:
        return f"SasToken(expires_at={self.expires_at!r})"


class BearerToken(Unpicklable):
    """An access token of Microsoft Entra, checked: it can be sent in a header. Never changes; compared by identity.

    Args:
        token: the token.
        expires_at: seconds since the epoch, or ``None`` where it does not expire.

    Raises:
        ValueError: it is empty, begins or ends with a blank, or has characters that no token has.

    Attributes:
        header: value of the ``authorization`` header.
    """

    __slots__ = ("expires_at", "header")

    def __init__(self, token: str, expires_at: float | None = None) -> None:
        if problem := problem_of("token", token):
            del self, token
            raise ValueError(problem)
        self.header = f"Bearer {str.__str__(token)}"
        self.expires_at = expires_at

    def __repr__(self) -> str:
        return f"BearerToken(expires_at={self.expires_at!r})"


AzureCredential: TypeAlias = AccountKey | SasToken | BearerToken
AzureSource: TypeAlias = Source[Any]  # of AzureCredential; ANONYMOUS as well


def default_source(
    settings: AzureSettings,
    provider: Callable[[], Any] | None = None,
    *,
    token_client: Any = None,
    metadata_client: Any = None,
    default_identity: Callable[[], Any] | None = None,
) -> AzureSource:
    """Choose where a store's credentials come from; the first that is there.

    Args:
        settings: the store's.
        provider: ``credential_provider`` of the store.
        token_client: connection options for token endpoints.
        metadata_client: connection options for metadata services, which are near and without TLS.
        default_identity: makes the credential of azure-identity that is used where nothing is configured.

    Raises:
        GenericError: the kind of credential that the settings demand lacks what it needs.
        TypeError: the provider is none.
    """
    chooser = _Chooser(settings, token_client, metadata_client, default_identity)
    source = provider_source(provider) if provider is not None else chooser.choose(settings.credential_type)
    return Anonymous(source) if settings.skip_signature else source


class _Chooser:
    """Makes the sources that settings have all parts for. What fetches tokens is imported when it is needed."""

    def __init__(
        self,
        settings: AzureSettings,
        token_client: Any,
        metadata_client: Any,
        default_identity: Callable[[], Any] | None,
    ) -> None:
        self._settings = settings
        self._token_client = token_client
        self._metadata_client = metadata_client
        self._default_identity = default_identity

    def choose(self, kind: AzureCredentialType) -> AzureSource:
        settings = self._settings
        makers: dict[str, Callable[[], AzureSource | None]] = {
            "bearer_token": self._bearer,
            "access_key": self._key,
            "workload_identity": self._workload,
            "client_secret": self._secret,
            "sas_token": self._sas,
            "azure_cli": self._cli,
            "managed_identity": self._managed,
        }
        if kind != "auto":
            source = makers[kind]()
            if source is None:
                raise GenericError.of(
                    "MicrosoftAzure",
                    f"Credential type '{kind}' was requested but required configuration is missing",
                    hint=_NEEDS.get(kind),
                )
            return source
        if settings.fabric is not None:
            from obstore._auth.azure_tokens import FabricTokens

            return FabricTokens(self._token_client, *settings.fabric)
        for name in ("bearer_token", "access_key", "workload_identity", "client_secret", "sas_token"):
            if (source := makers[name]()) is not None:
                return source
        from obstore._auth.azure_tokens import CliTokens, IdentityTokens

        if settings.use_azure_cli:
            return CliTokens(settings.tenant_id)
        if settings.msi_endpoint or settings.object_id or settings.msi_resource_id:
            return self._managed()
        return IdentityTokens(self._default_identity, beneath=self._managed(tries=1))

    def _bearer(self) -> AzureSource | None:
        token = self._settings.token
        return None if token is None else Static(_checked(lambda: BearerToken(token)))

    def _key(self) -> AzureSource | None:
        key = self._settings.account_key
        return None if key is None else Static(_checked(lambda: AccountKey(key)))

    def _sas(self) -> AzureSource | None:
        pairs = self._settings.sas
        return None if pairs is None else Static(SasToken(pairs))

    def _workload(self) -> AzureSource | None:
        settings = self._settings
        if not (settings.client_id and settings.tenant_id and settings.federated_token_file):
            return None
        from obstore._auth.azure_tokens import ClientTokens

        return ClientTokens(
            self._token_client,
            settings.authority_host,
            settings.tenant_id,
            settings.client_id,
            token_file=settings.federated_token_file,
        )

    def _secret(self) -> AzureSource | None:
        settings = self._settings
        if not (settings.client_id and settings.tenant_id and settings.client_secret):
            return None
        from obstore._auth.azure_tokens import ClientTokens

        return ClientTokens(
            self._token_client,
            settings.authority_host,
            settings.tenant_id,
            settings.client_id,
            secret=settings.client_secret,
        )

    def _cli(self) -> AzureSource | None:
        from obstore._auth.azure_tokens import CliTokens

        return CliTokens(self._settings.tenant_id)

    def _managed(self, tries: int | None = None) -> AzureSource:
        from obstore._auth.azure_tokens import AppServiceTokens, ImdsTokens

        settings = self._settings
        which = (
            ("msi_res_id", settings.msi_resource_id),
            ("object_id", settings.object_id),
            ("client_id", settings.client_id),
        )
        identity = next(((name, value) for name, value in which if value), None)
        endpoint = settings.msi_endpoint
        if endpoint and settings.identity_header:
            return AppServiceTokens(self._metadata_client, endpoint, settings.identity_header, identity)
        return ImdsTokens(self._metadata_client, endpoint or IMDS_ENDPOINT, identity, tries=tries)


_NEEDS = {
    "bearer_token": "set token",
    "access_key": "set account_key",
    "sas_token": "set sas_key",
    "client_secret": "set tenant_id, client_id and client_secret",
    "workload_identity": "set tenant_id, client_id and federated_token_file",
}


def _checked(make: Callable[[], AzureCredential]) -> AzureCredential:
    try:
        return make()
    except ValueError as error:
        raise GenericError.of("MicrosoftAzure", str(error)) from None


# ---- what users' providers return ---------------------------------------------------------------------------------


def _read(given: Any) -> AzureCredential | str:
    """The credential that a provider returned, or what is wrong with it, values left out."""
    if not isinstance(given, Mapping):
        return f"returned {type(given).__name__}, not a dict"
    kinds = [name for name in ("access_key", "sas_token", "token") if given.get(name) is not None]
    if len(kinds) != 1:
        return f"returned {' and '.join(kinds) or 'none of access_key, sas_token and token'}; exactly one is needed"
    if "expires_at" not in given:
        return "returned no expires_at"
    kind = kinds[0]
    value = given[kind]
    expires_at = read_expiry(given)
    if isinstance(expires_at, str):
        return expires_at
    if kind == "sas_token" and not isinstance(value, str):
        return _read_pairs(value, expires_at)
    if not isinstance(value, str):
        return f"returned {kind} as {type(value).__name__}, not str"
    try:
        if kind == "access_key":
            return AccountKey(value, expires_at)
        if kind == "token":
            return BearerToken(value, expires_at)
        return SasToken(parse_sas(value), expires_at)
    except (ValueError, BaseError) as error:
        return f"returned unusable credentials: {error}"


def _read_pairs(value: Any, expires_at: float | None) -> SasToken | str:
    if isinstance(value, bytes) or not isinstance(value, Sequence):
        return f"returned sas_token as {type(value).__name__}, not str or a list of pairs"
    pairs = []
    for pair in value:
        if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            return "returned sas_token as a list of something else than pairs of str"
        pairs.append((pair[0], pair[1]))
    return SasToken(pairs, expires_at)


def provider_source(
    provider: Callable[[], Any], clock: Callable[[], float] = time.time
) -> ProviderSource[AzureCredential]:
    """The source behind a ``credential_provider`` of an Azure store."""
    with setting_up():  # forks wait for it
        from obstore._auth.provided import ProviderSource

    return ProviderSource(
        provider,
        clock,
        read=_read,
        cloud="Azure",
        shape="exactly one of access_key, sas_token and token, and expires_at (aware datetime or None)",
    )
