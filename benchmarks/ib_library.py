"""ib_insync for the benchmarks: imported where there is an event loop, as its eventkit wants one.

Python 3.14 makes none unasked.
"""

import asyncio

asyncio.set_event_loop(asyncio.new_event_loop())

from ib_insync import IB, Contract, Forex, Stock  # noqa: E402
from ib_insync.decoder import Decoder  # noqa: E402
from ib_insync.wrapper import Wrapper  # noqa: E402

__all__ = ["IB", "Contract", "Decoder", "Forex", "Stock", "Wrapper"]
