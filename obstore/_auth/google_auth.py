"""Credentials of every kind that Google has, through google-auth (the extra ``google``).

Files: service accounts, authorised users (``gcloud auth application-default login``), workload identity federation
(``external_account``), impersonation; without a file the metadata server of the machine. See
https://cloud.google.com/docs/authentication/application-default-credentials
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from obstore._auth.cache import CachedSource, credential
from obstore._auth.gcp import GcpCredential
from obstore._auth.google_http import ClientFor, with_http
from obstore._effects import COLLECT, AttemptFailed, Call, Op, Send
from obstore.exceptions import GenericError, UnauthenticatedError

__all__ = [
    "GoogleSource",
    "Identity",
    "Impersonation",
    "default_credentials",
    "from_info",
    "have_google_auth",
    "read_info",
]

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
THRESHOLD_S = 240.0
INSTALL = "pip install 'obstore[google]'"
_TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
_AWS_TOKEN = "urn:ietf:params:aws:token-type:aws4_request"  # noqa: S105 - a name
_IMPERSONATED = re.compile(r"/serviceAccounts/([^/:]+):generateAccessToken")
_NO_SERVER_REMEMBERED_S = 60.0


def have_google_auth() -> bool:
    """Whether google-auth is installed; imports next to nothing."""
    try:
        return find_spec("google.auth") is not None
    except ModuleNotFoundError:
        return False


class Identity(NamedTuple):
    """Who a source's tokens stand for, as far as signing URLs is concerned.

    Attributes:
        email: of the service account; ``None`` where it is none, or cannot be told.
        sign: RSA-SHA256 with its private key; ``None`` where the key is not here.
    """

    email: str | None
    sign: Callable[[bytes], bytes] | None


class Impersonation(NamedTuple):
    """A service account to act as.

    Attributes:
        email: of the account.
        url: where tokens for it are made; ``None`` for Google's address.
        delegates: accounts in between.
    """

    email: str
    url: str | None = None
    delegates: Sequence[str] = ()


class GoogleSource(CachedSource[GcpCredential]):
    """Tokens that google-auth gets.

    Args:
        load: makes google-auth's credentials; an operation, run once.
        client_for: connection options for a URL.
        description: where they come from, for people.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        load: Callable[[], Op[Any]],
        client_for: ClientFor,
        description: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(THRESHOLD_S, clock)
        self.description = description
        self._load = load
        self._client_for = client_for
        self._credentials: Any = None

    def _loaded(self) -> Op[Any]:
        if self._credentials is None:
            self._credentials = yield from self._load()
        return self._credentials

    def fetch(self) -> Op[GcpCredential]:
        credentials = yield from self._loaded()
        return (yield from with_http(lambda transport: _refresh(credentials, transport), self._client_for))

    def identity(self) -> Op[Identity]:
        """Who signs. The metadata server is asked for the name of its account."""
        credentials = yield from self._loaded()
        if getattr(credentials, "service_account_email", None) == "default":
            yield from credential(self)
        return _identity(credentials)


def _refresh(credentials: Any, transport: Any) -> GcpCredential:
    from google.auth import exceptions

    refusal: tuple[str, str | None] | None = None
    try:
        credentials.refresh(transport)
    except exceptions.GoogleAuthError as error:
        refusal = _reason(error), _hint(str(error))
    if refusal is not None:
        # Out here, where google-auth's error, whose frames hold what was sent, is no part of ours.
        raise UnauthenticatedError(
            f"Google gives no access token for {_kind(credentials)}: {refusal[0]}", hint=refusal[1]
        )
    expiry = credentials.expiry
    if expiry is not None and expiry.tzinfo is None:
        expiry = expiry.replace(tzinfo=UTC)
    return GcpCredential(credentials.token, None if expiry is None else expiry.timestamp())


def _kind(credentials: Any) -> str:
    email = getattr(credentials, "service_account_email", None)
    if isinstance(email, str):
        return f"service account {email}"
    return f"{type(credentials).__module__.rpartition('.')[2]} credentials"


def _reason(error: Exception) -> str:
    """What google-auth says; of its arguments the first, the others repeat the answer's body."""
    text = str(error.args[0]) if error.args else type(error).__name__
    return " ".join(text.split())


