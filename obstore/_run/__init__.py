"""The drivers: perform what operations yield, for synchronous callers and on event loops. See README.md.

``run(op)`` and ``start(op)`` are all that the public face needs; ``ClientHandle`` carries a store's connection options
to the engine without anyone above knowing it.
"""

from obstore._run.client import ClientHandle
from obstore._run.sync import run

__all__ = ["ClientHandle", "run"]
