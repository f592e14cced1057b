# Sourced by init.sh, in /run/cluster: etcd, kube-apiserver, kube-controller-manager.

control_plane() {
  local bind=127.0.0.1 reconciler=none
  [ "$mode" = control-plane ] || bind=0.0.0.0 reconciler=lease

  # etcd listens on sockets in this folder, so that only the API server's port can collide with anything. What follows
  # unix:// must look like host:port; it becomes the file's name in the working directory.
  supervise etcd $BIN/etcd --name default --data-dir etcd --unsafe-no-fsync --logger zap --log-level warn \
    --listen-client-urls unix://etcd:1 --advertise-client-urls unix://etcd:1 \
    --listen-peer-urls unix://etcd:2 --initial-advertise-peer-urls unix://etcd:2 --initial-cluster default=unix://etcd:2

  supervise kube-apiserver $BIN/kube-apiserver --etcd-servers=unix://etcd:1 \
    --bind-address=$bind --secure-port="$API_PORT" --advertise-address="$NODE_IP" \
    --service-cluster-ip-range="$SERVICE_CIDR" --endpoint-reconciler-type=$reconciler \
    --allow-privileged=true --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --client-ca-file=$PKI/ca.crt --tls-cert-file=$PKI/apiserver.crt --tls-private-key-file=$PKI/apiserver.key \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file=$PKI/sa.pub --service-account-signing-key-file=$PKI/sa.key \
    --kubelet-client-certificate=$PKI/apiserver-kubelet.crt --kubelet-client-key=$PKI/apiserver-kubelet.key \
    --kubelet-certificate-authority=$PKI/ca.crt --kubelet-preferred-address-types=InternalIP \
    --enable-aggregator-routing=true \
    --requestheader-client-ca-file=$PKI/front-proxy-ca.crt --requestheader-allowed-names=front-proxy-client \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file=$PKI/front-proxy-client.crt --proxy-client-key-file=$PKI/front-proxy-client.key \
    --audit-policy-file=config/audit.yaml --audit-log-path=log/audit.log --audit-log-maxsize=100000
  await 90 "the API server" kubectl get --raw /readyz

  # At its usual 20 requests a second the controller manager takes 5 s for its own ServiceAccounts.
  supervise kube-controller-manager $BIN/kube-controller-manager --kubeconfig=$PKI/controller-manager.kubeconfig \
    --secure-port=0 --leader-elect=false --kube-api-qps=1000 --kube-api-burst=1000 --use-service-account-credentials \
    --service-account-private-key-file=$PKI/sa.key --root-ca-file=$PKI/ca.crt \
    --cluster-signing-cert-file=$PKI/ca.crt --cluster-signing-key-file=$PKI/ca.key \
    --allocate-node-cidrs=true --cluster-cidr="$POD_CIDR" --service-cluster-ip-range="$SERVICE_CIDR"
}
