#!/bin/bash
# Autobahn|Testsuite against `ringhub echo`, which runs the production frame path.
#
#   tests/autobahn/run.sh [PATH-OF-RINGHUB]
#
# RINGHUB_AUTOBAHN says which cases:
#   ci     (if not set) all but most of permessage-deflate (sections 12 and 13), of which one in four or five runs
#   short  without the large messages of section 9 either, and one of each kind of 12 and 13
#   all    all 517
# RINGHUB_AUTOBAHN_TLS=1 runs them over TLS.
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

which=${RINGHUB_AUTOBAHN:-ci}
cases='"1.*","2.*","3.*","4.*","5.*","6.*","7.*","10.*"' sizes=()
case $which in
    all) cases='"*"' ;;
    ci) cases+=',"9.*"' sizes=(1 5 10 15) ;;
    short) sizes=(5) ;;
    *)
        echo "Autobahn: RINGHUB_AUTOBAHN is 'short', 'ci', 'all' or not set"
        exit 2
        ;;
esac
# 13.N are seven ways to negotiate, 12.N five kinds of data, each with 18 sizes of messages and fragments.
for kind in 12.1 12.2 12.3 12.4 12.5 13.1 13.2 13.3 13.4 13.5 13.6 13.7; do
    for size in "${sizes[@]}"; do
        cases+=",\"$kind.$size\""
    done
done

run=$folder/plain arguments=(--listen 127.0.0.1:0)
if [ "${RINGHUB_AUTOBAHN_TLS:-0}" != 0 ]; then
    run=$folder/tls
    rm -rf "$folder/certificates"
    "$binary" cert --out "$folder/certificates" >/dev/null
    arguments=(--listen https://127.0.0.1:0 --certificate "$folder"/certificates/ringhub-cert.pem --key "$folder"/certificates/ringhub-key.pem)
fi
rm -rf "$run"
mkdir -p "$run"

"$binary" echo "${arguments[@]}" >"$run/server.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true' EXIT
url=
for _ in $(seq 200); do
    url=$(sed -n 's/.*echo on \(wss\{0,1\}:[^ ]*\).*/\1/p' "$run/server.log")
    [ -n "$url" ] && break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.05
done
if [ -z "$url" ]; then
    echo "Autobahn: $binary did not say where it echoes:"
    cat "$run/server.log"
    exit 1
fi

cat >"$run/spec.json" <<END
{"outdir":"$run/reports","servers":[{"agent":"ringhub","url":"$url"}],
 "cases":[$cases],"exclude-cases":[],"exclude-agent-cases":{}}
END
timeout 5400 "$folder/v27/bin/wstest" -m fuzzingclient -s "$run/spec.json" >"$run/wstest.log" 2>&1 || {
    tail -n 40 "$run/wstest.log"
    exit 1
}
python3 "$here/check.py" "$run/reports/index.json" "$which"
