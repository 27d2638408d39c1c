"""How much of it: seconds in the ordinary run, hours by ``make endurance``."""

from __future__ import annotations

import os

FULL = os.environ.get("OBSTORE_ENDURANCE") == "full"


def scaled(ordinary: int, full: int) -> int:
    """``ordinary``, or ``full`` where the long run was asked for."""
    return full if FULL else ordinary
