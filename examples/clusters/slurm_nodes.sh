#!/usr/bin/env bash
# A sweep on several nodes of a Slurm cluster, from the folder of the project, which all nodes see:
#   sbatch examples/clusters/slurm_nodes.sh search_spaces/backmix.yaml
# As slurm_node.sh, with a Ray cluster of this job's nodes. Only who has the token of this job can join or use it.
# Change: the lines of SBATCH, and where images are and results go.
#SBATCH --job-name=osr
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=osr-%j.log
set -uo pipefail
SHARED=${SHARED:-$HOME/osr}

source .venv/bin/activate
export RAY_AUTH_MODE=token RAY_ENABLE_UV_RUN_RUNTIME_ENV=0
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN # srun passes it on
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1) # where this script runs
address=$head:$((20000 + SLURM_JOB_ID % 10000))
start=(ray start --num-cpus="$SLURM_CPUS_PER_TASK" --block)
each=(srun --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK")

"${each[@]}" --nodes=1 --nodelist="$head" "${start[@]}" --head --port="${address##*:}" --include-dashboard=false \
  --temp-dir="/tmp/ray-$SLURM_JOB_ID" &
until ray status --address "$address" >/dev/null 2>&1; do sleep 2; done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
  "${each[@]}" --nodes=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$head" "${start[@]}" --address "$address" &
fi
python -m platform.sweep "$@" --address "$address" --data-root "$SHARED/data" --storage "$SHARED/results" \
  --tracking-uri "sqlite:///$SHARED/mlflow.db" &
sweep=$!
trap 'kill -TERM $sweep' TERM # to this script alone, 300 seconds before the end (B: above)
wait $sweep
code=$?
while kill -0 $sweep 2>/dev/null; do # a trap ends `wait`, not the sweep
  wait $sweep
  code=$?
done
kill $(jobs -p) 2>/dev/null # Ray, on every node
[ $code -eq 130 ] && scontrol requeue "$SLURM_JOB_ID" # interrupted: the same command goes on
exit $code
