"""obstore._config.s3: from merged keys to settings."""

from typing import Any

import pytest

from obstore._config.keys import S3_KEYS
from obstore._config.s3 import CopyHeader, S3Config, S3Settings, parse_copy_if_not_exists
from obstore.exceptions import GenericError

PAIR = {"access_key_id": "AKID", "secret_access_key": "s3cr3t"}
ENV_PAIR = {"AWS_ACCESS_KEY_ID": "ENVID", "AWS_SECRET_ACCESS_KEY": "env-secret"}


def build(
    environ: dict[str, str] | None = None, provider: bool = False, bucket: str | None = "b", **kwargs: Any
) -> S3Settings:
    return S3Settings.build(S3_KEYS.merge(bucket, kwargs=kwargs, environ=environ or {}), credential_provider=provider)


def test_defaults() -> None:
    assert build() == S3Settings(bucket="b")
    settings = build()
    assert (settings.region, settings.region_given, settings.conditional_put) == ("us-east-1", False, "etag")
    assert (settings.endpoint, settings.copy_rule, settings.s3_express) == (None, None, False)


def test_every_key_of_the_public_type_is_known() -> None:
    for key in S3Config.__annotations__:
        S3_KEYS.canonical(key)


@pytest.mark.parametrize(
    ("key", "value", "attribute", "parsed"),
    [
        ("region", "eu-west-1", "region", "eu-west-1"),
        ("default_region", "eu-west-1", "region", "eu-west-1"),
        ("region", "", "region", "us-east-1"),
        ("endpoint", "http://h/", "endpoint", "http://h/"),
        ("endpoint_url", "http://h", "endpoint", "http://h"),
        ("aws_endpoint_url_s3", "http://h", "endpoint", "http://h"),
        ("virtual_hosted_style_request", True, "virtual_hosted_style", True),
        ("unsigned_payload", "on", "unsigned_payload", True),
        ("checksum_algorithm", "sha256", "checksum_algorithm", "SHA256"),
        ("checksum_algorithm", "Crc64NVME", "checksum_algorithm", "CRC64NVME"),
        ("skip_signature", True, "skip_signature", True),
        ("conditional_put", "disabled", "conditional_put", "disabled"),
        ("conditional_put", " etag", "conditional_put", "etag"),
        ("disable_tagging", True, "disable_tagging", True),
        ("disable_bulk_delete", True, "disable_bulk_delete", True),
        ("request_payer", "Requester", "request_payer", True),
        ("request_payer", True, "request_payer", True),
        ("request_payer", "off", "request_payer", False),
        ("server_side_encryption", "aws:kms:dsse", "server_side_encryption", "aws:kms:dsse"),
        ("sse_kms_key_id", "id", "sse_kms_key_id", "id"),
        ("sse_bucket_key_enabled", False, "sse_bucket_key_enabled", False),
        ("sts_endpoint", "http://sts", "endpoint_url_sts", "http://sts"),
        ("imdsv1_fallback", True, "imdsv1_fallback", True),
        ("metadata_endpoint", "http://m", "metadata_endpoint", "http://m"),
        ("container_credentials_relative_uri", "/x", "container_credentials_relative_uri", "/x"),
        ("container_credentials_full_uri", "http://x", "container_credentials_full_uri", "http://x"),
        ("container_authorization_token_file", "/f", "container_authorization_token_file", "/f"),
        ("web_identity_token_file", "/f", "web_identity_token_file", "/f"),
        ("role_arn", "arn", "role_arn", "arn"),
        ("role_session_name", "me", "role_session_name", "me"),
        ("profile", "dev", "profile", "dev"),
    ],
)
def test_value_is_read(key: str, value: Any, attribute: str, parsed: Any) -> None:
    assert getattr(build(**{key: value}), attribute) == parsed


def test_region_given() -> None:
    assert build(region="us-east-1").region_given
    elsewhere = build({"AWS_DEFAULT_REGION": "eu-west-1"})
    assert (elsewhere.region, elsewhere.region_known, elsewhere.region_given) == ("eu-west-1", True, False)
    assert build({"AWS_REGION": "a", "AWS_DEFAULT_REGION": "b"}).region == "a"
    assert build({"AWS_REGION": "a"}, region="c").region == "c"
    assert not build(region="").region_given


def test_endpoint_of_the_program_wins_over_any_of_the_environment() -> None:
    environ = {"AWS_ENDPOINT_URL_S3": "env-s3", "AWS_ENDPOINT_URL": "env"}
    assert build(environ).endpoint == "env-s3"
    assert build(environ, endpoint="program").endpoint == "program"
    assert build(environ, endpoint="program", aws_endpoint_url_s3="program-s3").endpoint == "program-s3"


def test_static_credentials() -> None:
    settings = build(session_token="t0k3n", **PAIR)
    assert (settings.access_key_id, settings.secret_access_key, settings.session_token) == ("AKID", "s3cr3t", "t0k3n")
    assert not settings.credentials_from_environment
    settings = build({**ENV_PAIR, "AWS_SESSION_TOKEN": "env-token"})
    assert (settings.access_key_id, settings.session_token) == ("ENVID", "env-token")
    assert settings.credentials_from_environment
    assert build(session_token="t0k3n").session_token is None


