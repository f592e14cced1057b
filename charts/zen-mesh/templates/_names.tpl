{{/* Labels that select an object of a component: (dict "component" "operator"). Never changed, or an upgrade would orphan pods. */}}
{{- define "zen-mesh.selector" -}}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/name: zen-mesh
{{- end }}

{{/* Labels of an object: (dict "root" $ "component" "operator"). */}}
{{- define "zen-mesh.labels" -}}
{{ include "zen-mesh.selector" . }}
app.kubernetes.io/part-of: zen-mesh
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end }}

{{/* Reference of an image: (dict "root" $ "name" "zen-operator"). A digest stands in place of the tag. */}}
{{- define "zen-mesh.image" -}}
{{- $image := .root.Values.image -}}
{{- $digest := get $image.digests (trimPrefix "zen-" .name) -}}
{{- with $image.registry }}{{ . }}/{{ end -}}
{{ .name }}
{{- if $digest }}@{{ $digest }}{{ else }}:{{ $image.tag | default .root.Chart.AppVersion }}{{ end -}}
{{- end }}

{{/* Pod Security "restricted", and beyond it: no writable root, one user. */}}
{{- define "zen-mesh.podSecurity" -}}
fsGroup: 65532
runAsGroup: 65532
runAsNonRoot: true
runAsUser: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "zen-mesh.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
privileged: false
readOnlyRootFilesystem: true
{{- end }}

{{/* Who and where a pod is. */}}
{{- define "zen-mesh.environment" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_UID
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
{{- end }}

{{- define "zen-mesh.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Names of the certificate that the built-in CA makes for the intake, as a JSON list. The first without a wildcard is the host of URLs in the status. */}}
{{- define "zen-mesh.intakeNames" -}}
{{- $names := .Values.intake.names -}}
{{- if ne .Values.intake.exposure.type "none" -}}
{{- $names = concat .Values.intake.exposure.hosts $names | uniq -}}
{{- end -}}
{{- toJson $names -}}
{{- end }}

{{/* The folder of the CA key, where it is not the Secret zen-mesh-ca. 288 is 0440, which YAML 1.2 reads as 440. */}}
{{- define "zen-mesh.caVolume" -}}
{{- $ca := .Values.certificates.ca -}}
{{- if $ca.secretName -}}
secret: {defaultMode: 288, secretName: {{ $ca.secretName }}}
{{- else if $ca.volume -}}
{{- toYaml $ca.volume -}}
{{- end -}}
{{- end }}

{{/*
Names and the API server. A policy cannot select the API server, nor a node's DNS cache, so that the ports stand for them.
*/}}
{{- define "zen-mesh.egressToCluster" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
- ports:
    {{- range .Values.networkPolicies.apiServerPorts }}
    - {port: {{ int . }}, protocol: TCP}
    {{- end }}
{{- end }}
