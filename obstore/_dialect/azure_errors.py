"""Azure's error codes: what they mean for a request, and what a person can do about them.

Source: "Common REST API error codes" and "Blob Storage error codes", learn.microsoft.com/rest/api/storageservices.
"""

from __future__ import annotations

import re

from obstore._dialect import errors
from obstore._effects import Response

__all__ = [
    "CONFLICTS",
    "EXISTS_CODES",
    "EXPIRED_CODES",
    "THROTTLE_CODES",
    "hint_of_code",
    "is_transient",
    "read_error",
]

THROTTLE_CODES = frozenset({"ServerBusy", "TooManyRequests", "AccountIOPSLimitExceeded"}) | errors.THROTTLE_CODES
RETRY_CODES = frozenset({"InternalError", "OperationTimedOut"}) | errors.RETRY_CODES
# A bearer token that has run out, or is none.
EXPIRED_CODES = frozenset({"InvalidAuthenticationInfo", "ExpiredAuthenticationToken"})
EXISTS_CODES = frozenset({"BlobAlreadyExists", "PathAlreadyExists", "ResourceAlreadyExists"})
# 409 for other reasons than that the object exists.
CONFLICTS = frozenset(
    {
        "AccountBeingCreated",
        "BlobAccessTierNotSupportedForAccountType",
        "BlobArchived",
        "BlobBeingRehydrated",
        "BlobImmutableDueToPolicy",
        "BlobNotArchived",
        "BlobUsesCustomerSpecifiedEncryption",
        "ContainerBeingDeleted",
        "ContainerDisabled",
        "InvalidBlobType",
        "LeaseAlreadyPresent",
        "NoPendingCopyOperation",
        "OperationNotAllowedOnIncrementalCopyBlob",
        "PendingCopyOperation",
        "PublicAccessNotPermitted",
        "SnapshotsPresent",
        "SystemInUse",
    }
)
_TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
# Every message ends with this; the request has an attribute of its own.
_TRAILER = re.compile(r"\s*RequestId:\S+(?:\s+Time:\S+)?\s*$")

_HINTS = {
    "AccountIsDisabled": "the storage account is disabled",
    "AuthenticationFailed": "check account_name and account_key (or the SAS, its start and end), and this machine's clock",
    "AuthorizationFailure": "the account's firewall or network rules may keep this machine out; else check account_key",
    "AuthorizationPermissionMismatch": "the identity needs a role for data, such as Storage Blob Data Contributor; a SAS "
    "needs the permission in sp",
    "AuthorizationProtocolMismatch": "the SAS allows https only",
    "AuthorizationResourceTypeMismatch": "the SAS is not for objects: srt needs o, for listings c",
    "AuthorizationServiceMismatch": "the SAS is not for the Blob service: ss needs b",
    "AuthorizationSourceIPMismatch": "the SAS is for another address than this machine's",
    "BlobArchived": "the object is archived: rehydrate it first",
    "BlobImmutableDueToPolicy": "an immutability policy or legal hold protects the object",
    "BlobUsesCustomerSpecifiedEncryption": "the object is encrypted with a customer's key: set encryption_key to it",
    "ContainerBeingDeleted": "a container of this name is being deleted: try again in a minute",
    "ContainerNotFound": "check container_name and account_name",
    "InvalidBlockList": "a block of the upload is missing; two uploads of the same object may have met",
    "InvalidMetadata": "names of metadata on Azure consist of letters, digits and underscores",
    "KeyBasedAuthenticationNotPermitted": "the account takes no keys: use a token or an identity of Microsoft Entra",
    "LeaseIdMissing": "someone holds a lease on the object",
    "NoAuthenticationInformation": "the request was anonymous: give credentials, or check that the container is public",
    "PublicAccessNotPermitted": "the account has no public containers: give credentials",
    "ServerBusy": "lower the number of parallel requests; the account has reached its limits",
    "SnapshotsPresent": "the object has snapshots: delete them first",
    "UnauthorizedBlobOverwrite": "these credentials may create objects but not overwrite them",
}


def read_error(response: Response, body: bytes) -> errors.ServiceError:
    """Read an error body; the code is in a header too, and only there for HEAD."""
    found = errors.read_error(response, body, request_id_header="x-ms-request-id", host_id_header="", region_header="")
    found.code = errors.read_code(response.header("x-ms-error-code")) or found.code
    found.message = _TRAILER.sub("", found.message)
    return found


def is_transient(error: errors.ServiceError) -> bool:
    """Whether it may go well next time."""
    return error.code in THROTTLE_CODES or error.code in RETRY_CODES or error.status in _TRANSIENT_STATUSES


def hint_of_code(code: str | None) -> str | None:
    """What to do about a refusal, to go by its code alone."""
    return _HINTS.get(code or "")
