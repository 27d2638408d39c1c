"""obstore._config.keys: spellings, precedence, what is refused, what reads back."""

from datetime import timedelta
from typing import Any

import pytest

from obstore._config.keys import AZURE_KEYS, GCS_KEYS, S3_KEYS, KeyTable, MergedSettings
from obstore.exceptions import GenericError, UnknownConfigurationKeyError

TABLES = [S3_KEYS, GCS_KEYS, AZURE_KEYS]

# Canonical key, then every published spelling without prefix; the prefixed ones are derived.
S3_PUBLISHED = """
access_key_id; secret_access_key; session_token token; region; default_region; bucket bucket_name; endpoint endpoint_url;
virtual_hosted_style_request; s3_express; imdsv1_fallback; metadata_endpoint; unsigned_payload; checksum_algorithm;
container_credentials_relative_uri; container_credentials_full_uri; container_authorization_token_file;
web_identity_token_file; role_arn; role_session_name; endpoint_url_sts; skip_signature; copy_if_not_exists;
conditional_put; disable_tagging; disable_bulk_delete; request_payer; server_side_encryption; sse_kms_key_id;
sse_bucket_key_enabled; sse_customer_key_base64; allow_http; timeout
"""
GCS_PUBLISHED = """
service_account service_account_path; service_account_key; bucket bucket_name; base_url; application_credentials;
bearer_token; skip_signature; allow_http; timeout
"""
AZURE_PUBLISHED = """
account_name azure_storage_account_name;
account_key azure_storage_account_key azure_storage_access_key azure_storage_master_key access_key master_key;
client_id azure_storage_client_id azure_client_id; client_secret azure_storage_client_secret azure_client_secret;
tenant_id azure_storage_tenant_id azure_storage_authority_id azure_tenant_id azure_authority_id authority_id;
authority_host azure_storage_authority_host azure_authority_host;
sas_key azure_storage_sas_key azure_storage_sas_token sas_token; token azure_storage_token bearer_token;
use_emulator azure_storage_use_emulator; endpoint azure_storage_endpoint azure_endpoint;
use_fabric_endpoint azure_use_fabric_endpoint;
msi_endpoint azure_msi_endpoint azure_identity_endpoint identity_endpoint; object_id azure_object_id;
msi_resource_id azure_msi_resource_id; federated_token_file azure_federated_token_file;
use_azure_cli azure_use_azure_cli; skip_signature azure_skip_signature;
container_name azure_container_name container; disable_tagging azure_disable_tagging;
fabric_token_service_url azure_fabric_token_service_url; fabric_workload_host azure_fabric_workload_host;
fabric_session_token azure_fabric_session_token; fabric_cluster_identifier azure_fabric_cluster_identifier;
credential_type azure_credential_type; encryption_key azure_storage_encryption_key azure_encryption_key;
timeout azure_timeout
"""


def rows(table: KeyTable, published: str, *, prefixed: bool) -> list[Any]:
    pairs = []
    for row in published.split(";"):
        key, *others = row.split()
        for spelling in (key, *others):
            pairs.append((table, key, spelling))
            if prefixed:
                pairs.append((table, key, table.prefix + spelling))
    return pairs


SPELLINGS = [
    *rows(S3_KEYS, S3_PUBLISHED, prefixed=True),
    *rows(GCS_KEYS, GCS_PUBLISHED, prefixed=True),
    *rows(AZURE_KEYS, AZURE_PUBLISHED, prefixed=False),
    (S3_KEYS, "endpoint_url_s3", "aws_endpoint_url_s3"),
    (S3_KEYS, "endpoint_url_s3", "endpoint_url_s3"),
    (S3_KEYS, "endpoint_url_sts", "sts_endpoint"),
    (S3_KEYS, "endpoint_url_sts", "aws_sts_endpoint"),
]


def merge(identity: str | None = None, table: KeyTable = S3_KEYS, **arguments: Any) -> MergedSettings:
    arguments.setdefault("environ", {})
    return table.merge(identity, **arguments)


@pytest.mark.parametrize(("table", "key", "spelling"), SPELLINGS)
def test_every_spelling_is_known_in_any_case_and_in_the_environment(table: KeyTable, key: str, spelling: str) -> None:
    text = "5s" if key == "timeout" else "true"
    for given in (spelling, spelling.upper(), spelling.title()):
        assert merge(table=table, config={given: text}).public() == {key: text}
    if spelling.startswith(table.prefix):
        merged = merge(table=table, environ={spelling.upper(): text, spelling: "lower case is not looked at"})
        assert (merged.text(key), merged.public()) == (text, {})


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_whole(table: KeyTable) -> None:
    keys = set(table.spellings.values())
    assert keys == set(table.long_names)
    assert table.identity in keys
    assert table.booleans <= keys
    assert all(spelling == spelling.lower() for spelling in table.spellings)
    assert all(table.canonical(long) == key for key, long in table.long_names.items())


