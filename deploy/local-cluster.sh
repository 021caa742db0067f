#!/usr/bin/env bash
# Starts and stops a cluster of several nodes on this machine, for trying things out.
#
#   deploy/local-cluster.sh start     nodes 1 to 3 on localhost:19092, localhost:29092, localhost:39092
#   deploy/local-cluster.sh status
#   deploy/local-cluster.sh stop      the data stays; start goes on with it
#   deploy/local-cluster.sh kill 2    kill -9 of one node, and
#   deploy/local-cluster.sh start     ... starts those that do not run
#
# AQUEDUCT   the binary                                         (target/release/aqueduct, else target/debug/aqueduct)
# DIR        where data, logs and process ids are kept          (aqueduct-cluster in the current folder)
# NODES      how many                                           (3)
# PORT       node N listens on N times 10000 plus this          (9092; the controllers on the next one)
# SETTINGS   more KEY=VALUE pairs, separated by spaces
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=${DIR:-aqueduct-cluster}
nodes=${NODES:-3}
port=${PORT:-9092}
binary=${AQUEDUCT:-}
if [ -z "$binary" ]; then
    for build in release debug; do
        if [ -x "$here/../target/$build/aqueduct" ]; then
            binary=$here/../target/$build/aqueduct
            break
        fi
    done
fi

address() { echo "localhost:$(($1 * 10000 + port))"; }

is_running() {
    local file=$dir/$1/pid
    [ -f "$file" ] && kill -0 "$(cat "$file")" 2>/dev/null
}

listens() { (exec 3<>"/dev/tcp/localhost/$(($1 * 10000 + port))") 2>/dev/null; }

start() {
    if [ -z "$binary" ]; then
        echo "no binary: run cargo build --release, or set AQUEDUCT" >&2
        exit 1
    fi
    local voters="" n pair
    for n in $(seq "$nodes"); do
        voters+="${voters:+,}$n@localhost:$((n * 10000 + port + 1))"
    done
    mkdir -p "$dir"
    # 16 random bytes, as Kafka writes them.
    [ -f "$dir/cluster.id" ] || head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=' >"$dir/cluster.id"
    local cluster_id
    cluster_id=$(cat "$dir/cluster.id")
    for n in $(seq "$nodes"); do
        is_running "$n" && continue
        mkdir -p "$dir/$n"
        local settings=(
            --set "node.id=$n"
            --set "aqueduct.cluster.id=$cluster_id"
            --set "log.dirs=$(cd "$dir/$n" && pwd)/data"
            --set "controller.quorum.voters=$voters"
            --set "listeners=PLAINTEXT://localhost:$((n * 10000 + port)),CONTROLLER://localhost:$((n * 10000 + port + 1))"
            --set "advertised.listeners=PLAINTEXT://$(address "$n")"
        )
        for pair in ${SETTINGS:-}; do
            settings+=(--set "$pair")
        done
        "$binary" broker --config "$here/server.properties" "${settings[@]}" >>"$dir/$n/log" 2>&1 </dev/null &
        echo $! >"$dir/$n/pid"
    done
    local tries=600
    for n in $(seq "$nodes"); do
        until listens "$n"; do
            if ! is_running "$n" || [ $((tries -= 1)) -le 0 ]; then
                echo "node $n does not start: the end of $dir/$n/log is" >&2
                tail -n 5 "$dir/$n/log" >&2
                exit 1
            fi
            sleep 0.1
        done
    done
    local all=""
    for n in $(seq "$nodes"); do all+="${all:+,}$(address "$n")"; done
    echo "--bootstrap-server $all"
}

stop() {
    local n tries=1200
    for n in $(seq "$nodes"); do
        if is_running "$n"; then kill "$(cat "$dir/$n/pid")"; fi
    done
    for n in $(seq "$nodes"); do
        while is_running "$n"; do
            if [ $((tries -= 1)) -le 0 ]; then
                echo "node $n does not end: see $dir/$n/log" >&2
                exit 1
            fi
            sleep 0.1
        done
        rm -f "$dir/$n/pid"
    done
}

status() {
    local n
    for n in $(seq "$nodes"); do
        if is_running "$n"; then
            echo "node $n runs at $(address "$n"), process $(cat "$dir/$n/pid")"
        else
            echo "node $n does not run"
        fi
    done
}

case ${1:-} in
start) start ;;
stop) stop ;;
status) status ;;
kill)
    n=${2:?which node}
    is_running "$n" && kill -9 "$(cat "$dir/$n/pid")"
    rm -f "$dir/$n/pid"
    ;;
*)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
    exit 2
    ;;
esac
