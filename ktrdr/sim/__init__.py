"""Plays IB Gateway: the TWS API's server side over a market of its own. Nothing here is real.

For tests and demonstrations of any client of that API: `SimulatedGateway` on a loop of yours,
`running_gateway` in a thread of its own, and `truth`, the bars that a store must hold in the end.
"""

from ktrdr.sim.gateway.in_thread import running_gateway
from ktrdr.sim.gateway.server import SimulatedGateway
from ktrdr.sim.market.market import truth

__all__ = ["SimulatedGateway", "running_gateway", "truth"]
