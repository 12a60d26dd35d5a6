#!/usr/bin/env bash
# Arrows point one way: chapters stand on datasets and common, datasets on common; a chapter may use the lesson code of
# a lower-numbered chapter only. Only common/comm speaks MPI or NCCL. This reads the #include lines.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
empty() { # empty WHAT FINDINGS: passes when there are none
    [ -z "$2" ]
    ok $? "$1"
    printf '%s' "$2" | sed 's/^/# /'
}
includes() { grep -rnE '^ *# *include' --include='*.c' --include='*.h' --include='*.cu' "$@" 2>/dev/null; }

empty "common knows nothing of chapters, datasets or tests" "$(includes common | grep -E '"(\.\./)*(chapters|datasets|tests)/')"
empty "datasets know nothing of chapters or tests" "$(includes datasets | grep -E '"(\.\./)*(chapters|tests)/')"
empty "chapters know nothing of tests" "$(includes chapters | grep -E '"(\.\./)*tests/')"
empty "a chapter includes lower chapters only" "$(includes chapters | sed -nE 's|^(chapters/([0-9][0-9])_[^:]*:[0-9]*):.*"chapters/([0-9][0-9])_.*|\1 \2 \3|p' | awk '$3 > $2 {print $1}')"
empty "includes are written from the top folder" "$(includes common datasets chapters | grep -E '"' | grep -vE '"(common|datasets|chapters)/')"
empty "only common/comm includes mpi.h or nccl.h" "$(includes common datasets chapters | grep -E '[<"](mpi|nccl)\.h' | grep -v '^common/comm/')"
empty "only common/cuda and common/comm include CUDA headers" "$(includes common datasets chapters | grep -E '[<"](cuda|cublas)[a-zA-Z_]*\.h' | grep -vE '^common/(cuda|comm)/')"
empty "no -ffast-math, no -Ofast" "$(grep -nE -- '-Ofast|-ffast-math' Makefile | grep -v '^[0-9]*:#')"
empty "a chapter's main.c fits 260 lines, other files 420" "$(wc -l chapters/*/*.[ch] common/*/*.[ch] datasets/*.[ch] | awk '$2 != "total" && (($2 ~ /main\.c$/ && $1 > 260) || $1 > 420)')"
tap_done
