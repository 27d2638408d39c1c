"""Credentials of boto3: a session's own, or those of a role that it assumes. Needs ``boto3``.

`S3Store` finds by itself what a plain session would find; these are for sessions that a program has made in a special way.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import boto3.session
    import botocore.session

    from obstore.store import S3Credential

__all__ = ["Boto3CredentialProvider", "StsCredentialProvider"]

DEFAULT_TTL = timedelta(minutes=30)


class Boto3CredentialProvider:
    """The credentials of a boto3 or botocore session.

    Args:
        session: the session; a new ``boto3.Session()`` by default.
        ttl: how long the store uses credentials before it asks the session again; shorter where they end earlier.

    Attributes:
        config: the session's region, for stores that have none.

    Raises:
        ImportError: boto3 is not installed.
        ValueError: the session has no credentials.
    """

    config: dict[str, str]

    def __init__(
        self,
        session: boto3.session.Session | botocore.session.Session | None = None,
        *,
        ttl: timedelta = DEFAULT_TTL,
    ) -> None:
        self.config = {}
        if session is None:
            session = _new_session()
        if region := getattr(session, "region_name", None):  # sessions of botocore have none
            self.config["region"] = region
        credentials = session.get_credentials()
        if credentials is None:
            raise ValueError("Received None from session.get_credentials")
        self._credentials = credentials
        self._ttl = ttl

    def __call__(self) -> S3Credential:
        """The session's credentials, renewed by it where needed."""
        frozen = self._credentials.get_frozen_credentials()
        expires_at = datetime.now(UTC) + self._ttl
        end = getattr(self._credentials, "_expiry_time", None)
        if isinstance(end, datetime):
            expires_at = min(expires_at, end.astimezone(UTC))
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": expires_at,
        }


class StsCredentialProvider:
    """The credentials of a role that a boto3 session assumes.

    Args:
        session: the session; a new ``boto3.Session()`` by default.
        **kwargs: parameters of ``assume_role``: ``RoleArn``, ``RoleSessionName``, ``DurationSeconds`` ...

    Attributes:
        config: the session's region, for stores that have none.

    Raises:
        ImportError: boto3 is not installed.
    """

    config: dict[str, str]

    def __init__(self, session: boto3.session.Session | None = None, **kwargs: Any) -> None:
        if session is None:
            session = _new_session()
        self.config = {"region": session.region_name} if session.region_name else {}
        self._client = session.client("sts")
        self._parameters = kwargs

    def __call__(self) -> S3Credential:
        """The role's credentials, assumed anew."""
        keys = self._client.assume_role(**self._parameters)["Credentials"]
        expires_at = keys["Expiration"]
        if expires_at.utcoffset() is None:
            raise ValueError("assume_role gave an expiration without a time zone")
        return {
            "access_key_id": keys["AccessKeyId"],
            "secret_access_key": keys["SecretAccessKey"],
            "token": keys["SessionToken"],
            "expires_at": expires_at.astimezone(UTC),
        }


def _new_session() -> boto3.session.Session:
    try:
        import boto3
    except ImportError as error:
        raise ImportError("obstore.auth.boto3 needs boto3: pip install boto3") from error
    return boto3.Session()
