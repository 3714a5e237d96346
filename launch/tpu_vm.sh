#!/usr/bin/env bash
# A run on all hosts of a Cloud TPU VM or slice, which have the package and see
# WORKDIR, images and weights (Filestore, or a bucket with Cloud Storage FUSE).
#
#   TPU_NAME=pod ZONE=us-central2-b WORKDIR=/mnt/runs/mvtec \
#     launch/tpu_vm.sh --config=mvtec
#
# With DRY_RUN=1 it says what it would do.
set -euo pipefail

: "${TPU_NAME:?the TPU VM}" "${ZONE:?where it is}"
: "${WORKDIR:?where results go, on storage that all hosts share}"
folder=${FOLDER:-simplenet_jax} # Of the repository, on the hosts.

printf -v arguments ' %q' "--workdir=$WORKDIR" "$@"
command=(
  gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker=all
  "--command=cd $(printf '%q' "$folder") &&
    python -m simplenet_jax.main --multihost$arguments"
)
if [[ -n ${DRY_RUN:-} ]]; then
  printf '%s\n' "${command[@]@Q}"
else
  exec "${command[@]}"
fi
