"""Settings of a Google Cloud Storage store."""

from __future__ import annotations

import re
from typing import NamedTuple, TypedDict
from urllib.parse import urlsplit

from obstore._config.duration import CONTROL
from obstore._config.keys import MergedSettings
from obstore._config.record import repr_without
from obstore.exceptions import GenericError, redact_url

__all__ = ["GOOGLE_URL", "GCSConfig", "GCSSettings"]

GOOGLE_URL = "https://storage.googleapis.com"


class GCSConfig(TypedDict, total=False):
    """Configuration of a Google Cloud Storage store, as ``config=`` or keyword arguments.

    Every key is optional but the bucket. Each may also carry the prefix ``google_``, in any case; each is also read from the
    environment, as ``GOOGLE_...``.

    Attributes:
        application_credentials: file of credentials of any kind; also ``GOOGLE_APPLICATION_CREDENTIALS``.
        base_url: where the service is; ``https://storage.googleapis.com``, or ``STORAGE_EMULATOR_HOST``, by default.
        bearer_token: an OAuth 2.0 access token, used as it is.
        bucket: its name.
        hmac_access_id: access id of an HMAC key, for signed URLs. Ours, like the following, unknown to the Rust library.
        hmac_secret: its secret.
        iam_url: where the IAM Credentials API is, which signs URLs for accounts whose key is not at hand.
        impersonate_service_account: email of a service account to act as.
        service_account: path of a service account's key file. Also ``service_account_path`` and ``SERVICE_ACCOUNT``.
        service_account_email: who signs URLs through the IAM API, where the credentials do not say.
        service_account_key: the content of such a file.
        skip_signature: send requests without credentials; False by default.
        user_project: project that is billed for requests, such as those to a bucket whose requester pays.
        xml_multipart: whether large objects go up in parallel parts, by the XML API. By default at Google's own address;
            elsewhere they go up piece by piece, by the resumable uploads that emulators know.
    """

    application_credentials: str
    base_url: str
    bearer_token: str
    bucket: str
    hmac_access_id: str
    hmac_secret: str
    iam_url: str
    impersonate_service_account: str
    service_account: str
    service_account_email: str
    service_account_key: str
    skip_signature: bool
    user_project: str
    xml_multipart: bool


class GCSSettings(NamedTuple):
    """`GCSConfig`, merged with the environment and checked. ``repr`` shows no secret.

    Attributes:
        base_url: without a slash at its end; ``None``: where the service account's file says, else Google's.
        emulated: whether ``base_url`` is that of STORAGE_EMULATOR_HOST: an emulator, which wants no credentials.
        credentials_given: whether the program itself, not the environment, names credentials.
    """

    bucket: str
    base_url: str | None = None
    emulated: bool = False
    credentials_given: bool = False
    bearer_token: str | None = None
    skip_signature: bool = False
    service_account: str | None = None
    service_account_key: str | None = None
    application_credentials: str | None = None
    impersonate_service_account: str | None = None
    service_account_email: str | None = None
    hmac_access_id: str | None = None
    hmac_secret: str | None = None
    iam_url: str | None = None
    user_project: str | None = None
    xml_multipart: bool | None = None

    def __repr__(self) -> str:
        return repr_without(self, "bearer_token", "service_account_key", "hmac_secret")

    @classmethod
    def build(cls, merged: MergedSettings) -> GCSSettings:
        """Read the merged keys.

        Args:
            merged: of `obstore._config.keys.GCS_KEYS`.

        Raises:
            GenericError: the bucket is missing, or a value is not understood or goes against another.
        """
        bucket = merged.text("bucket")
        if not bucket:
            raise GenericError.of("GCS", "Missing bucket name", hint="give it as GCSStore(bucket=...) or GOOGLE_BUCKET")
        if _NOT_IN_BUCKET.search(bucket):
            hint = "give the part after the slash as prefix=" if "/" in bucket else None
            raise GenericError.of("GCS", f'Invalid bucket name "{bucket}"', hint=hint)
        path, key = _winner(merged, "service_account", "service_account_key")
        access_id, secret = merged.text("hmac_access_id") or None, merged.text("hmac_secret") or None
        if (access_id is None) != (secret is None):
            missing = "hmac_access_id" if access_id is None else "hmac_secret"
            raise GenericError.of("GCS", f"Missing {missing}: both halves of an HMAC key are needed")
        base_url, emulated = _base_url(merged)
        return cls(
            bucket=bucket,
            base_url=base_url,
            emulated=emulated,
            credentials_given=any(map(merged.is_given, _CREDENTIALS)),
            bearer_token=_header_text(merged, "bearer_token"),
            skip_signature=merged.flag("skip_signature"),
            service_account=path,
            service_account_key=key,
            application_credentials=merged.text("application_credentials") or None,
            impersonate_service_account=_header_text(merged, "impersonate_service_account"),
            service_account_email=_header_text(merged, "service_account_email"),
            hmac_access_id=access_id,
            hmac_secret=secret,
            iam_url=_url(merged.text("iam_url") or "", "iam_url"),
            user_project=_header_text(merged, "user_project"),
            xml_multipart=merged.flag("xml_multipart") if "xml_multipart" in merged.values else None,
        )


# A bucket becomes part of the URL: what would end it is refused.
_NOT_IN_BUCKET = re.compile(r"[\x00-\x20\x7f/\\?#@]")
_CREDENTIALS = ("bearer_token", "service_account", "service_account_key", "application_credentials")


def _winner(merged: MergedSettings, path: str, key: str) -> tuple[str | None, str | None]:
    """File and content of a service account's key: what the program says beats what the environment says."""
    for place in (merged.given, merged.values):
        found = [place[name].text or None if name in place else None for name in (path, key)]
        if all(found):
            raise GenericError.of("GCS", "service_account and service_account_key are both given", hint="give one")
        if any(found):
            return found[0], found[1]
    return None, None


def _base_url(merged: MergedSettings) -> tuple[str | None, bool]:
    url = merged.text("base_url")
    emulator = merged.text("emulator_host")
    emulated = not url and bool(emulator)
    if emulated and emulator:
        # As Google's own libraries read it: with or without a scheme.
        url = emulator if "://" in emulator else f"http://{emulator}"
    return _url(url or "", "STORAGE_EMULATOR_HOST" if emulated else "base_url"), emulated


def _url(url: str, name: str) -> str | None:
    """The address in a setting, without a slash at its end; ``None`` where it is empty."""
    if not url:
        return None
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise GenericError.of("GCS", f"{name} is no http or https URL: {redact_url(url)}")
    if parts.username is not None or parts.query or parts.fragment:
        raise GenericError.of("GCS", f"{name} must not hold a user name, a query or a fragment")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _header_text(merged: MergedSettings, key: str) -> str | None:
    """Text that is going to be a header's value; the message does not show it, it may be a secret."""
    text = merged.text(key) or None
    if text is not None and CONTROL.search(text):
        raise GenericError.of("GCS", f"{key} holds a control character", hint="is there a line break at its end?")
    return text
