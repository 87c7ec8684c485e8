#!/usr/bin/env bash
# A sweep on one node of a Slurm cluster, from the folder of the project:
#   sbatch examples/clusters/slurm_node.sh search_spaces/backmix.yaml
# Before Slurm's time is over, running trials keep a checkpoint, and the job queues again and goes on.
# Change: the lines of SBATCH, and where images are and results go.
#SBATCH --job-name=osr
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus=1
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=osr-%j.log
set -uo pipefail
SHARED=${SHARED:-$HOME/osr}

source .venv/bin/activate
python -m platform.sweep "$@" --data-root "$SHARED/data" --storage "$SHARED/results" \
  --tracking-uri "sqlite:///$SHARED/mlflow.db" &
sweep=$!
trap 'kill -TERM $sweep' TERM # to this script alone, 300 seconds before the end (B: above)
wait $sweep
code=$?
while kill -0 $sweep 2>/dev/null; do # a trap ends `wait`, not the sweep
  wait $sweep
  code=$?
done
[ $code -eq 130 ] && scontrol requeue "$SLURM_JOB_ID" # interrupted: the same command goes on
exit $code
