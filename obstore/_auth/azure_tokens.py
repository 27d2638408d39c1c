"""Bearer tokens for Azure, natively: applications, workload and managed identities, Microsoft Fabric, the Azure CLI.

And through azure-identity where nothing is configured: `IdentityTokens`.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from obstore._auth.azure import BearerToken
from obstore._auth.cache import CachedSource
from obstore._auth.exchange import Exchange, json_object
from obstore._effects import Call, Op
from obstore.exceptions import BaseError, UnauthenticatedError

__all__ = [
    "RESOURCE",
    "SCOPE",
    "AppServiceTokens",
    "CliTokens",
    "ClientTokens",
    "FabricTokens",
    "IdentityTokens",
    "ImdsTokens",
]

# What all tokens are for: any storage account of the public or a sovereign cloud.
RESOURCE = "https://storage.azure.com"
SCOPE = f"{RESOURCE}/.default"

_CLI_TIMEOUT_S = 30.0
_MANAGED_API = "2019-08-01"


class _Tokens(CachedSource[BearerToken]):
    """Tokens out of the JSON that an endpoint answers.

    Args:
        exchange: the endpoint.
        clock: seconds since the epoch.
    """

    def __init__(self, exchange: Exchange, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock=clock)
        self._exchange = exchange

    def _ask(
        self, method: str, url: str, headers: Sequence[tuple[str, str]] = (), body: bytes | None = None
    ) -> Op[BearerToken]:
        status, answer = yield from self._exchange.ask(method, url, headers, body)
        del headers, body
        return self._token_of(url, status, answer)

    def _token_of(self, url: str, status: int, answer: bytes) -> BearerToken:
        fields = json_object(answer)
        token = fields.get("access_token")
        if status != 200:
            code, text = _refusal(fields)
            detail = f"{status} {': '.join(part for part in (code, text) if part) or 'without a reason'}"
            raise self._exchange.refused(url, detail, status=status, code=code, hint=_hint(status, code, text))
        if not isinstance(token, str):
            raise self._exchange.refused(url, "the answer holds no access_token", status=status)
        return _bearer(token, self._expiry(fields), self._exchange, url)

    def _expiry(self, fields: dict[str, Any]) -> float | None:
        """``expires_in`` counts seconds from now, ``expires_on`` from the epoch; both come as number or text."""
        for name, since in (("expires_in", self._clock()), ("expires_on", 0.0)):
            try:
                return since + float(fields[name])
            except (KeyError, TypeError, ValueError):
                continue
        return None


def _bearer(token: str, expires_at: float | None, exchange: Exchange, url: str) -> BearerToken:
    try:
        return BearerToken(token, expires_at)
    except ValueError as error:
        problem = str(error)
        del token
        raise exchange.refused(url, problem) from None


def _refusal(fields: dict[str, Any]) -> tuple[str | None, str]:
    """The code and the first line of what a refusal says; identifiers and times follow that line."""
    inner = fields.get("error")
    if isinstance(inner, dict):
        code, text = inner.get("code"), inner.get("message")
    else:
        code, text = inner or fields.get("code"), fields.get("error_description") or fields.get("message")
    line = text.splitlines()[0].strip() if isinstance(text, str) and text.strip() else ""
    return (code if isinstance(code, str) and code else None), line[:300]


def _hint(status: int, code: str | None, text: str) -> str | None:
    if "AADSTS7000215" in text or code == "invalid_client":
        return "check client_secret: it is the secret's value, not its id, and it may have expired"
    if "AADSTS700016" in text or code == "unauthorized_client":
        return "check client_id, and that the application is in the tenant tenant_id"
    if "AADSTS90002" in text or "AADSTS900023" in text:
        return "check tenant_id"
    if code in ("invalid_grant", "invalid_assertion"):
        return "the federated token was refused: check its issuer, subject and audience in the federated credential"
    if status == 400 and "identity not found" in text.lower():
        return "no such managed identity is assigned to this machine: check client_id, object_id or msi_resource_id"
    if status == 404:
        return "check authority_host and tenant_id"
    return None


# ---- applications and workload identities -------------------------------------------------------------------------


class ClientTokens(_Tokens):
    """The client credentials flow, with a secret or with the token of a Kubernetes service account.

    Source: "Microsoft identity platform and the OAuth 2.0 client credentials flow", learn.microsoft.com/entra.

    Args:
        client: connection options.
        authority_host: without trailing slash.
        tenant_id, client_id: of the application.
        secret: of the application.
        token_file: instead: file of a token, read anew each time, since Kubernetes replaces it.
    """

    def __init__(
        self,
        client: Any,
        authority_host: str,
        tenant_id: str,
        client_id: str,
        *,
        secret: str | None = None,
        token_file: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(
            Exchange(
                client, "Microsoft Entra", hint="check authority_host, and that no firewall or proxy is in between"
            ),
            clock,
        )
        self._url = f"{authority_host}/{quote(tenant_id, safe='')}/oauth2/v2.0/token"
        self._client_id = client_id
        self._secret = secret
        self._token_file = token_file

    def fetch(self) -> Op[BearerToken]:
        form = {"client_id": self._client_id, "scope": SCOPE, "grant_type": "client_credentials"}
        if self._token_file is None:
            form["client_secret"] = self._secret or ""
        else:
            form["client_assertion_type"] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            form["client_assertion"] = yield Call(_read_token, self._token_file)
        body = urlencode(form).encode()
        del form
        headers = (("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json"))
        return (yield from self._ask("POST", self._url, headers, body))


def _read_token(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise UnauthenticatedError(
            f"Cannot read federated_token_file {path}: {reason}",
            hint="Kubernetes mounts it where workload identity is on for the pod",
        ) from None


# ---- managed identities -------------------------------------------------------------------------------------------


class ImdsTokens(_Tokens):
    """The managed identity of a virtual machine, from the instance metadata service.

    Source: "Use managed identities on a virtual machine to acquire an access token", learn.microsoft.com/entra.

    Args:
        client: connection options.
        endpoint: URL.
        identity: which of several: ``msi_res_id``, ``object_id`` or ``client_id``, and its value.
        tries: attempts at most.
    """

    def __init__(
        self,
        client: Any,
        endpoint: str,
        identity: tuple[str, str] | None,
        *,
        tries: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        exchange = Exchange(
            client,
            "the instance metadata service",
            hint="this machine has no managed identity: set account_key, sas_key, token or client_secret, "
            "use_azure_cli=True, or skip_signature=True for public data",
            again=(404, 410),
            tries=tries or 3,
        )
        super().__init__(exchange, clock)
        self._url = _managed_url(endpoint, identity)

    def fetch(self) -> Op[BearerToken]:
        return (yield from self._ask("GET", self._url, (("metadata", "true"),)))


class AppServiceTokens(_Tokens):
    """The managed identity of App Service, Functions and Container Apps.

    Source: "How to use managed identities for App Service", learn.microsoft.com/azure/app-service.

    Args:
        client: connection options.
        endpoint: URL, ``IDENTITY_ENDPOINT``.
        secret: ``IDENTITY_HEADER``.
        identity: as for `ImdsTokens`.
    """

    def __init__(
        self,
        client: Any,
        endpoint: str,
        secret: str,
        identity: tuple[str, str] | None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(Exchange(client, "the managed identity endpoint", hint="check IDENTITY_ENDPOINT"), clock)
        if identity is not None and identity[0] == "msi_res_id":
            identity = ("mi_res_id", identity[1])  # the same by its other name
        self._url = _managed_url(endpoint, identity)
        self._secret = secret

    def fetch(self) -> Op[BearerToken]:
        headers = (("x-identity-header", self._secret), ("metadata", "true"))
        return (yield from self._ask("GET", self._url, headers))


def _managed_url(endpoint: str, identity: tuple[str, str] | None) -> str:
    query = [("api-version", _MANAGED_API), ("resource", RESOURCE), *([] if identity is None else [identity])]
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"


# ---- Microsoft Fabric ---------------------------------------------------------------------------------------------


class FabricTokens(_Tokens):
    """The token service inside a workload of Microsoft Fabric. Its answer is the bare token.

    Args:
        client: connection options.
        service: URL of the token service.
        host: of the workload.
        session: token of the session.
        cluster: identifier of the cluster.
    """

    def __init__(
        self,
        client: Any,
        service: str,
        host: str,
        session: str,
        cluster: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(
            Exchange(client, "Microsoft Fabric's token service", hint="check fabric_token_service_url"), clock
        )
        self._url = f"{service}{'&' if '?' in service else '?'}{urlencode([('resource', RESOURCE)])}"
        self._headers = (
            ("x-ms-partner-token", session),
            ("x-ms-cluster-identifier", cluster),
            ("x-ms-workload-resource-moniker", cluster),
            ("x-ms-proxy-host", host),
        )

    def fetch(self) -> Op[BearerToken]:
        return (yield from self._ask("GET", self._url, self._headers))

    def _token_of(self, url: str, status: int, answer: bytes) -> BearerToken:
        if status != 200:
            return super()._token_of(url, status, answer)
        token = answer.decode("ascii", "replace").strip()
        return _bearer(token, jwt_expiry(token), self._exchange, url)


def jwt_expiry(token: str) -> float | None:
    """When a JSON Web Token expires, by its claim ``exp``; ``None`` where it does not say. Nothing is verified."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"])
    except (ValueError, KeyError, TypeError):
        return None


