"""URLs and forms that Google Cloud Storage lets others in with.

V4 signatures: https://cloud.google.com/storage/docs/authentication/signatures
Form uploads: https://cloud.google.com/storage/docs/xml-api/post-object-forms
Signatures by the IAM API: https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/signBlob
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from obstore._auth.sigv4 import quote_key
from obstore._dialect.base import SendRequest
from obstore._dialect.gcs_request import GCSRequest
from obstore._dialect.policy import exactly, policy_conditions
from obstore._dialect.request import Header
from obstore._effects import Call, Cancel, Fork, Join, Op
from obstore._types import PostSpec, PresignedPost, SignSpec
from obstore.exceptions import GenericError, UnauthenticatedError

if TYPE_CHECKING:
    from obstore._config.gcs import GCSSettings

__all__ = ["GCSPresigner"]

_MAX_SECONDS = 7 * 24 * 3600
_IAM = "https://iamcredentials.googleapis.com"
_SCOPE = "auto/storage/goog4_request"
_OWN_PARAMETERS = frozenset(
    f"x-goog-{name}" for name in ("algorithm", "credential", "date", "expires", "signature", "signedheaders")
)
_AT_ONCE = 16  # signatures that the IAM API is asked for together


class _Signer(NamedTuple):
    """Who signs, and how.

    Attributes:
        account: what stands before the scope in the credential: an email, or the access id of an HMAC key.
        algorithm: as the service calls it.
        sign: an operation; a text and its date to the signature in hexadecimal.
    """

    account: str
    algorithm: str
    sign: Callable[[str, str], Op[str]]


class GCSPresigner:
    """The part of `GCSDialect` that signs in advance."""

    name: str
    host: str
    endpoint: str
    list_strip: str
    _base: str
    _bucket: str
    _settings: GCSSettings

    def presign(self, keys: Sequence[str], spec: SignSpec, source: Any, send: SendRequest) -> Op[list[str]]:
        """URLs with the signature in their query, see `Dialect.presign`."""
        self._check_expiry(spec.expires_s)
        query = list(spec.query)
        if spec.version is not None:
            query.append(("generation", spec.version))
        query += [(f"response-{name.lower()}", value) for name, value in spec.overrides.items()]
        if self._settings.user_project is not None:
            query.append(("userProject", self._settings.user_project))
        for name, _ in query:
            if name.lower() in _OWN_PARAMETERS:
                raise ValueError(f"query: {name} belongs to the signature")
        return self._presign(keys, spec, query, source, send)

    def _presign(
        self, keys: Sequence[str], spec: SignSpec, query: list[tuple[str, str]], source: Any, send: SendRequest
    ) -> Op[list[str]]:
        if not keys:
            return []
        signer = yield from self._signer(source, send)
        headers = sorted([("host", self.host), *((name, " ".join(value.split())) for name, value in spec.headers)])
        names = ";".join(name for name, _ in headers)
        moment, date = _now()
        scope = f"{date}/{_SCOPE}"
        own = [
            ("X-Goog-Algorithm", signer.algorithm),
            ("X-Goog-Credential", f"{signer.account}/{scope}"),
            ("X-Goog-Date", moment),
            ("X-Goog-Expires", str(spec.expires_s)),
            ("X-Goog-SignedHeaders", names),
        ]
        canonical_query = "&".join(
            f"{name}={value}" for name, value in sorted((_quote(name), _quote(value)) for name, value in [*own, *query])
        )
        canonical_headers = "".join(f"{name}:{value}\n" for name, value in headers)
        payload = dict(headers).get("x-goog-content-sha256", "UNSIGNED-PAYLOAD")
        paths = [f"{self._base}/{self._bucket}/{quote_key(self.list_strip + key)}" for key in keys]
        texts = []
        for path in paths:
            request = f"{spec.method}\n{path}\n{canonical_query}\n{canonical_headers}\n{names}\n{payload}"
            digest = hashlib.sha256(request.encode()).hexdigest()
            texts.append(f"{signer.algorithm}\n{moment}\n{scope}\n{digest}")
        signatures = yield from _in_parallel([signer.sign(text, date) for text in texts])
        return [
            f"{self.endpoint}{path}?{canonical_query}&X-Goog-Signature={signature}"
            for path, signature in zip(paths, signatures, strict=True)
        ]

    def presign_post(self, key: str, spec: PostSpec, source: Any, send: SendRequest) -> Op[PresignedPost]:
        """A form with a signed policy, see `Dialect.presign_post`."""
        self._check_expiry(spec.expires_s)
        return self._presign_post(key, spec, source, send)

    def _presign_post(self, key: str, spec: PostSpec, source: Any, send: SendRequest) -> Op[PresignedPost]:
        signer = yield from self._signer(source, send)
        now = time.time()
        moment, date = _now(now)
        fields = {"key": self.list_strip + key, **spec.fields}
        signature = {
            "x-goog-algorithm": signer.algorithm,
            "x-goog-credential": f"{signer.account}/{date}/{_SCOPE}",
            "x-goog-date": moment,
        }
        document = {
            "conditions": [
                {"bucket": self._settings.bucket},
                *policy_conditions(fields, spec),
                *exactly(signature),
            ],
            "expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + spec.expires_s)),
        }
        policy = base64.b64encode(json.dumps(document, separators=(",", ":")).encode()).decode("ascii")
        signature |= {"policy": policy, "x-goog-signature": (yield from signer.sign(policy, date))}
        return {"url": f"{self.endpoint}{self._base}/{self._bucket}/", "fields": fields | signature}

    def _check_expiry(self, seconds: int) -> None:
        if seconds > _MAX_SECONDS:
            detail = f"Expiration Time can't be longer than {_MAX_SECONDS} seconds (7 days)."
            raise GenericError.of(self.name, detail)

    # ---- who signs

    def _signer(self, source: Any, send: SendRequest) -> Op[_Signer]:
        """The HMAC key, the private key of the service account, or the IAM API on its behalf."""
        settings = self._settings
        if settings.hmac_access_id is not None and settings.hmac_secret is not None:
            return _Signer(settings.hmac_access_id, "GOOG4-HMAC-SHA256", _hmac_signer(settings.hmac_secret))
        email = settings.service_account_email
        identity = getattr(source, "identity", None)
        if identity is not None:
            known = yield from identity()
            if known.sign is not None and known.email is not None:
                return _Signer(known.email, "GOOG4-RSA-SHA256", _rsa_signer(known.sign))
            email = email or known.email
        if email is None:
            raise UnauthenticatedError(
                "These credentials cannot sign: they do not say whose they are.",
                hint="sign with a service account's key, hmac_access_id and hmac_secret, impersonate_service_account, or "
                "name the account that signs as service_account_email",
            )
        return _Signer(email, "GOOG4-RSA-SHA256", self._iam_signer(email, send))

    def _iam_signer(self, email: str, send: SendRequest) -> Callable[[str, str], Op[str]]:
        def sign(text: str, date: str) -> Op[str]:
            del date
            body = json.dumps({"payload": base64.b64encode(text.encode()).decode("ascii")}).encode()
            headers: tuple[Header, ...] = (("content-type", "application/json"),)
            path = f"/v1/projects/-/serviceAccounts/{_quote(email)}:signBlob"
            request = GCSRequest("POST", path, "sign", (), headers, key=None, body=(body,))
            request.origin = self._settings.iam_url or _IAM
            response = yield from send(request)
            try:
                return base64.b64decode(json.loads(bytes(response.body()))["signedBlob"], validate=True).hex()
            except (ValueError, LookupError, TypeError):
                raise GenericError.of(self.name, "Got invalid signBlob response: there is no signature in it") from None

        return sign


def _now(now: float | None = None) -> tuple[str, str]:
    """The time as signatures have it, and its date."""
    text = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    return text, text[:8]


def _quote(text: str) -> str:
    return quote_key(text).replace("/", "%2F")


def _rsa_signer(sign: Callable[[bytes], bytes]) -> Callable[[str, str], Op[str]]:
    def sign_text(text: str, date: str) -> Op[str]:
        del date
        signature: bytes = yield Call(sign, text.encode())
        return signature.hex()

    return sign_text


def _hmac_signer(secret: str) -> Callable[[str, str], Op[str]]:
    def sign_text(text: str, date: str) -> Op[str]:
        yield from ()
        key = f"GOOG4{secret}".encode()
        for part in (date, *_SCOPE.split("/")):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex()

    return sign_text


def _in_parallel(signing: Sequence[Op[str]]) -> Op[list[str]]:
    """The results of all operations, in order; some of them run at once."""
    if len(signing) == 1:
        return [(yield from signing[0])]
    children: list[Any] = []
    try:
        for each in signing:
            children.append((yield Fork(each)))
            while sum(not child.done for child in children) >= _AT_ONCE:
                yield Join([child for child in children if not child.done])
        while waiting := [child for child in children if not child.done]:
            yield Join(waiting)
    except GeneratorExit:
        raise
    except BaseException:
        yield Cancel(children)
        raise
    for child in children:
        if child.error is not None:
            raise child.error
    return [child.result for child in children]
