#!/bin/bash
# How much of the parsers the corpora in the tree reach: regions by file, as LLVM counts them in the source.
#
#   fuzz/coverage.sh [TARGET...]       all targets by default
#   UNCOVERED=protocol/src/http.rs fuzz/coverage.sh upgrade_request     also the lines of a file that nothing reached
#
# Each target's own coverage is measured alone: that another target's input passes through a parser says little.
# Unit tests in a file are not compiled here, so they do not count.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}/fuzz/coverage
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
tools=$(rustc +nightly --print sysroot)/lib/rustlib/$host/bin
if [ ! -x "$tools/llvm-profdata" ]; then
    rustup component add llvm-tools --toolchain nightly
fi

# What each target is there for.
files_of() {
    case $1 in
        client_url) echo protocol/src/auth/client_url.rs protocol/src/uri.rs ;;
        chunked_body) echo protocol/src/http/chunked.rs ;;
        deflate) echo protocol/src/ws/{deflate,extension}.rs ;;
        event_handler) echo protocol/src/events/{answer,cloudevents,connect,mod,template}.rs ;;
        filter) echo protocol/src/rest/filter/*.rs ;;
        frame_decoder) echo protocol/src/ws/{frame,message,mask,utf8}.rs ;;
        http_response) echo protocol/src/http/response.rs ;;
        hub_operations) echo hub/src/*.rs ;;
        key_set) echo relay/src/jwks.rs ;;
        json_subprotocol) echo protocol/src/pubsub/{json,data}.rs ;;
        protobuf_subprotocol) echo protocol/src/pubsub/protobuf/*.rs ;;
        peer_headers) echo protocol/src/{forwarded,origin}.rs protocol/src/auth/audience.rs ;;
        proxy_header) echo protocol/src/proxy.rs ;;
        rest_route) echo protocol/src/rest/{route,query,body,page,group_change}.rs ;;
        role_pattern) echo protocol/src/auth/role.rs ;;
        set_cookie) echo relay/src/cookies.rs ;;
        token) echo protocol/src/auth/{token,claims,issued}.rs ;;
        upgrade_request) echo protocol/src/http.rs protocol/src/ws/handshake.rs protocol/src/uri.rs ;;
    esac
}

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)
for name in "${targets[@]}"; do
    files=()
    for file in $(files_of "$name"); do
        [ -f "$file" ] && files+=("$file")
    done
    if [ ${#files[@]} -eq 0 ]; then
        echo "$name: which files it is there for is not said in fuzz/coverage.sh" >&2
        exit 1
    fi
    if [ -z "$(find "fuzz/corpus/$name" -type f -print -quit)" ]; then
        echo "$name: fuzz/corpus/$name holds no input" >&2
        exit 1
    fi
    (cd fuzz && RUSTFLAGS="-Cinstrument-coverage --cfg fuzzing -Ccodegen-units=4" \
        cargo +nightly build --quiet --release --target "$host" --target-dir "$target" --bin "$name")
    binary=$target/$host/release/$name
    profile=$target/$name
    rm -f "$profile"-*.profraw
    # Run as a list of files, each once: nothing is made up and nothing written.
    find "fuzz/corpus/$name" -type f -print0 |
        LLVM_PROFILE_FILE="$profile-%p.profraw" xargs -0 -r -n 2000 "$binary" >"$profile.log" 2>&1 ||
        { tail -n 20 "$profile.log" >&2; echo "$name: an input of the corpus fails" >&2; exit 1; }
    "$tools/llvm-profdata" merge -sparse "$profile"-*.profraw -o "$profile.profdata"
    rm "$profile"-*.profraw
    # All files, as the ones that a target includes by a path of its own have other names there.
    "$tools/llvm-cov" export -summary-only -instr-profile "$profile.profdata" "$binary" |
        python3 -c '
import json, os, sys
name, wanted = sys.argv[1], sys.argv[2:]
data = json.load(sys.stdin)["data"][0]
count = lambda of: (of["summary"]["regions"]["covered"], of["summary"]["regions"]["count"])
rows = [(os.path.relpath(of["filename"]), *count(of)) for of in data["files"]]
rows = [row for row in rows if row[0] in wanted]
# A file without code has no row.
assert rows, f"{name}: none of {wanted} was compiled"
covered, all = sum(row[1] for row in rows), sum(row[2] for row in rows)
print(f"{name:22} {covered:5} of {all:5} regions  {100 * covered / max(all, 1):5.1f} %")
for file, covered, all in rows:
    print(f"    {file:45} {covered:5} of {all:5}  {100 * covered / max(all, 1):5.1f} %")' "$name" "${files[@]}"
    if [ -n "${UNCOVERED:-}" ]; then
        "$tools/llvm-cov" show -instr-profile "$profile.profdata" "$binary" "$UNCOVERED" | grep -E '^ +[0-9]+\| +0\|' || true
    fi
done
