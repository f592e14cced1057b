{{- define "zen-mesh.viewRules" -}}
- apiGroups: [zen-mesh.io]
  resources: [webhooks, destinations, zenlocks, clusterenrollments]
  verbs: [get, list, watch]
- apiGroups: [data.zen-mesh.io]
  resources: [deadletters, webhookevents, replays]
  verbs: [get, list]
- apiGroups: [data.zen-mesh.io]
  resources: [meshstatuses]
  verbs: [list]
{{- end }}

{{- define "zen-mesh.editRules" -}}
- apiGroups: [zen-mesh.io]
  resources: [webhooks, destinations, zenlocks]
  verbs: [create, update, patch, delete, deletecollection]
- apiGroups: [data.zen-mesh.io]
  resources: [replays, replays/cancel]
  verbs: [create]
{{- end }}

{{- define "zen-mesh.adminRules" -}}
- apiGroups: [zen-mesh.io]
  resources: [clusterenrollments]
  verbs: [create, update, patch, delete, deletecollection]
- apiGroups: [data.zen-mesh.io]
  resources: [deadletters/payload, signingkeys]
  verbs: [get]
{{- end }}
