#!/bin/sh
# Builds the native library with the address and undefined-behaviour sanitizers, apart from the checkout, and runs its
# tests on it: sh tools/sanitize.sh (PYTHON and CC may name others)
set -e
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}
compiler=${CC:-cc}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r "$here/crane_app" "$here/tests" "$here/pyproject.toml" "$scratch"
cd "$scratch"
rm -f crane_app/backends/torch/_native*
"$compiler" -std=gnu11 -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer \
    -ffp-contract=off -fvisibility=hidden -pthread -fPIC -shared -o crane_app/backends/torch/_native.so \
    crane_app/backends/torch/csrc/*.c -lm
# Python itself and its packages never give all of their memory back.
LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$scratch QT_QPA_PLATFORM=offscreen \
    "$python" -m pytest -q -p no:cacheprovider tests/backends/test_kernels.py tests/backends/test_program.py tests/backends/test_filling.py
