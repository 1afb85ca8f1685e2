#!/bin/sh
# Runs the native library under the compiler's sanitizers, built apart from the checkout, in build/sanitized:
#   sh tools/sanitize.sh              addresses and undefined behaviour, in all tests that run it on every instruction set
#   sh tools/sanitize.sh ARGUMENTS    the same in what pytest takes: files, names of tests, -k ...
#   sh tools/sanitize.sh threads      races between threads (tests/backends/threads.c)
# PYTHON and CC may name others.
set -e
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}
compiler=${CC:-cc}
csrc=$here/crane_app/backends/torch/csrc
made=$here/build/sanitized

flags="-std=gnu11 -O1 -g1 -fno-sanitize-recover=all -fno-omit-frame-pointer -ffp-contract=off -pthread"

# compile KIND SOURCES: what has changed of them, into $made/KIND
compile() {
    kind=$1 && shift
    mkdir -p "$made/$kind"
    for source; do
        object=$made/$kind/$(basename "$source" .c).o
        [ -e "$object" ] && [ -z "$(find "$source" "$csrc"/*.h -newer "$object")" ] ||
            "$compiler" $flags -fsanitize="$kind" -fvisibility=hidden -fPIC -c -o "$object" "$source"
    done
}

# drive KIND DRIVER ARGUMENTS: a program of tests/backends, with what is in $made/KIND
drive() {
    kind=$1 driver=$2 && shift 2
    "$compiler" $flags -fsanitize="$kind" -o "$made/$driver" "$here/tests/backends/$driver.c" "$made/$kind"/*.o -lm
    "$made/$driver" "$@"
}

if [ "$1" = threads ]; then
    compile thread "$csrc"/[fmp]*.c "$csrc/kernels_plain.c"
    TSAN_OPTIONS=die_after_fork=0 drive thread threads
    exit
fi

export ASAN_OPTIONS=detect_leaks=0 # Python itself and its packages never give all of their memory back
compile address,undefined "$csrc"/*.c
if [ $# -eq 0 ]; then
    drive address,undefined sets present
    # without those that measure memory, which is not as it is without sanitizers
    set -- tests/backends tests/ops tests/models tests/engine/test_packing.py tests/engine/test_kv_cache.py \
        tests/engine/test_packed_scores.py tests/engine/test_loading_gguf.py tests/engine/test_loading_grouped.py \
        --ignore=tests/backends/test_neon.py --ignore=tests/backends/test_kept_kernels.py \
        -k "not mlx and not takes_the_packed_weights"
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r "$here/crane_app" "$here/tests" "$here/pyproject.toml" "$scratch"
cd "$scratch"
rm -f crane_app/backends/torch/_native*
"$compiler" -fsanitize=address,undefined -pthread -shared -o crane_app/backends/torch/_native.so \
    "$made"/address,undefined/*.o -lm
LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)" \
    PYTHONPATH=$scratch QT_QPA_PLATFORM=offscreen "$python" -m pytest -q -p no:cacheprovider "$@"
