#!/usr/bin/env bash
# PROGRAM port-forward: passes calls from containers on to IB Gateway, in the foreground, with socat
# (without socat: ktrdr/forwarder.py). It does not know IB's protocol, and opens nothing to the LAN.
#
# Its settings are read by ktrdr/forwarder.py, as every program reads them: KTRDR_FORWARD_PORT,
# KTRDR_FORWARD_BIND, KTRDR_FORWARD_TARGET, IB_HOST, IB_PORT, KTRDR_SIM_PORT; see .env.example.
# Written for bash 3.2, which macOS has.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
self=ib_port_forward.sh
misconfigured=78 # EX_CONFIG of sysexits.h
misused=64 # EX_USAGE

if [ $# -gt 0 ]; then
    printf '%s\n' "usage: ./scripts/$self (it takes no arguments)" \
        "Forwards port 4003 to IB Gateway for containers, in the foreground; Ctrl-C ends it." \
        "Settings are variables of the environment or lines in .env: see .env.example." >&2
    exit $misused
fi

log() { printf '%s port-forward: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*"; }

die() { # die CODE MESSAGE
    log "$2"
    exit "$1"
}

# --- settings -----------------------------------------------------------------------------------

# Sets $python: one that has what this project needs.
find_python() {
    for python in "$root/.venv/bin/python" python3 python; do
        (cd "$root" && "$python" -c 'import ktrdr.forwarder') >/dev/null 2>&1 && return
    done
    die 1 "cannot start: there is no .venv to read the settings with; ./scripts/up makes it"
}

# Sets $port, $bind, $callers (whose calls are taken; empty: whoever can reach it), $why (it listens
# there), $target (HOST:PORT), $run_dir, which is there and ours alone.
read_settings() {
    local told
    find_python
    told=$(cd "$root" && "$python" -m ktrdr.forwarder --settings) ||
        die $? "cannot start: ${told:-its settings cannot be read, see above}"
    {
        IFS= read -r port
        IFS= read -r bind
        IFS= read -r callers
        IFS= read -r why
        IFS= read -r target
        IFS= read -r run_dir
    } <<EOF
$told
EOF
}

# --- one at a time ------------------------------------------------------------------------------

command_of() { ps -ww -o command= -p "$1" 2>/dev/null || :; }

refuse_a_second() {
    local pid
    pid=$(cat "$pid_file" 2>/dev/null || :)
    if [ -n "$pid" ] && [ "$pid" != "$$" ]; then
        case $(command_of "$pid") in *"$self"* | *ktrdr.forwarder*)
            die $misconfigured "cannot start: it runs already in $run_dir (pid $pid)"
            ;;
        esac
    fi
}

# note FILE TEXT: in the place of what has its name, and never through a link.
note() {
    rm -f "$1"
    (umask 077 && set -C && printf '%s\n' "$2" >"$1")
}

# Ends the socat that a killed predecessor may have left: its process group was noted, and each
# process is looked at before it is killed.
sweep() {
    local group pid pgid command
    group=$(cat "$group_file" 2>/dev/null || :)
    rm -f "$group_file"
    [ -n "$group" ] || return 0
    ps -A -ww -o pid= -o pgid= -o command= | while read -r pid pgid command; do
        [ "$pgid" = "$group" ] || continue
        case $command in *socat*TCP4-LISTEN:*)
            kill -KILL "$pid" 2>/dev/null || :
            log "ended what a killed predecessor left: socat, pid $pid"
            ;;
        esac
    done
}

# --- socat --------------------------------------------------------------------------------------

