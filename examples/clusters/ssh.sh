#!/usr/bin/env bash
# A sweep on this machine and others that one reaches by ssh, from the folder of the project:
#   HOSTS="gpu2 gpu3" bash examples/clusters/ssh.sh search_spaces/backmix.yaml
# Every machine has the project, with its `.venv`, in the same folder, sees SHARED, and reaches the ports of the others:
# Ray is for a network that you trust, since its token travels unencrypted.
# Change: HOSTS, the address of this machine, and where images are and results go.
set -uo pipefail
HOSTS=${HOSTS:?the other machines, as HOSTS="gpu2 gpu3"}
ADDRESS=${ADDRESS:-$(hostname -I | cut -d " " -f 1)}
SHARED=${SHARED:-$HOME/osr}

export RAY_AUTH_MODE=token RAY_ENABLE_UV_RUN_RUNTIME_ENV=0
ray=$PWD/.venv/bin/ray
[ -s ~/.ray/auth_token ] || "$ray" get-auth-token --generate >/dev/null
stop() {
  for host in $HOSTS; do ssh "$host" "$ray stop" >/dev/null; done
  "$ray" stop >/dev/null
}
trap stop EXIT
"$ray" start --head --node-ip-address="$ADDRESS" --port=6379 --include-dashboard=false || exit
for host in $HOSTS; do
  # The token by stdin: a command line can be read by everyone on that machine.
  ssh "$host" "umask 077; mkdir -p ~/.ray; cat >~/.ray/auth_token" <~/.ray/auth_token &&
    ssh "$host" "RAY_AUTH_MODE=token $ray start --address=$ADDRESS:6379" || exit
done
.venv/bin/python -m platform.sweep "$@" --address "$ADDRESS:6379" --data-root "$SHARED/data" \
  --storage "$SHARED/results" --tracking-uri "sqlite:///$SHARED/mlflow.db"
