#!/usr/bin/env bash
# Ranks that are asked for a mesh which they do not make: one of them says so, in one line, and the job ends with 2.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
command -v mpiexec >/dev/null || { echo "1..0 # SKIP no mpiexec here"; exit 0; }

mesh() { # mesh RANKS DATA PIPE TENSOR
    run timeout 60 mpiexec -n "$1" build/tests/mesh "${@:2}"
    grep 'mesh: ' "$temp/err" >"$temp/ours" # mpiexec may add lines of its own
    mv "$temp/ours" "$temp/err"
}
mesh 4 3 1 1; check "4 ranks, 3 x 1 x 1" refused 2 "data 4 x pipe 1 x tensor 1 would; or start 3 devices"
mesh 4 0 3 1; check "4 ranks, ? x 3 x 1" refused 2 "data 2 x pipe 2 x tensor 1 would; or start 3 or 6 devices"
mesh 3 1 -1 1; check "3 ranks, a negative size" refused 2 "the mesh axis 'pipe' has size -1"
mesh 1 2 1 1; check "1 rank, 2 x 1 x 1" refused 2 "data 1 x pipe 1 x tensor 1 would; or start 2 devices"
mesh 4 0 1 2; check "4 ranks, ? x 1 x 2" succeeded
check "they are shown" grep -q 'data 1 *│ 2 │ 3 │' "$temp/out"
tap_done
