"""Which certificates to trust where a store names none.

A bundled libcurl has the path of its build image compiled in, so a file is always named to it. In order:

1. the environment: the first that is set of ``AWS_CA_BUNDLE``; ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, which count
   together; ``CURL_CA_BUNDLE``; ``REQUESTS_CA_BUNDLE``. Each may be a file or a directory;
2. the system's: Python's own default, then the places where systems keep their bundle;
3. certifi, where it is installed.

What the environment names takes the place of the system's certificates, as it does for other programs; to add a private
authority to the system's is what the client option ``root_certificate`` is for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["ca_files"]

_VARIABLES = (("AWS_CA_BUNDLE",), ("SSL_CERT_FILE", "SSL_CERT_DIR"), ("CURL_CA_BUNDLE",), ("REQUESTS_CA_BUNDLE",))
# Where systems keep their bundle: Debian, Red Hat, SUSE, Alpine and macOS, FreeBSD.
_SYSTEM_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
)


def ca_files(env: Mapping[str, str] = os.environ) -> list[str]:
    """The files of certificates to trust where the store names none.

    What a variable names is returned even if no such file exists, and a directory that holds no certificate as itself: to
    trust others than those asked for would be worse than the error that follows.

    Args:
        env: where the variables are looked up.

    Returns:
        Paths; none where nothing is found. libcurl then falls back on its own default, and never on trusting everyone.
    """
    for names in _VARIABLES:
        named = [path for name in names for path in _paths(name, env.get(name, ""))]
        if named:
            return [file for path in named for file in _expand(path)]

    import ssl

    defaults = ssl.get_default_verify_paths()
    for path in (defaults.cafile, defaults.openssl_cafile, *_SYSTEM_FILES):
        if path and os.path.isfile(path):
            return [path]
    try:
        import certifi  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return []
    return [str(certifi.where())]


def _paths(name: str, value: str) -> list[str]:
    """``SSL_CERT_DIR`` may name several directories, as ``PATH`` does."""
    return [path for path in (value.split(os.pathsep) if name.endswith("_DIR") else [value]) if path]


def _expand(path: str) -> list[str]:
    """A directory's files of certificates, each once: OpenSSL's directories link to each by its hash too."""
    if not os.path.isdir(path):
        return [path]
    found: dict[str, None] = {}
    for entry in sorted(os.listdir(path)):
        file = os.path.realpath(os.path.join(path, entry))
        if file not in found and os.path.isfile(file) and _holds_certificates(file):
            found[file] = None
    return list(found) or [path]


def _holds_certificates(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return b"-----BEGIN CERTIFICATE-----" in file.read()
    except OSError:
        return False  # not ours to read: keys lie there too