@pytest.mark.parametrize(
    ("table", "key", "shown"),
    [
        (S3_KEYS, "foo", "S3"),
        (S3_KEYS, "default_headers", "S3"),
        (S3_KEYS, "azure_timeout", "S3"),
        (GCS_KEYS, "aws_bucket", "GCS"),
        (AZURE_KEYS, "azure_account_name", "MicrosoftAzure"),
        (AZURE_KEYS, "azure_storage_container_name", "MicrosoftAzure"),
        (AZURE_KEYS, "azure_storage_timeout", "MicrosoftAzure"),
    ],
)
def test_unknown_key_is_refused_before_its_value(table: KeyTable, key: str, shown: str) -> None:
    with pytest.raises(UnknownConfigurationKeyError) as caught:
        merge(table=table, config={key: None})
    assert str(caught.value) == f"Configuration key: '{key}' is not valid for store '{shown}'."


@pytest.mark.parametrize(
    ("table", "arguments", "long"),
    [
        (S3_KEYS, {"identity": "b", "config": {"bucket": "b"}}, "aws_bucket"),
        (S3_KEYS, {"identity": "b", "kwargs": {"AWS_Bucket_Name": "b"}}, "aws_bucket"),
        (S3_KEYS, {"config": {"region": "a"}, "kwargs": {"region": "a"}}, "aws_region"),
        (S3_KEYS, {"kwargs": {"endpoint": "a", "endpoint_url": "b"}}, "aws_endpoint"),
        (S3_KEYS, {"kwargs": {"aws_timeout": "1s", "timeout": "1s"}}, "timeout"),
        (GCS_KEYS, {"kwargs": {"bucket": "b", "google_bucket": "b"}}, "google_bucket"),
        (AZURE_KEYS, {"identity": "c", "kwargs": {"container": "c"}}, "azure_container_name"),
        (AZURE_KEYS, {"kwargs": {"sas_key": "a", "sas_token": "a"}}, "azure_storage_sas_key"),
    ],
)
def test_key_given_twice_is_refused(table: KeyTable, arguments: dict[str, Any], long: str) -> None:
    with pytest.raises(GenericError) as caught:
        merge(table=table, **arguments)
    assert str(caught.value) == f"Duplicate key {long} provided"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"config": 5}, "config: 'int' object is not an instance of 'dict'"),
        ({"config": {5: "x"}}, "configuration key 5: 'int' object is not an instance of 'str'"),
        ({"kwargs": {"region": 5}}, "region: 'int' object is not an instance of 'str'"),
        ({"kwargs": {"region": None}}, "region: 'NoneType' object is not an instance of 'str'"),
        ({"kwargs": {"region": b"x"}}, "region: 'bytes' object"),
        ({"kwargs": {"timeout": timedelta(-1)}}, "timeout: a duration cannot be negative"),
        ({"identity": 5}, "bucket: 'int' object is not an instance of 'str'"),
        ({"provider": "x"}, "config of the credential provider: 'str' object"),
    ],
)
def test_wrong_type_is_refused_by_name(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError) as caught:
        merge(**arguments)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("arguments", "source"),
    [
        ({"kwargs": {"AWS_Skip_Signature": "x"}}, "AWS_Skip_Signature"),
        ({"environ": {"AWS_SKIP_SIGNATURE": "x"}}, "environment variable AWS_SKIP_SIGNATURE"),
        ({"provider": {"skip_signature": "x"}}, "skip_signature of the credential provider"),
    ],
)
def test_wrong_boolean_is_refused_by_its_source(arguments: dict[str, Any], source: str) -> None:
    with pytest.raises(GenericError) as caught:
        merge("b", **arguments)
    assert str(caught.value) == f'Generic Config error: failed to parse "x" as boolean ({source})'


def test_precedence_is_program_environment_provider() -> None:
    merged = merge(
        "from-program",
        provider={"bucket": "from-provider", "region": "from-provider", "endpoint": "from-provider"},
        environ={"AWS_BUCKET": "from-environment", "AWS_REGION": "from-environment", "AWS_NOT_A_KEY": "x", "PATH": "y"},
    )
    assert {key: merged.text(key) for key in merged.values} == {
        "bucket": "from-program",
        "region": "from-environment",
        "endpoint": "from-provider",
    }
    assert merged.public() == {"bucket": "from-program"}
    assert merged.environment["bucket"].text == "from-environment"
    assert merged.is_given("bucket")
    assert not merged.is_given("region")


