#!/usr/bin/env bash
# PROGRAM port-forward: forwards the connections of containers to IB Gateway, in the foreground.
# Runs ktrdr/forwarder/; without a .venv with any Python from 3.9 on.
# Written for bash 3.2, which macOS has.
set -eu

unset CDPATH PYTHONSAFEPATH # with these cd goes elsewhere, and Python does not find ktrdr/
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
