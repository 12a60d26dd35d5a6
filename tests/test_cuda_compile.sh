#!/usr/bin/env bash
# nvcc compiles each kernel for GPUs of several generations: no warning, nothing spilled to memory, no stack, and as many
# registers and as much shared memory as tests/cuda_registers.txt says. `make test`: one generation, float.
# TEST tier: more
#   tests/test_cuda_compile.sh --renew     writes the table anew
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
unset MAKEFLAGS MFLAGS REAL CUDA CUDA_ARCH
table=tests/cuda_registers.txt
# the compiler that the Makefile takes
nvcc=$(make -s --eval='nvcc: ; @echo $(NVCC)' nvcc 2>/dev/null)
[ -x "$nvcc" ] || { echo "1..0 # SKIP no nvcc here"; exit 0; }
version=$("$nvcc" --version | sed -n 's/.* V\([0-9.]*\)$/\1/p')

generations=(80 90 100) reals=(float double)
[ "${1:-}" = --renew ] || [ "${TEST_ALL:-}" ] || generations=(90) reals=(float)
for i in "${!generations[@]}"; do
    "$nvcc" --list-gpu-code | grep -qx "sm_${generations[i]}" && continue
    ok 0 "sm_${generations[i]} # SKIP nvcc $version does not know it"
    unset "generations[i]"
done

# figures REAL: of what ptxas says, lines `real generation registers bytes kernel`; what is spilled goes to a file
figures() {
    c++filt | LC_ALL=C awk -v real="$1" -v spilled="$temp/spilled" '
        /Compiling entry function/ {
            split($0, quoted, "'\''")
            kernel = quoted[2]
            generation = quoted[4]
            sub(/^void /, "", kernel)
            sub(/\(.*/, "", kernel)
        }
        / stack frame, / && !/^ *0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads/ {
            print generation, kernel ":" $0 >spilled
        }
        / Used [0-9]+ registers/ {
            registers = $0
            sub(/.* Used /, "", registers)
            bytes = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART) + 0 : 0
            printf "%-6s %-6s %3d %6d  %s\n", real, generation, registers, bytes, kernel
        }'
}

sources=(common/cuda/*.cu)
for real in "${reals[@]}"; do
    objects=("${sources[@]/%.cu/.o}")
    run make -s -O -j2 CUDA=1 CUDA_ARCH="${generations[*]}" REAL="$real" BUILD="$temp/$real" \
        NVCCFLAGS="-Xptxas -v -Werror all-warnings -Xcompiler -Werror" "${objects[@]/#/$temp/$real/obj/}"
    cat "$temp/out" "$temp/err" >"$temp/said"
    [ "$status" = 0 ] && ! grep -qi warning "$temp/said"; ok $? "$real: nvcc $version compiles ${#sources[@]} files for ${generations[*]} without a warning"
    grep -v '^ptxas info\|^ .*spill' "$temp/said" | sed 's/^/# /'
    [ "$status" = 0 ] || tap_done
    : >"$temp/spilled"
    figures "$real" <"$temp/said" >>"$temp/figures"
    [ ! -s "$temp/spilled" ] && grep -q "^$real" "$temp/figures"; ok $? "$real: nothing is spilled, no kernel has a stack"
    sed 's/^/# /' "$temp/spilled"
done
LC_ALL=C sort -k5 -k1,1 -k2,2V -o "$temp/figures" "$temp/figures"

if [ "${1:-}" = --renew ]; then
    {
        echo "# Of each kernel: real, generation, registers of a thread, bytes of static shared memory. By nvcc $version"
        echo "# tests/test_cuda_compile.sh compares, and writes this anew with --renew."
        cat "$temp/figures"
    } >"$temp/table"
    [ $failures = 0 ] && cp "$temp/table" $table; ok $? "$table is written"
    tap_done
fi

of_table=$(sed -n '1s/.*nvcc //p' $table)
grep -E "^($(IFS='|'; echo "${reals[*]}")) +sm_($(IFS='|'; echo "${generations[*]}")) " $table >"$temp/wanted"
what="registers and shared memory are as in $table"
if [ "$version" != "$of_table" ]; then
    what="the kernels are those of $table (its figures are nvcc $of_table's)"
    for file in "$temp/wanted" "$temp/figures"; do
        sed -i -E 's/^(\w+ +\w+) +[0-9]+ +[0-9]+/\1/' "$file"
    done
fi
run diff -U 0 "$temp/wanted" "$temp/figures"
[ "$status" = 0 ] && [ -s "$temp/figures" ]; ok $? "$what"
[ "$status" = 0 ] || {
    grep '^[-+][a-z]' "$temp/out" | sed 's/^/# /'
    echo "# - is the table's, + is what there is now. When that is meant: tests/test_cuda_compile.sh --renew"
}
tap_done
