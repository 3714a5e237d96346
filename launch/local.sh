#!/usr/bin/env bash
# One run of N processes on this machine, best as many as it has GPUs.
#
#   launch/local.sh 2 --config=mvtec --workdir=runs/mvtec
#
# NVIDIA GPUs are divided among the processes. Lines are marked with the number
# of their process. One that fails stops no other.
set -euo pipefail

count=${1:?how many processes}
shift
gpus=()
if [[ -n ${CUDA_VISIBLE_DEVICES:-} ]]; then
  IFS=, read -ra gpus <<< "$CUDA_VISIBLE_DEVICES"
elif command -v nvidia-smi > /dev/null; then
  mapfile -t gpus < <(nvidia-smi --query-gpu=index --format=csv,noheader)
fi
if ((${#gpus[@]} % count)); then
  echo "launch/local.sh: ${#gpus[@]} GPUs cannot be divided by $count" >&2
  exit 2
fi
share=$((${#gpus[@]} / count))

declare -A running
trap 'kill -TERM "${!running[@]}" 2> /dev/null || true' INT TERM
for ((i = 0; i < count; i++)); do
  if ((share)); then
    CUDA_VISIBLE_DEVICES=$(IFS=, && echo "${gpus[*]:i * share:share}")
    export CUDA_VISIBLE_DEVICES
  fi
  # In sessions of their own: Ctrl-C reaches them through this script alone.
  setsid python -m simplenet_jax.main "$@" --processes_on_host="$count" \
    --processes="$count" --process="$i" \
    > >(setsid sed -u "s/^/[$i] /") 2> >(setsid sed -u "s/^/[$i] /" >&2) &
  running[$!]=$i
done

first=0
while ((${#running[@]})); do
  status=0
  wait -n -p ended "${!running[@]}" || status=$?
  [[ -n ${ended:-} ]] || continue # A signal, which was passed on.
  ((first)) || first=$status
  unset "running[$ended]"
done
exit "$first"
