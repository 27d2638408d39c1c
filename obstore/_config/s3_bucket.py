"""Buckets that are more than a name: access points, which have Amazon resource names, and directory buckets.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-points-naming.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/directory-bucket-naming-rules.html
"""

from __future__ import annotations

import re
from typing import NamedTuple

from obstore.exceptions import GenericError, NotSupportedError

__all__ = ["AccessPoint", "domain_of", "zone_of"]

_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):(?P<service>s3|s3-outposts|s3-object-lambda):(?P<region>[a-z0-9-]*):(?P<account>[0-9]{12})"
    r":(?:outpost[:/](?P<outpost>op-[a-z0-9]+)[:/])?accesspoint[:/](?P<name>[A-Za-z0-9.-]+)"
)
_ZONE = re.compile(r".+--([a-z0-9-]+?)--x[as]?-s3")


def domain_of(region: str) -> str:
    """The domain of AWS's services in a region."""
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"


def zone_of(bucket: str) -> str | None:
    """The zone of a directory bucket, or of an access point to one; ``None`` where the name is no such."""
    match = _ZONE.fullmatch(bucket)
    return None if match is None else match[1]


class AccessPoint(NamedTuple):
    """An access point by its Amazon resource name.

    Attributes:
        arn: the name, in its form with slashes.
        region: that it is in.
        service: that requests to it are signed for.
        host: that it is reached at.
    """

    arn: str
    region: str
    service: str
    host: str

    @classmethod
    def parse(cls, arn: str) -> AccessPoint:
        """Read a resource name.

        Raises:
            GenericError: it is none of an access point.
            NotSupportedError: it is of several regions: those need a signature that is not implemented.
        """
        match = _ARN.fullmatch(arn)
        if match is None or (match["service"] == "s3-outposts") != (match["outpost"] is not None):
            raise GenericError.of(
                "S3",
                f'Invalid bucket name "{arn}"',
                hint="a resource name is arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME, or one of S3 on Outposts or Object Lambda",
            )
        region, service, name = match["region"], match["service"], match["name"]
        if not region:
            raise NotSupportedError.of(
                "S3", "multi-region access points need SigV4A signatures, which are not supported"
            )
        kind = {"s3": "s3-accesspoint"}.get(service, service)
        outpost = "" if match["outpost"] is None else f"{match['outpost']}."
        where = "" if match["outpost"] is None else f"outpost/{match['outpost']}/"
        return cls(
            f"arn:{match['partition']}:{service}:{region}:{match['account']}:{where}accesspoint/{name}",
            region,
            service,
            f"{name}-{match['account']}.{outpost}{kind}.{region}.{domain_of(region)}",
        )