def test_token_of_the_environment_does_not_join_a_key_of_the_program() -> None:
    assert build({**ENV_PAIR, "AWS_SESSION_TOKEN": "env-token"}, **PAIR).session_token is None
    assert build({"AWS_SESSION_TOKEN": "env-token"}, session_token="own", **PAIR).session_token == "own"


def test_provider_makes_static_credentials_moot() -> None:
    settings = build(ENV_PAIR, provider=True, access_key_id="half")
    assert (settings.access_key_id, settings.secret_access_key, settings.credentials_from_environment) == (
        None,
        None,
        False,
    )


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"bucket": None}, "Generic S3 error: Missing bucket name"),
        ({"bucket": ""}, "Generic S3 error: Missing bucket name"),
        ({"bucket": "a/b"}, 'Generic S3 error: Invalid bucket name "a/b"; give the part after the slash as prefix='),
        ({"bucket": "a#b"}, 'Generic S3 error: Invalid bucket name "a#b"'),
        ({"bucket": "a\n"}, "Generic S3 error: Invalid bucket name"),
        ({"region": "a/b"}, 'Generic S3 error: Invalid region "a/b"'),
        ({"access_key_id": "x"}, "Generic S3 error: Missing SecretAccessKey"),
        ({"secret_access_key": "x"}, "Generic S3 error: Missing AccessKeyId"),
        ({"access_key_id": "x", "secret_access_key": "hunter2\n"}, "Generic S3 error: secret_access_key holds a control"),
        ({"session_token": "hunter2\r\n", **PAIR}, "Generic S3 error: session_token holds a control character"),
        ({"checksum_algorithm": "md5"}, 'Generic Config error: "md5" is not a valid checksum algorithm'),
        ({"conditional_put": "dynamo"}, 'Generic Config error: Failed to parse "dynamo" as S3PutConditional'),
        ({"conditional_put": ""}, 'Generic Config error: Failed to parse "" as S3PutConditional'),
        ({"copy_if_not_exists": "foo"}, 'Generic Config error: Failed to parse "foo" as S3CopyIfNotExists'),
        ({"request_payer": "requester_pays"}, 'Generic Config error: failed to parse "requester_pays" as boolean'),
        ({"server_side_encryption": "aes256"}, "Generic S3 error: Invalid encryption type: aes256."),
        ({"server_side_encryption": "sse-c"}, "Generic S3 error: Invalid encryption header values."),
        ({"server_side_encryption": "sse-c", "sse_customer_key_base64": "hunter2!"}, "Generic S3 error: Invalid encryption header"),
        ({"server_side_encryption": "sse-c", "sse_customer_key_base64": "\u00e9"}, "Generic S3 error: Invalid encryption header"),
        ({"sse_kms_key_id": "a\nb"}, "Generic S3 error: sse_kms_key_id holds a control character"),
        ({"s3_express": True}, "Generic S3 error: Invalid Zone suffix for bucket 'b'"),
        ({"sse_bucket_key_enabled": "x"}, 'Generic Config error: failed to parse "x" as boolean'),
    ],
)  # fmt: skip
def test_wrong_value_is_refused(kwargs: dict[str, Any], text: str) -> None:
    with pytest.raises(GenericError) as caught:
        build(**kwargs)
    assert str(caught.value).startswith(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("bucket", "zone"), [("b--use1-az4--x-s3", "use1-az4"), ("a--b--usw2-az1--x-s3", "usw2-az1"), ("b--use1-az4--xa-s3", "use1-az4")]
)  # fmt: skip
def test_express_zone_is_read_from_the_bucket(bucket: str, zone: str) -> None:
    settings = build(bucket=bucket, s3_express=True)
    assert (settings.express_zone, settings.s3_express) == (zone, True)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("multipart", "multipart"),
        (" multipart ", "multipart"),
        ("header:a:b", CopyHeader("a", "b", 412)),
        ("header: If-None-Match: *", CopyHeader("if-none-match", "*", 412)),
        ("header: x: a:b", CopyHeader("x", "a:b", 412)),
        ("header-with-status: x-y: v : 409", CopyHeader("x-y", "v", 409)),
        ("header-with-status:x:a:b:409", CopyHeader("x", "a:b", 409)),
    ],
)
def test_copy_if_not_exists(text: str, rule: Any) -> None:
    assert parse_copy_if_not_exists(text) == rule
    settings = build(copy_if_not_exists=text)
    assert (settings.copy_if_not_exists, settings.copy_rule) == (text, rule)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Multipart",
        "multipart:x",
        "header",
        "header:a",
        "header::b",
        "header:a:",
        "header:a b:c",
        "header:a:b\nc",
        "header-with-status:a:b",
        "header-with-status:a:b:x",
        "header-with-status:a:b:99",
        "header-with-status:a:b:600",
    ],
)
def test_copy_if_not_exists_refuses(text: str) -> None:
    with pytest.raises(GenericError, match="as S3CopyIfNotExists"):
        parse_copy_if_not_exists(text)


def test_repr_shows_no_secret() -> None:
    settings = build(
        session_token="t0k3n", server_side_encryption="sse-c", sse_customer_key_base64="aHVudGVyMg==", **PAIR
    )
    assert settings.sse_customer_key_base64 == "aHVudGVyMg=="
    for secret in ("AKID", "s3cr3t", "t0k3n", "aHVudGVyMg"):
        assert secret not in repr(settings)
