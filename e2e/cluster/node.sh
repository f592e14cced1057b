# Sourced by init.sh, in /run/cluster: what makes a machine's namespaces a node.

# A sysfs, /var/lib, /var/log, sysctls and a network of the cluster's own.
isolate() {
  # kube-proxy and CNI read /sys/class/net of their own network namespace; the host's cgroup tree stays in it.
  mkdir /run/cgroup && mount --rbind /sys/fs/cgroup /run/cgroup
  mount -t sysfs sysfs /sys
  mount --rbind /run/cgroup /sys/fs/cgroup

  # The kubelet, libcni and the links to logs have fixed paths beneath these two.
  local path
  for path in /var/lib /var/log; do
    mkdir -p "node$path"
    mount --bind "node$path" "$path"
  done

  # The kubelet insists on writing these six, which belong to the whole machine. It gets plain files to write to.
  mkdir /run/sysctl
  local key copy
  for key in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
             kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    copy=/run/sysctl/${key//\//.}
    cat "/proc/sys/$key" >"$copy"
    mount --bind "$copy" "/proc/sys/$key"
  done

  ip link set lo up
  touch wants-network
  await 20 "the host's end of the network" test -e has-network
  ip addr add "$NODE_IP/24" dev eth0
  ip link set eth0 up
  ip route add default via "$HOST_IP"
  echo 1 >/proc/sys/net/ipv4/ip_forward
}

runtime() {
  # A folder that is itself an overlay (a container's) cannot carry another one.
  mkdir -p overlay/{lower,upper,work,merged}
  if mount -t overlay -o lowerdir=overlay/lower,upperdir=overlay/upper,workdir=overlay/work overlay overlay/merged 2>/dev/null; then
    umount overlay/merged
  else
    sed -i "s/'overlayfs'/'native'/" config/containerd.toml
  fi
  rm -rf overlay

  supervise containerd "$CONTAINERD" --config /run/cluster/config/containerd.toml
  await 30 containerd "$CTR" --address /run/cluster/containerd.sock version
  local image
  for image in images/*.tar; do
    "$CTR" --address /run/cluster/containerd.sock --namespace k8s.io images import "$image"
  done
}

node() {
  supervise kube-scheduler $BIN/kube-scheduler --kubeconfig=$PKI/scheduler.kubeconfig --secure-port=0 --leader-elect=false

  # The kubelet places every pod under this cgroup, which it expects to exist: once for each controller of cgroup v1,
  # once for all of them in v2.
  local hierarchies=(/sys/fs/cgroup/*) hierarchy
  [ ! -e /sys/fs/cgroup/cgroup.controllers ] || hierarchies=(/sys/fs/cgroup)
  for hierarchy in "${hierarchies[@]}"; do
    [ -L "$hierarchy" ] || [ ! -d "$hierarchy" ] || mkdir -p "$hierarchy/$CGROUP"
  done
  supervise kubelet $BIN/kubelet --config=/run/cluster/config/kubelet.yaml --kubeconfig=$PKI/kubelet.kubeconfig \
    --hostname-override="$NODE" --node-ip="$NODE_IP" --cert-dir=/run/cluster/kubelet-pki --v=2

  local name
  for name in $VOLUMES; do mkdir -p -m 750 "volumes/$name"; done
  kubectl apply --server-side -f config/addons.yaml -f config/volumes.yaml
  supervise kube-proxy $BIN/kube-proxy --config=/run/cluster/config/kube-proxy.yaml --v=2
  supervise volumes recycle_volumes

  await 60 "the node" kubectl wait --for=condition=Ready "node/$NODE" --timeout=1s
  await 60 "cluster DNS" kubectl -n kube-system wait --for=condition=Available deployment/coredns --timeout=1s
}

# A volume whose claim is gone is emptied and may be claimed again, as a provisioner's would be made anew.
recycle_volumes() {
  local name phase claim
  kubectl get persistentvolumes --watch -o 'jsonpath={.metadata.name} {.status.phase} {.spec.claimRef.name}{"\n"}' |
    while read -r name phase claim; do
      # It is told as Released once more when its claim has just been forgotten.
      [ "$phase" = Released ] && [ -n "$claim" ] && [ -d "volumes/$name" ] || continue
      find "volumes/$name" -mindepth 1 -delete
      chown 0:0 "volumes/$name" && chmod 750 "volumes/$name"
      kubectl patch persistentvolume "$name" --type json --patch '[{"op": "remove", "path": "/spec/claimRef"}]' || true
    done
}
