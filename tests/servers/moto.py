"""moto: the broadest conditional semantics and a wide S3, but (without auth) it believes every signature.

Run as a program it starts one and prints its address until Ctrl-C: ``python -m tests.servers.moto [auth]``.
"""

from __future__ import annotations

import json
import sys
import threading
import urllib.request

from tests.servers.install import environment
from tests.servers.process import Server, clean_env, free_ports, http_answers
from tests.servers.s3 import S3Endpoint

_ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
_TRUST_ALL = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}
# Above this an object's bytes go through a temporary file, which costs more than the memory does.
_ENV = {"MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(16 << 20)}

_APP = """\
from moto.server import DomainDispatcherApplication, create_backend_app

app = DomainDispatcherApplication(create_backend_app)
"""


class Moto(Server):
    """moto's own server. It closes every connection after one answer.

    With ``auth=True`` access keys, session tokens and SigV4 header signatures are really checked (body hashes,
    checksums and clock skew are not; presigned URLs answer 500). ``role_arn`` can then be assumed.
    """

    name = "moto"
    endpoint: S3Endpoint
    role_arn: str

    def __init__(self, *, auth: bool = False) -> None:
        super().__init__()
        self.auth = auth

    def _start(self) -> None:
        bin_ = environment("moto")
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        command = [bin_ / "moto_server", "-H", "127.0.0.1", "-p", str(port)]
        self._run([command], http_answers(f"{url}/moto-api/"), env=clean_env(**_ENV))
        self.endpoint = S3Endpoint(url, "AKIDTEST", "not-checked")
        if self.auth:
            self._turn_auth_on()

    def _turn_auth_on(self) -> None:
        iam = self.endpoint.client("iam")
        iam.create_user(UserName="user")
        iam.put_user_policy(UserName="user", PolicyName="all", PolicyDocument=json.dumps(_ALLOW_ALL))
        key = iam.create_access_key(UserName="user")["AccessKey"]
        role = iam.create_role(RoleName="role", AssumeRolePolicyDocument=json.dumps(_TRUST_ALL))
        iam.put_role_policy(RoleName="role", PolicyName="all", PolicyDocument=json.dumps(_ALLOW_ALL))
        iam.close()
        request = urllib.request.Request(
            f"{self.endpoint.url}/moto-api/reset-auth",
            data=b"0",  # unauthenticated calls that are still let through
            headers={"Content-Type": "text/plain"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
        self.role_arn = role["Role"]["Arn"]
        self.endpoint = S3Endpoint(self.endpoint.url, key["AccessKeyId"], key["SecretAccessKey"])


class MotoGunicorn(Server):
    """moto under gunicorn: the same service, on connections that stay open. No authentication."""

    name = "moto-gunicorn"
    endpoint: S3Endpoint

    def _start(self) -> None:
        bin_ = environment("moto")
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        (self.directory / "motoapp.py").write_text(_APP)
        command = [
            *(bin_ / "gunicorn", "--bind", f"127.0.0.1:{port}", "--chdir", self.directory),
            *("--workers", "1", "--worker-class", "gthread", "--threads", "8", "--keep-alive", "60"),
            *("--worker-tmp-dir", self.directory, "--log-level", "warning", "--no-control-socket", "motoapp:app"),
        ]
        self._run([command], http_answers(f"{url}/moto-api/"), env=clean_env(**_ENV))
        self.endpoint = S3Endpoint(url, "AKIDTEST", "not-checked")


def main() -> None:
    with Moto(auth="auth" in sys.argv[1:]) as server:
        end = server.endpoint
        print(f"{end.url} {end.access_key_id} {end.secret_access_key}", flush=True)  # noqa: T201 - a command
        threading.Event().wait()


if __name__ == "__main__":
    main()
