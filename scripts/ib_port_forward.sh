#!/usr/bin/env bash
# PROGRAM port-forward: passes calls from containers on to IB Gateway, in the foreground, with socat
# (without socat: ktrdr/forwarder.py). It does not know IB's protocol, and opens nothing to the LAN.
#
# Settings, from the environment or .env: KTRDR_FORWARD_PORT, KTRDR_FORWARD_BIND,
# KTRDR_FORWARD_TARGET, IB_HOST, IB_PORT, KTRDR_SIM_PORT; see .env.example.
# Written for bash 3.2, which macOS has.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
self=ib_port_forward.sh
misconfigured=78 # EX_CONFIG of sysexits.h

log() { printf '%s port-forward: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*"; }

die() { # die CODE MESSAGE
    log "$2"
    exit "$1"
}

# --- settings -----------------------------------------------------------------------------------

# setting NAME DEFAULT: from the environment, else from .env, else the default; empty counts as unset.
setting() {
    local value
    eval "value=\${$1-}" # $1 is one of our own names, never somebody's text
    [ -n "$value" ] || value=$(from_env_file "$1")
    printf '%s' "${value:-$2}"
}

# The last NAME=VALUE of .env, read as text and never run: quotes and trailing comments come off.
from_env_file() {
    local line value="" double='^"([^"]*)"[[:space:]]*(#.*)?$' single="^'([^']*)'[[:space:]]*(#.*)?\$"
    local assigned="^[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*=[[:space:]]*(.*)\$"
    [ -r "$root/.env" ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do
        line=${line%$'\r'}
        [[ $line =~ $assigned ]] || continue
        value=${BASH_REMATCH[2]}
        if [[ $value =~ $double ]] || [[ $value =~ $single ]]; then
            value=${BASH_REMATCH[1]}
        else
            case $value in '#'*) value="" ;; esac
            value=${value%%[[:space:]]#*}
            value=${value%"${value##*[![:space:]]}"}
        fi
    done <"$root/.env"
    printf '%s' "$value"
}

wrong() { die $misconfigured "cannot start: $1=$2: expected $3"; }

is_port() { [[ $1 =~ ^[1-9][0-9]{0,4}$ ]] && [ "$1" -le 65535 ]; }

is_ipv4() {
    local octet=${1:-} part='(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
    [[ $octet =~ ^$part\.$part\.$part\.$part$ ]]
}

check_port() { is_port "$2" || wrong "$1" "$2" "a port from 1 to 65535"; }

check_host() { [[ $2 =~ ^[A-Za-z0-9][A-Za-z0-9.:_-]*$ ]] || wrong "$1" "$2" "a host name or address"; }

# Sets $port, $target_host and $target_port. Without IB_HOST the group's gateway is the simulated
# one; who starts this by hand, and says nothing about the simulator, has a real one on this machine.
read_settings() {
    local sim target
    port=$(setting KTRDR_FORWARD_PORT 4003)
    target_host=$(setting IB_HOST "")
    target_port=$(setting IB_PORT 4002)
    sim=$(setting KTRDR_SIM_PORT "")
    target=$(setting KTRDR_FORWARD_TARGET "")
    check_port KTRDR_FORWARD_PORT "$port"
    check_port IB_PORT "$target_port"
    [ -z "$sim" ] || check_port KTRDR_SIM_PORT "$sim"
    if [ -n "$target" ]; then
        target_host=${target%:*}
        target_port=${target##*:}
        if ! [[ $target =~ ^[A-Za-z0-9.:_-]+:[0-9]+$ ]] || ! is_port "$target_port"; then
            wrong KTRDR_FORWARD_TARGET "$target" "HOST:PORT, the port from 1 to 65535"
        fi
    elif [ -n "$target_host" ]; then
        check_host IB_HOST "$target_host"
    else
        target_host=127.0.0.1
        [ -z "$sim${SUPERVISOR_ENABLED-}" ] || target_port=${sim:-4102}
    fi
    case $target_host:$target_port in
    127.0.0.1:"$port" | localhost:"$port" | ::1:"$port" | 0.0.0.0:"$port")
        wrong KTRDR_FORWARD_PORT "$port" \
            "another port than that of the gateway, which is $target_host:$target_port"
        ;;
    esac
}

# Sets $bind, $callers (whose calls are taken; empty: whoever can reach it) and $why. Whoever reaches
# the gateway can trade: an address that the LAN can reach takes calls from Docker's networks only.
choose_bind() {
    local address=""
    callers=172.16.0.0/12
    bind=$(setting KTRDR_FORWARD_BIND "")
    if [ -n "$bind" ]; then
        is_ipv4 "$bind" || wrong KTRDR_FORWARD_BIND "$bind" "an IPv4 address of this machine"
        why="as KTRDR_FORWARD_BIND"
        case $bind in 127.*) callers="" ;; esac
        return
    fi
    if [ "$(uname)" = Linux ]; then
        address=$(ip -4 -o address show dev docker0 2>/dev/null | awk '{ print $4; exit }' || :)
    fi
    if is_ipv4 "${address%/*}"; then
        bind=${address%/*}
        why="the address of docker0"
        [[ $bind =~ ^172\.(1[6-9]|2[0-9]|3[01])\. ]] || callers=$address # it was moved by somebody
    else
        bind=127.0.0.1
        callers=""
        why="there is no docker0 here"
    fi
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
    local alive="keepalive" listen connect fifo=$run_dir/port-forward.$$.fifo host=$target_host
    case $(socat -hh) in *keepidle*keepintvl*) alive="keepalive,keepidle=60,keepintvl=15,keepcnt=4" ;; esac
    case $host in *:*) host="[$host]" ;; esac
    # No -T: it would cut sessions that are merely quiet. Keepalive finds peers that vanished.
    listen="TCP4-LISTEN:$port,bind=$bind,reuseaddr,fork,max-children=32,nodelay,$alive"
    [ "$(uname)" != Linux ] || listen="$listen,ip-freebind" # the bridge may be down for now
    [ -z "$callers" ] || listen="$listen,range=$callers"
    connect="TCP:$host:$target_port,nodelay,$alive,connect-timeout=10"

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
    printf '%s\n' "$group" >"$group_file"
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
    printf '%s\n' $$ >"$pid_file"
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
    local python
    export KTRDR_FORWARD_PORT=$port KTRDR_FORWARD_TARGET=$target_host:$target_port
    for python in "$root/.venv/bin/python" python3 python; do
        if (cd "$root" && "$python" -c 'import ktrdr.forwarder') >/dev/null 2>&1; then
            log "socat is not installed: using our own forwarder, which is a little slower"
            cd "$root"
            exec "$python" -m ktrdr.forwarder
        fi
    done
    die 1 "cannot start: socat is not installed (apt-get install socat, brew install socat), and the \
forwarder in its place needs ./scripts/up first"
}

# ------------------------------------------------------------------------------------------------

read_settings
choose_bind
run_dir=$(setting KTRDR_RUN_DIR var/run)
case $run_dir in
/*) ;;
\~/*) run_dir=$HOME/${run_dir#\~/} ;;
*) run_dir=$root/$run_dir ;;
esac
pid_file=$run_dir/port-forward.pid
group_file=$run_dir/port-forward.group
(umask 077 && mkdir -p "$run_dir")
refuse_a_second
command -v socat >/dev/null || forward_with_python
log "$bind:$port -> $target_host:$target_port with socat; listens on $bind ($why), takes calls from \
${callers:-this machine}"
forward_with_socat
