#!/bin/bash
# init.sh MODE RUN LOG : pid 1 of a cluster's namespaces. `cargo xtask cluster up` starts it in new mount and pid namespaces
# (and a network namespace for a node), with every address and program's path in the environment. When it ends, the
# kernel ends everything in them.
set -euo pipefail
mode=$1 run=$2 log=$3
scripts=$(cd "$(dirname "$0")" && pwd)
. "$scripts/lib.sh"
. "$scripts/control-plane.sh"
. "$scripts/node.sh"

# What is mounted from here on is seen by the cluster only. Pods' mounts must propagate inside it, hence rshared.
mount --make-rprivate /
mount --make-rshared /

# RUN is always /run/cluster, so that no configuration names a machine's path and no socket's path outgrows the
# 107 bytes of a Unix address. Containerd's shims and the kubelet keep sockets at fixed paths below /run: they get their own.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/cluster /run/cluster-bin
mount --bind "$run" /run/cluster
mount --bind "$log" /run/cluster/log
mount --bind "$BIN" /run/cluster-bin
BIN=/run/cluster-bin PKI=/run/cluster/pki
export KUBECONFIG=$PKI/admin.kubeconfig
kubectl() { $BIN/kubectl "$@"; }
cd /run/cluster

if [ "$mode" = node ]; then
  isolate
  phase "starting containerd"
  runtime
fi
phase "starting etcd and the API server"
control_plane
if [ "$mode" = node ]; then
  phase "starting the kubelet, cluster DNS and volumes"
  node
fi
# Pods and token requests in `default` need this account, which the controller manager creates.
await 60 "the default ServiceAccount" kubectl -n default get serviceaccount default
phase ready

# Reap what the daemons leave behind: bash does so while it waits.
trap 'exit 0' TERM
while :; do sleep 1000 & wait $!; done
