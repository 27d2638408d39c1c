"""Signatures of many requests that differ in their path, and in their body, only.

Python prepares once what they share; the C core does the rest for each (csrc/ob_form.h).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

from obstore._auth.sigv4 import signing_key

# Stand for what differs: SHA-256 of the body, its checksum, its length, the object's key.
MARK_HASH, MARK_CHECK, MARK_LENGTH, MARK_KEY = "\x01\x02\x03\x04"

_ALGORITHM = "AWS4-HMAC-SHA256"


class SigningForm(NamedTuple):
    """What signing a request needs beside its path and its body.

    Attributes:
        kind: how.
        before, after: of what is signed, up to the path and behind it.
        scope_text: ``sigv4``: the text to sign, up to the hash of the canonical request.
        authorization: the header's value, up to the signature.
        key: ``sigv4``: the derived signing key; ``shared_key``: the states of the HMAC.
    """

    kind: Literal["sigv4", "shared_key"]
    before: str
    after: str
    scope_text: str
    authorization: str
    key: bytes

    def __repr__(self) -> str:
        return f"SigningForm({self.kind!r})"


def signing_form(
    host: str,
    headers: Sequence[tuple[str, str]],
    payload_hash: str,
    access_key_id: str,
    secret_access_key: str,
    token: str | None,
    region: str,
    now: float,
    service: str = "s3",
    method: str = "GET",
) -> tuple[list[tuple[str, str]], SigningForm]:
    """The headers to send, but authorization, and how each request is signed.

    Args:
        host: the host header as it is sent.
        headers: common to all requests, names in lower case; all of them are signed. Values may be marks.
        payload_hash: of the empty body, ``UNSIGNED-PAYLOAD``, or `MARK_HASH`.
        access_key_id, secret_access_key, token: the credential.
        region: in the credential scope.
        now: seconds since the epoch, as the service's clock has it.
        service: in the credential scope.
        method: of the requests.
    """
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(int(now)))
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    sent = [*headers, ("x-amz-date", date), ("x-amz-content-sha256", payload_hash)]
    if token is not None:
        sent.append(("x-amz-security-token", token))
    signed = sorted([("host", host), *((name, " ".join(value.split())) for name, value in sent)])
    names = ";".join(name for name, _ in signed)
    lines = "".join(f"{name}:{value}\n" for name, value in signed)
    key = signing_key(secret_access_key, date[:8], region, service)
    return sent, SigningForm(
        "sigv4",
        f"{method}\n",
        f"\n\n{lines}\n{names}\n{payload_hash}",
        f"{_ALGORITHM}\n{date}\n{scope}\n",
        f"{_ALGORITHM} Credential={access_key_id}/{scope}, SignedHeaders={names}, Signature=",
        key,
    )
