"""OpenStack Swift with its S3 middleware: the strictest judge of signatures, body hashes and checksums.

Proxy, account, container and object server on one directory. Lacks PUT If-Match and tagging (501).
"""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import textwrap
from pathlib import Path

from tests.servers.install import environment
from tests.servers.process import Server, ServerStartError, clean_env, free_ports, http_answers
from tests.servers.s3 import S3Endpoint

_RINGS = ("account", "container", "object")

_PROXY = """
    [DEFAULT]
    swift_dir = {directory}
    bind_ip = 127.0.0.1
    bind_port = {port}
    workers = 0
    user = {user}
    log_address = /nonexistent
    log_level = WARNING

    [pipeline:main]
    pipeline = catch_errors gatekeeper proxy-logging listing_formats s3api tempauth copy bulk slo versioned_writes
        symlink proxy-logging proxy-server

    [filter:catch_errors]
    use = egg:swift#catch_errors
    [filter:gatekeeper]
    use = egg:swift#gatekeeper
    [filter:proxy-logging]
    use = egg:swift#proxy_logging
    access_log_level = ERROR
    [filter:listing_formats]
    use = egg:swift#listing_formats
    [filter:s3api]
    use = egg:swift#s3api
    s3_acl = no
    location = us-east-1
    storage_domain = localhost
    [filter:tempauth]
    use = egg:swift#tempauth
    user_test_tester = testing .admin
    [filter:copy]
    use = egg:swift#copy
    [filter:bulk]
    use = egg:swift#bulk
    [filter:slo]
    use = egg:swift#slo
    rate_limit_after_segment = 1000
    [filter:versioned_writes]
    use = egg:swift#versioned_writes
    allow_object_versioning = true
    allow_versioned_writes = true
    [filter:symlink]
    use = egg:swift#symlink

    [app:proxy-server]
    use = egg:swift#proxy
    account_autocreate = true
    allow_account_management = true
    # Its default of half a second to reach the other servers is too little for a machine with more work than cores.
    conn_timeout = 10
    node_timeout = 60
    recoverable_node_timeout = 60
    error_suppression_limit = 1000000
"""

_BACKEND = """
    [DEFAULT]
    swift_dir = {directory}
    devices = {directory}/devices
    mount_check = false
    bind_ip = 127.0.0.1
    bind_port = {port}
    workers = 0
    user = {user}
    log_address = /nonexistent
    log_level = WARNING

    [pipeline:main]
    pipeline = {kind}-server

    [app:{kind}-server]
    use = egg:swift#{kind}
"""

_SWIFT = """
    [swift-hash]
    swift_hash_path_suffix = suffix
    swift_hash_path_prefix = prefix

    [storage-policy:0]
    name = default
    default = yes
"""


def _check_xattrs(directory: Path) -> None:
    """Swift keeps metadata in extended attributes; say so at once where the file system has none."""
    probe = directory / "xattr-probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.obstore.probe", b"1")
    except OSError as error:
        raise RuntimeError(
            f"Swift needs a file system with user xattrs, and {directory} has none ({error}): "
            "set OBSTORE_TEST_CACHE to a directory on ext4 or xfs"
        ) from error
    probe.unlink()


class Swift(Server):
    """A Swift of our own; ``endpoint`` once entered."""

    name = "swift"
    endpoint: S3Endpoint

    def _start(self) -> None:
        bin_ = environment("swift")
        directory = self.directory
        (directory / "devices" / "d1").mkdir(parents=True)
        _check_xattrs(directory)
        proxy, *backends = free_ports(1 + len(_RINGS))
        user = getpass.getuser()
        self._write("swift.conf", _SWIFT)
        self._write("proxy-server.conf", _PROXY.format(directory=directory, port=proxy, user=user))
        for kind, port in zip(_RINGS, backends, strict=True):
            self._write(f"{kind}-server.conf", _BACKEND.format(directory=directory, port=port, user=user, kind=kind))
        self._make_rings(bin_, dict(zip(_RINGS, backends, strict=True)))
        commands = [[bin_ / f"swift-{kind}-server", directory / f"{kind}-server.conf"] for kind in (*_RINGS, "proxy")]
        url = f"http://127.0.0.1:{proxy}"
        self._run(commands, http_answers(url))
        self.endpoint = S3Endpoint(url, "test:tester", "testing")

    def _write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(textwrap.dedent(text).lstrip())

    def _make_rings(self, bin_: Path, ports: dict[str, int]) -> None:
        """One partition set per ring, one device each; in one interpreter, as each start costs half a second."""
        script = textwrap.dedent(
            """
            import json, sys
            from swift.common.ring import RingBuilder
            for kind, port in json.loads(sys.argv[1]).items():
                builder = RingBuilder(4, 1, 1)
                builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d1",
                                 "weight": 1.0, "replication_ip": "127.0.0.1", "replication_port": port, "meta": ""})
                builder.rebalance()
                builder.get_ring().save(f"{sys.argv[2]}/{kind}.ring.gz")
            """
        )
        command = [str(bin_ / "python"), "-c", script, json.dumps(ports), str(self.directory)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=clean_env())
        if done.returncode:
            raise ServerStartError(f"swift's rings could not be built\n{done.stdout}{done.stderr}")
