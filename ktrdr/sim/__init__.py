"""Simulates IB Gateway: the TWS API's server side over a market of its own. No data are real.

For tests and demonstrations of any client of that API: `SimulatedGateway` on the caller's event
loop, `running_gateway` in its own thread, and `truth`, the bars that a store must finally hold.
"""

from ktrdr.sim.gateway.in_thread import running_gateway
from ktrdr.sim.gateway.server import SimulatedGateway
from ktrdr.sim.market.market import truth

__all__ = ["SimulatedGateway", "running_gateway", "truth"]
