"""The files that the AWS command line is configured with: ``~/.aws/config`` and ``~/.aws/credentials``.

Their format: https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple, TypeAlias

from obstore._config.record import repr_without
from obstore.exceptions import GenericError

__all__ = ["AwsConfig", "AwsPaths", "endpoint_url", "files_state", "load"]

# A value is a text; a nested section (``s3 =`` with indented lines below it) a dict of texts.
Section: TypeAlias = Mapping[str, Any]


class AwsPaths(NamedTuple):
    """Where the files are, whether they exist or not; and the directory of the command line's sign-ins."""

    config: str
    credentials: str
    sso_cache: str

    @classmethod
    def find(cls, environ: Mapping[str, str]) -> AwsPaths:
        """As ``AWS_CONFIG_FILE`` and ``AWS_SHARED_CREDENTIALS_FILE`` say, else in the home directory."""
        return cls(
            os.path.expanduser(environ.get("AWS_CONFIG_FILE") or "~/.aws/config"),
            os.path.expanduser(environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"),
            os.path.expanduser("~/.aws/sso/cache"),
        )


class AwsConfig(NamedTuple):
    """What the files say. ``repr`` shows no secret.

    Attributes:
        profiles: by name; what both files say of one, the credentials file first.
        credentials: the profiles of the credentials file alone.
        config: those of the configuration file alone.
        sso_sessions: ``[sso-session NAME]`` by name.
        services: ``[services NAME]`` by name.
    """

    profiles: Mapping[str, Section] = {}
    credentials: Mapping[str, Section] = {}
    config: Mapping[str, Section] = {}
    sso_sessions: Mapping[str, Section] = {}
    services: Mapping[str, Section] = {}

    def __repr__(self) -> str:
        return repr_without(self, "profiles", "credentials", "config", "sso_sessions", "services")

    @classmethod
    def parse(cls, config: str, credentials: str, paths: AwsPaths) -> AwsConfig:
        """Read the texts of both files.

        Raises:
            GenericError: one is not of that format; the message names file and line, and shows nothing of it.
        """
        named: dict[str, dict[str, Section]] = {"profile": {}, "sso-session": {}, "services": {}}
        for name, section in _sections(config, paths.config).items():
            kind, label = _label(name)
            if kind in named:
                named[kind][label] = section
        secret = _sections(credentials, paths.credentials)
        merged: dict[str, Section] = dict(named["profile"])
        for name, section in secret.items():
            merged[name] = {**merged.get(name, {}), **section}
        return cls(merged, secret, named["profile"], named["sso-session"], named["services"])

    def text(self, profile: str, key: str) -> str | None:
        """The value of a profile's key, or ``None`` where it has none."""
        value = self.profiles.get(profile, {}).get(key)
        return value if isinstance(value, str) and value else None


def _label(name: str) -> tuple[str, str]:
    """``profile "a b"`` as ``("profile", "a b")``; ``default`` is a profile without the word."""
    kind, _, label = name.partition(" ")
    if name == "default":
        return "profile", name
    label = label.strip()
    if len(label) > 1 and label[0] == label[-1] and label[0] in "\"'":
        label = label[1:-1]
    return (kind, label) if label else ("", name)


def _sections(text: str, path: str) -> dict[str, Section]:
    if not text:
        return {}
    import configparser  # few programs have such files

    parser = configparser.RawConfigParser(default_section="\0", strict=False)
    line: int | None
    try:
        parser.read_string(text)
    except configparser.ParsingError as error:  # its text shows the line, which may hold a secret
        line = error.errors[0][0] if getattr(error, "errors", None) else getattr(error, "lineno", None)
    except configparser.Error as error:
        line = getattr(error, "lineno", None)
    else:
        return {name: {key: _value(value) for key, value in parser.items(name)} for name in parser.sections()}
    where = path if line is None else f"{path}, line {line}"
    raise GenericError.of("Config", f"{where} is not in the format of AWS configuration files") from None


def _value(text: str) -> Any:
    if not text.startswith("\n"):
        return text
    nested = {}
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator:
            nested[key.strip().lower()] = value.strip()
    return nested


# ---- reading ------------------------------------------------------------------------------------------------

# The last files read, and what the file system said of them: stores are often made by the thousand.
_last: tuple[Any, AwsConfig] | None = None


def load(paths: AwsPaths) -> AwsConfig:
    """Read both files; one that does not exist is an empty one. Blocks for as long as the file system does.

    Raises:
        GenericError: a file cannot be read, or is not of the format.
    """
    global _last  # noqa: PLW0603 - a cache of one entry, replaced as a whole
    state = files_state(paths)
    last = _last
    if last is not None and last[0] == state:
        return last[1]
    try:
        config = AwsConfig.parse(_read(paths.config), _read(paths.credentials), paths)
    except GenericError as error:
        problem = error.with_traceback(None)  # the frames hold what the files hold, and tools print their variables
        problem.__context__ = None
    else:
        _last = (state, config)
        return config
    try:
        raise problem
    finally:
        del problem  # its traceback holds this frame


def files_state(paths: AwsPaths) -> Hashable:
    """Equal for as long as nobody changes the files."""
    return paths, _state(paths.config), _state(paths.credentials)


def _state(path: str) -> Any:
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except NotADirectoryError:
        return ""
    except OSError as error:
        raise GenericError.of("Config", f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise GenericError.of("Config", f"{path} is not UTF-8") from None


# ---- endpoints ----------------------------------------------------------------------------------------------


def endpoint_url(service: str, config: AwsConfig, profile: str, environ: Mapping[str, str]) -> str | None:
    """The endpoint that is configured for a service, or ``None`` for its own.

    The order is that of https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html: the service's
    variable, the general one, the profile's ``services`` section, the profile's ``endpoint_url``.

    Args:
        service: ``s3``, ``sts``, ``sso`` or ``sso_oidc``.
        config: the files.
        profile: whose settings count.
        environ: environment variables.
    """
    ignore = environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") or config.text(
        profile, "ignore_configured_endpoint_urls"
    )
    if ignore and ignore.lower() == "true":
        return None
    found = environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or environ.get("AWS_ENDPOINT_URL")
    if found:
        return found
    section = config.services.get(config.text(profile, "services") or "", {}).get(service)
    if isinstance(section, Mapping) and section.get("endpoint_url"):
        return str(section["endpoint_url"])
    return config.text(profile, "endpoint_url")