def test_identity_may_be_the_environments() -> None:
    merged = merge(environ={"AWS_BUCKET_NAME": "b"})
    assert (merged.identity, merged.public()) == ("b", {})
    assert merge(table=AZURE_KEYS, environ={"AZURE_CONTAINER_NAME": "c"}).identity == "c"
    assert merge().identity is None


def test_empty_variable_counts_as_unset() -> None:
    merged = merge("b", environ={"AWS_REGION": "", "AWS_SKIP_SIGNATURE": ""})
    assert set(merged.values) == {"bucket"}


def test_first_spelling_wins_in_the_environment() -> None:
    for environ in (
        {"AWS_ENDPOINT": "a", "AWS_ENDPOINT_URL": "b"},
        {"AWS_ENDPOINT_URL": "b", "AWS_ENDPOINT": "a"},
    ):
        assert merge(environ=environ).text("endpoint") == "a"


def test_variables_without_prefix() -> None:
    assert merge(table=GCS_KEYS, environ={"SERVICE_ACCOUNT": "/f"}).text("service_account") == "/f"
    assert merge(table=AZURE_KEYS, environ={"IDENTITY_ENDPOINT": "u"}).text("msi_endpoint") == "u"


def test_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:x")
    assert S3_KEYS.merge("b").text("role_arn") == "arn:x"


def test_values_read_back_as_given() -> None:
    merged = merge(
        "b",
        config={"AWS_Skip_Signature": True, "imdsv1_fallback": "YES"},
        kwargs={"timeout": timedelta(seconds=90), "aws_allow_http": False, "aws_endpoint_url_s3": "http://h"},
    )
    assert merged.public() == {
        "skip_signature": "true",
        "imdsv1_fallback": "YES",
        "timeout": "1m 30s",
        "allow_http": "false",
        "endpoint_url_s3": "http://h",
        "bucket": "b",
    }
    assert merge(config=merged.public()).reads_like(merged)


def test_our_own_keys_stay_out_of_what_reads_back() -> None:
    merged = merge("b", kwargs={"profile": "dev", "max_connections": 4})
    assert merged.public() == {"bucket": "b"}
    assert merged.ours() == {"profile": "dev", "max_connections": "4"}
    assert merged.client(None).max_connections == 4
    assert merge("b", kwargs=merged.ours()).ours() == merged.ours()


def test_settings_read_alike_whatever_the_environment_says() -> None:
    merged = merge("b", kwargs={"skip_signature": True})
    assert merged.reads_like(merge("b", config={"aws_skip_signature": "true"}))
    assert not merged.reads_like(merge("b", kwargs={"skip_signature": "1"}))
    assert merge("b", environ={"AWS_REGION": "x"}).reads_like(merge("b"))
    assert not merge("b").reads_like(merge("b", table=GCS_KEYS))


def test_repr_shows_no_value() -> None:
    assert "hunter2" not in repr(merge("b", kwargs={"secret_access_key": "hunter2"}))


def test_client_options_precedence() -> None:
    merged = merge(
        "b",
        kwargs={"aws_timeout": "4s"},
        environ={"AWS_TIMEOUT": "1s", "AWS_READ_TIMEOUT": "1s", "AWS_CONNECT_TIMEOUT": "1s", "AWS_ALLOW_HTTP": "false"},
    )
    options = merged.client({"timeout": "3s", "read_timeout": "3s"}, defaults={"allow_http": "true"})
    assert (options.timeout_s, options.read_timeout_s, options.connect_timeout_s) == (4.0, 3.0, 1.0)
    assert options.allow_http is False
    assert options.published() == {"timeout": "3s", "read_timeout": "3s"}
    assert merge("b").client({"timeout": "3s"}, defaults={"allow_http": "true"}).allow_http is True


def test_wrong_client_key_is_refused_by_its_source() -> None:
    with pytest.raises(GenericError, match=r'"x" as Duration \(environment variable AWS_TIMEOUT\)'):
        merge("b", environ={"AWS_TIMEOUT": "x"}).client(None)


def test_url_fills_only_what_the_program_leaves_open() -> None:
    implied = {"bucket": "url", "region": "url", "virtual_hosted_style_request": "true"}
    config = S3_KEYS.with_url(implied, {"AWS_BUCKET_NAME": "config"}, {"aws_region": "kwarg"})
    assert config == {"AWS_BUCKET_NAME": "config", "virtual_hosted_style_request": "true"}
    assert S3_KEYS.with_url(implied, None, {}) == implied
    with pytest.raises(UnknownConfigurationKeyError):
        S3_KEYS.with_url(implied, {"foo": "x"}, {})
