"""PROGRAM `port-forward`: passes the calls of containers on to IB Gateway, and nobody else's.

Containers reach this machine, but not its 127.0.0.1, where IB Gateway listens; and who reaches the
gateway can trade. So there is one listener for each container bridge, bound to that device: what
comes in by another interface never meets it, whatever addresses it has. It answers on all of this
machine's addresses, for `host.docker.internal` is docker0's in every network, and takes the calls
of its bridge's own subnets, as they are at that moment. Bridges that come, move and go
are followed.

Rules, limits and words are the same whoever copies the bytes: socat, one process a call, or where
there is none two threads. IB's protocol is not known here, but for `--check`. All of it runs on
Python 3.9 with nothing installed, so that scripts/ib_port_forward.sh works without a .venv, too.
"""
