"""Settings of an S3 store."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Literal, NamedTuple, TypeAlias, TypedDict

from obstore._config.duration import CONTROL, Setting
from obstore._config.keys import MergedSettings
from obstore._config.record import repr_without
from obstore._config.s3_bucket import AccessPoint, zone_of
from obstore.exceptions import GenericError

__all__ = [
    "CopyHeader",
    "S3ChecksumAlgorithm",
    "S3Config",
    "S3EncryptionAlgorithm",
    "S3Regions",
    "S3Settings",
    "parse_copy_if_not_exists",
]

S3Regions: TypeAlias = Literal[
    "af-south-1",
    "ap-east-1",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-7",
    "ca-central-1",
    "ca-west-1",
    "cn-north-1",
    "cn-northwest-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-gov-east-1",
    "us-gov-west-1",
    "us-west-1",
    "us-west-2",
]
S3ChecksumAlgorithm: TypeAlias = Literal[
    "SHA256", "sha256", "CRC64NVME", "crc64nvme", "CRC32C", "crc32c", "CRC32", "crc32"
]
S3EncryptionAlgorithm: TypeAlias = Literal["AES256", "aws:kms", "aws:kms:dsse", "sse-c"]


class S3Config(TypedDict, total=False):
    """Configuration of an S3 store, as ``config=`` or keyword arguments. Every key is optional but the bucket.

    Each key may also carry the prefix ``aws_``, in any case; each is also read from the environment, as ``AWS_...``.

    Attributes:
        access_key_id: static key; comes with ``secret_access_key``.
        aws_endpoint_url_s3: endpoint that wins over ``endpoint``.
        bucket: its name, or the Amazon resource name of an access point.
        checksum_algorithm: checksum sent with objects and parts: SHA256, CRC64NVME, CRC32C or CRC32; none by default.
        conditional_put: ``etag`` (default), or ``disabled`` where the service has no conditional writes.
        container_authorization_token_file: file of the token for ``container_credentials_full_uri``.
        container_credentials_full_uri: where EKS pods get credentials.
        container_credentials_relative_uri: where ECS containers get credentials.
        copy_if_not_exists: how to copy without overwriting: ``multipart``, ``header: name: value`` or
            ``header-with-status: name: value: status``.
        default_region: used where ``region`` is unset.
        disable_bulk_delete: delete objects one by one; False by default.
        disable_s3_express_session_auth: sign requests to a directory bucket without a session; False by default.
        disable_tagging: ignore tags; False by default.
        endpoint: URL of an S3-compatible service.
        endpoint_url_sts: URL of the security token service. Also ``sts_endpoint``.
        imdsv1_fallback: ask the instance metadata service in its first version too; False by default.
        metadata_endpoint: URL of the instance metadata service.
        profile: of the AWS configuration files, for credentials, region and endpoint; also ``AWS_PROFILE``.
        region: of the bucket.
        request_payer: pay for requests to others' buckets: ``requester`` or a boolean; False by default.
        response_checksum_validation: ``when_supported`` (default) compares whole objects with the checksum that the service
            has of them; ``when_required`` does not.
        role_arn: role to assume with ``web_identity_token_file``.
        role_session_name: ``WebIdentitySession`` by default.
        s3_express: the bucket is a directory bucket; by default, its name tells.
        secret_access_key: static secret.
        server_side_encryption: how the service encrypts objects.
        session_token: of temporary static credentials.
        skip_signature: send requests without signature; False by default.
        sse_bucket_key_enabled: use the bucket's key with KMS.
        sse_customer_key_base64: key for ``sse-c``.
        sse_kms_key_id: key for ``aws:kms``.
        unsigned_payload: sign requests without their bodies; False by default.
        virtual_hosted_style_request: the bucket is in the host name (a custom endpoint already holds it); False by
            default.
        web_identity_token_file: file of an OpenID Connect token.
    """

    access_key_id: str
    aws_endpoint_url_s3: str
    bucket: str
    checksum_algorithm: S3ChecksumAlgorithm | str
    conditional_put: str
    container_authorization_token_file: str
    container_credentials_full_uri: str
    container_credentials_relative_uri: str
    copy_if_not_exists: Literal["multipart"] | str
    default_region: S3Regions | str
    disable_bulk_delete: bool
    disable_s3_express_session_auth: bool
    disable_tagging: bool
    endpoint: str
    endpoint_url_sts: str
    imdsv1_fallback: bool
    metadata_endpoint: str
    profile: str
    region: S3Regions | str
    request_payer: bool | Literal["requester", "REQUESTER"]
    response_checksum_validation: Literal["when_supported", "when_required"] | str
    role_arn: str
    role_session_name: str
    s3_express: bool
    secret_access_key: str
    server_side_encryption: S3EncryptionAlgorithm | str
    session_token: str
    skip_signature: bool
    sse_bucket_key_enabled: bool
    sse_customer_key_base64: str
    sse_kms_key_id: str
    sts_endpoint: str
    unsigned_payload: bool
    virtual_hosted_style_request: bool
    web_identity_token_file: str


class CopyHeader(NamedTuple):
    """A header, name in lower case, that makes a copy fail with ``status`` where the destination exists."""

    name: str
    value: str
    status: int


class S3Settings(NamedTuple):
    """`S3Config`, merged with the environment and checked. ``repr`` shows no secret.

    Attributes:
        region: ``us-east-1`` where nothing says otherwise.
        region_known: whether something does.
        region_given: whether the program itself does: then the bucket is not looked for elsewhere.
        endpoint: as given; None for Amazon's.
        checksum_algorithm: as S3 spells it.
        verify_downloads: whether to ask for the checksums of whole objects, and to compare.
        copy_if_not_exists: as given and known to parse, see `copy_rule`.
        access_point: what the bucket's Amazon resource name says, or None where it is a name.
        express_zone: zone of a directory bucket, or None.
        express_sessions: whether requests to a directory bucket are signed with the keys of a session.
        access_key_id: of static credentials; None where there are none.
        credentials_from_environment: whether the static credentials are the environment's.
        profile: section of the AWS configuration files to take credentials from.
    """

    bucket: str
    region: str = "us-east-1"
    region_known: bool = False
    region_given: bool = False
    endpoint: str | None = None
    virtual_hosted_style: bool = False
    unsigned_payload: bool = False
    checksum_algorithm: Literal["SHA256", "CRC64NVME", "CRC32C", "CRC32"] | None = None
    verify_downloads: bool = True
    skip_signature: bool = False
    copy_if_not_exists: str | None = None
    conditional_put: Literal["etag", "disabled"] = "etag"
    disable_tagging: bool = False
    disable_bulk_delete: bool = False
    request_payer: bool = False
    server_side_encryption: str | None = None
    sse_kms_key_id: str | None = None
    sse_bucket_key_enabled: bool | None = None
    sse_customer_key_base64: str | None = None
    access_point: AccessPoint | None = None
    express_zone: str | None = None
    express_sessions: bool = True
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    credentials_from_environment: bool = False
    profile: str | None = None
    endpoint_url_sts: str | None = None
    imdsv1_fallback: bool = False
    metadata_endpoint: str | None = None
    container_credentials_relative_uri: str | None = None
    container_credentials_full_uri: str | None = None
    container_authorization_token_file: str | None = None
    web_identity_token_file: str | None = None
    role_arn: str | None = None
    role_session_name: str | None = None

    def __repr__(self) -> str:
        return repr_without(self, "sse_customer_key_base64", "access_key_id", "secret_access_key", "session_token")

    @property
    def s3_express(self) -> bool:
        """Whether the bucket is a directory bucket."""
        return self.express_zone is not None

    @property
    def copy_rule(self) -> Literal["multipart"] | CopyHeader | None:
        """How to copy without overwriting."""
        return None if self.copy_if_not_exists is None else parse_copy_if_not_exists(self.copy_if_not_exists)

    @classmethod
    def build(
        cls,
        merged: MergedSettings,
        *,
        credential_provider: bool = False,
        configured_region: str | None = None,
        configured_endpoint: str | None = None,
    ) -> S3Settings:
        """Read the merged keys.

        Args:
            merged: of `obstore._config.keys.S3_KEYS`.
            credential_provider: whether the user gave one; static credentials are then not used.
            configured_region, configured_endpoint: what the command line's files say, for what is not set.

        Raises:
            GenericError: the bucket or half of the static credentials is missing, or a value is not understood.
        """
        bucket = merged.text("bucket")
        if not bucket:
            raise GenericError.of("S3", "Missing bucket name", hint="give it as S3Store(bucket=...) or AWS_BUCKET")
        access_point = AccessPoint.parse(bucket) if bucket.startswith("arn:") else None
        if access_point is not None:
            bucket = access_point.arn
        elif _NOT_IN_BUCKET.search(bucket):
            hint = "give the part after the slash as prefix=" if "/" in bucket else None
            raise GenericError.of("S3", f'Invalid bucket name "{bucket}"', hint=hint)
        endpoint = _endpoint(merged) or configured_endpoint
        given = any(key in merged.given and merged.given[key].text for key in ("region", "default_region"))
        region = merged.text("region") or merged.text("default_region") or configured_region
        if access_point is not None:
            region, given = access_point.region, True
        elif endpoint is not None and endpoint.rstrip("/").endswith(_R2) and not given:
            region = "auto"  # Cloudflare knows no other
        if region and not _REGION.fullmatch(region):
            raise GenericError.of("S3", f'Invalid region "{region}"')
        static = _Static(None, None, None) if credential_provider else _static_credentials(merged)
        sse_bucket_key = merged.values.get("sse_bucket_key_enabled")
        return cls(
            bucket=bucket,
            region=region or "us-east-1",
            region_known=bool(region),
            region_given=given,
            endpoint=endpoint,
            access_point=access_point,
            virtual_hosted_style=merged.flag("virtual_hosted_style_request"),
            unsigned_payload=merged.flag("unsigned_payload"),
            checksum_algorithm=_checksum(merged.text("checksum_algorithm")),
            verify_downloads=_verify(merged.text("response_checksum_validation")),
            skip_signature=merged.flag("skip_signature"),
            copy_if_not_exists=_copy_text(merged.text("copy_if_not_exists")),
            conditional_put=_conditional_put(merged.text("conditional_put")),
            disable_tagging=merged.flag("disable_tagging"),
            disable_bulk_delete=merged.flag("disable_bulk_delete"),
            request_payer=_request_payer(merged.values.get("request_payer")),
            server_side_encryption=_encryption(merged),
            sse_kms_key_id=_header_text(merged, "sse_kms_key_id"),
            sse_bucket_key_enabled=None if sse_bucket_key is None else sse_bucket_key.as_bool(),
            sse_customer_key_base64=merged.text("sse_customer_key_base64"),
            express_zone=_zone(bucket, merged, endpoint),
            express_sessions=not merged.flag("disable_s3_express_session_auth"),
            access_key_id=static.key_id,
            secret_access_key=static.secret,
            session_token=static.token,
            credentials_from_environment=static.key_id is not None and not merged.is_given("access_key_id"),
            profile=merged.text("profile"),
            endpoint_url_sts=merged.text("endpoint_url_sts"),
            imdsv1_fallback=merged.flag("imdsv1_fallback"),
            metadata_endpoint=merged.text("metadata_endpoint"),
            container_credentials_relative_uri=merged.text("container_credentials_relative_uri"),
            container_credentials_full_uri=merged.text("container_credentials_full_uri"),
            container_authorization_token_file=merged.text("container_authorization_token_file"),
            web_identity_token_file=merged.text("web_identity_token_file"),
            role_arn=merged.text("role_arn"),
            role_session_name=merged.text("role_session_name"),
        )


# A bucket becomes part of the URL, of the host even: what would end either is refused.
_NOT_IN_BUCKET = re.compile(r"[\x00-\x20\x7f/\\?#@]")
_REGION = re.compile(r"[A-Za-z0-9._-]+")
_R2 = ".r2.cloudflarestorage.com"
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_STATUS = re.compile(r"[1-5][0-9][0-9]")


class _Static(NamedTuple):
    key_id: str | None
    secret: str | None
    token: str | None


def _static_credentials(merged: MergedSettings) -> _Static:
    places = merged.given if merged.is_given("profile") else merged.values  # a profile wins over the environment's keys
    key_id, secret = (
        (places[key].text or None) if key in places else None for key in ("access_key_id", "secret_access_key")
    )
    if key_id is None and secret is None:
        return _Static(None, None, None)
    if key_id is None:
        raise GenericError.of("S3", "Missing AccessKeyId")
    if secret is None:
        raise GenericError.of("S3", "Missing SecretAccessKey")
    for key, text in (("access_key_id", key_id), ("secret_access_key", secret)):
        if CONTROL.search(text):
            raise GenericError.of("S3", f"{key} holds a control character", hint="is there a line break at its end?")
    token = _header_text(merged, "session_token")
    # A token belongs to the key it was issued with: one in the environment says nothing of a key in the program.
    if merged.is_given("access_key_id") and not merged.is_given("session_token"):
        token = None
    return _Static(key_id, secret, token)


def _header_text(merged: MergedSettings, key: str) -> str | None:
    """Text that is going to be a header's value; the message does not show it, it may be a secret."""
    text = merged.text(key)
    if text is not None and CONTROL.search(text):
        raise GenericError.of("S3", f"{key} holds a control character", hint="is there a line break at its end?")
    return text


