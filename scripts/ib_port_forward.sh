#!/usr/bin/env bash
# PROGRAM port-forward: passes the calls of containers on to IB Gateway, in the foreground.
# Python does it (ktrdr/forwarder/); without a .venv any Python from 3.9 on will do.
# Written for bash 3.2, which macOS has.
set -eu

unset CDPATH PYTHONSAFEPATH # with them cd goes elsewhere, and Python finds no ktrdr/ here
script=$0
[[ $script == */* ]] || script=./$script
while [[ -L $script ]]; do
    link=$(readlink "$script")
    [[ $link == /* ]] || link=${script%/*}/$link
    script=$link
done
cd -- "${script%/*}/.."
for python in .venv/bin/python python3 python; do
    if "$python" -ESc 'import sys; sys.exit(sys.version_info < (3, 9))' >/dev/null 2>&1; then
        exec "$python" -m ktrdr.forwarder "$@"
    fi
done
echo "port-forward cannot start: no Python from 3.9 on was found; ./scripts/up says where to get one" >&2
exit 1
