"""The engine room: the only one that sees C. See README.md beside this file.

``_core`` is compiled; ``lifecycle`` loads libcurl at the first remote request and guards fork and interpreter exit;
``libcurl`` finds the library.
"""

from obstore._engine._core import (
    Bulk,
    BulkItem,
    Bytes,
    Client,
    Columns,
    Form,
    Listing,
    ListItem,
    NewBytes,
    Queue,
    Reader,
    Rows,
    Schema,
    Timing,
    Transfer,
    column_stream,
    stats,
    submit,
    submit_form,
)

__all__ = [
    "Bulk",
    "BulkItem",
    "Bytes",
    "Client",
    "Columns",
    "Form",
    "ListItem",
    "Listing",
    "NewBytes",
    "Queue",
    "Reader",
    "Rows",
    "Schema",
    "Timing",
    "Transfer",
    "column_stream",
    "stats",
    "submit",
    "submit_form",
]
