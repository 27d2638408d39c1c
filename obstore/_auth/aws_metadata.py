"""Credentials that the machine or container hands to those who run on it.

Instance metadata: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
Containers: https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
"""

from __future__ import annotations

import ipaddress
import time
from typing import Any
from urllib.parse import urlsplit

from obstore._auth.aws import AwsCredential
from obstore._auth.aws_http import Answer, Clients, ask, read_json, refused
from obstore._auth.aws_keys import read_keys
from obstore._config.aws_chain import ChainSettings, Metadata
from obstore._effects import Call, Op
from obstore.exceptions import BaseError, UnauthenticatedError

__all__ = ["container_credentials", "forget_silence", "instance_credentials"]

_NAMES = ("AccessKeyId", "SecretAccessKey", "Token", "Expiration")

# ---- containers ---------------------------------------------------------------------------------------------

_CONTAINER = "the container credentials endpoint"
_ECS_HOST = "http://169.254.170.2"
_PLAIN_HOSTS = ("localhost", "169.254.170.2", "169.254.170.23", "fd00:ec2::23")
_CONTAINER_TIMEOUT_S = 2.0


def container_credentials(settings: ChainSettings, clients: Clients) -> Op[AwsCredential | None]:
    """Credentials of an ECS task or an EKS pod; ``None`` where the environment names no endpoint.

    Raises:
        UnauthenticatedError: the endpoint refuses, or may not be asked.
        GenericError: it cannot be reached, or answers nonsense.
    """
    if settings.container_relative_uri:
        url = _ECS_HOST + settings.container_relative_uri
    elif settings.container_full_uri:
        url = settings.container_full_uri
        _check_host(url)
    else:
        return None
    headers = [("accept", "application/json")]
    token = settings.container_token
    if settings.container_token_file:
        token = yield Call(read_token, settings.container_token_file, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    if token:
        if not token.isprintable():
            raise UnauthenticatedError("the authorization token for container credentials holds a control character")
        headers.append(("authorization", token))
    try:
        client = clients.service(url) if url.startswith("https:") else clients.metadata(_CONTAINER_TIMEOUT_S)
        hint = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI is set: is this the container it was set for?"
        answer = yield from ask(client, "GET", url, who=_CONTAINER, headers=headers, hint=hint)
    finally:
        del headers, token
    found = read_json(answer.body)
    if answer.status != 200:
        code = None if found is None else found.get("code")
        raise refused(_CONTAINER, answer, code=code if isinstance(code, str) else None, hint=_container_hint(answer))
    return read_keys(found or {}, _NAMES, _CONTAINER)


def _container_hint(answer: Answer) -> str | None:
    if answer.status in (400, 401, 403):
        return "check AWS_CONTAINER_AUTHORIZATION_TOKEN, or the file that AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names"
    return None


def _check_host(url: str) -> None:
    """Credentials come unencrypted from this machine or from its host only."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" and host:
        return
    if parts.scheme == "http" and (host in _PLAIN_HOSTS or _is_loopback(host)):
        return
    raise UnauthenticatedError(
        f"container credentials are not fetched from {parts.scheme}://{host}",
        hint="container_credentials_full_uri must be https, or http on this machine or on the address of ECS or EKS",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(path: str, setting: str) -> str:
    """The content of a file that holds a token. Blocks for as long as the file system does.

    Raises:
        UnauthenticatedError: it cannot be read or is empty.
    """
    try:
        with open(path, encoding="utf-8") as file:
            token = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UnauthenticatedError(f"cannot read the token file {path}: {reason}", hint=f"check {setting}") from None
    if not token:
        raise UnauthenticatedError(f"the token file {path} is empty", hint=f"check {setting}")
    return token


# ---- instances ----------------------------------------------------------------------------------------------

_INSTANCE = "EC2 instance metadata"
_ROLES = "/latest/meta-data/iam/security-credentials/"
_TOKEN_TTL = "21600"  # noqa: S105 - seconds
# Where the machine says that it is none of Amazon's, a quarter of a second settles it; on Amazon's, a moment's trouble does not.
_ELSEWHERE_TIMEOUT_S = 0.25
_AMAZON_ATTEMPTS = 3
_VENDOR_FILES = tuple(f"/sys/class/dmi/id/{name}" for name in ("sys_vendor", "bios_vendor", "bios_version"))
# Credentials that are handed out although they have run out are used on: the service may be behind with renewing them.
_EXTENSION_S = 600.0

# Endpoints that did not answer, and when by the monotonic clock. Process-wide: every store would wait for nothing anew.
_silent: dict[str, float] = {}
_SILENCE_S = 600.0


def forget_silence() -> None:
    """Ask endpoints again that did not answer."""
    _silent.clear()


def instance_credentials(settings: Metadata, clients: Clients) -> Op[AwsCredential | None]:
    """Credentials of the role of an EC2 instance; ``None`` where there is no such service, or it is switched off.

    Raises:
        UnauthenticatedError: there is one, and it has no credentials for us.
    """
    endpoint = settings.endpoint
    if settings.disabled:
        return None
    since = _silent.get(endpoint)
    if since is not None and time.monotonic() - since < _SILENCE_S:
        return None
    timeout, attempts = settings.timeout_s, settings.attempts
    amazon: bool | None = None if settings.given else (yield Call(_is_amazons))
    if amazon is False:
        timeout = min(timeout, _ELSEWHERE_TIMEOUT_S)
    elif amazon:
        attempts = max(attempts, _AMAZON_ATTEMPTS)
    client = clients.metadata(timeout)
    headers = yield from _session(endpoint, client, settings, attempts)
    if headers is None:
        _silent[endpoint] = time.monotonic()
        return None
    roles = yield from ask(client, "GET", endpoint + _ROLES, who=_INSTANCE, headers=headers, attempts=attempts)
    role = roles.body.decode("utf-8", "replace").strip().split("\n")[0].strip()
    if roles.status == 404 or (roles.status == 200 and not role):
        raise UnauthenticatedError(
            f"{_INSTANCE} has no credentials",
            hint="attach an IAM role to this instance, or configure other credentials",
        )
    if roles.status != 200 or not role.isprintable():
        raise refused(_INSTANCE, roles, hint=_v1_hint(roles))
    answer = yield from ask(client, "GET", endpoint + _ROLES + role, who=_INSTANCE, headers=headers, attempts=attempts)
    found = read_json(answer.body) or {}
    code = found.get("Code")
    if answer.status != 200 or (isinstance(code, str) and code != "Success"):
        raise refused(_INSTANCE, answer, code=code if isinstance(code, str) else None)
    keys = read_keys(found, _NAMES, _INSTANCE)
    now = time.time()
    if keys.expires_at is not None and keys.expires_at <= now:
        return AwsCredential(keys.access_key_id, keys.secret_access_key, keys.token, now + _EXTENSION_S)
    return keys


def _session(endpoint: str, client: Any, settings: Metadata, attempts: int) -> Op[list[tuple[str, str]] | None]:
    """The header that the service wants with each request: of version 2, none for version 1; ``None``: it is not there."""
    url = f"{endpoint}/latest/api/token"
    lifetime = [("x-aws-ec2-metadata-token-ttl-seconds", _TOKEN_TTL)]
    try:
        answer = yield from ask(client, "PUT", url, who=_INSTANCE, headers=lifetime, body=b"", attempts=attempts)
    except BaseError:
        return None
    token = answer.body.decode("ascii", "replace").strip()
    if answer.status == 200 and token and token.isprintable():
        return [("x-aws-ec2-metadata-token", token)]
    if settings.v1 and answer.status in (403, 404, 405):
        return []
    if answer.status in (404, 405, 501):  # something else listens there
        return None
    raise refused(_INSTANCE, answer, hint=_v1_hint(answer))


def _v1_hint(answer: Answer) -> str | None:
    if answer.status in (401, 403):
        return "if this machine's metadata service knows version 1 only, set imdsv1_fallback=True"
    return None


def _is_amazons() -> bool | None:
    """Whether the firmware names Amazon as its maker; ``None`` where it says nothing. Blocks for as long as the file system does."""
    known = ""
    for path in _VENDOR_FILES:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                known += file.read().strip().lower()
        except OSError:
            continue
    return "amazon" in known if known else None
