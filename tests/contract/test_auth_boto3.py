"""`obstore.auth.boto3`, used against moto, which verifies keys, tokens and signatures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import botocore.session
import pytest

import obstore as obs
from obstore.auth.boto3 import Boto3CredentialProvider, StsCredentialProvider
from obstore.store import S3Store
from tests.fix_stores import Face
from tests.servers.moto import Moto

ONCE = {"max_retries": 0}


def session_of(moto: Moto, **more: Any) -> boto3.Session:
    return boto3.Session(
        aws_access_key_id=moto.endpoint.access_key_id, aws_secret_access_key=moto.endpoint.secret_access_key, **more
    )


def store_of(moto: Moto, provider: Any) -> S3Store:
    return S3Store(
        moto.endpoint.create_bucket(),
        endpoint=moto.endpoint.url,
        credential_provider=provider,
        client_options={"allow_http": True},
        retry_config=ONCE,
    )


def test_session(moto_auth: Moto, face: Face) -> None:
    provider = Boto3CredentialProvider(session_of(moto_auth, region_name="eu-west-1"))
    assert provider.config == {"region": "eu-west-1"}
    store = store_of(moto_auth, provider)
    face.put(store, "k", b"1")
    assert face.body(face.get(store, "k")) == b"1"


def test_session_of_the_environment(moto_auth: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto_auth.endpoint.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto_auth.endpoint.secret_access_key)
    obs.put(store_of(moto_auth, Boto3CredentialProvider()), "k", b"1")
    obs.put(store_of(moto_auth, Boto3CredentialProvider(botocore.session.Session())), "k", b"1")


def test_role(moto_auth: Moto, face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto_auth.endpoint.url)
    session = session_of(moto_auth, region_name="eu-west-1")
    provider = StsCredentialProvider(
        session, RoleArn=moto_auth.role_arn, RoleSessionName="session", DurationSeconds=900
    )
    assert provider.config == {"region": "eu-west-1"}
    store = store_of(moto_auth, provider)
    face.put(store, "k", b"1")
    assert face.body(face.get(store, "k")) == b"1"
    given = provider()
    assert given["token"]
    assert given["expires_at"].utcoffset() == timedelta(0)


def test_ttl_ends_no_later_than_the_credentials() -> None:
    def provider_of(credentials: Any, **more: Any) -> Boto3CredentialProvider:
        session = botocore.session.Session()
        session._credentials = credentials
        return Boto3CredentialProvider(session, **more)

    end = datetime.now(UTC) + timedelta(minutes=20)
    ending = botocore.credentials.RefreshableCredentials("a", "s", "t", end, dict, "test")
    assert provider_of(ending)()["expires_at"] == end
    before = datetime.now(UTC)
    lasting = provider_of(botocore.credentials.Credentials("a", "s"), ttl=timedelta(minutes=7))
    assert lasting.config == {}
    assert before + timedelta(minutes=7) <= lasting()["expires_at"] <= datetime.now(UTC) + timedelta(minutes=7)


def test_session_without_credentials() -> None:
    with pytest.raises(ValueError, match=r"^Received None from session\.get_credentials$"):
        Boto3CredentialProvider(botocore.session.Session())
