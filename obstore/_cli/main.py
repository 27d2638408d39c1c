"""The group of commands, and what becomes of their errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from obstore._bulk.result import BulkInterrupted
from obstore._cli import look, move
from obstore._cli.place import UsageError
from obstore._cli.show import INTERRUPTED, USAGE, code_of, complain
from obstore._version import __version__

_EPILOG = """\b
Exit codes: 0 all done, 1 something failed, 2 usage, 3 not found,
4 no permission, 130 interrupted."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=_EPILOG)
@click.version_option(__version__, prog_name="obstore")
def cli() -> None:
    """Copy, list and change objects in S3, Google Cloud Storage, Azure, HTTP servers and local directories.

    URLs are s3://bucket/key, gs://bucket/key, az://container/key, https://host/path, file:///path; anything else is a local path.
    * and ? match within a path segment, ** across them; quote them from the shell.

    Credentials are found as the cloud's own tools find them; --endpoint, --profile, --config and --config-file of each command say
    otherwise.
    """


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    bash: eval "$(obstore completion bash)" in ~/.bashrc; fish: obstore completion fish | source.
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(cli, {}, "obstore", "_OBSTORE_COMPLETE").source())


for _command in (*look.COMMANDS, *move.COMMANDS):
    cli.add_command(_command)


def run(arguments: Sequence[str]) -> int:
    """Run a command line; returns the exit code. Every error is one line on standard error."""
    try:
        code = cli.main(args=list(arguments), prog_name="obstore", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BulkInterrupted as interrupted:
        click.echo(f"obstore: {interrupted.result}", err=True)
        return INTERRUPTED
    except (click.Abort, KeyboardInterrupt):
        click.echo("obstore: interrupted", err=True)
        return INTERRUPTED
    except (UsageError, TypeError, ValueError) as error:
        complain("", error)
        return USAGE
    except Exception as error:  # noqa: BLE001 - a person is reading
        complain(getattr(error, "filename", None) or "", error)
        return code_of(error)
    return code if isinstance(code, int) else 0
