"""Signature Version 4 of many requests that differ in their path only.

Python prepares once what they share; the C core does the rest for each (csrc/ob_bulk.h).
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Sequence
from typing import NamedTuple

_ALGORITHM = "AWS4-HMAC-SHA256"


class SigningForm(NamedTuple):
    """What signing ``GET <path>`` needs beside the path.

    Attributes:
        canonical_tail: of the canonical request, from the end of the path on.
        scope_text: the text to sign, up to the hash of the canonical request.
        authorization: the header's value, up to the signature.
        key: the derived signing key.
    """

    canonical_tail: str
    scope_text: str
    authorization: str
    key: bytes

    def __repr__(self) -> str:
        return f"SigningForm({self.authorization.partition(' ')[0]})"


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
) -> tuple[list[tuple[str, str]], SigningForm]:
    """The headers to send, but authorization, and how each request is signed.

    Args:
        host: the host header as it is sent.
        headers: common to all requests, names in lower case; all of them are signed.
        payload_hash: of the empty body, or ``UNSIGNED-PAYLOAD``.
        access_key_id, secret_access_key, token: the credential.
        region: in the credential scope.
        now: seconds since the epoch, as the service's clock has it.
        service: in the credential scope.
    """
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(int(now)))
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    sent = [*headers, ("x-amz-date", date), ("x-amz-content-sha256", payload_hash)]
    if token is not None:
        sent.append(("x-amz-security-token", token))
    signed = sorted([("host", host), *((name, " ".join(value.split())) for name, value in sent)])
    names = ";".join(name for name, _ in signed)
    lines = "".join(f"{name}:{value}\n" for name, value in signed)
    key = f"AWS4{secret_access_key}".encode()
    for part in (date[:8], region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return sent, SigningForm(
        f"\n\n{lines}\n{names}\n{payload_hash}",
        f"{_ALGORITHM}\n{date}\n{scope}\n",
        f"{_ALGORITHM} Credential={access_key_id}/{scope}, SignedHeaders={names}, Signature=",
        key,
    )
