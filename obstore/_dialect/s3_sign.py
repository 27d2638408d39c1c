"""URLs and forms that S3 lets others in with.

Query signatures: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
Form uploads: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from obstore._auth.aws import AwsSession, AwsSource
from obstore._auth.cache import credential
from obstore._auth.sigv4 import Signer, quote_key
from obstore._dialect.base import SendRequest
from obstore._dialect.policy import exactly, policy_conditions
from obstore._dialect.s3_request import Site
from obstore._effects import Op
from obstore._types import PostSpec, PresignedPost, SignSpec

if TYPE_CHECKING:
    from obstore._config.s3 import S3Settings

__all__ = ["S3Presigner"]

# Parameters that the signature itself is made of.
_OWN_PARAMETERS = frozenset(
    {
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-signedheaders",
    }
)


class S3Presigner:
    """The part of `S3Dialect` that signs in advance."""

    clock_offset: float
    list_strip: str
    _list_path: str
    _object_path: str
    _settings: S3Settings
    _signer: Signer
    _site: Site

    def presign(self, keys: Sequence[str], spec: SignSpec, source: AwsSource, send: SendRequest) -> Op[list[str]]:  # noqa: ARG002 - needs no request
        """URLs with the signature in their query, see `Dialect.presign`."""
        query = list(spec.query)
        if spec.version is not None:
            query.append(("versionId", spec.version))
        query += [(f"response-{name.lower()}", value) for name, value in spec.overrides.items()]
        if self._settings.request_payer:
            query.append(("x-amz-request-payer", "requester"))
        for name, _ in query:
            if name.lower() in _OWN_PARAMETERS:
                raise ValueError(f"query: {name} belongs to the signature")
        return self._presign(keys, spec, query, source)

    def _presign(
        self, keys: Sequence[str], spec: SignSpec, query: list[tuple[str, str]], source: AwsSource
    ) -> Op[list[str]]:
        key_pair = yield from credential(source)
        token = key_pair.token
        if type(key_pair) is AwsSession and token is not None:
            query, token = [*query, ("X-Amz-S3session-Token", token)], None
        site = self._site
        now = time.time() + self.clock_offset
        urls = []
        for key in keys:
            path = self._object_path + quote_key(key)
            signed = self._signer.presign(
                spec.method,
                site.host,
                path,
                query,
                spec.headers,
                spec.expires_s,
                key_pair.access_key_id,
                key_pair.secret_access_key,
                token,
                site.region,
                now,
            )
            urls.append(f"{site.origin}{path}?{signed}")
        return urls

    def presign_post(self, key: str, spec: PostSpec, source: AwsSource, send: SendRequest) -> Op[PresignedPost]:  # noqa: ARG002 - needs no request
        """A form with a signed policy, see `Dialect.presign_post`.

        A key that ends in ``${filename}`` leaves the rest of the name to the form, as S3 has it.
        """
        key_pair = yield from credential(source)
        site = self._site
        now = time.time() + self.clock_offset
        fields = {"key": self.list_strip + key, **spec.fields}

        def policy(signature: dict[str, str]) -> str:
            document = {
                "expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + spec.expires_s)),
                "conditions": [
                    {"bucket": self._settings.bucket},
                    *policy_conditions(fields, spec),
                    *exactly(signature),
                ],
            }
            return base64.b64encode(json.dumps(document, separators=(",", ":")).encode()).decode("ascii")

        signature = self._signer.sign_policy(
            policy, key_pair.access_key_id, key_pair.secret_access_key, key_pair.token, site.region, now
        )
        return {"url": site.origin + self._list_path, "fields": fields | signature}