# Starts socat in a process group of its own ($group), so that it and its children, one for each
# connection, can be ended together. A guard waits for the end of this script, however it comes, and
# ends that group: it reads from a pipe that only this script holds open for writing.
start_socat() {
    local alive="keepalive" listen connect fifo=$run_dir/port-forward.$$.fifo
    case $(socat -hh) in *keepidle*keepintvl*) alive="keepalive,keepidle=60,keepintvl=15,keepcnt=4" ;; esac
    # No -T: it would cut sessions that are merely quiet. Keepalive finds peers that vanished.
    listen="TCP4-LISTEN:$port,bind=$bind,reuseaddr,fork,max-children=32,nodelay,$alive"
    [ "$(uname)" != Linux ] || listen="$listen,ip-freebind" # the bridge may be down for now
    [ -z "$callers" ] || listen="$listen,range=$callers"
    connect="TCP:$target,nodelay,$alive,connect-timeout=10"

    rm -f "$fifo"
    mkfifo -m 600 "$fifo"
    exec 9<>"$fifo"
    set -m # each job gets a process group
    socat -d "$listen" "$connect" </dev/null 2>&1 9>&- &
    group=$!
    (
        trap '' HUP INT TERM
        exec 8<"$fifo" 9>&-
        rm -f "$fifo"
        read -r _ <&8 || end_group
    ) &
    set +m
    disown -a # so that bash does not comment on their end
    note "$group_file" "$group"
}

end_group() {
    kill -TERM -- "-$group" 2>/dev/null || return 0
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        kill -0 -- "-$group" 2>/dev/null || return 0
        sleep 0.2
    done
    kill -KILL -- "-$group" 2>/dev/null || :
}

finish() { # finish CODE
    trap '' HUP INT TERM
    end_group
    rm -f "$pid_file" "$group_file" "$run_dir/port-forward.$$.fifo"
    echo "done" >&9 # to the guard: there is nothing to do
    exit "$1"
}

# Sets $supervisord: the pid that it wrote down before it started us. Who is our parent now tells
# less: supervisord may be dead already.
find_supervisord() {
    local url=${SUPERVISOR_SERVER_URL-}
    supervisord=$(cat "$(dirname -- "${url#unix://}")/supervisord.pid" 2>/dev/null || :)
    supervisord=${supervisord:-$PPID}
}

# Without a process of its own where there is /proc: it is asked every second.
is_orphan() {
    local parent
    if [ -r "/proc/$$/stat" ]; then
        read -r _ _ _ parent _ <"/proc/$$/stat"
    else
        parent=$(ps -o ppid= -p $$ | tr -d ' ')
    fi
    [ "$parent" != "$supervisord" ]
}

forward_with_socat() {
    # The trap only takes a note: bash runs it inside `read`, and gives it up where something in it,
    # such as the date of a log line, takes longer than `read` was to wait.
    local is_told=""
    trap 'is_told=1' HUP INT TERM
    note "$pid_file" $$
    sweep
    start_socat
    find_supervisord
    while [ -z "$is_told" ] && kill -0 "$group" 2>/dev/null; do
        # Without a word: when supervisord is gone, nobody reads what we say.
        [ -z "${SUPERVISOR_ENABLED-}" ] || ! is_orphan || finish 0
        read -r -t 1 _ <&9 || : # nothing comes: this is a sleep without a process
    done
    if [ -n "$is_told" ]; then # whether or not socat was told so, too
        log "told to stop"
        finish 0
    fi
    log "socat ended: $(diagnosis)"
    finish 1
}

# Why socat could not listen, as far as can be seen.
diagnosis() {
    local holder=""
    if command -v ss >/dev/null; then
        holder=$(ss -Hltnp "sport = :$port" 2>/dev/null || :)
    elif command -v lsof >/dev/null; then
        holder=$(lsof -nP -iTCP:"$port" -sTCP:LISTEN 2>/dev/null | tail -n +2 || :)
    fi
    if [ -n "$holder" ]; then
        printf 'port %s is taken by: %s. Stop that program, or choose another port with %s' \
            "$port" "$(printf '%s' "$holder" | head -n 1 | tr -s ' ')" KTRDR_FORWARD_PORT
    else
        printf 'see its message above; it was to listen on %s:%s' "$bind" "$port"
    fi
}

# --- without socat ------------------------------------------------------------------------------

forward_with_python() {
    log "socat is not installed: using our own forwarder, which is a little slower"
    cd "$root"
    export KTRDR_FORWARD_TARGET=$target
    exec "$python" -m ktrdr.forwarder
}

# ------------------------------------------------------------------------------------------------

read_settings
pid_file=$run_dir/port-forward.pid
group_file=$run_dir/port-forward.group
refuse_a_second
command -v socat >/dev/null || forward_with_python
log "$bind:$port -> $target with socat; listens on $bind ($why), takes calls from \
${callers:-this machine}"
forward_with_socat
