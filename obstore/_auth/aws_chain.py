"""Credentials as the AWS command line finds them.

The order is that of https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html, as botocore has it:
what the program names; static keys of the environment (which the store takes before it asks here); the profile: a role
with its source, a web identity, a sign-in, static keys, a process; the container; the instance.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from obstore._auth.aws import AwsCredential
from obstore._auth.aws_http import Clients
from obstore._auth.aws_keys import read_keys, without_frames
from obstore._auth.aws_metadata import container_credentials, instance_credentials, read_token
from obstore._auth.aws_process import process_credentials
from obstore._auth.aws_sso import sso_credentials
from obstore._auth.aws_sts import Sts, session_name
from obstore._auth.cache import CachedSource
from obstore._config.aws_chain import ChainSettings
from obstore._config.aws_files import AwsConfig, endpoint_url, load
from obstore._effects import Call, Op
from obstore.exceptions import UnauthenticatedError

__all__ = ["ChainSource"]

_SECTION_NAMES = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", None)
_EXPORT = (
    "make another profile with credential_process = aws configure export-credentials --profile NAME --format process"
)
_SSO_NAMES = ("sso_start_url", "sso_region", "sso_account_id", "sso_role_name")


class ChainSource(CachedSource[AwsCredential]):
    """The credentials of whoever runs the program, from the first place that has some.

    Every refresh looks again, so that keys which were changed in a file, or a new sign-in, are found.

    Args:
        settings: where to look.
        clients: how requests for credentials are sent.
        clock: seconds since the epoch.
    """

    def __init__(self, settings: ChainSettings, clients: Clients, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock=clock)
        self._settings = settings
        self._clients = clients
        self._place = "looked for when they are needed"

    @property
    def description(self) -> str:
        """Where the last ones were found; for `describe_source`."""
        return self._place

    def fetch(self) -> Op[AwsCredential]:
        search = _Search(self._settings, self._clients)
        found = yield from without_frames(search.find())
        self._place = search.place
        return found


class _Search:
    """One walk along the chain.

    Attributes:
        place: where credentials were found, in a few words.
    """

    def __init__(self, settings: ChainSettings, clients: Clients) -> None:
        self._settings = settings
        self._clients = clients
        self._config = AwsConfig()
        self.place = ""

    def find(self) -> Op[AwsCredential]:
        settings = self._settings
        if not settings.paths_matter:
            return (yield from self._given())
        self._config = yield Call(load, settings.paths)
        found: AwsCredential | None = None
        if settings.profile in self._config.profiles:
            found = yield from self._target_profile(settings.profile)
        elif settings.profile_chosen is not None:
            paths = settings.paths
            raise UnauthenticatedError(
                f"there is no profile {settings.profile!r} in {paths.config} or {paths.credentials}",
                hint=f"profiles there: {', '.join(sorted(self._config.profiles)) or 'none'}",
            )
        else:
            found = yield from self._web_identity(settings.profile)
        if found is None:
            found = yield from container_credentials(settings, self._clients)
            self.place = "container"
        if found is None:
            found = yield from instance_credentials(settings.metadata(self._config), self._clients)
            self.place = "instance metadata"
        if found is None:
            raise self._nothing()
        return found

    def _given(self) -> Op[AwsCredential]:
        """From what the program itself names."""
        if self._settings.web_identity_given:
            found = yield from self._web_identity(self._settings.profile)
        else:
            found = yield from container_credentials(self._settings, self._clients)
            self.place = "container"
        if found is None:
            raise self._nothing()
        return found

    def _nothing(self) -> Exception:
        settings = self._settings
        of = f" Profile {settings.profile!r} has none." if settings.profile_chosen is not None else ""
        return UnauthenticatedError(
            f"No credentials are configured for S3.{of}",
            hint="set access_key_id and secret_access_key (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the "
            "environment), profile=... or credential_provider=..., sign in (aws sso login), or pass "
            "skip_signature=True for a public bucket",
        )

    # ---- profiles ---------------------------------------------------------------------------------------

    def _target_profile(self, name: str) -> Op[AwsCredential | None]:
        if self._takes_role(name):
            found = yield from self._role(name, ())
            self.place = f"role of profile {name!r}"
            return found
        return (yield from self._own_of_profile(name))

    def _text(self, profile: str, key: str) -> str | None:
        return self._config.text(profile, key)

    def _takes_role(self, name: str) -> bool:
        return self._text(name, "role_arn") is not None and self._text(name, "web_identity_token_file") is None

    def _own_of_profile(self, name: str) -> Op[AwsCredential | None]:
        """What a profile has without a role of another: a web identity, a sign-in, keys, or a process."""
        found = yield from self._web_identity(name)
        if found is not None:
            return found
        if any(self._text(name, key) for key in ("sso_session", "sso_start_url", "sso_account_id", "sso_role_name")):
            self.place = f"sign-in of profile {name!r}"
            return (yield from self._sso(name))
        if self._text(name, "login_session"):
            raise UnauthenticatedError(
                f"profile {name!r} signs in with aws login, whose keys only its tools have", hint=_EXPORT
            )
        for section in (self._config.credentials.get(name, {}), None, self._config.config.get(name, {})):
            if section is None:
                if command := self._text(name, "credential_process"):
                    self.place = f"process of profile {name!r}"
                    return (yield from process_credentials(command, name))
            elif section.get("aws_access_key_id"):
                self.place = f"keys of profile {name!r}"
                return read_keys(section, _SECTION_NAMES, f"profile {name!r}")
        return None

    def _web_identity(self, profile: str) -> Op[AwsCredential | None]:
        settings = self._settings
        own = profile == settings.profile  # a source profile has its own settings alone

        def setting(key: str) -> str | None:
            return (getattr(settings, key) if own else None) or self._text(profile, key)

        path = setting("web_identity_token_file")
        if path is None:
            return None
        role = setting("role_arn")
        if role is None:
            raise UnauthenticatedError(
                "web_identity_token_file is set without role_arn", hint="set role_arn (AWS_ROLE_ARN) as well"
            )
        token = yield Call(read_token, path, "web_identity_token_file (AWS_WEB_IDENTITY_TOKEN_FILE)")
        parameters = {
            "RoleArn": role,
            "RoleSessionName": setting("role_session_name") or "WebIdentitySession",
            "DurationSeconds": self._text(profile, "duration_seconds") or "3600",
        }
        self.place = "web identity"
        try:
            return (yield from self._sts().assume_role_with_web_identity(token, parameters))
        finally:
            del token

    def _sso(self, name: str) -> Op[AwsCredential]:
        session = self._text(name, "sso_session")
        section = dict(self._config.profiles[name])
        if session is not None:
            if session not in self._config.sso_sessions:
                raise UnauthenticatedError(
                    f"profile {name!r} names the sso_session {session!r}, which is not there",
                    hint=f"add [sso-session {session}] to {self._settings.paths.config}, or run: aws configure sso",
                )
            section |= self._config.sso_sessions[session]
        missing = [key for key in _SSO_NAMES if not isinstance(section.get(key), str) or not section[key]]
        if missing:
            raise UnauthenticatedError(
                f"the sign-in of profile {name!r} lacks {', '.join(missing)}", hint="run: aws configure sso"
            )
        texts = {key: str(section[key]) for key in _SSO_NAMES}
        return (
            yield from sso_credentials(
                texts, session, name, self._settings.paths.sso_cache, self._endpoint, self._clients
            )
        )

    # ---- roles ------------------------------------------------------------------------------------------

    def _role(self, name: str, above: tuple[str, ...]) -> Op[AwsCredential]:
        """Assume the role of a profile with the credentials of its source, which may be a role too."""
        role = self._text(name, "role_arn") or ""
        source, kind = self._text(name, "source_profile"), self._text(name, "credential_source")
        if (source is None) == (kind is None):
            how = (
                "both source_profile and credential_source"
                if source
                else "neither source_profile nor credential_source"
            )
            raise UnauthenticatedError(
                f"profile {name!r} has a role_arn and {how}", hint="a role needs one source of credentials"
            )
        if self._text(name, "mfa_serial") is not None:
            raise UnauthenticatedError(
                f"the role of profile {name!r} wants a code of the device mfa_serial, and nobody can be asked for it",
                hint=_EXPORT,
            )
        with_ = yield from (self._source_of_kind(name, kind) if source is None else self._source(name, source, above))
        parameters = {"RoleArn": role, "RoleSessionName": self._text(name, "role_session_name") or session_name()}
        for key, parameter in (("external_id", "ExternalId"), ("duration_seconds", "DurationSeconds")):
            if (value := self._text(name, key)) is not None:
                parameters[parameter] = value
        return (yield from self._sts().assume_role(with_, parameters))

    def _source(self, name: str, source: str, above: tuple[str, ...]) -> Op[AwsCredential]:
        if source not in self._config.profiles:
            raise UnauthenticatedError(
                f"profile {name!r} names the source_profile {source!r}, which is not there",
                hint=f"profiles there: {', '.join(sorted(self._config.profiles))}",
            )
        has_keys = self._text(source, "aws_access_key_id") is not None
        if has_keys or not self._takes_role(source):
            found = yield from self._own_of_profile(source)
            if found is None:
                raise UnauthenticatedError(f"the source_profile {source!r} of profile {name!r} has no credentials")
            return found
        if source == name or source in above:
            loop = " -> ".join((*above, name, source))
            raise UnauthenticatedError(f"profiles name each other as source_profile: {loop}")
        return (yield from self._role(source, (*above, name)))

    def _source_of_kind(self, name: str, kind: str | None) -> Op[AwsCredential]:
        found: Any = None
        match (kind or "").lower():
            case "environment":
                if self._settings.keys is not None:
                    found = AwsCredential(*self._settings.keys)
            case "ecscontainer":
                found = yield from container_credentials(self._settings, self._clients)
            case "ec2instancemetadata":
                found = yield from instance_credentials(self._settings.metadata(self._config), self._clients)
            case _:
                raise UnauthenticatedError(
                    f"profile {name!r}: credential_source {kind!r} is unknown",
                    hint="it is Environment, EcsContainer or Ec2InstanceMetadata",
                )
        if found is None:
            raise UnauthenticatedError(f"profile {name!r}: credential_source {kind} has no credentials")
        credential: AwsCredential = found
        return credential

    # ---- services ---------------------------------------------------------------------------------------

    def _endpoint(self, service: str, usual: str) -> str:
        return endpoint_url(service, self._config, self._settings.profile, self._settings.environ) or usual

    def _sts(self) -> Sts:
        settings = self._settings
        region = settings.region or self._text(settings.profile, "region")
        domain = "amazonaws.com.cn" if region and region.startswith("cn-") else "amazonaws.com"
        usual = f"https://sts.{region}.{domain}" if region and region != "auto" else "https://sts.amazonaws.com"
        endpoint = settings.endpoint_url_sts or self._endpoint("sts", usual)
        return Sts(endpoint, region or "us-east-1", self._clients)