# ---- the Azure CLI ------------------------------------------------------------------------------------------------


class CliTokens(CachedSource[BearerToken]):
    """Tokens of whoever is logged in to the Azure CLI.

    Args:
        tenant_id: ask for a token of this tenant; ``None``: of the current one.
    """

    def __init__(self, tenant_id: str | None = None, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock=clock)
        self._tenant_id = tenant_id

    def fetch(self) -> Op[BearerToken]:
        outcome: BearerToken | UnauthenticatedError = yield Call(_ask_cli, self._tenant_id)
        if isinstance(outcome, UnauthenticatedError):
            raise outcome
        return outcome


def _ask_cli(tenant_id: str | None) -> BearerToken | UnauthenticatedError:
    import shutil
    import subprocess

    program = shutil.which("az")
    if program is None:
        return UnauthenticatedError(
            "No token from the Azure CLI: there is no az on PATH", hint="install the Azure CLI, then run: az login"
        )
    command = [program, "account", "get-access-token", "--output", "json", "--scope", SCOPE]
    if tenant_id is not None:
        command += ["--tenant", tenant_id]
    try:
        done = subprocess.run(  # noqa: S603 - found on PATH, arguments are ours
            command, check=False, capture_output=True, text=True, timeout=_CLI_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = f"az did not answer within {_CLI_TIMEOUT_S:.0f} s"
        if isinstance(error, OSError):
            reason = f"az cannot be run: {error.strerror}"
        return UnauthenticatedError(f"No token from the Azure CLI: {reason}")
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = next(
            (line for line in lines if line.upper().startswith("ERROR")), lines[-1] if lines else "no reason given"
        )
        return UnauthenticatedError(f"No token from the Azure CLI: {reason[:300]}", hint="run: az login")
    fields = json_object(done.stdout.encode())
    try:
        return BearerToken(fields["accessToken"], _cli_expiry(fields))
    except (KeyError, TypeError, ValueError):
        return UnauthenticatedError("No token from the Azure CLI: its answer is not understood")


def _cli_expiry(fields: dict[str, Any]) -> float | None:
    """Seconds since the epoch; older versions tell the local time only."""
    if "expires_on" in fields:
        return float(fields["expires_on"])
    from datetime import datetime

    text = fields.get("expiresOn")
    return None if text is None else datetime.fromisoformat(text).timestamp()


# ---- azure-identity -----------------------------------------------------------------------------------------------


class IdentityTokens(CachedSource[BearerToken]):
    """Tokens of a credential of azure-identity: what a store uses for which nothing is configured.

    Args:
        make: makes the credential at the first need; raises ImportError where azure-identity is not installed.
        beneath: asked instead where it is not.
    """

    def __init__(
        self, make: Callable[[], Any] | None, *, beneath: ImdsTokens | Any, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(clock=clock)
        self._make = make
        self._beneath = beneath
        self._identity: Any = None
        self._absent: UnauthenticatedError | None = None

    def fetch(self) -> Op[BearerToken]:
        outcome: BearerToken | BaseError | None = yield Call(self._get_token)
        if isinstance(outcome, BaseError):
            raise outcome
        if outcome is not None:
            return outcome
        if self._absent is not None:  # asked once: a machine does not become one of Azure's
            raise _copy_of(self._absent)
        try:
            token: BearerToken = yield from self._beneath.fetch()
        except UnauthenticatedError as error:
            self._absent = UnauthenticatedError(
                "No credentials are configured for Azure, this machine has no managed identity, and azure-identity, "
                "which knows more places to look at, is not installed.",
                hint='pip install "obstore[azure]", or set account_key, sas_key, token or client_secret, '
                "use_azure_cli=True, or skip_signature=True for public data",
                status=error.status,
            )
        else:
            return token
        raise _copy_of(self._absent)

    def _get_token(self) -> BearerToken | BaseError | None:
        """A token, why there is none, or ``None`` where azure-identity is not installed. May block."""
        if self._identity is None:
            try:
                self._identity = None if self._make is None else self._make()
            except ImportError:
                return None
            if self._identity is None:
                return None
        try:
            found = self._identity.get_token(SCOPE)
        except Exception as error:  # noqa: BLE001 - azure-identity's own, told in one line
            return UnauthenticatedError(
                f"No token from azure-identity: {_one_line(error)}",
                hint="run az login, or set account_key, sas_key, token or client_secret, or skip_signature=True for "
                "public data",
            )
        try:
            return BearerToken(found.token, float(found.expires_on))
        except ValueError as error:
            return UnauthenticatedError(f"No token from azure-identity: {error}")


def _copy_of(error: UnauthenticatedError) -> UnauthenticatedError:
    """The same without the traceback of who saw it first."""
    import copy

    return copy.copy(error)


def _one_line(error: Exception) -> str:
    """What azure-identity says: a list of all that it tried, one a line, with advice in between; the first sentence of each."""
    kept = []
    for line in str(error).splitlines():
        name, _, text = line.strip().partition(": ")
        if name and not name.startswith(("To mitigate", "Attempted credentials", "Visit ")):
            said = text.partition(". ")[0]
            kept.append(said if said.startswith(name) else f"{name}: {said}" if said else name)
    return "; ".join(kept)[:600] or type(error).__name__
