"""Credentials of those who signed in with ``aws sso login``.

The command line leaves an access token in a file; it is renewed where that is possible, and written back, so that both
go on with the same one.

https://docs.aws.amazon.com/sdkref/latest/guide/feature-sso-credentials.html
https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html
https://docs.aws.amazon.com/singlesignon/latest/OIDCAPIReference/API_CreateToken.html
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from obstore._auth.aws import AwsCredential
from obstore._auth.aws_http import Clients, ask, read_json, refused
from obstore._auth.aws_keys import parse_moment, read_keys
from obstore._effects import Call, Op
from obstore.exceptions import BaseError, UnauthenticatedError

__all__ = ["sso_credentials"]

_NAMES = ("accessKeyId", "secretAccessKey", "sessionToken", "expiration")
# The command line renews tokens as early.
_RENEW_BEFORE_S = 15 * 60.0
_PORTAL = "the AWS SSO portal"
_OIDC = "AWS SSO OIDC"


def sso_credentials(
    section: Mapping[str, str],
    session: str | None,
    profile: str,
    cache: str,
    endpoint: Callable[[str, str], str],
    clients: Clients,
) -> Op[AwsCredential]:
    """Credentials of a role that the signed-in user may take.

    Args:
        section: ``sso_start_url``, ``sso_region``, ``sso_account_id`` and ``sso_role_name``.
        session: name of the ``[sso-session]``; ``None`` for profiles of the old form.
        profile: in messages.
        cache: directory of the command line's tokens.
        endpoint: called with a service (``sso``, ``sso_oidc``) and the URL it has by default.
        clients: how requests are sent.

    Raises:
        UnauthenticatedError: the user is not signed in, or may not take that role.
        GenericError: a service cannot be reached.
    """
    region = section["sso_region"]
    if not region.replace("-", "").isalnum():
        raise UnauthenticatedError(f"sso_region of profile {profile!r} is no region")
    # The name of the token's file is a digest, as the command line makes it.
    digest = hashlib.sha1((session or section["sso_start_url"]).encode(), usedforsecurity=False).hexdigest()
    path = os.path.join(cache, f"{digest}.json")
    login = f"run: aws sso login --profile {profile}"
    held: _Token = yield Call(_read, path, login)
    now = time.time()
    if held.renewable(now) and held.expires_at - now < _RENEW_BEFORE_S:
        try:
            held = yield from _renew(held, endpoint("sso_oidc", f"https://oidc.{region}.amazonaws.com"), path, clients)
        except BaseError:
            if held.expires_at <= now:
                raise
    if held.expires_at <= now:
        raise UnauthenticatedError(f"the sign-in of profile {profile!r} has expired", hint=login)
    query = urlencode({"role_name": section["sso_role_name"], "account_id": section["sso_account_id"]})
    url = f"{endpoint('sso', f'https://portal.sso.{region}.amazonaws.com').rstrip('/')}/federation/credentials?{query}"
    headers = [("x-amz-sso_bearer_token", held.value)]
    hint = "check sso_region, and that no firewall or proxy is in between"
    answer = yield from ask(clients.service(url), "GET", url, who=_PORTAL, headers=headers, hint=hint)
    del headers, held
    found = read_json(answer.body) or {}
    if answer.status != 200:
        hint = login if answer.status == 401 else "check sso_account_id and sso_role_name"
        raise refused(_PORTAL, answer, code=_code(found), hint=hint)
    keys = found.get("roleCredentials")
    return read_keys(keys if isinstance(keys, dict) else {}, _NAMES, _PORTAL)


class _Token:
    """An access token as it stands in its file. ``repr`` shows nothing of it."""

    __slots__ = ("document", "expires_at", "value")

    def __init__(self, document: dict[str, Any], expires_at: float, value: str) -> None:
        self.document = document
        self.expires_at = expires_at
        self.value = value

    def renewable(self, now: float) -> bool:
        """Whether there is what it takes to get another one without the user."""
        if not all(self.document.get(name) for name in ("refreshToken", "clientId", "clientSecret")):
            return False
        try:
            return parse_moment(self.document["registrationExpiresAt"]) > now
        except (KeyError, TypeError, ValueError, AttributeError):
            return False


def _read(path: str, login: str) -> _Token:
    """Read a token's file. Blocks for as long as the file system does."""
    problem = None
    try:
        with open(path, encoding="utf-8") as file:
            document = read_json(file.read())
    except FileNotFoundError:
        problem = "nobody has signed in"
    except (OSError, UnicodeDecodeError):
        problem = f"cannot read the sign-in in {path}"
    else:
        try:
            if document is not None:
                value = document["accessToken"]
                if isinstance(value, str) and value.isprintable():
                    return _Token(document, parse_moment(document["expiresAt"]), value)
        except (KeyError, TypeError, ValueError, AttributeError):
            pass
        problem = f"there is no usable sign-in in {path}"
        document = None
    raise UnauthenticatedError(problem, hint=login)


def _renew(held: _Token, endpoint: str, path: str, clients: Clients) -> Op[_Token]:
    url = f"{endpoint.rstrip('/')}/token"
    request = {
        "grantType": "refresh_token",
        "clientId": held.document["clientId"],
        "clientSecret": held.document["clientSecret"],
        "refreshToken": held.document["refreshToken"],
    }
    answer = yield from ask(
        clients.service(url),
        "POST",
        url,
        who=_OIDC,
        headers=[("content-type", "application/json")],
        body=json.dumps(request).encode(),
    )
    del request
    found = read_json(answer.body) or {}
    if answer.status != 200:
        raise refused(_OIDC, answer, code=_code(found), hint="run: aws sso login")
    value, life = found.get("accessToken"), found.get("expiresIn")
    if not (isinstance(value, str) and value.isprintable() and isinstance(life, int)):
        del found, value
        raise UnauthenticatedError(f"{_OIDC} gave no access token", hint="run: aws sso login")
    expires_at = float(int(time.time()) + life)
    document = {
        **held.document,
        "accessToken": value,
        "expiresAt": datetime.fromtimestamp(expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if isinstance(found.get("refreshToken"), str):
        document["refreshToken"] = found["refreshToken"]
    yield Call(_write, path, document)
    return _Token(document, expires_at, value)


def _write(path: str, document: dict[str, Any]) -> None:
    """Replace a token's file, readable for its owner only. Where that fails, the token serves this process alone."""
    with contextlib.suppress(OSError):
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), suffix=".tmp")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


def _code(found: dict[str, Any]) -> str | None:
    for name in ("error", "__type", "code"):
        if isinstance(found.get(name), str) and found[name].isascii():
            return str(found[name])[:80]
    return None
