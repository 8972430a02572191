"""PROGRAM `port-forward`: forwards connections of this machine's containers to IB Gateway.

Containers reach this machine, but not its 127.0.0.1, where IB Gateway listens; and whoever reaches
the gateway can trade. So there is one listener per container bridge, bound to that device: what
arrives on another interface never gets there, whatever its address. Each listens at all of this
machine's addresses, because `host.docker.internal` is docker0's address in every network, and
accepts connections from its bridge's own subnets only, as they are at that moment. Bridges that
appear, change or disappear are followed.

Rules, limits and messages are the same however the bytes are copied: by socat, one process per
connection, or by two Python threads. Only `--check` knows IB's protocol. All of it runs on Python
3.9 with nothing installed, so that scripts/ib_port_forward.sh works without a .venv.
"""
