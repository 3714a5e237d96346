#!/usr/bin/env bash
# Runs all benchmarks of speed on a GPU, one after the other. PyTorch must see
# the GPU too. A benchmark that fails is named at the end and stops no other.
#   bash benchmarks/gpu.sh
set -uo pipefail
cd "$(dirname "$0")/.."
export XLA_PYTHON_CLIENT_PREALLOCATE=false

failed=()
while read -r name flags; do
  echo "python -m benchmarks.$name $flags"
  # shellcheck disable=SC2086
  python -m "benchmarks.$name" $flags < /dev/null || failed+=("$name $flags")
done <<'END'
train --precision=tensorfloat32 --images=64 --rounds=9
train --mvtec --precision=tensorfloat32 --seeds=1
train --mvtec --precision=tensorfloat32 --seeds=5
predict --precision=bfloat16 --rounds=30 --batches=1,16,64
sweep
END
[ ${#failed[@]} = 0 ] || printf "failed: %s\n" "${failed[@]}"
exit $(( ${#failed[@]} > 0 ))