def _endpoint(merged: MergedSettings) -> str | None:
    """The program's endpoint before the environment's; S3's own key before the general one."""
    for place in (merged.given, merged.values):
        for key in ("endpoint_url_s3", "endpoint"):
            if key in place and place[key].text:
                return place[key].text
    return None


def _checksum(text: str | None) -> Literal["SHA256", "CRC64NVME", "CRC32C", "CRC32"] | None:
    match text and text.lower():
        case None:
            return None
        case "sha256":
            return "SHA256"
        case "crc64nvme":
            return "CRC64NVME"
        case "crc32c":
            return "CRC32C"
        case "crc32":
            return "CRC32"
        case _:
            raise GenericError.of("Config", f'"{text}" is not a valid checksum algorithm')


def _verify(text: str | None) -> bool:
    """The setting of the AWS SDKs: compare where the service has a checksum, or only where it must be."""
    if text is not None and text.lower() not in ("when_supported", "when_required"):
        raise GenericError.of("Config", f'"{text}" is not when_supported or when_required')
    return text is None or text.lower() == "when_supported"


def _conditional_put(text: str | None) -> Literal["etag", "disabled"]:
    match text and text.strip():
        case None | "etag":
            return "etag"
        case "disabled":
            return "disabled"
        case _:
            raise GenericError.of("Config", f'Failed to parse "{text}" as S3PutConditional')


