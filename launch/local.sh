#!/usr/bin/env bash
# One run of N processes on this machine.
#
#   launch/local.sh 2 --config=configs/mvtec.py --workdir=runs/mvtec
#
# NVIDIA GPUs are divided among the processes. Lines are marked with the number
# of their process. If one fails, the others save and end.
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
port=$(python -c 'import socket
with socket.socket() as probe:
  probe.bind(("localhost", 0))
  print(probe.getsockname()[1])')
export JAX_COORDINATOR_BIND_ADDRESS=localhost:$port # Nobody else is to join.
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}

declare -A running
# To a process that is saving, a second signal means to end at once.
told=0
stop() {
  told=1
  kill -TERM "${!running[@]}" 2> /dev/null || true
}
trap stop INT TERM
for ((i = 0; i < count; i++)); do
  if ((share)); then
    CUDA_VISIBLE_DEVICES=$(IFS=, && echo "${gpus[*]:i * share:share}")
    export CUDA_VISIBLE_DEVICES
  fi
  # In sessions of their own: Ctrl-C reaches them through this script alone.
  setsid python -m simplenet_jax.main "$@" --multihost --num_processes="$count" \
    --coordinator_address="localhost:$port" --process_id="$i" \
    > >(setsid sed -u "s/^/[$i] /") 2> >(setsid sed -u "s/^/[$i] /" >&2) &
  running[$!]=$i
done

first=0
while ((${#running[@]})); do
  status=0
  wait -n -p ended "${!running[@]}" || status=$?
  [[ -n ${ended:-} ]] || continue # A signal, which was passed on.
  if ((status && !first)); then
    first=$status
    echo "launch/local.sh: process ${running[$ended]} ended with status" \
      "$status; the others are to save and end" >&2
    ((told)) || stop
  fi
  unset "running[$ended]"
done
exit "$first"
