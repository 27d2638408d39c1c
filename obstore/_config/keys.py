"""Configuration keys of the cloud stores: their many spellings, and the places that values come from.

A store's settings are merged from, later wins:

1. environment variables,
2. defaults that a credential provider suggests, for keys that are still unset,
3. the ``config`` dict, keyword arguments and the positional bucket or container: together one set, in which no key may
   occur twice under whatever spelling.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from obstore._config.client import CLIENT_KEYS, OUR_CLIENT_KEYS, ClientOptions, our_setting
from obstore._config.duration import Setting
from obstore._config.record import repr_without
from obstore.exceptions import GenericError, UnknownConfigurationKeyError

__all__ = ["AZURE_KEYS", "GCS_KEYS", "S3_KEYS", "KeyTable", "MergedSettings"]


class KeyTable(NamedTuple):
    """The keys of one kind of store.

    Attributes:
        store: its name in messages.
        identity: key of the bucket or container.
        prefix: of environment variables, in lower case; client keys are known with and without it.
        spellings: every accepted spelling, in lower case -> canonical key.
        long_names: canonical key -> the long spelling that messages show.
        booleans: canonical keys whose values are booleans.
        ours: canonical keys that the Rust library does not know, and that are therefore never read back.
        variables: environment variables without the prefix -> canonical key.
    """

    store: str
    identity: str
    prefix: str
    spellings: Mapping[str, str]
    long_names: Mapping[str, str]
    booleans: frozenset[str]
    ours: frozenset[str] = frozenset()
    variables: Mapping[str, str] = {}

    def canonical(self, key: Any) -> str:
        """The canonical key of any spelling, in any case.

        Raises:
            TypeError: ``key`` is no str.
            UnknownConfigurationKeyError: the store has no such key.
        """
        if not isinstance(key, str):
            raise TypeError(f"configuration key {key!r}: '{type(key).__name__}' object is not an instance of 'str'")
        name = self._lookup(key.lower())
        if name is None:
            raise UnknownConfigurationKeyError.of(key, self.store)
        return name

    def _lookup(self, spelling: str) -> str | None:
        if (name := self.spellings.get(spelling)) is not None:
            return name
        bare = spelling.removeprefix(self.prefix)
        return bare if bare in CLIENT_KEYS else None

    def merge(
        self,
        identity: Any = None,
        *,
        config: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        provider: Any = None,
        environ: Mapping[str, str] | None = None,
    ) -> MergedSettings:
        """Bring the values from all places together and check their spelling, types and booleans.

        Args:
            identity: the positional bucket or container, or None.
            config: the user's ``config``, a dict or None.
            kwargs: keyword arguments that are configuration keys.
            provider: the ``config`` attribute of a credential provider, a dict or None.
            environ: environment variables; None for those of the process.

        Raises:
            TypeError: a key or value is of the wrong type.
            UnknownConfigurationKeyError: a key is unknown. Unknown environment variables are ignored.
            GenericError: a key occurs twice, or a text is no boolean where one belongs.
        """
        given: dict[str, Setting] = {}
        for key, value in self._pairs(identity, config, kwargs or {}):
            name = self.canonical(key)
            if name in given:
                raise GenericError(f"Duplicate key {self.long_names.get(name, name)} provided")
            given[name] = self._setting(name, value, key)
        suggested = {
            (name := self.canonical(key)): self._setting(name, value, f"{key} of the credential provider")
            for key, value in _mapping(provider, "config of the credential provider").items()
        }
        environment = dict(self._scan(os.environ if environ is None else environ))
        merged = MergedSettings(self, given, {**suggested, **environment, **given}, environment)
        for name in self.booleans & merged.values.keys():
            merged.values[name].as_bool()
        return merged

    def with_url(self, implied: Mapping[str, str], config: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """``config`` plus what a URL says of keys that neither ``config`` nor ``kwargs`` has under any spelling."""
        own = _mapping(config, "config")
        taken = {self.canonical(key) for key in (*own, *kwargs)}
        return {**{key: value for key, value in implied.items() if self.canonical(key) not in taken}, **own}

    def _pairs(self, identity: Any, config: Any, kwargs: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
        yield from _mapping(config, "config").items()
        yield from kwargs.items()
        if identity is not None:
            yield self.identity, identity

    def _setting(self, name: str, value: Any, source: str) -> Setting:
        return our_setting(value, source) if name in self.ours else Setting.of(value, source)

    def _scan(self, environ: Mapping[str, str]) -> Iterator[tuple[str, Setting]]:
        """Known variables. An empty one counts as unset: that is how shells and containers unset them.

        In the order of the table, so that of two spellings the first wins on every machine.
        """
        found: set[str] = set()
        upper = self.prefix.upper()
        candidates = [(key, name.upper()) for name, key in self.spellings.items() if name.startswith(self.prefix)]
        candidates += [(self.variables[name], name) for name in self.variables]
        candidates += [(key, upper + key.upper()) for key in sorted(CLIENT_KEYS)]
        for key, variable in candidates:
            text = environ.get(variable)
            if text and key not in found:
                found.add(key)
                yield key, Setting(text, f"environment variable {variable}")


class MergedSettings(NamedTuple):
    """The settings of one store, by canonical key.

    Attributes:
        table: the keys of its kind of store.
        given: what the user wrote in the program.
        values: all in effect, wherever they are from.
        environment: what environment variables say, in effect or not.
    """

    table: KeyTable
    given: Mapping[str, Setting]
    values: Mapping[str, Setting]
    environment: Mapping[str, Setting]

    def __repr__(self) -> str:
        return repr_without(self, "given", "values", "environment")

    def text(self, key: str) -> str | None:
        """The value in effect."""
        setting = self.values.get(key)
        return None if setting is None else setting.text

    def flag(self, key: str, default: bool = False) -> bool:
        """The boolean in effect."""
        setting = self.values.get(key)
        return default if setting is None else setting.as_bool()

    def is_given(self, key: str) -> bool:
        """Whether the program itself, not the environment or a provider, set the key."""
        return key in self.given

    def without_environment(self, *keys: str) -> MergedSettings:
        """The same, but for what the environment says of ``keys``."""
        values = {key: value for key, value in self.values.items() if key not in keys or key in self.given}
        return self._replace(values=values)

    @property
    def identity(self) -> str | None:
        """The bucket or container in effect: what ``repr`` shows."""
        return self.text(self.table.identity)

    def public(self) -> dict[str, str]:
        """For ``store.config``: values as given by the program, under keys that any store of its kind accepts."""
        return {key: setting.text for key, setting in self.given.items() if key not in self.table.ours}

    def ours(self) -> dict[str, str]:
        """The program's values of keys that `public` leaves out; pickling keeps them."""
        return {key: setting.text for key, setting in self.given.items() if key in self.table.ours}

    def client(self, options: Any, *, defaults: Mapping[str, str] | None = None) -> ClientOptions:
        """The client options in effect.

        ``client_options`` win over the environment, client keys in the configuration win over both.

        Args:
            options: the user's ``client_options``.
            defaults: the provider's, overridden by everything.
        """
        under = {key: Setting(text, f"default {key}") for key, text in (defaults or {}).items()}
        under |= {key: setting for key, setting in self.values.items() if key in CLIENT_KEYS}
        over = {key: setting for key, setting in self.given.items() if key in CLIENT_KEYS}
        return ClientOptions.parse(options, under=under, over=over)

    def reads_like(self, other: MergedSettings) -> bool:
        """Whether both read back alike."""
        if self.table.store != other.table.store or self.public() != other.public():
            return False
        own, others = ({k: v for k, v in each.ours().items() if k not in OUR_CLIENT_KEYS} for each in (self, other))
        return own == others


