#!/usr/bin/env bash
# Measures ringhub beside other servers, in one run: bench/peers/run.sh [options of ringhub-bench compare]
#
# See README.md beside this file. Everything made goes under target/peers; servers listen on loopback and
# are ended, by the process ids noted here, when the script ends.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
made="${CARGO_TARGET_DIR:-$root/target}/peers"
cpu="${SERVER_CPU:-0}"
wanted="${PEERS:-uws nats nchan mosquitto ws fastwebsockets tungstenite axum}"

# Pinned: name=version as Debian 12 has them. One that has been replaced there is taken as it is now, and said.
debian_nats="nats-server=2.9.10-1+b3"
debian_nchan="nginx=1.22.1-9+deb12u7 libnginx-mod-nchan=1:1.3.6+dfsg-2"
debian_mosquitto="mosquitto=2.0.11-1.2+deb12u2 libmosquitto1=2.0.11-1.2+deb12u2 libcjson1=1.7.15-1+deb12u4
    libdlt2=2.18.8-6 libwrap0=7.6.q-32"
npm_ws="ws@8.23.0"

mkdir -p "$made"
ulimit -n "$(ulimit -Hn)"
declare -a started=() peers=() echoes=() missing=()
why=""
made_state=""

end_what_we_started() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    if [ -n "$made_state" ]; then rm -rf "$made_state"; fi
}
trap end_what_we_started EXIT

say() { echo "run.sh: $*" >&2; }

