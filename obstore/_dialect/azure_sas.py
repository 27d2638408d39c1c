"""Shared access signatures: URLs that Azure lets others in with.

Sources: "Create a service SAS", "Create a user delegation SAS" and "Get User Delegation Key",
learn.microsoft.com/rest/api/storageservices.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from obstore import exceptions
from obstore._auth.azure import AccountKey, BearerToken, SasToken
from obstore._auth.cache import credential
from obstore._auth.shared_key import Hmac
from obstore._auth.sigv4 import encode_query, quote_key
from obstore._dialect import xml
from obstore._dialect.azure_request import AzureRequest
from obstore._dialect.base import SendRequest
from obstore._dialect.request import Header
from obstore._effects import Op
from obstore._types import PostSpec, PresignedPost, SignSpec

if TYPE_CHECKING:
    from obstore._config.azure import AzureSettings

__all__ = ["AzurePresigner"]

_SAS_VERSION = "2023-11-03"
_PERMISSIONS = {"GET": "r", "HEAD": "r", "PUT": "w", "DELETE": "d"}
_OVERRIDES = {
    "Cache-Control": "rscc",
    "Content-Disposition": "rscd",
    "Content-Encoding": "rsce",
    "Content-Language": "rscl",
    "Content-Type": "rsct",
}
# Parameters that the signature itself is made of.
_OWN_PARAMETERS = frozenset(
    [
        "sv",
        "st",
        "se",
        "sr",
        "sp",
        "si",
        "sip",
        "spr",
        "sig",
        "ses",
        "skoid",
        "sktid",
        "skt",
        "ske",
        "sks",
        "skv",
        "saoid",
        "suoid",
        "scid",
        "snapshot",
        "rscc",
        "rscd",
        "rsce",
        "rscl",
        "rsct",
    ]
)
# A key that signs for a user's token lives 7 days at most; ours is asked for once in a while.
_KEY_LIFE_SECONDS = 12 * 3600
_KEY_MAX_SECONDS = 7 * 24 * 3600
# The service's clock may be behind ours, and refuses what begins in its future.
_CLOCK_MARGIN_SECONDS = 300


class DelegationKey:
    """A key that signs for the identity behind a bearer token.

    Attributes:
        fields: skoid, sktid, skt, ske, sks, skv, in the order of the string to sign.
        hmac: signs.
        expires_at: seconds since the epoch.
    """

    __slots__ = ("expires_at", "fields", "hmac")

    def __init__(self, fields: Sequence[tuple[str, str]], hmac: Hmac, expires_at: float) -> None:
        self.fields = tuple(fields)
        self.hmac = hmac
        self.expires_at = expires_at


class AzurePresigner:
    """The part of `AzureDialect` that signs in advance."""

    name: str
    clock_offset: float
    endpoint: str
    list_strip: str
    _common: tuple[Header, ...]
    _object_path: str
    _settings: AzureSettings
    # Replaced as a whole; two threads that both fetch one do no harm.
    _delegation: DelegationKey | None = None

    def presign(self, keys: Sequence[str], spec: SignSpec, source: Any, send: SendRequest) -> Op[list[str]]:
        """URLs with a shared access signature, see `Dialect.presign`.

        With the account's key they are a service SAS; with a bearer token a user delegation SAS, for which a key is fetched.

        Raises:
            GenericError: the credential is a SAS itself, which signs nothing.
        """
        if self._settings.encryption_key is not None:
            raise exceptions.NotSupportedError.of(
                self.name,
                "Azure signed URLs cannot be used with customer-provided keys: the key must come in the request's headers",
            )
        permission = _PERMISSIONS.get(spec.method)
        if permission is None:
            raise exceptions.NotSupportedError.of(
                self.name, f"Azure has no signed URLs for {spec.method}, only for {', '.join(_PERMISSIONS)}"
            )
        if spec.headers:
            raise exceptions.NotSupportedError.of(
                self.name,
                "Azure's signed URLs cannot demand headers",
                hint="leave headers out, and have the sender set them: a PUT needs x-ms-blob-type: BlockBlob",
            )
        for name, _ in spec.query:
            if name.lower() in _OWN_PARAMETERS:
                raise ValueError(f"query: {name} belongs to the signature")
        return self._presign(keys, spec, permission, source, send)

    def _presign(
        self, keys: Sequence[str], spec: SignSpec, permission: str, source: Any, send: SendRequest
    ) -> Op[list[str]]:
        found = yield from credential(source)
        if type(found) is SasToken:
            raise exceptions.GenericError.of(
                self.name,
                "Generating SAS keys with SAS tokens auth is not supported",
                hint="sign with account_key, or with an identity of Microsoft Entra",
            )
        expires_at = time.time() + self.clock_offset + spec.expires_s
        signer: AccountKey | DelegationKey
        if type(found) is BearerToken:
            try:
                signer = yield from self._delegation_key(expires_at, found, send)
            except exceptions.UnauthenticatedError:
                if not source.renewable:
                    raise
                # The service calls the token expired, whatever its expiry says: once more with a fresh one.
                renewed = yield from credential(source, after=found)
                signer = yield from self._delegation_key(expires_at, renewed, send)
        else:
            signer = found
        urls = []
        for key in keys:
            path = self._object_path + quote_key(key)
            query = [*spec.query]
            if spec.version is not None:
                query.append(("versionid", spec.version))
            query += self.service_sas(path, permission, expires_at, signer, spec.overrides, spec.version)
            urls.append(f"{self.endpoint}{path}?{encode_query(query)}")
        return urls

    def presign_post(self, key: str, spec: PostSpec, source: Any, send: SendRequest) -> Op[PresignedPost]:
        """Raises NotSupportedError: Azure has no uploads by form."""
        del key, spec, source, send
        raise exceptions.NotSupportedError.of(
            self.name, "Azure has no uploads by form", hint='sign a URL for "PUT" instead'
        )

    def service_sas(
        self,
        path: str,
        permission: str,
        expires_at: float,
        signer: AccountKey | DelegationKey,
        overrides: dict[str, str] | None = None,
        version: str | None = None,
    ) -> list[tuple[str, str]]:
        """The parameters of a SAS for one object, the signature last.

        Args:
            path: of the object, percent-encoded as it is sent.
            permission: letters of ``sp``.
            expires_at: seconds since the epoch by the service's clock.
            signer: the account's key, or one that the service made for a user.
            overrides: headers that the answer shall have.
            version: of the object.
        """
        settings = self._settings
        # The resource is named without what the emulator has in its path.
        resource = f"/blob/{settings.account}{unquote(path.removeprefix(settings.base_path))}"
        expiry = _stamp(expires_at)
        kind = "b" if version is None else "bv"
        protocol = "https" if settings.origin.startswith("https:") else ""
        answers = [(name, (overrides or {}).get(header, "")) for header, name in _OVERRIDES.items()]
        named = signer.fields if isinstance(signer, DelegationKey) else ()
        lines = [permission, "", expiry, resource]
        if isinstance(signer, DelegationKey):
            lines += [value for _, value in named]
            lines += ["", "", ""]  # saoid, suoid, scid
        else:
            lines.append("")  # si
        lines += ["", protocol, _SAS_VERSION, kind, version or "", "", *(value for _, value in answers)]
        query = [("sv", _SAS_VERSION), ("se", expiry), ("sr", kind), ("sp", permission)]
        if protocol:
            query.append(("spr", protocol))
        query += named
        query += [pair for pair in answers if pair[1]]
        query.append(("sig", signer.hmac.sign("\n".join(lines))))
        return query

    def _delegation_key(self, expires_at: float, token: BearerToken, send: SendRequest) -> Op[DelegationKey]:
        """A key that outlives a signature until ``expires_at``."""
        kept = self._delegation
        if kept is not None and kept.expires_at >= expires_at:
            return kept
        now = time.time() + self.clock_offset
        if expires_at - now > _KEY_MAX_SECONDS:
            raise exceptions.GenericError.of(
                self.name,
                f"Expiration Time can't be longer than {_KEY_MAX_SECONDS} seconds (7 days) with a bearer token",
                hint="sign with account_key for longer",
            )
        until = min(max(now + _KEY_LIFE_SECONDS, expires_at), now + _KEY_MAX_SECONDS)
        start = _stamp(now - _CLOCK_MARGIN_SECONDS)
        body = (
            '<?xml version="1.0" encoding="utf-8"?>'
            f"<KeyInfo><Start>{start}</Start><Expiry>{_stamp(until)}</Expiry></KeyInfo>"
        )
        request = AzureRequest(
            "POST",
            f"{self._settings.base_path}/",
            "token",
            (("restype", "service"), ("comp", "userdelegationkey")),
            (*self._common, ("content-type", "application/xml")),
            key=None,
            body=(body.encode(),),
            credential=token,
        )
        response = yield from send(request)
        self._delegation = found = self._read_delegation_key(bytes(response.body()), until)
        return found

    def _read_delegation_key(self, body: bytes, until: float) -> DelegationKey:
        names = ("SignedOid", "SignedTid", "SignedStart", "SignedExpiry", "SignedService", "SignedVersion")
        try:
            document = xml.parse(body)
            values = [document.find(name) or "" for name in names]
            hmac = Hmac(document.find("Value") or "")
        except ValueError as error:
            raise exceptions.GenericError.of(self.name, f"Got invalid user delegation key: {error}") from None
        if not all(values):
            missing = names[values.index("")]
            raise exceptions.GenericError.of(self.name, f"Got invalid user delegation key: missing field `{missing}`")
        parameters = ("skoid", "sktid", "skt", "ske", "sks", "skv")
        return DelegationKey(list(zip(parameters, values, strict=True)), hmac, until)


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
