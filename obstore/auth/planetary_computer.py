"""Signed access to the data of Microsoft's Planetary Computer. Needs no other library.

Source: "Using tokens for data access", planetarycomputer.microsoft.com/docs/concepts/sas.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

from obstore._auth.exchange import Exchange, json_object
from obstore._config.client import ClientOptions
from obstore._config.paths import parse_prefix
from obstore._effects import Op
from obstore._run import ClientHandle, run, start
from obstore._version import __version__

if TYPE_CHECKING:
    from obstore.store import AzureSASToken

__all__ = ["PlanetaryComputerAsyncCredentialProvider", "PlanetaryComputerCredentialProvider"]

_SAS_URL = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
_SETTINGS_FILE = "~/.planetarycomputer/settings.env"
_BLOB_DOMAIN = ".blob.core.windows.net"
_TRIES = 8


class _Provider:
    """What both providers share: which container, and how its token is asked for.

    Args:
        url: ``https://account.blob.core.windows.net/container/prefix``, or ``abfs://container/prefix`` with ``account_name``.
        account_name, container_name: both, instead of ``url``.
        session: sends the request instead of obstore's engine: of ``requests``; of ``aiohttp`` for the asynchronous provider.
        subscription_key: lifts limits; ``PC_SDK_SUBSCRIPTION_KEY`` by default.
        sas_url: of the token service; ``PC_SDK_SAS_URL`` by default, then Microsoft's. Both may also stand in
            ``~/.planetarycomputer/settings.env``.

    Attributes:
        config: account and container, for the store.
        prefix: of the keys, for the store; ``None`` for none.

    Raises:
        ValueError: the arguments do not name one container.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        account_name: str | None = None,
        container_name: str | None = None,
        session: Any = None,
        subscription_key: str | None = None,
        sas_url: str | None = None,
    ) -> None:
        account, container, prefix = _place(url, account_name, container_name)
        self.config = {"account_name": account, "container_name": container}
        self.prefix = prefix
        self._session = session
        self._client: ClientHandle | None = None
        self._subscription_key = subscription_key or _setting("PC_SDK_SUBSCRIPTION_KEY")
        base = sas_url or _setting("PC_SDK_SAS_URL") or _SAS_URL
        self._token_url = f"{base.rstrip('/')}/{quote(account, safe='')}/{quote(container, safe='')}"

    @classmethod
    def from_asset(
        cls,
        asset: Any,
        *,
        session: Any = None,
        subscription_key: str | None = None,
        sas_url: str | None = None,
    ) -> Self:
        """The provider for what a STAC asset links to.

        Args:
            asset: a ``pystac.Asset``, or its dict.
            session, subscription_key, sas_url: as of the class.
        """
        if isinstance(asset, Mapping):
            href, extra = asset["href"], asset
        else:
            href, extra = asset.href, asset.extra_fields
        kinds = ("xarray:storage_options", "table:storage_options")
        options: Mapping[str, Any] = next((extra[name] for name in kinds if extra.get(name)), {})
        return cls(
            href,
            account_name=options.get("account_name"),
            session=session,
            subscription_key=subscription_key,
            sas_url=sas_url,
        )

    def __getstate__(self) -> dict[str, Any]:
        """All but the connections."""
        return {**self.__dict__, "_client": None}

    def __eq__(self, other: object) -> bool:
        """Equal if they ask alike: stores compare their providers."""
        return type(other) is type(self) and other.__getstate__() == self.__getstate__()

    def __hash__(self) -> int:
        return hash(self._token_url)

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": f"obstore-v{__version__}"}
        if self._subscription_key:
            headers["Ocp-Apim-Subscription-Key"] = self._subscription_key
        return headers

    def _fetch(self) -> Op[AzureSASToken]:
        if self._client is None:
            self._client = ClientHandle(
                ClientOptions(allow_http=self._token_url.startswith("http:")), "planetary-computer"
            )
        exchange = Exchange(
            self._client,
            "the Planetary Computer",
            hint="check sas_url, and that no firewall or proxy is in between",
            tries=_TRIES,
        )
        headers = [(name.lower(), value) for name, value in self._headers().items()]
        status, body = yield from exchange.ask("GET", self._token_url, headers)
        found = json_object(body)
        if status != 200 or not isinstance(found.get("token"), str) or "msft:expiry" not in found:
            reason = str(found.get("message") or found.get("detail") or "no token in the answer")
            raise exchange.refused(
                self._token_url, f"{status} {reason[:200]}", status=status, hint="check account and container"
            )
        return _token(found)


class PlanetaryComputerCredentialProvider(_Provider):
    """Shared access signatures for one container.

    Args:
        url: ``https://account.blob.core.windows.net/container/prefix``, or ``abfs://container/prefix`` with ``account_name``.
        account_name, container_name: both, instead of ``url``.
        session: of ``requests``: sends the request instead of obstore's engine.
        subscription_key: lifts limits; ``PC_SDK_SUBSCRIPTION_KEY`` by default.
        sas_url: of the token service; ``PC_SDK_SAS_URL`` by default, then Microsoft's.

    Raises:
        ValueError: the arguments do not name one container.
    """

    def __call__(self) -> AzureSASToken:
        """A new signature."""
        if self._session is None:
            return run(self._fetch())
        answer = self._session.get(self._token_url, headers=self._headers())
        answer.raise_for_status()
        return _token(answer.json())


class PlanetaryComputerAsyncCredentialProvider(_Provider):
    """As `PlanetaryComputerCredentialProvider`, for asynchronous programs; ``session`` is one of ``aiohttp``."""

    async def __call__(self) -> AzureSASToken:
        """A new signature."""
        if self._session is None:
            found: AzureSASToken = await start(self._fetch())
            return found
        async with self._session.get(self._token_url, headers=self._headers()) as answer:
            answer.raise_for_status()
            return _token(await answer.json())


def _token(found: Mapping[str, Any]) -> AzureSASToken:
    return {"sas_token": found["token"], "expires_at": datetime.fromisoformat(found["msft:expiry"])}


def _place(url: str | None, account: str | None, container: str | None) -> tuple[str, str, str | None]:
    """Account, container and prefix."""
    if url is None:
        if account is None or container is None:
            raise ValueError("Must pass both container_name and account_name when url is not passed.")
        return account, container, None
    if container is not None:
        raise ValueError("Cannot pass container_name when passing url.")
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme in ("abfs", "abfss", "az"):
        if account is None:
            raise ValueError("account_name must be passed for abfs urls.")
        name, path = parts.netloc, parts.path
    else:
        if account is not None:
            raise ValueError("Cannot pass account_name when passing HTTPS blob storage url.")
        name, _, path = parts.path.lstrip("/").partition("/")
        account = host.removesuffix(_BLOB_DOMAIN)
        if parts.scheme != "https" or not host.endswith(_BLOB_DOMAIN) or not name:
            raise ValueError(f"Invalid blob URL: {url}")
    if not name or not account:
        raise ValueError(f"Invalid blob URL: {url}")
    return account, name, parse_prefix(path) or None


def _setting(name: str) -> str | None:
    """A setting of the Planetary Computer's own library: from the environment, else from its file."""
    if text := os.environ.get(name):
        return text
    try:
        lines = Path(_SETTINGS_FILE).expanduser().read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        key, separator, value = line.strip().removeprefix("export ").partition("=")
        if separator and key.strip() == name:
            return value.strip().strip("'\"") or None
    return None
