#!/usr/bin/env bash
# A run on the GPU of this machine. One process would have several GPUs, too; see
# local.sh for one for each.
#
#   WORKDIR=runs/mvtec launch/gpu_single.sh --config=mvtec
set -euo pipefail

: "${WORKDIR:?where results go}"
export JAX_PLATFORMS=${JAX_PLATFORMS:-cuda} # Not a CPU by mistake.

exec python -m simplenet_jax.main --workdir="$WORKDIR" "$@"