def _hint(text: str) -> str | None:
    lowered = text.lower()
    if "invalid_grant" in lowered and "jwt" in lowered:
        return "the key was deleted or is another account's, or this machine's clock is wrong: make a new key, set the clock"
    if "invalid_grant" in lowered:
        return "the login has expired or was revoked: run `gcloud auth application-default login` again"
    if "invalid_client" in lowered or "unauthorized_client" in lowered:
        return "the file's client_id and client_secret are not (or no longer) known to Google"
    if "iam" in lowered or "generateaccesstoken" in lowered:
        return "impersonation needs the role Service Account Token Creator on the account"
    return None


def _identity(credentials: Any) -> Identity:
    from google.auth import credentials as base

    email = getattr(credentials, "service_account_email", None)
    local = isinstance(credentials, base.Signing) and hasattr(credentials, "_private_key_id")
    signer = getattr(credentials, "signer", None)
    if local or (signer is not None and type(signer).__name__ == "RSASigner"):
        return Identity(email, credentials.sign_bytes)
    return Identity(email if isinstance(email, str) else None, None)


# ---- files ------------------------------------------------------------------------------------------------------


class Info(dict[str, Any]):
    """The content of a credentials file: tools that print the variables of frames that failed see nothing of it."""

    def __repr__(self) -> str:
        return f"Info(type={self.get('type')!r})"


def read_info(name: str, *, path: str | None = None, text: str | None = None) -> Info:
    """The JSON of a credentials file, or of a setting with its content.

    Args:
        name: of the setting, for messages.
        path: of the file; ``~`` is the home directory.
        text: the content, where it was given directly.

    Raises:
        GenericError: it cannot be read or is no JSON object; the message shows nothing of it.
    """
    where = name if path is None else f"{name} {path}"
    if path is not None:
        try:
            text = Path(path).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) else type(error).__name__
            hint = f"it was named by {name}, or by GOOGLE_{name.upper()} in the environment"
            raise GenericError.of("GCS", f"cannot read {where}: {reason}", hint=hint) from None
    try:
        info = json.loads(text or "")
    except ValueError:
        info = None
    del text
    if not isinstance(info, dict):
        raise GenericError.of("GCS", f"{where} is no JSON object", hint="give the file that Google Cloud made")
    return Info(info)


def from_info(info: Info, impersonate: Impersonation | None = None) -> Any:
    """google-auth's credentials out of a file of any kind.

    Raises:
        UnauthenticatedError: the file is of an unknown kind, or lacks something.
    """
    from google.auth import exceptions

    try:
        credentials = _from_info(info)
    except KeyError as error:
        problem = f"lacks {error}"
    except (exceptions.GoogleAuthError, TypeError, ValueError):
        problem = "cannot be used"  # and no more: what is raised for a broken key may quote it
    else:
        return credentials if impersonate is None else _impersonated(credentials, impersonate)
    raise UnauthenticatedError(
        f"The Google credentials of type {info.get('type')!r} {problem}",
        hint="give a file as `gcloud` or the Cloud console makes it, unchanged",
    )


def _from_info(info: Info) -> Any:
    kind = info.get("type")
    if kind == "service_account":
        from google.oauth2 import service_account

        return service_account.Credentials.from_service_account_info(dict(info), scopes=[SCOPE])
    if kind == "authorized_user":
        from google.oauth2 import credentials

        return credentials.Credentials(
            None,
            refresh_token=info["refresh_token"],
            client_id=info["client_id"],
            client_secret=info["client_secret"],
            token_uri=info.get("token_uri") or _TOKEN_URI,
            quota_project_id=info.get("quota_project_id"),
        )
    if kind == "external_account":
        return _external(info)
    if kind == "external_account_authorized_user":
        from google.auth import external_account_authorized_user

        return external_account_authorized_user.Credentials.from_info(dict(info))
    if kind == "impersonated_service_account":
        source = _from_info(Info(info["source_credentials"]))
        found = _IMPERSONATED.search(info["service_account_impersonation_url"])
        if found is None:
            raise ValueError("service_account_impersonation_url")
        url = info["service_account_impersonation_url"]
        return _impersonated(source, Impersonation(found[1], url, info.get("delegates") or ()))
    raise ValueError("type")


