//! What the operator may do, as it is used: the chart grants exactly this, and a test compares that with the API server's
//! audit log (`e2e/tests/it/rights.rs`, K-06).
//!
//! Reads are lists and watches only; what is read by name is listed with a field selector, so that it can be granted by name.
//! Everything is made by server-side apply, which needs `patch` and, for what does not exist yet, `create`; both can be
//! granted by name, for the name is part of the request's path.
//!
//! | where | resources | names | verbs | by |
//! |---|---|---|---|---|
//! | cluster | `zen-mesh.io` webhooks, destinations, zenlocks, clusterenrollments | | list, watch | compile, status |
//! | cluster | the `status` of the same | | patch | status |
//! | cluster | namespaces | | list, watch | compile |
//! | cluster | `events.k8s.io` events | | create, patch | [`Writer::event`](crate::Writer::event) |
//! | cluster | `authentication.k8s.io` tokenreviews | | create | identity |
//! | cluster | roles, rolebindings | | list, watch | [`World`](crate::world::World) |
//! | cluster | roles, rolebindings | zen-ingester, zen-egress | create, patch, delete | [`tenants`](crate::decide::tenants) |
//! | cluster | roles | zen-ingester, zen-egress | escalate, bind | the same: it grants what it does not have |
//! | cluster | apiservices | v1alpha1.data.zen-mesh.io | list, watch, create, patch, delete | [`decide`](crate::decide) |
//! | own | configmaps | zen-mesh, zen-mesh-workloads, zen-mesh-trust, zen-mesh-rotation | list, watch | configuration, identity |
//! | own | configmaps | zen-mesh-trust, zen-mesh-rotation | create, patch | identity, [`rotation`](crate::rotation) |
//! | own | configmaps | zen-mesh-certificates | list, create, patch | [`rotation`](crate::rotation) |
//! | own | secrets | zen-mesh-issuer-next | list, watch, create, patch, delete | the same |
//! | own | secrets | zen-mesh-root, zen-mesh-ingester-keys, zen-mesh-egress-keys, zen-mesh-issuer | list, watch, create, patch | keys, identity |
//! | own | secrets | zen-mesh-ca, zen-mesh-ca-next | list, create, patch, delete | identity, [`rotation`](crate::rotation) |
//! | own | leases | zen-operator | get, update, create | election; a replace makes a Lease that is missing |
//! | own | statefulsets, deployments, services, poddisruptionbudgets, networkpolicies | | list, watch | [`World`](crate::world::World) |
//! | own | statefulsets | zen-ingester | create, patch | [`decide`](crate::decide) |
//! | own | deployments | zen-egress | create, patch | the same |
//! | own | services | zen-ingester, zen-ingester-peers, zen-ingester-api, zen-ingester-relay, zen-egress | create, patch | the same |
//! | own | services | zen-ingester-api, zen-ingester-relay | delete | the same, when switched off |
//! | own | poddisruptionbudgets, networkpolicies | zen-ingester, zen-egress | create, patch, delete | the same; deleted when switched off |
//! | own | endpointslices | | list, watch | status: the pods to ask |
//! | own | pods | | list, watch, create, patch, delete | [`scale`](crate::scale): pods that empty a queue |
//! | own | persistentvolumeclaims | | list, watch, patch | [`scale`](crate::scale): the mark of an empty queue |
//!
//! `zen-operator cleanup` and `zen-operator wait` use a part of it.