def _mapping(value: Any, name: str) -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(f"{name}: '{type(value).__name__}' object is not an instance of 'dict'")
    return value


# ---- the tables -------------------------------------------------------------------------------------------


def _table(
    store: str,
    identity: str,
    prefix: str,
    rows: str,
    *,
    booleans: str,
    ours: str = "",
    bare: bool = True,
    variables: Mapping[str, str] | None = None,
) -> KeyTable:
    """Build a table of one row a key: its canonical name, the long name, then other spellings.

    With ``bare``, every spelling is known with and without the prefix.
    """
    spellings: dict[str, str] = {}
    long_names: dict[str, str] = {}
    for row in rows.strip().splitlines():
        key, long, *others = row.split()
        long_names[key] = long
        for spelling in (long, key, *others):
            spellings[spelling] = key
            if bare:
                spellings[spelling.removeprefix(prefix)] = key
                spellings[prefix + spelling.removeprefix(prefix)] = key
    our_keys = frozenset(ours.split())
    return KeyTable(
        store,
        identity,
        prefix,
        spellings,
        long_names,
        frozenset(booleans.split()),
        our_keys | OUR_CLIENT_KEYS,
        variables or {},
    )


S3_KEYS = _table(
    "S3",
    "bucket",
    "aws_",
    """
    access_key_id aws_access_key_id
    secret_access_key aws_secret_access_key
    session_token aws_session_token aws_token
    region aws_region
    default_region aws_default_region
    bucket aws_bucket aws_bucket_name
    endpoint aws_endpoint aws_endpoint_url
    endpoint_url_s3 aws_endpoint_url_s3
    endpoint_url_sts aws_endpoint_url_sts aws_sts_endpoint
    virtual_hosted_style_request aws_virtual_hosted_style_request
    s3_express aws_s3_express
    imdsv1_fallback aws_imdsv1_fallback
    metadata_endpoint aws_metadata_endpoint
    unsigned_payload aws_unsigned_payload
    checksum_algorithm aws_checksum_algorithm
    container_credentials_relative_uri aws_container_credentials_relative_uri
    container_credentials_full_uri aws_container_credentials_full_uri
    container_authorization_token_file aws_container_authorization_token_file
    web_identity_token_file aws_web_identity_token_file
    role_arn aws_role_arn
    role_session_name aws_role_session_name
    skip_signature aws_skip_signature
    copy_if_not_exists aws_copy_if_not_exists
    conditional_put aws_conditional_put
    disable_tagging aws_disable_tagging
    disable_bulk_delete aws_disable_bulk_delete
    request_payer aws_request_payer
    server_side_encryption aws_server_side_encryption
    sse_kms_key_id aws_sse_kms_key_id
    sse_bucket_key_enabled aws_sse_bucket_key_enabled
    sse_customer_key_base64 aws_sse_customer_key_base64
    profile aws_profile aws_default_profile
    disable_s3_express_session_auth aws_disable_s3_express_session_auth aws_s3_disable_express_session_auth
    response_checksum_validation aws_response_checksum_validation
    """,
    booleans="virtual_hosted_style_request s3_express imdsv1_fallback unsigned_payload skip_signature disable_tagging "
    "disable_bulk_delete sse_bucket_key_enabled disable_s3_express_session_auth",
    ours="profile response_checksum_validation disable_s3_express_session_auth",
)

