"""Plays IB Gateway: the TWS API's server side over a market of its own. Nothing here is real."""
