"""What the files of the command line say of an S3 store. Imported when a store does not say it itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from obstore._config.aws_chain import DEFAULT_PROFILE, profile_of
from obstore._config.aws_files import AwsPaths, endpoint_url, load
from obstore._config.keys import MergedSettings
from obstore.exceptions import GenericError

__all__ = ["Configured", "configured"]


class Configured(NamedTuple):
    """What the files say of a store: ``None`` where they say nothing."""

    region: str | None
    endpoint: str | None


def configured(merged: MergedSettings, environ: Mapping[str, str] = os.environ) -> Configured:
    """Region and endpoint of the profile in use.

    Raises:
        GenericError: the program names a profile that is not there, or a file cannot be read.
    """
    paths = AwsPaths.find(environ)
    config = load(paths)
    profile = profile_of(merged)
    if profile not in config.profiles and merged.is_given("profile") and profile != DEFAULT_PROFILE:
        raise GenericError.of(
            "Config",
            f"there is no profile {profile!r} in {paths.config} or {paths.credentials}",
            hint=f"profiles there: {', '.join(sorted(config.profiles)) or 'none'}",
        )
    return Configured(config.text(profile, "region"), endpoint_url("s3", config, profile, environ))
