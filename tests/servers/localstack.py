"""LocalStack without containers: the closest to AWS in checksums, encryption and copy conditions.

Believes every header signature. Needs Python 3.13 or later somewhere on PATH, and half a gigabyte for its packages.
"""

from __future__ import annotations

from tests.servers.install import environment
from tests.servers.process import Server, clean_env, free_ports, http_answers
from tests.servers.s3 import S3Endpoint


class LocalStack(Server):
    """A LocalStack of our own with S3, STS and IAM; ``endpoint`` once entered."""

    name = "localstack"
    endpoint: S3Endpoint

    def _start(self) -> None:
        bin_ = environment("localstack")
        (port,) = free_ports(1)
        home = str(self.directory)
        env = clean_env(
            HOME=home,
            XDG_CACHE_HOME=f"{home}/cache",
            LOCALSTACK_VOLUME_DIR=home,
            FILESYSTEM_ROOT=home,
            GATEWAY_LISTEN=f"127.0.0.1:{port}",
            GATEWAY_SERVER="hypercorn",  # its default server listens on all addresses
            SERVICES="s3,sts,iam",
            STRICT_SERVICE_LOADING="1",
            EAGER_SERVICE_LOADING="1",
            PERSISTENCE="0",
            DNS_ADDRESS="0",
            SKIP_SSL_CERT_DOWNLOAD="1",
            DISABLE_EVENTS="1",
            S3_SKIP_SIGNATURE_VALIDATION="0",
        )
        url = f"http://127.0.0.1:{port}"
        command = [bin_ / "python", "-m", "localstack.runtime.main"]
        self._run([command], http_answers(f"{url}/_localstack/health"), env=env, timeout=120)
        self.endpoint = S3Endpoint(url, "AKIDTEST00000000TEST", "test")  # the secret that signed URLs are verified with