def _external(info: Info) -> Any:
    source = info["credential_source"]
    if info["subject_token_type"] == _AWS_TOKEN:
        from google.auth import aws

        return aws.Credentials.from_info(dict(info), scopes=[SCOPE])
    if "executable" in source:
        from google.auth import pluggable

        return pluggable.Credentials.from_info(dict(info), scopes=[SCOPE])
    from google.auth import identity_pool

    return identity_pool.Credentials.from_info(dict(info), scopes=[SCOPE])


def _impersonated(source: Any, account: Impersonation) -> Any:
    from google.auth import impersonated_credentials

    return impersonated_credentials.Credentials(
        source_credentials=source,
        target_principal=account.email,
        target_scopes=[SCOPE],
        delegates=list(account.delegates),
        iam_endpoint_override=account.url,
    )


# ---- what is there when nothing was given -------------------------------------------------------------------------


def default_credentials(client_for: ClientFor, impersonate: Impersonation | None = None) -> Op[Any]:
    """The login of gcloud, else the account of the machine.

    Raises:
        UnauthenticatedError: there is neither, or google-auth is not installed.
    """
    path = _gcloud_file()
    if (yield Call(path.is_file)):
        _need_google_auth(f"gcloud's login ({path})")
        info = yield Call(lambda: read_info("gcloud's login", path=str(path)))
        return (yield Call(from_info, info, impersonate))
    if not (yield from _metadata_answers(client_for)):
        raise UnauthenticatedError(
            "No credentials are configured for GCS.",
            hint="set GOOGLE_APPLICATION_CREDENTIALS or service_account, run `gcloud auth application-default login`, "
            "pass bearer_token or credential_provider, or skip_signature=True for a public bucket",
        )
    _need_google_auth("the account of this machine")
    return (yield Call(_of_machine, impersonate))


def _of_machine(impersonate: Impersonation | None) -> Any:
    try:
        from google.auth import compute_engine
    except ImportError as error:  # it wants requests
        raise UnauthenticatedError(
            f"google-auth cannot be used for this machine's account: {error}", hint=INSTALL
        ) from None

    credentials = compute_engine.Credentials(scopes=[SCOPE])
    return credentials if impersonate is None else _impersonated(credentials, impersonate)


def _need_google_auth(what: str) -> None:
    if not have_google_auth():
        raise UnauthenticatedError(f"google-auth is not installed, and {what} needs it", hint=INSTALL)


def _gcloud_file() -> Path:
    folder = os.environ.get("CLOUDSDK_CONFIG")
    base = Path(folder) if folder else Path.home() / ".config" / "gcloud"
    return base / "application_default_credentials.json"


# Host -> until when, by the monotonic clock, it is taken not to be there.
_absent: dict[str, float] = {}


def _metadata_answers(client_for: ClientFor) -> Op[bool]:
    """Whether this machine has a metadata server: asked once, for a second at most; a no is remembered for a minute."""
    named = os.environ.get("GCE_METADATA_HOST") or os.environ.get("GCE_METADATA_ROOT")
    if os.environ.get("NO_GCE_CHECK", "").lower() == "true":
        return False
    if not named and not (yield Call(_may_be_google)):
        return False
    host = named or os.environ.get("GCE_METADATA_IP") or "169.254.169.254"
    if _absent.get(host, 0.0) > time.monotonic():
        return False
    url = f"http://{host}/"
    try:
        response = yield Send(client_for(url, True), "GET", url, [("metadata-flavor", "Google")], None, COLLECT)
    except AttemptFailed:
        found = False
    else:
        found = response.header("metadata-flavor") == "Google"
    if not found:
        _absent[host] = time.monotonic() + _NO_SERVER_REMEMBERED_S
    return found


def _may_be_google() -> bool:
    """Whether the firmware says that this is a machine of Google's, or says nothing."""
    try:
        name = Path("/sys/class/dmi/id/product_name").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True  # containers of Cloud Run show no firmware
    return name.strip().startswith("Google")
