#!/usr/bin/env bash
# datasets/fetch against files and a server of this machine: checksums, what is missing, connections that break.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh

if ! command -v curl >/dev/null || ! command -v python3 >/dev/null; then
    echo "1..0 # SKIP needs curl and python3"
    exit 0
fi

# fetch beside a table of our own, and files to fetch
mkdir -p "$temp/datasets" "$temp/files/gpt2"
cp datasets/fetch datasets/parquet_to_text "$temp/datasets/"
fetch=$temp/datasets/fetch
sha256() { python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1"; }
python3 -c 'import sys; sys.stdout.write("".join("%d bears, " % i for i in range(200000)))' >"$temp/files/tinyshakespeare.txt"
echo '{"a": 1}' >"$temp/files/gpt2/vocab.json"
echo 'a b' >"$temp/files/gpt2/merges.txt"
echo 'not what it was' >"$temp/files/tinystories.txt"
for file in tinyshakespeare.txt gpt2/vocab.json gpt2/merges.txt; do
    echo "$(sha256 "$temp/files/$file")  $file"
done >"$temp/datasets/checksums.txt"
echo "1111111111111111111111111111111111111111111111111111111111111111  tinystories.txt" >>"$temp/datasets/checksums.txt"
bytes=$(wc -c <"$temp/files/tinyshakespeare.txt" | tr -d ' ')

# a server: /ranges/ goes on in the middle of files, /breaks/ also breaks the connection after 1000000 bytes,
# /plain/ always sends the whole file
cat >"$temp/server.py" <<'END'
import http.server, os, re, sys
root, log = sys.argv[1:]

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        kind, name = self.path[1:].split("/", 1)
        path = os.path.join(root, name)
        if not os.path.exists(path):
            return self.send_error(404)
        data = open(path, "rb").read()
        start = 0
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and kind != "plain":
            start = int(asked[1])
        with open(log, "a") as f:
            f.write(f"{kind} {name} {start}\n")
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:start + 1000000] if kind == "breaks" else data[start:])

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
END
python3 "$temp/server.py" "$temp/files" "$temp/requests" >"$temp/port" 2>/dev/null &
server=$!
trap 'kill $server 2>/dev/null; rm -rf "$temp"' EXIT
for _ in $(seq 100); do [ -s "$temp/port" ] || sleep 0.1; done
base=http://127.0.0.1:$(cat "$temp/port")
from() { # place, name, folder
    FETCH_FROM=$1 run bash "$fetch" "$2" "$3"
}
# shellcheck disable=SC2317 # called by check
same() { cmp "$temp/files/$1" "$2/$1"; }
# shellcheck disable=SC2317
requests() { diff <(printf '%s\n' "$@") "$temp/requests"; }

# ---- what is asked for ----
run bash "$fetch" --help
check "--help names all four" grep -qz 'tinyshakespeare.*tinystories.*fineweb-edu.*gpt2-vocab' "$temp/out"
check "--help succeeds" succeeded
run bash "$fetch"
check "without a name: exit 2" [ "$status" = 2 ]
run bash "$fetch" wikipedia "$temp/x"
check "an unknown name" refused 2 wikipedia --help
check "the table has a SHA-256 for each file" [ "$(grep -cE '^[0-9a-f]{64}  (tinyshakespeare.txt|tinystories.txt|fineweb-edu.parquet|gpt2/(vocab.json|merges.txt))$' datasets/checksums.txt)" = 5 ]

# ---- it works ----
from "file://$temp/files" tinyshakespeare "$temp/a"
check "from a folder" succeeded
check "the file is the same" same tinyshakespeare.txt "$temp/a"
check "it says what to do next" grep -q "make data TEXT=$temp/a/tinyshakespeare.txt VOCAB=" "$temp/out"
from "http://127.0.0.1:1" tinyshakespeare "$temp/a"
check "what is there is not fetched again" succeeded
from "$base/plain" gpt2-vocab "$temp/a"
check "the two files of GPT-2's vocabulary" succeeded
check "vocab.json" same gpt2/vocab.json "$temp/a"
check "merges.txt" same gpt2/merges.txt "$temp/a"
check "it says TOKENIZER" grep -q "TOKENIZER=$temp/a/gpt2" "$temp/out"

