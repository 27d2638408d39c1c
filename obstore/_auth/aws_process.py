"""Credentials that a program prints.

https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html
"""

from __future__ import annotations

import os
import re

from obstore._auth.aws import AwsCredential
from obstore._auth.aws_http import read_json
from obstore._auth.aws_keys import read_keys
from obstore._effects import Call, Op
from obstore.exceptions import UnauthenticatedError

__all__ = ["process_credentials"]

_NAMES = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
_TIMEOUT_S = 60.0
_HINT = "run the command by hand: it must print a JSON document with Version 1, AccessKeyId and SecretAccessKey"


def process_credentials(command: str, profile: str) -> Op[AwsCredential]:
    """Credentials that ``command`` prints.

    Raises:
        UnauthenticatedError: it cannot be run, fails, takes longer than a minute, or prints something else.
    """
    credential: AwsCredential = yield Call(_run, command, f"credential_process of profile {profile!r}")
    return credential


def _run(command: str, who: str) -> AwsCredential:
    """Run the command, without a shell. Blocks until it ends."""
    import shlex
    import subprocess

    problem = hint = None
    output = b""
    try:
        words = shlex.split(command, posix=os.name != "nt")
        done = subprocess.run(  # noqa: S603 - the user's own configuration names it
            words, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        problem = f"did not end within {_TIMEOUT_S:.0f} s"
    except (OSError, ValueError, IndexError) as error:
        problem = f"cannot be run: {error.strerror if isinstance(error, OSError) else 'it is not a command line'}"
    else:
        output = done.stdout
        if done.returncode:
            problem = f"ended with status {done.returncode}{_last_words(done.stderr)}"
        del done
    if problem is None:
        found = read_json(output)
        if found is None:
            problem, hint = "printed no JSON document", _HINT
        elif found.get("Version") != 1:
            problem, hint = f"speaks version {found.get('Version')!r}, not 1"[:80], _HINT
        else:
            return read_keys(found, _NAMES, who, hint=_HINT)
        del found, output
    raise UnauthenticatedError(f"{who} {problem}", hint=hint)


def _last_words(stderr: bytes) -> str:
    """What a failed program says of itself, without anything that looks like a key or token."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    if not lines:
        return ""
    text = re.sub(r"[A-Za-z0-9+/=_.~-]{16,}", "REDACTED", "".join(c if c.isprintable() else " " for c in lines[-1]))
    return f": {text.strip()[:200]}"
