"""Requests of Azure that are alike but for key and body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from obstore._auth.azure import AccountKey, BearerToken, SasToken
from obstore._auth.shared_key import http_date, string_to_sign
from obstore._auth.sigv4 import encode_query
from obstore._auth.sigv4_form import MARK_LENGTH, SigningForm
from obstore._dialect.bulk import RequestForm, is_clean
from obstore._dialect.request import Header
from obstore._types import PutSpec

if TYPE_CHECKING:
    from obstore._config.azure import AzureSettings

__all__ = ["AzureBulk"]


class AzureBulk:
    """The part of `AzureDialect` that makes forms."""

    clock_offset: float
    endpoint: str
    _settings: AzureSettings
    _object_path: str
    _read_headers: tuple[Header, ...]
    _customer_key: tuple[Header, ...]

    def _headers(self, extra: tuple[Header, ...]) -> tuple[Header, ...]:
        raise NotImplementedError

    def _describe(self, spec: PutSpec) -> list[Header]:
        raise NotImplementedError

    def _condition(self, spec: PutSpec, key: str) -> tuple[Header, ...]:
        raise NotImplementedError

    def read_form(self, credential: Any, now: float, *, verify: bool) -> RequestForm | None:  # noqa: ARG002 - the service sends what there is
        """What Get Blob of whole objects has in common, signed from ``now`` on; see `S3Bulk.read_form`."""
        return self._form("GET", self._read_headers, credential, now)

    def range_form(self, credential: Any, now: float) -> RequestForm | None:
        """The same for ranges, each with a header ``range``: that is signed by account keys, which therefore have none."""
        return None if type(credential) is AccountKey else self.read_form(credential, now, verify=False)

    def write_form(self, credential: Any, now: float, spec: PutSpec) -> RequestForm | None:
        """The same for Put Blob."""
        extra = (
            ("x-ms-blob-type", "BlockBlob"),
            *self._describe(spec),
            *self._customer_key,
            *self._condition(spec, ""),
        )
        return self._form("PUT", self._headers(extra), credential, now)

    def _form(self, method: str, headers: tuple[Header, ...], credential: Any, now: float) -> RequestForm | None:
        if not is_clean(value for _, value in headers):
            return None
        sent = [*headers, ("x-ms-date", http_date(now + self.clock_offset))]
        suffix, signing = "", None
        if type(credential) is AccountKey:
            account = self._settings.account
            before = string_to_sign(method, account, "", (), sent, 0)
            if method == "PUT":  # after the method, the content's encoding and its language
                lines = before.split("\n")
                lines[3] = MARK_LENGTH
                before = "\n".join(lines)
            authorization = f"SharedKey {account}:"
            signing = SigningForm("shared_key", before, "", "", authorization, credential.hmac.states())
        elif type(credential) is BearerToken:
            sent.append(("authorization", credential.header))
        elif type(credential) is SasToken:
            suffix = f"?{encode_query(credential.pairs)}"
        elif credential is not None:
            return None
        return RequestForm(method, self.endpoint, self._object_path, suffix, True, sent, signing)