# ---- connections that break ----
: >"$temp/requests"
from "$base/breaks" tinyshakespeare "$temp/b"
check "the connection breaks again and again: it goes on" succeeded
check "the file is the same" same tinyshakespeare.txt "$temp/b"
check "each request goes on where the last one ended" requests "breaks tinyshakespeare.txt 0" \
    "breaks tinyshakespeare.txt 1000000" "breaks tinyshakespeare.txt 2000000"
mkdir "$temp/c"
head -c 700000 "$temp/files/tinyshakespeare.txt" >"$temp/c/tinyshakespeare.txt.part"
: >"$temp/requests"
from "$base/ranges" tinyshakespeare "$temp/c"
check "called again after it was stopped: it goes on" succeeded
check "the file is the same" same tinyshakespeare.txt "$temp/c"
check "only the rest is asked for" requests "ranges tinyshakespeare.txt 700000"
mkdir "$temp/d"
head -c 700000 "$temp/files/tinyshakespeare.txt" >"$temp/d/tinyshakespeare.txt.part"
from "$base/plain" tinyshakespeare "$temp/d"
check "a server that cannot go on: it starts anew" succeeded
check "the file is the same" same tinyshakespeare.txt "$temp/d"
mkdir "$temp/e"
cp "$temp/files/tinyshakespeare.txt" "$temp/e/tinyshakespeare.txt.part"
from "http://127.0.0.1:1" tinyshakespeare "$temp/e"
check "stopped between the last byte and the rename" succeeded
check "the test file is larger than two pieces ($bytes bytes)" [ "$bytes" -gt 2000000 ]

# ---- what is wrong ----
from "$base/plain" tinystories "$temp/f"
check "a wrong checksum" refused 1 "$(sha256 "$temp/files/tinystories.txt")" "expected 1111111111"
check "nothing is left of it" [ -z "$(ls "$temp/f")" ]
mkdir "$temp/g"
echo damaged >"$temp/g/tinyshakespeare.txt"
from "$base/plain" tinyshakespeare "$temp/g"
check "a wrong file is there" refused 1 "$temp/g/tinyshakespeare.txt" "remove it"
check "it is not touched" grep -q damaged "$temp/g/tinyshakespeare.txt"
rm "$temp/files/gpt2/merges.txt"
from "$base/plain" gpt2-vocab "$temp/h"
check "no such file on the server" refused 1 "$base/plain/gpt2/merges.txt is not there" 404
from "file://$temp/nowhere" tinyshakespeare "$temp/h"
check "no such file on the disk" refused 1 "nowhere/tinyshakespeare.txt is not there"
from "http://127.0.0.1:1" tinyshakespeare "$temp/h"
check "no network" refused 1 "no way to http://127.0.0.1:1/tinyshakespeare.txt" "is there a network?"
from "$base/plain" fineweb-edu "$temp/h"
check "a file without a checksum" refused 1 "checksums.txt has no line for fineweb-edu.parquet"
: >"$temp/not-a-folder"
from "$base/plain" tinyshakespeare "$temp/not-a-folder"
check "the folder is a file" refused 1 "cannot make the folder"

# ---- parquet to text ----
mkdir -p "$temp/without/pyarrow"
echo 'raise ImportError' >"$temp/without/pyarrow/__init__.py"
PYTHONPATH=$temp/without run python3 datasets/parquet_to_text a b
check "without pyarrow" refused 1 "pip install pyarrow"
run python3 datasets/parquet_to_text a
check "one argument" refused 1 "1 arguments"
if python3 -c 'import pyarrow.parquet' 2>/dev/null; then
    cat >"$temp/write.py" <<'END'
import pyarrow, pyarrow.parquet, sys
table = pyarrow.table({"id": [1, 2, 3, 4], "text": ["one", "", "zwei\nZeilen é", "three"]})
pyarrow.parquet.write_table(table, sys.argv[1])
END
    python3 "$temp/write.py" "$temp/files/fineweb-edu.parquet"
    echo "$(sha256 "$temp/files/fineweb-edu.parquet")  fineweb-edu.parquet" >>"$temp/datasets/checksums.txt"
    from "$base/plain" fineweb-edu "$temp/i"
    check "fineweb-edu" succeeded
    check "its text" diff "$temp/i/fineweb-edu.txt" - <<<$'one\n<|endoftext|>\nzwei\nZeilen é\n<|endoftext|>\nthree\n<|endoftext|>'
    run python3 datasets/parquet_to_text "$temp/files/tinystories.txt" "$temp/i/x.txt"
    check "a file that is no parquet" refused 1 "tinystories.txt"
fi
tap_done
