#!/bin/bash
# Autobahn|Testsuite sections 1-7 and 10 against `ringhub echo`, which runs the production frame path.
#
#   tests/autobahn/run.sh [PATH-OF-RINGHUB]
#
# The suite needs CPython 2.7; without one this prints why and skips. Everything it installs and writes
# lies under target/autobahn.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
binary=${1:-$target/release/ringhub}
folder=$target/autobahn
mkdir -p "$folder"

find_python27() {
    local candidate
    for candidate in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7.*/bin/python /usr/bin/python2.7 /usr/local/bin/python2.7; do
        if [ -x "$candidate" ]; then
            echo "$candidate"
            return
        fi
    done
}

if [ ! -x "$folder/v27/bin/wstest" ]; then
    python27=$(find_python27)
    if [ -z "$python27" ]; then
        echo "Autobahn: SKIPPED. The suite needs CPython 2.7; there is none under pyenv's versions nor in /usr."
        exit 0
    fi
    # virtualenv itself goes into the build folder, too: nothing is installed for the user.
    PYTHONUSERBASE=$folder/user "$python27" -m pip install --quiet --user virtualenv==20.15.1 2>"$folder/install.log" || {
        cat "$folder/install.log"
        exit 1
    }
    rm -rf "$folder/v27"
    PYTHONUSERBASE=$folder/user "$python27" -m virtualenv --quiet "$folder/v27"
    "$folder/v27/bin/pip" install --quiet -r "$here/requirements.txt" 2>"$folder/install.log" || {
        cat "$folder/install.log"
        exit 1
    }
fi

"$binary" echo --listen 127.0.0.1:0 >"$folder/server.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true' EXIT
url=
for _ in $(seq 200); do
    url=$(sed -n 's/.*echo on \(ws:[^ ]*\).*/\1/p' "$folder/server.log")
    [ -n "$url" ] && break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.05
done
if [ -z "$url" ]; then
    echo "Autobahn: $binary did not say where it echoes:"
    cat "$folder/server.log"
    exit 1
fi

rm -rf "$folder/reports"
cat >"$folder/spec.json" <<EOF
{"outdir":"$folder/reports","servers":[{"agent":"ringhub","url":"$url"}],
 "cases":["1.*","2.*","3.*","4.*","5.*","6.*","7.*","10.*"],"exclude-cases":[],"exclude-agent-cases":{}}
EOF
timeout 900 "$folder/v27/bin/wstest" -m fuzzingclient -s "$folder/spec.json" >"$folder/wstest.log" 2>&1 || {
    tail -n 40 "$folder/wstest.log"
    exit 1
}
python3 "$here/check.py" "$folder/reports/index.json"
