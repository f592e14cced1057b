//! The programs that a self-contained node consists of.

/// One that is started again when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The store of the API server.
    Etcd,
    /// The API server.
    ApiServer,
    /// Deployments, StatefulSets, endpoints, garbage collection.
    ControllerManager,
    /// Which pod goes where.
    Scheduler,
    /// What runs pods.
    Kubelet,
    /// The container runtime. Containers go on without it.
    Containerd,
    /// Services' addresses.
    KubeProxy,
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Kubelet,
        Self::Containerd,
        Self::KubeProxy,
    ];

    /// Its program, and the name of its log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::Containerd => "containerd",
            Self::KubeProxy => "kube-proxy",
        }
    }
}
