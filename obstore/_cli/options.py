"""Options that several commands share."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from obstore._bulk.options import parse_size
from obstore._cli.place import SCHEMES, Connection
from obstore._cli.show import Output

Command = Callable[..., Any]


class Size(click.ParamType):  # type: ignore[type-arg] # generic in newer versions only
    """A number of bytes, with or without a unit."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See `parse_size`."""
        try:
            return parse_size(int(value) if str(value).isdigit() else value, "size")
        except (TypeError, ValueError, OverflowError) as error:
            self.fail(str(error), param, ctx)


def _setting(_context: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    settings = {}
    for text in values:
        name, equals, value = text.partition("=")
        scheme, colon, rest = name.partition(":")
        if not equals or not name or (colon and (scheme not in SCHEMES or not rest)):
            raise click.BadParameter(f"{text!r} is not NAME=VALUE, nor s3:NAME=VALUE, gs:..., az:...")
        settings[name] = value
    return settings


def _settings_file(context: click.Context, param: click.Parameter, path: str | None) -> dict[str, str]:
    """Lines of NAME=VALUE; empty ones and those that begin with # aside."""
    if path is None:
        return {}
    with open(path, encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#") and not line.partition("=")[1]:
            raise click.BadParameter(f"{path}, line {number}, is not NAME=VALUE")  # not shown: it may be a secret
    return _setting(context, param, tuple(line for line in lines if line and not line.startswith("#")))


def _all(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def apply(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


_CONNECTION = _all(
    click.option("--endpoint", "--endpoint-url", metavar="URL", help="Server to talk to instead of the cloud's."),
    click.option("--region", metavar="NAME", help="Region of the bucket (S3)."),
    click.option("--profile", metavar="NAME", help="Profile of ~/.aws (S3)."),
    click.option("--no-sign-request", is_flag=True, help="Anonymously: sign nothing."),
    click.option("--insecure", is_flag=True, help="Do not verify TLS certificates."),
    click.option(
        "--config",
        metavar="NAME=VALUE",
        multiple=True,
        callback=_setting,
        help="Any setting of the stores, or s3:NAME=VALUE, gs:..., az:... of those of one kind; may be repeated.",
    ),
    click.option(
        "--config-file",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        callback=_settings_file,
        help="Lines of NAME=VALUE as for --config: keys and tokens need not be on the command line.",
    ),
)
_OUTPUT = _all(
    click.option("--json", "as_json", is_flag=True, help="Lines of JSON on standard output."),
    click.option("--quiet", "-q", is_flag=True, help="Print errors only."),
)
FILTERS = _all(
    click.option(
        "--include", metavar="PATTERN", multiple=True, help="Only what matches; * matches / too. May be repeated."
    ),
    click.option("--exclude", metavar="PATTERN", multiple=True, help="Not what matches. May be repeated."),
)
TRANSFER = _all(
    click.option(
        "--connections", "-j", type=click.IntRange(1, 10_000), metavar="N", help="Connections at a time (64)."
    ),
    click.option("--memory", type=Size(), metavar="SIZE", help="Bytes in memory at most, such as 64MiB (256MiB)."),
    click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="Requests a second at most."),
    click.option("--no-verify", is_flag=True, help="Do not compare with the service's checksums."),
    click.option("--no-resume", is_flag=True, help="Do not go on from what an earlier run left."),
    click.option("--progress/--no-progress", default=None, help="Show progress (default: on a terminal)."),
)
DRY_RUN = click.option("--dry-run", "-n", is_flag=True, help="Only print what would be done.")
RECURSIVE = click.option("--recursive", "-r", is_flag=True, help="Everything below.")


def command(*, transfers: bool = False, filters: bool = False) -> Callable[[Command], Command]:
    """Options of a command; its function gets ``connection``, ``out`` and, for transfers, ``limits``."""

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def call(**given: Any) -> Any:
            given["config"] = {**given.pop("config_file"), **given["config"]}
            names = ("endpoint", "region", "profile", "no_sign_request", "insecure", "config")
            given["connection"] = Connection({name: given.pop(name) for name in names})
            progress = given.pop("progress", None)
            given["out"] = Output(as_json=given.pop("as_json"), quiet=given.pop("quiet"), progress=progress)
            if transfers:
                given["limits"] = Limits(
                    connections=given.pop("connections"),
                    memory=given.pop("memory"),
                    rate=given.pop("rate"),
                    verify=not given.pop("no_verify"),
                    resume=not given.pop("no_resume"),
                )
            try:
                return function(**given)
            except BrokenPipeError:
                # Whoever reads has enough: head, less ... What is still buffered goes nowhere.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 0

        wrapped: Command = _OUTPUT(_CONNECTION(call))
        if transfers:
            wrapped = TRANSFER(wrapped)
        return FILTERS(wrapped) if filters else wrapped

    return decorate


class Limits:
    """Limits and wishes of a transfer, for those functions of `obstore.bulk` that take them."""

    def __init__(self, **values: Any) -> None:
        self._values = values

    def only(self, *names: str) -> dict[str, Any]:
        """Those that a function takes."""
        return {name: self._values[name] for name in names}

    def with_(self, **values: Any) -> Limits:
        """The same with other values."""
        return Limits(**{**self._values, **values})