# Unpacks packages (NAME=VERSION...) under target/peers/debian; nothing is installed into the system.
debian() {
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || { why="no apt-get here"; return 1; }
    mkdir -p "$made/debs" "$made/debian"
    local package
    for package in "$@"; do
        local mark="$made/debs/${package//[:\/]/_}.unpacked"
        [ -e "$mark" ] && continue
        local into="$made/debs/${package%%=*}"
        rm -rf "$into" && mkdir -p "$into"
        if ! (cd "$into" && apt-get download -qq "$package" >"$into.log" 2>&1); then
            say "Debian no longer has $package; taking what it has"
            (cd "$into" && apt-get download -qq "${package%%=*}" >"$into.log" 2>&1) ||
                { why="apt-get download ${package%%=*} failed (run apt-get update?), see $into.log"; return 1; }
        fi
        dpkg -x "$into"/*.deb "$made/debian" || { why="cannot unpack $package"; return 1; }
        touch "$mark"
    done
}

# A port of loopback that nobody answers on.
free_port() {
    local port
    while port=$((20000 + RANDOM % 10000)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

# Starts a command on the server's CPU; its process id is then in $pid, its output in target/peers/NAME.log.
start() {
    local name=$1
    shift
    taskset -c "$cpu" "$@" >"$made/$name.log" 2>&1 </dev/null &
    pid=$!
    started+=("$pid")
}

# Waits until somebody answers on a port.
answers() {
    local name=$1 port=$2 tries
    for tries in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || break
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return
        sleep 0.1
    done
    why="it did not come up ($tries tries), see $made/$name.log"
    return 1
}

# Waits for the line that our own small servers print; the URL is then in $url.
announces() {
    local name=$1 tries
    for tries in $(seq 100); do
        url=$(sed -n 's/^listening on //p' "$made/$name.log")
        [ -n "$url" ] && return
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    why="it did not say where it listens ($tries tries), see $made/$name.log"
    return 1
}

peer_uws() {
    [ -n "${UWS_DIR:-}" ] || { why="UWS_DIR does not name a uWebSockets source tree (with uSockets in it)"; return 1; }
    local sockets="$UWS_DIR/uSockets/src" build="$made/uws" file
    [ -e "$UWS_DIR/src/App.h" ] && [ -e "$sockets/libusockets.h" ] ||
        { why="$UWS_DIR has no src/App.h or no uSockets/src"; return 1; }
    if [ ! "$build/uws-server" -nt "$here/uws.cpp" ]; then
        mkdir -p "$build"
        for file in bsd context loop socket udp eventing/epoll_kqueue; do
            "${CC:-cc}" -O3 -march=native -flto -std=c11 -DLIBUS_NO_SSL -I"$sockets" -c "$sockets/$file.c" \
                -o "$build/${file##*/}.o" >>"$made/uws-build.log" 2>&1 || { why="see $made/uws-build.log"; return 1; }
        done
        "${CXX:-c++}" -O3 -march=native -flto=auto -std=c++20 -DLIBUS_NO_SSL -DUWS_NO_ZLIB -I"$UWS_DIR/src" \
            -I"$sockets" "$here/uws.cpp" "$build"/*.o -o "$build/uws-server" >>"$made/uws-build.log" 2>&1 ||
            { why="see $made/uws-build.log"; return 1; }
    fi
    start uws "$build/uws-server"
    announces uws || return 1
    peers+=(--peer "uws=simple,$url/,$pid")
    echoes+=(--peer "uws=simple,$url/echo,$pid")
}

peer_nats() {
    # shellcheck disable=SC2086  # a list of packages
    debian $debian_nats || return 1
    local port
    port=$(free_port)
    cat >"$made/nats.conf" <<END
listen: "127.0.0.1:$(free_port)"
websocket { listen: "127.0.0.1:$port", no_tls: true }
END
    start nats "$made/debian/usr/sbin/nats-server" -c "$made/nats.conf"
    answers nats "$port" || return 1
    peers+=(--peer "nats=nats,ws://127.0.0.1:$port/,$pid")
}

peer_nchan() {
    # shellcheck disable=SC2086
    debian $debian_nchan || return 1
    local port dir="$made/nginx"
    port=$(free_port)
    mkdir -p "$dir"
    # With nchan loaded nginx wants this folder to be there, whatever paths the configuration names.
    if [ ! -d /var/lib/nginx ]; then
        mkdir /var/lib/nginx 2>/dev/null || { why="nginx wants /var/lib/nginx, which cannot be made here"; return 1; }
        made_state=/var/lib/nginx
    fi
    {
        [ "$(id -u)" = 0 ] && echo "user root;"
        cat <<END
daemon off;
worker_processes 1;
worker_rlimit_nofile $(ulimit -n);
pid $dir/pid;
load_module $made/debian/usr/lib/nginx/modules/ngx_nchan_module.so;
events { worker_connections $(($(ulimit -n) - 100)); }
http {
    access_log off;
    client_body_temp_path $dir/body;
    proxy_temp_path $dir/proxy;
    fastcgi_temp_path $dir/fastcgi;
    uwsgi_temp_path $dir/uwsgi;
    scgi_temp_path $dir/scgi;
    nchan_shared_memory_size 256M;
    server {
        listen 127.0.0.1:$port backlog=4096;
        location = /sub {
            nchan_subscriber websocket;
            nchan_channel_id all;
            nchan_subscriber_first_message newest;
        }
        location = /pub {
            nchan_publisher websocket;
            nchan_channel_id all;
            nchan_message_buffer_length 1000;
        }
    }
}
END
    } >"$dir/nginx.conf"
    start nchan "$made/debian/usr/sbin/nginx" -c "$dir/nginx.conf" -e "$dir/error.log" -p "$dir"
    answers nchan "$port" || return 1
    local workers
    workers=$(tr ' ' '+' <"/proc/$pid/task/$pid/children")
    peers+=(--peer "nchan=nchan,ws://127.0.0.1:$port/,$pid+${workers%+}")
}

peer_mosquitto() {
    # shellcheck disable=SC2086
    debian $debian_mosquitto || return 1
    local port libs="$made/debian/usr/lib/$(uname -m)-linux-gnu"
    port=$(free_port)
    # With a WebSocket listener alone it refuses to start.
    cat >"$made/mosquitto.conf" <<END
user $(id -un)
persistence false
allow_anonymous true
set_tcp_nodelay true
listener $(free_port) 127.0.0.1
listener $port 127.0.0.1
protocol websockets
END
    start mosquitto env "LD_LIBRARY_PATH=$libs:$made/debian/lib/$(uname -m)-linux-gnu" \
        "$made/debian/usr/sbin/mosquitto" -c "$made/mosquitto.conf"
    answers mosquitto "$port" || return 1
    peers+=(--peer "mosquitto=mqtt,ws://127.0.0.1:$port/mqtt,$pid")
}

peer_ws() {
    command -v npm >/dev/null || { why="no npm here"; return 1; }
    mkdir -p "$made/npm"
    cp "$here/ws.mjs" "$made/npm/"
    if [ "$(cat "$made/npm/installed" 2>/dev/null)" != "$npm_ws" ]; then
        npm install --prefix "$made/npm" --no-audit --no-fund --no-package-lock "$npm_ws" >"$made/npm.log" 2>&1 ||
            { why="npm install $npm_ws failed, see $made/npm.log"; return 1; }
        echo "$npm_ws" >"$made/npm/installed"
    fi
    start ws node "$made/npm/ws.mjs"
    announces ws || return 1
    peers+=(--peer "ws=simple,$url/,$pid")
}

# fastwebsockets, tungstenite and axum: small servers of ours around pinned crates.
peer_crate() {
    local name=$1
    cargo build --release --locked --manifest-path "$here/servers/Cargo.toml" --target-dir "$made/cargo" \
        --bin "$name" >"$made/cargo.log" 2>&1 || { why="cargo build failed, see $made/cargo.log"; return 1; }
    start "$name" "$made/cargo/release/$name"
    announces "$name" || return 1
    peers+=(--peer "$name=simple,$url/,$pid")
}

bench="${BENCH_BIN:-}"
server="${RINGHUB_BIN:-}"
if [ -z "$bench" ] || [ -z "$server" ]; then
    (cd "$root" && cargo build --release --locked -p ringhub-engine -p ringhub-bench)
    release="${CARGO_TARGET_DIR:-$root/target}/release"
    bench="${bench:-$release/ringhub-bench}"
    server="${server:-$release/ringhub}"
fi

for name in $wanted; do
    say "preparing $name"
    why=""
    case $name in
        fastwebsockets | tungstenite | axum) peer_crate "$name" || missing+=("$name: $why") ;;
        uws | nats | nchan | mosquitto | ws) "peer_$name" || missing+=("$name: $why") ;;
        *) say "PEERS names $name, which is none of ours"; exit 2 ;;
    esac
done

for reason in "${missing[@]}"; do say "MISSING $reason"; done
report="${OUT:-$made/report}"
code=0
"$bench" compare --server-bin "$server" "${peers[@]}" --server-cpus "$cpu" --report "$report" "$@" || code=$?
if [ "${#echoes[@]}" -gt 0 ] && [ $# -eq 0 ]; then
    "$bench" compare --server-bin "$server" "${echoes[@]}" --server-cpus "$cpu" --shape echo --members 200 \
        --report "$report-echo" || code=$?
fi
for reason in "${missing[@]}"; do say "MISSING $reason"; done
say "the report is in $report"
exit "$code"