def _request_payer(setting: Setting | None) -> bool:
    return setting is not None and (setting.text.lower() == "requester" or setting.as_bool())


def _encryption(merged: MergedSettings) -> str | None:
    kind = merged.text("server_side_encryption")
    if kind is None or kind in ("AES256", "aws:kms", "aws:kms:dsse"):
        return kind
    if kind != "sse-c":
        valid = '"AES256", "aws:kms", "aws:kms:dsse" and "sse-c"'
        raise GenericError.of("S3", f"Invalid encryption type: {kind}. Valid values are {valid}.")
    key = merged.text("sse_customer_key_base64")
    problem = "Missing customer key"
    if key:
        try:
            base64.b64decode(key, validate=True)
        except (binascii.Error, ValueError):
            problem = "the key is not base64"
        else:
            return kind
    header = "x-amz-server-side-encryption-customer-key"
    raise GenericError.of("S3", f"Invalid encryption header values. Header: {header}, source: {problem}")


def _zone(bucket: str, merged: MergedSettings, endpoint: str | None) -> str | None:
    """The zone of a directory bucket; the name tells, unless the user does or another service is asked."""
    zone = zone_of(bucket)
    if not merged.flag("s3_express", default=zone is not None and endpoint is None):
        return None
    if zone is None:
        raise GenericError.of("S3", f"Invalid Zone suffix for bucket '{bucket}'")
    return zone


def _copy_text(text: str | None) -> str | None:
    if text is not None:
        parse_copy_if_not_exists(text)
    return text


def parse_copy_if_not_exists(text: str) -> Literal["multipart"] | CopyHeader:
    """Read ``multipart``, ``header: name: value`` or ``header-with-status: name: value: status``; spaces are free.

    Raises:
        GenericError: ``text`` is something else.
    """
    kind, _, rest = (part.strip() for part in text.partition(":"))
    if kind == "multipart" and not rest:
        return "multipart"
    status = "412"
    if kind == "header-with-status":
        rest, _, status = (part.strip() for part in rest.rpartition(":"))
    if kind in ("header", "header-with-status"):
        name, _, value = (part.strip() for part in rest.partition(":"))
        if _HEADER_NAME.fullmatch(name) and value and not CONTROL.search(value) and _STATUS.fullmatch(status):
            return CopyHeader(name.lower(), value, int(status))
    raise GenericError.of("Config", f'Failed to parse "{text}" as S3CopyIfNotExists')
