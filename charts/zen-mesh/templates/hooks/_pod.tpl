{{/* Pod template of a hook: the operator's program and rights, with other arguments. (dict "root" $ "args" (list …)) */}}
{{- define "zen-mesh.hookPod" -}}
{{- $pod := .root.Values.operator.pod -}}
template:
  metadata:
    labels: {{- include "zen-mesh.labels" (dict "root" .root "component" "hook") | nindent 6 }}
  spec:
    automountServiceAccountToken: true
    enableServiceLinks: false
    restartPolicy: Never
    serviceAccountName: zen-operator
    securityContext: {{- include "zen-mesh.podSecurity" .root | nindent 6 }}
    {{- with include "zen-mesh.pullSecrets" .root }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with $pod.priorityClassName }}
    priorityClassName: {{ . }}
    {{- end }}
    {{- with $pod.nodeSelector }}
    nodeSelector: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $pod.tolerations }}
    tolerations: {{- toYaml . | nindent 6 }}
    {{- end }}
    containers:
      - name: {{ first .args }}
        image: {{ include "zen-mesh.image" (dict "root" .root "name" "zen-operator") }}
        imagePullPolicy: {{ .root.Values.image.pullPolicy }}
        args: {{ toJson .args }}
        env:
          {{- include "zen-mesh.environment" .root | nindent 10 }}
          - name: ZEN_LOG
            value: {{ .root.Values.operator.log | quote }}
        resources:
          requests: {cpu: 10m, memory: 32Mi}
          limits: {memory: 128Mi}
        securityContext: {{- include "zen-mesh.containerSecurity" .root | nindent 10 }}
{{- end }}
