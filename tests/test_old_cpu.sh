#!/usr/bin/env bash
# A program that was built for a newer CPU than the one it is started on says so, before it uses what is not there. The
# older one is qemu's.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
cc=${CC:-cc}

newer() { # instructions that came after the first x86-64, in an object file
    objdump -d "$1" | grep -E '[yz]mm|\s(v[a-z0-9]+|(sh[lr]|sar|ror|mul)x|andn|bls[ir]|[lt]zcnt|popcnt|movbe) '
}
if [ "$(uname -m)" = x86_64 ] && [ "$(newer build/obj/common/base/base.o | wc -l)" -gt 0 ]; then
    check "what looks at the CPU is built for the oldest one" test "$(newer build/obj/common/base/cpu_check.o)" = ""
else
    ok 0 "what looks at the CPU # SKIP not x86-64, or everything is built for the oldest one"
fi

if [ "$(uname -m)" != x86_64 ] || ! command -v qemu-x86_64 >/dev/null; then
    ok 0 "an older CPU # SKIP needs x86-64 and qemu-user"
    tap_done
fi
old() { # old CPU COMMAND ...; OMP_WAIT_POLICY: or the program would start itself anew, outside of qemu
    OMP_WAIT_POLICY=passive run qemu-x86_64 -cpu "$@"
}

# ---- the check alone, built for known CPUs ----
cat >"$temp/main.c" <<'END'
#include "common/base/cpu.h"
int main(void) { cpu_check(); return 7; }
END
for level in x86-64 x86-64-v2 x86-64-v3 x86-64-v4; do
    "$cc" -std=c17 -I. -march=$level -c common/base/cpu_needs.c -o "$temp/needs.o" &&
        "$cc" -std=c17 -I. -march=x86-64 "$temp/main.c" common/base/cpu_check.c "$temp/needs.o" -o "$temp/$level"
    ok $? "the check, built for $level"
done
starts() { [ "$status" = 7 ] && [ ! -s "$temp/err" ]; }
old qemu64 "$temp/x86-64"; check "x86-64 starts on the first x86-64" starts
old qemu64 "$temp/x86-64-v2"; check "x86-64-v2 does not" refused 1 "x86-64-v2: error: this CPU lacks" "SSSE3, SSE4.1, SSE4.2" "MARCH="
old Nehalem "$temp/x86-64-v2"; check "x86-64-v2 starts on a Nehalem" starts
old Nehalem "$temp/x86-64-v3"; check "x86-64-v3 does not" refused 1 "built with: AVX, a system that saves AVX's registers, F16C, MOVBE, LZCNT, BMI1 and 3 more"
old max "$temp/x86-64-v3"; check "x86-64-v3 starts on a CPU with AVX2" starts
old max,-fma "$temp/x86-64-v3"; check "but not on one without FMA" refused 1 "built with: FMA (hint"
old max "$temp/x86-64-v4"; check "x86-64-v4 does not start without AVX-512" refused 1 "built with: AVX-512F,"
MPI_LOCALRANKID=1 old Nehalem "$temp/x86-64-v3"
check "of several on one machine the others are silent" test "$status:$(cat "$temp/err")" = 1:
MPI_LOCALRANKID=0 old Nehalem "$temp/x86-64-v3"; check "and the first one speaks" refused 1 "this CPU lacks"

# ---- every program ----
if echo | "$cc" -march=native -dM -E - | grep -q __AVX__; then
    for program in build/[0-9][0-9]_* build/compare build/plot_runs build/prepare_data; do
        [ -x "$program" ] || continue
        old Nehalem "$program" --help
        check "$program on a Nehalem" refused 1 "${program#build/}: error: this CPU lacks what the program was built with: AVX,"
    done
else
    ok 0 "every program # SKIP this machine has no AVX to miss"
fi
tap_done
