"""Ceph's S3 gateway on a cluster of one monitor and one in-memory OSD: the second judge of signatures.

Its programs come from the distribution: ``apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common``.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import textwrap
import uuid
from typing import Any

from tests.servers.process import Server, ServerStartError, clean_env, free_ports, http_answers, port_listens
from tests.servers.s3 import S3Endpoint

_PROGRAMS = ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "ceph-authtool")

_CONF = """
    [global]
    fsid = {fsid}
    mon_host = [v2:127.0.0.1:{mon2},v1:127.0.0.1:{mon1}]
    mon_initial_members = a
    osd_pool_default_size = 1
    osd_pool_default_min_size = 1
    osd_pool_default_pg_num = 2
    osd_pool_default_pgp_num = 2
    osd_pool_default_pg_autoscale_mode = off
    mon_allow_pool_size_one = true
    mon_max_pg_per_osd = 2000
    mon_warn_on_pool_no_redundancy = false
    osd_crush_chooseleaf_type = 0
    osd_objectstore = memstore
    memstore_device_bytes = 2147483648
    osd_memory_target = 939524096
    run_dir = {directory}
    admin_socket = {directory}/$name.asok
    log_file = {directory}/$name.log
    keyring = {directory}/keyring
    mon_data = {directory}/mon
    osd_data = {directory}/osd
    ms_bind_ipv6 = false
    ms_bind_port_min = {low}
    ms_bind_port_max = {high}

    # Not for the monitor: it would then take the default ports in place of those in mon_host.
    [osd]
    public_addr = 127.0.0.1
    cluster_addr = 127.0.0.1

    [client.rgw]
    rgw_data = {directory}/rgw
    rgw_frontends = beast tcp_nodelay=1 endpoint=127.0.0.1:{port}
    rgw_enable_usage_log = false
    rgw_dns_name = localhost
    rgw_crypt_require_ssl = false
    rgw_s3_auth_use_sts = true
    rgw_sts_key = {sts_key}
    rgw_gc_obj_min_wait = {gc_seconds}
    rgw_gc_processor_period = {gc_seconds}
"""


class Ceph(Server):
    """A Ceph object gateway of our own; ``endpoint`` once entered (about 12 s)."""

    name = "ceph"
    endpoint: S3Endpoint

    def __init__(self, gc_seconds: int = 3600) -> None:
        """``gc_seconds``: after so long the memory of removed objects is free again; who stores little is not disturbed by that."""
        super().__init__()
        self._gc_seconds = gc_seconds

    def _start(self) -> None:
        missing = [program for program in _PROGRAMS if shutil.which(program) is None]
        if missing:
            raise ServerStartError(
                f"Ceph is not installed: no {', '.join(missing)} on PATH. On Debian: "
                "apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common"
            )
        for name in ("mon", "osd", "rgw"):
            (self.directory / name).mkdir()
        port, mon1, mon2, low = free_ports(4)
        conf = self.directory / "ceph.conf"
        text = _CONF.format(
            fsid=uuid.uuid4(),
            directory=self.directory,
            sts_key=secrets.token_hex(8),
            port=port,
            mon1=mon1,
            mon2=mon2,
            low=low,
            high=low + 100,
            gc_seconds=self._gc_seconds,
        )
        conf.write_text(textwrap.dedent(text).lstrip())
        self._env = clean_env(CEPH_CONF=os.fspath(conf))
        self._make_keys()
        self._do("ceph-mon", "--mkfs", "-i", "a", "--keyring", f"{self.directory}/keyring")
        self._run([["ceph-mon", "-f", "-i", "a"]], port_listens(mon1), env=self._env, name="mon")
        osd = str(uuid.uuid4())
        self._do("ceph", "--connect-timeout", "20", "osd", "new", osd, "0")
        self._do("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd)
        self._run([["ceph-osd", "-f", "-i", "0"]], self._osd_is_up, env=self._env, name="osd")
        url = f"http://127.0.0.1:{port}"
        self._url = url
        self._start_gateway()
        self.endpoint = S3Endpoint(url, "AKIDTEST", "SECRETTEST")
        keys = ("--access-key=AKIDTEST", "--secret-key=SECRETTEST", "--caps=roles=*;oidc-provider=*")
        self._do("radosgw-admin", "-n", "client.rgw", "user", "create", "--uid=test", "--display-name=test", *keys)

    def _start_gateway(self) -> None:
        command = ["radosgw", "-f", "-n", "client.rgw"]
        self._gateway = self._run([command], http_answers(self._url), env=self._env, timeout=120, name="rgw")

    def restart(self) -> None:
        """End the gateway and whatever it is at, and start it again on the same port; objects stay."""
        self._gateway.stop()
        self._start_gateway()

    def role_for(self, issuer: str, thumbprint: str, audience: str) -> str:
        """A role that may do everything with S3, for those who have a token of ``issuer``."""
        iam = self.endpoint.client("iam")
        iam.create_open_id_connect_provider(Url=issuer, ClientIDList=[audience], ThumbprintList=[thumbprint])
        iam.close()
        host = issuer.partition("://")[2]
        trust = {
            "Effect": "Allow",
            "Principal": {"Federated": [f"arn:aws:iam:::oidc-provider/{host}"]},
            "Action": ["sts:AssumeRoleWithWebIdentity"],
            "Condition": {"StringEquals": {f"{host}:app_id": audience}},
        }
        allow = {"Effect": "Allow", "Action": ["s3:*"], "Resource": "arn:aws:s3:::*"}
        name = f"Web{secrets.token_hex(4)}"
        for command in (
            ("create", "--path=/", f"--assume-role-policy-doc={_policy(trust)}"),
            ("policy", "put", "--policy-name=P", f"--policy-doc={_policy(allow)}"),
        ):
            self._do("radosgw-admin", "-n", "client.rgw", "role", *command, f"--role-name={name}")
        return f"arn:aws:iam:::role/{name}"

    def _make_keys(self) -> None:
        keyring = f"{self.directory}/keyring"
        self._do("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        for name, services in (
            ("client.admin", ("mon", "osd", "mgr")),
            ("client.rgw", ("mon", "osd")),
            ("osd.0", ("mon", "osd")),
        ):
            caps = [word for service in services for word in ("--cap", service, "allow *")]
            self._do("ceph-authtool", keyring, "--gen-key", "-n", name, *caps)

    def _osd_is_up(self) -> bool:
        status = subprocess.run(
            ["ceph", "--connect-timeout", "5", "osd", "stat"],
            check=False,
            capture_output=True,
            text=True,
            env=self._env,
            stdin=subprocess.DEVNULL,
        )
        return "1 up" in status.stdout

    def _do(self, *command: str) -> None:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env=self._env,
            stdin=subprocess.DEVNULL,
            timeout=120,
            cwd=self.directory,
        )
        if done.returncode:
            raise ServerStartError(f"{' '.join(command)} failed\n{done.stdout}{done.stderr}")


def _policy(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
