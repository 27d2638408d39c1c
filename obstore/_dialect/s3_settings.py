"""What the S3 dialect makes of its settings once: where requests go, which headers they all carry."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from obstore import exceptions
from obstore._auth.sigv4 import quote_key
from obstore._config.s3_bucket import domain_of
from obstore._dialect.s3_request import Header, Site

if TYPE_CHECKING:
    from obstore._config.s3 import S3Settings

__all__ = ["COPY_SSE", "SSE", "encryption", "place"]

SSE = "x-amz-server-side-encryption"
COPY_SSE = "x-amz-copy-source-server-side-encryption"


def place(settings: S3Settings, region: str) -> tuple[Site, str]:
    """Where the bucket is reached in ``region``, and the path, without trailing slash, that its keys follow."""
    if settings.endpoint is not None:
        origin, path = _split_endpoint(settings.endpoint)
        base = (
            path
            if settings.virtual_hosted_style or settings.access_point is not None
            else f"{path}/{quote_key(settings.bucket)}"
        )
    else:
        domain = domain_of(region)
        if settings.access_point is not None:
            origin, base = f"https://{settings.access_point.host}", ""
        elif settings.express_zone is not None:
            origin, base = f"https://{settings.bucket}.s3express-{settings.express_zone}.{region}.{domain}", ""
        elif settings.virtual_hosted_style:
            origin, base = f"https://{settings.bucket}.s3.{region}.{domain}", ""
        else:
            origin, base = f"https://s3.{region}.{domain}", f"/{quote_key(settings.bucket)}"
    return Site(origin, _host_header(origin), region), base


def _split_endpoint(endpoint: str) -> tuple[str, str]:
    """``scheme://host[:port]`` and the path without trailing slashes."""
    scheme, separator, rest = endpoint.strip().partition("://")
    authority, slash, path = rest.partition("/")
    if not separator or not authority or scheme.lower() not in ("http", "https"):
        raise exceptions.GenericError.of("S3", f"endpoint is no http or https URL: {exceptions.redact_url(endpoint)}")
    if "@" in authority or "?" in rest or "#" in rest:
        raise exceptions.GenericError.of("S3", "endpoint must not hold a user name, a query or a fragment")
    return f"{scheme.lower()}://{authority.lower()}", (slash + path).rstrip("/")


def _host_header(origin: str) -> str:
    scheme, _, authority = origin.partition("://")
    return authority.removesuffix(":443" if scheme == "https" else ":80")


def encryption(settings: S3Settings) -> tuple[tuple[Header, ...], tuple[Header, ...]]:
    """Headers of requests that make objects, and of those that touch the bytes of an object (SSE-C only)."""
    kind = settings.server_side_encryption
    if kind is None:
        return (), ()
    if kind == "sse-c":
        secret = base64.b64decode(settings.sse_customer_key_base64 or "")
        from hashlib import md5  # it loads OpenSSL, and few ask for it

        digest = md5(secret, usedforsecurity=False).digest()
        customer = (
            (f"{SSE}-customer-algorithm", "AES256"),
            (f"{SSE}-customer-key", base64.b64encode(secret).decode("ascii")),
            (f"{SSE}-customer-key-md5", base64.b64encode(digest).decode("ascii")),
        )
        return customer, customer
    headers = [(SSE, kind)]
    if settings.sse_kms_key_id is not None:
        headers.append((f"{SSE}-aws-kms-key-id", settings.sse_kms_key_id))
    if settings.sse_bucket_key_enabled is not None:
        headers.append((f"{SSE}-bucket-key-enabled", "true" if settings.sse_bucket_key_enabled else "false"))
    return tuple(headers), ()
