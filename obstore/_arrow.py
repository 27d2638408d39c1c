"""Arrow libraries: which one makes the objects that users get, and how. None is imported before it is needed.

A *flavour* is the name of such a library: ``"pyarrow"`` or ``"arro3"``.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from typing import Any

from obstore._engine import Columns, Schema

FLAVOURS = ("pyarrow", "arro3")
VARIABLE = "OBSTORE_ARROW"

_chosen: str | None = None


def choose(flavour: str | None) -> None:
    """Use this flavour from now on; ``None``: what the environment says.

    Raises:
        ValueError: there is no such flavour.
    """
    global _chosen  # noqa: PLW0603 - the process has one
    if flavour is not None:
        _check(flavour, "arrow")
    _chosen = flavour


def flavour() -> str:
    """The flavour in force: that of `choose`, else that of ``OBSTORE_ARROW``, else what is installed, pyarrow first."""
    if _chosen is not None:
        return _chosen
    named = os.environ.get(VARIABLE)
    if not named:
        return _installed()
    _check(named, VARIABLE)
    return named


@cache
def _installed() -> str:
    if find_spec("pyarrow") is None and find_spec("arro3") is not None:
        return "arro3"
    return "pyarrow"


def _check(name: Any, argument: str) -> None:
    if name not in FLAVOURS:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, FLAVOURS))}, not {name!r}")


def library(flavour: str) -> Any:
    """The library's module.

    Raises:
        ImportError: it is not installed; the text says what else there is.
    """
    try:
        if flavour == "arro3":
            import arro3.core as arro3

            return arro3
        import pyarrow as pa
    except ImportError as exc:
        package = "arro3-core" if flavour == "arro3" else "pyarrow"
        raise ImportError(
            f"return_arrow=True gives objects of {package}, which is not installed: pip install {package}, or choose the other "
            f"library with obstore.set_options(arrow=...); polars and whatever else reads __arrow_c_stream__ needs neither"
        ) from exc
    return pa


def schema(flavour: str) -> Any:
    """The schema of listings."""
    arrow = library(flavour)
    return arrow.Schema.from_arrow(Schema()) if flavour == "arro3" else arrow.schema(Schema())


def record_batch(flavour: str, columns: Columns) -> Any:
    """A record batch on the memory of ``columns``."""
    arrow = library(flavour)
    return arrow.RecordBatch.from_arrow(columns) if flavour == "arro3" else arrow.record_batch(columns)


def table(flavour: str, batches: Any) -> Any:
    """A table on the memory of whatever has ``__arrow_c_stream__``."""
    arrow = library(flavour)
    return arrow.Table.from_arrow(batches) if flavour == "arro3" else arrow.table(batches)