GCS_KEYS = _table(
    "GCS",
    "bucket",
    "google_",
    """
    service_account google_service_account google_service_account_path
    service_account_key google_service_account_key
    bucket google_bucket google_bucket_name
    base_url google_base_url
    application_credentials google_application_credentials
    bearer_token google_bearer_token
    skip_signature google_skip_signature
    user_project google_user_project
    impersonate_service_account google_impersonate_service_account
    service_account_email google_service_account_email
    hmac_access_id google_hmac_access_id
    hmac_secret google_hmac_secret
    xml_multipart google_xml_multipart
    iam_url google_iam_url
    """,
    booleans="skip_signature xml_multipart",
    ours="user_project impersonate_service_account service_account_email hmac_access_id hmac_secret xml_multipart "
    "iam_url",
    variables={"SERVICE_ACCOUNT": "service_account", "STORAGE_EMULATOR_HOST": "emulator_host"},
)

# Azure's spellings follow no rule: every one is written out.
AZURE_KEYS = _table(
    "MicrosoftAzure",
    "container_name",
    "azure_",
    """
    account_name azure_storage_account_name
    account_key azure_storage_account_key azure_storage_access_key azure_storage_master_key access_key master_key
    client_id azure_storage_client_id azure_client_id
    client_secret azure_storage_client_secret azure_client_secret
    tenant_id azure_storage_tenant_id azure_storage_authority_id azure_tenant_id azure_authority_id authority_id
    authority_host azure_storage_authority_host azure_authority_host
    sas_key azure_storage_sas_key azure_storage_sas_token sas_token
    token azure_storage_token bearer_token
    use_emulator azure_storage_use_emulator
    endpoint azure_storage_endpoint azure_endpoint
    use_fabric_endpoint azure_use_fabric_endpoint
    msi_endpoint azure_msi_endpoint azure_identity_endpoint identity_endpoint
    object_id azure_object_id
    msi_resource_id azure_msi_resource_id
    federated_token_file azure_federated_token_file
    use_azure_cli azure_use_azure_cli
    skip_signature azure_skip_signature
    container_name azure_container_name container
    disable_tagging azure_disable_tagging
    fabric_token_service_url azure_fabric_token_service_url
    fabric_workload_host azure_fabric_workload_host
    fabric_session_token azure_fabric_session_token
    fabric_cluster_identifier azure_fabric_cluster_identifier
    credential_type azure_credential_type
    encryption_key azure_storage_encryption_key azure_encryption_key
    connection_string azure_storage_connection_string
    """,
    booleans="use_emulator use_fabric_endpoint use_azure_cli skip_signature disable_tagging",
    ours="connection_string",
    bare=False,
    # The first is App Service's, the others are those of the Azure CLI.
    variables={
        "IDENTITY_ENDPOINT": "msi_endpoint",
        "AZURE_STORAGE_ACCOUNT": "account_name",
        "AZURE_STORAGE_KEY": "account_key",
    },
)
