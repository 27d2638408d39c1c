"""Where an S3 store may look for credentials: the settings, the environment, and the files that both point to."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Literal, NamedTuple

from obstore._config.aws_files import AwsConfig, AwsPaths
from obstore._config.duration import Setting
from obstore._config.keys import MergedSettings
from obstore._config.record import repr_without
from obstore.exceptions import GenericError

__all__ = ["ChainSettings", "Metadata", "profile_of"]

DEFAULT_PROFILE = "default"


def profile_of(merged: MergedSettings) -> str:
    """Name of the profile in use."""
    return merged.text("profile") or DEFAULT_PROFILE


class Metadata(NamedTuple):
    """How to ask EC2's instance metadata service.

    Attributes:
        endpoint: its URL.
        given: whether the user named it, rather than it being the usual one.
        disabled: never ask.
        timeout_s: for a connection and for an answer.
        attempts: tries in all.
        v1: whether version 1 will do where there is no version 2.
    """

    endpoint: str
    given: bool
    disabled: bool
    timeout_s: float
    attempts: int
    v1: bool


class ChainSettings(NamedTuple):
    """What the chain of credentials is configured with. ``repr`` shows no secret.

    Attributes:
        paths: of the command line's files.
        profile: name of the profile.
        profile_chosen: who named it: the ``program``, a variable of the ``environment``, or nobody.
        region: that role requests are signed for; ``None``: the profile's, else us-east-1.
        endpoint_url_sts: of the security token service, where the program or its own variable says so.
        keys: static keys of the environment: id, secret, token.
        role_arn, role_session_name, web_identity_token_file: of a web identity; those of the environment do not count
            where the program chose a profile.
        web_identity_given: whether the program itself named the token's file.
        container_relative_uri, container_full_uri, container_token_file, container_token: where containers get
            credentials, and what they show for it.
        container_given: whether the program itself said so.
        metadata_endpoint, imdsv1_fallback: of the store.
        environ: the variables that are read later, with the profile's settings.
    """

    paths: AwsPaths
    profile: str
    profile_chosen: Literal["program", "environment"] | None
    region: str | None
    endpoint_url_sts: str | None
    keys: tuple[str, str, str | None] | None
    role_arn: str | None
    role_session_name: str | None
    web_identity_token_file: str | None
    web_identity_given: bool
    container_relative_uri: str | None
    container_full_uri: str | None
    container_token_file: str | None
    container_token: str | None
    container_given: bool
    metadata_endpoint: str | None
    imdsv1_fallback: bool
    environ: Mapping[str, str]

    def __repr__(self) -> str:
        return repr_without(self, "keys", "container_token", "environ")

    @classmethod
    def build(cls, merged: MergedSettings, environ: Mapping[str, str], region: str | None) -> ChainSettings:
        """Read the merged keys and the environment.

        Args:
            merged: of `obstore._config.keys.S3_KEYS`.
            environ: environment variables.
            region: the store's, where one is known.
        """
        by_program = merged.is_given("profile")
        # A profile chosen by the program wins over the credentials of the environment, not over the program's own.
        web = {
            key: merged.text(key)
            for key in ("role_arn", "role_session_name", "web_identity_token_file")
            if merged.is_given(key) or not by_program
        }
        key_id, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
        return cls(
            paths=AwsPaths.find(environ),
            profile=profile_of(merged),
            profile_chosen="program" if by_program else "environment" if merged.text("profile") else None,
            region=region,
            endpoint_url_sts=merged.text("endpoint_url_sts"),
            keys=(key_id, secret, environ.get("AWS_SESSION_TOKEN")) if key_id and secret else None,
            role_arn=web.get("role_arn"),
            role_session_name=web.get("role_session_name"),
            web_identity_token_file=web.get("web_identity_token_file"),
            web_identity_given=merged.is_given("web_identity_token_file"),
            container_relative_uri=merged.text("container_credentials_relative_uri"),
            container_full_uri=merged.text("container_credentials_full_uri"),
            container_token_file=merged.text("container_authorization_token_file"),
            container_token=environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
            container_given=merged.is_given("container_credentials_relative_uri")
            or merged.is_given("container_credentials_full_uri"),
            metadata_endpoint=merged.text("metadata_endpoint"),
            imdsv1_fallback=merged.flag("imdsv1_fallback"),
            environ={name: value for name, value in environ.items() if name.startswith(_LATER) and value},
        )

    def identity(self) -> Hashable:
        """Equal for settings that lead to the same credentials."""
        values = (value for name, value in zip(self._fields, self, strict=True) if name != "environ")
        return (*values, tuple(sorted(self.environ.items())))

    @property
    def paths_matter(self) -> bool:
        """Whether the files are looked at: not where the program itself says where credentials are."""
        return not (self.web_identity_given or self.container_given)

    def metadata(self, config: AwsConfig) -> Metadata:
        """How to ask the instance metadata service, also by what the profile says.

        Raises:
            GenericError: a number or boolean is none.
        """
        environ = self.environ

        def either(variable: str, key: str) -> Setting | None:
            if variable in environ:
                return Setting(environ[variable], f"environment variable {variable}")
            text = config.text(self.profile, key)
            return None if text is None else Setting(text, f"{key} of profile {self.profile!r}")

        named = either("AWS_EC2_METADATA_SERVICE_ENDPOINT", "ec2_metadata_service_endpoint")
        endpoint = self.metadata_endpoint or (named.text if named is not None else None)
        mode = either("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ec2_metadata_service_endpoint_mode")
        usual = _IPV6_ENDPOINT if mode is not None and mode.text.lower() == "ipv6" else _IPV4_ENDPOINT
        v1_disabled = either("AWS_EC2_METADATA_V1_DISABLED", "ec2_metadata_v1_disabled")
        return Metadata(
            endpoint=(endpoint or usual).rstrip("/"),
            given=endpoint is not None,
            disabled=environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true",
            timeout_s=_number(either("AWS_METADATA_SERVICE_TIMEOUT", "metadata_service_timeout"), 1.0),
            attempts=max(
                1, int(_number(either("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "metadata_service_num_attempts"), 1))
            ),
            v1=self.imdsv1_fallback and not (v1_disabled is not None and v1_disabled.as_bool()),
        )


_LATER = ("AWS_ENDPOINT_URL", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_EC2_METADATA_", "AWS_METADATA_SERVICE_")
_IPV4_ENDPOINT = "http://169.254.169.254"
_IPV6_ENDPOINT = "http://[fd00:ec2::254]"


def _number(setting: Setting | None, default: float) -> float:
    if setting is None:
        return default
    try:
        number = float(setting.text)
    except ValueError:
        number = 0.0
    if not 0 < number < 3600:
        raise GenericError.of("Config", f'failed to parse "{setting.text}" as a positive number ({setting.source})')
    return number
