#!/usr/bin/env bash
# Runs the benchmarks that want a GPU, one after the other. They are sized for
# 12 minutes of an H200, and say how long each took. PyTorch must see it too.
#   bash benchmarks/gpu_suite.sh PARTS RESNET18
#   bash benchmarks/gpu_suite.sh --small PARTS RESNET18
# PARTS is a folder of real parts, with screws and transistors in MVTec AD's
# layout, RESNET18 a file of torchvision's weights. With --small, which a CPU can
# do in minutes, it is seen whether all of them run: results are thrown
# away. A benchmark that fails is named at the end and stops no other.
set -uo pipefail
small=
if [ "${1:-}" = --small ]; then
  small=yes
  shift
  BENCHMARK_RESULTS=$(mktemp -d)
  export BENCHMARK_RESULTS
  trap 'rm -rf "$BENCHMARK_RESULTS"' EXIT
fi
[ $# = 2 ] || { echo 'usage: gpu_suite.sh [--small] PARTS RESNET18' >&2; exit 2; }
parts=$(realpath "$1") weights=$(realpath "$2")
cd "$(dirname "$0")/.."
export XLA_PYTHON_CLIENT_PREALLOCATE=false

failed=()
run() {
  echo "python -m benchmarks.$*"
  local start=$SECONDS
  python -m "benchmarks.$1" "${@:2}" < /dev/null || failed+=("$*")
  echo "$((SECONDS - start)) seconds"
}

real=(--root="$parts" --category=screw --category=transistor
  --weights="$weights")
random=(--backbone=resnet18)
if [ -z "$small" ]; then
  run step
  run train --mvtec --precision=bfloat16 --mvtec_epochs=40 --seeds=1
  run train --mvtec --precision=bfloat16 --mvtec_epochs=40 --seeds=5
  run predict --precision=bfloat16 --rounds=30 --batches=1,16,64
  run train --precision=tensorfloat32 --images=64 --rounds=5
  run precision "${real[@]}" --only=float32 --only=bfloat16
else
  run step --small --rounds=1 --precision=bfloat16 --lanes=2
  for seeds in 1 2; do
    run train "${random[@]}" --mvtec --precision=bfloat16 --mvtec_epochs=1 \
      --seeds="$seeds" --categories=2 --share=0.01 --crop=64
  done
  run predict "${random[@]}" --precision=bfloat16 --rounds=1 --batches=1,2 \
    --side=64
  run train "${random[@]}" --precision=tensorfloat32 --images=8 --rounds=1 \
    --epochs=1 --crop=64
  run precision "${real[@]}" --side=64 --epochs=1 --seeds=1 --only=float32 \
    --only=bfloat16
fi
[ ${#failed[@]} = 0 ] || printf 'failed: %s\n' "${failed[@]}"
exit $((${#failed[@]} > 0))
