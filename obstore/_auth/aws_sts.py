"""Roles: credentials from the security token service.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import urlencode

from obstore._auth.aws import AwsCredential
from obstore._auth.aws_http import Answer, Clients, ask, refused
from obstore._auth.aws_keys import element_text, read_keys
from obstore._auth.sigv4 import Signer, payload_hash
from obstore._effects import Op

__all__ = ["Sts", "session_name"]

WHO = "AWS STS"
_VERSION = "2011-06-15"
_NAMES = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
# Above this, the service finds a request too old or too young.
_MAX_SKEW_S = 300.0
_HINTS = {
    "AccessDenied": "the credentials that assume the role need sts:AssumeRole, and the role must trust their owner",
    "ExpiredToken": "the credentials, or the token, that the role is assumed with have expired: sign in again",
    "ExpiredTokenException": "the token that the role is assumed with has expired; whoever writes its file must renew it",
    "IDPCommunicationError": "the service cannot reach the identity provider to check the token",
    "InvalidClientTokenId": "check the access key that the role is assumed with",
    "InvalidIdentityToken": "the role does not trust the issuer or the audience of the token",
    "SignatureDoesNotMatch": "check the secret key that the role is assumed with, and this machine's clock",
    "ValidationError": "check role_arn, role_session_name and duration_seconds",
}


class Sts:
    """The security token service as one chain of credentials reaches it.

    Args:
        endpoint: its URL.
        region: that requests to it are signed for.
        clients: how they are sent.
    """

    def __init__(self, endpoint: str, region: str, clients: Clients) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._region = region
        self._clients = clients
        self._signer = Signer("sts", normalize_path=True, double_encode=True, payload_header=False)

    def assume_role(self, with_: AwsCredential, parameters: Mapping[str, str]) -> Op[AwsCredential]:
        """Credentials of a role, for those who have others.

        Args:
            with_: the others.
            parameters: ``RoleArn``, ``RoleSessionName`` and what else the action takes.

        Raises:
            UnauthenticatedError: the service refuses.
            GenericError: there was no answer, or none that makes sense.
        """
        body = _form("AssumeRole", parameters)
        offset = 0.0
        while True:
            now = time.time() + offset
            answer = yield from self._ask(body, self._sign(body, with_, now))
            skew = _skew(answer, now)
            if answer.status < 400 or offset or abs(skew) < _MAX_SKEW_S:
                return _read(answer, "AssumeRole")
            offset = skew

    def assume_role_with_web_identity(self, token: str, parameters: Mapping[str, str]) -> Op[AwsCredential]:
        """Credentials of a role, for those who have a token of an identity provider; errors as of `assume_role`."""
        body = _form("AssumeRoleWithWebIdentity", {**parameters, "WebIdentityToken": token})
        answer = yield from self._ask(body, [("content-type", _CONTENT_TYPE)])
        return _read(answer, "AssumeRoleWithWebIdentity")

    def _ask(self, body: bytes, headers: list[tuple[str, str]]) -> Op[Answer]:
        url = f"{self._endpoint}/"
        hint = "check AWS_ENDPOINT_URL_STS and the region, and that no firewall or proxy is in between"
        return (yield from ask(self._clients.service(url), "POST", url, who=WHO, headers=headers, body=body, hint=hint))

    def _sign(self, body: bytes, with_: AwsCredential, now: float) -> list[tuple[str, str]]:
        scheme, _, rest = self._endpoint.partition("://")
        authority, slash, path = rest.partition("/")
        return self._signer.sign(
            "POST",
            authority.removesuffix(":443" if scheme == "https" else ":80"),
            f"{slash}{path}/",
            (),
            [("content-type", _CONTENT_TYPE)],
            payload_hash([body]),
            with_.access_key_id,
            with_.secret_access_key,
            with_.token,
            self._region,
            now,
        )


_CONTENT_TYPE = "application/x-www-form-urlencoded; charset=utf-8"


def session_name() -> str:
    """A name for a session that nobody has named."""
    return f"obstore-{int(time.time())}"


def _form(action: str, parameters: Mapping[str, str]) -> bytes:
    return urlencode({"Action": action, "Version": _VERSION, **parameters}).encode()


def _skew(answer: Answer, now: float) -> float:
    """How much the service's clock is ahead of ``now``, in seconds; 0 where it does not say."""
    if answer.date is None:
        return 0.0
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(answer.date).timestamp() - now
    except ValueError:
        return 0.0


def _read(answer: Answer, action: str) -> AwsCredential:
    text = answer.body.decode("utf-8", "replace")
    if answer.status >= 300:
        code = element_text(text, "Code")
        # Of the service's own messages only those of known codes, which name users and roles, never what was sent.
        message = (element_text(text, "Message") or "") if code in _HINTS else ""
        raise refused(f"{WHO} ({action})", answer, code=code, message=" ".join(message.split())[:300], hint=_hint(code))
    found = {name: element_text(text, name) for name in _NAMES}
    hint = "the endpoint may not be a security token service: check AWS_ENDPOINT_URL_STS"
    return read_keys(found, _NAMES, f"{WHO} ({action})", hint=hint)


def _hint(code: str | None) -> str | None:
    return _HINTS.get(code or "")
