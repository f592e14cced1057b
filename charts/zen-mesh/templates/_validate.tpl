{{/*
Values that the schema takes and nobody should run. Every problem is told at once, with what to do. It is the last line for values
that came past the schema (--skip-schema-validation) too.
*/}}
{{- define "zen-mesh.validate" -}}
{{- $problems := list -}}
{{- $v := .Values -}}
{{- $production := ne $v.profile "dev" -}}

{{- if not (has $v.profile (list "production" "dev")) -}}
{{- $problems = append $problems (printf "profile %q is unknown: production, or dev for a cluster to try things out." (toString $v.profile)) -}}
{{- end -}}

{{- range $plane := concat (list "operator" "ingester" "egress") ($v.zenLock.enabled | ternary (list "zenLock") list) -}}
{{- $replicas := int (get $v $plane).replicas -}}
{{- if lt $replicas 1 -}}
{{- $problems = append $problems (printf "%s.replicas is %d: at least 1. To stop intake without losing events, set active: false in the Webhooks." $plane $replicas) -}}
{{- else if and $production (eq $replicas 1) (not $v.podDisruptionBudgets.enabled) -}}
{{- $problems = append $problems (printf "%s.replicas is 1 and podDisruptionBudgets.enabled is false: draining one node would take %s away without a word. Use 2 replicas and the budgets, or profile: dev." $plane $plane) -}}
{{- end -}}
{{- end -}}

{{- if eq $v.ingester.storage.type "memory" -}}
{{- $problems = append $problems "ingester.storage.type is memory: an event that was acknowledged would be lost with its pod. Use persistent; values-dev.yaml has a small volume." -}}
{{- end -}}
{{- if not $v.link.tls -}}
{{- $problems = append $problems "link.tls is false: there is no plaintext link between ingester and egress, in no profile. Remove the value." -}}
{{- end -}}

{{- $domain := toString $v.mesh.trustDomain -}}
{{- if not (regexMatch "^[a-z0-9._-]{1,255}$" $domain) -}}
{{- $problems = append $problems (printf "mesh.trustDomain is %q: a DNS name in lower case such as zen-mesh.local. Every identity of the mesh begins with it." $domain) -}}
{{- end -}}
{{- if eq $v.mesh.certificates.issuer "cert-manager" -}}
{{- if not $v.mesh.certificates.certManager.name -}}
{{- $problems = append $problems "mesh.certificates.issuer is cert-manager and mesh.certificates.certManager.name is empty: name the issuer." -}}
{{- end -}}
{{- if not (contains "-----BEGIN CERTIFICATE-----" $v.mesh.certificates.certManager.ca) -}}
{{- $problems = append $problems "mesh.certificates.issuer is cert-manager and mesh.certificates.certManager.ca holds no certificate: give the PEM of the issuer's CA, from which alone identities are taken." -}}
{{- end -}}
{{- end -}}
{{- if and $v.certificates.ca.secretName $v.certificates.ca.volume -}}
{{- $problems = append $problems "certificates.ca has both secretName and volume: the CA key comes from one of them." -}}
{{- end -}}
{{- if and $v.zenLock.custody.secretName $v.zenLock.custody.volume -}}
{{- $problems = append $problems "zenLock.custody has both secretName and volume: the age identities come from one of them." -}}
{{- end -}}
{{- if and $v.member.enabled (or $v.certificates.ca.secretName $v.certificates.ca.volume) -}}
{{- $problems = append $problems "member.enabled is true and certificates.ca names a root: a member has its issuing CA from its hub. Remove one of them." -}}
{{- end -}}
{{- if and $v.member.enabled $v.hub.enabled -}}
{{- $problems = append $problems "member.enabled and hub.enabled are both true: a cluster is a hub, or a member of one." -}}
{{- end -}}
{{- range $pin := $v.member.rootFingerprints -}}
{{- if not (regexMatch "^([0-9A-Fa-f]{2}:?){32}$" (toString $pin)) -}}
{{- $problems = append $problems (printf "member.rootFingerprints has %q: a SHA-256 of 64 hexadecimal digits, as kubectl zen enroll prints it." (toString $pin)) -}}
{{- end -}}
{{- end -}}
{{- if has (clean $v.certificates.ca.path) (list "/" "/run/zen-mesh" "/etc/zen-mesh" "/var/run/secrets/kubernetes.io/serviceaccount") -}}
{{- $problems = append $problems (printf "certificates.ca.path %s is used otherwise in the pod: choose a folder of its own such as /etc/zen-mesh/ca." $v.certificates.ca.path) -}}
{{- end -}}

{{- if and $production (eq $v.image.tag "latest") -}}
{{- range $name, $digest := $v.image.digests -}}
{{- if not $digest -}}
{{- $problems = append $problems (printf "image.tag is latest and image.digests.%s is empty: two pods of one mesh could run two releases. Name a version or a digest." $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if and $v.ingester.service.nodePort (eq $v.ingester.service.type "ClusterIP") -}}
{{- $problems = append $problems "ingester.service.nodePort is set and ingester.service.type is ClusterIP: use NodePort or LoadBalancer." -}}
{{- end -}}
{{- if $v.hub.enabled -}}
{{- if not $v.hub.url -}}
{{- $problems = append $problems "hub.enabled is true and hub.url is empty: name where members reach the Service zen-operator-hub, such as https://hub.example.com:8445." -}}
{{- end -}}
{{- if and $v.hub.service.nodePort (eq $v.hub.service.type "ClusterIP") -}}
{{- $problems = append $problems "hub.service.nodePort is set and hub.service.type is ClusterIP: use NodePort or LoadBalancer." -}}
{{- end -}}
{{- if and $v.hub.relayService.nodePort (eq $v.hub.relayService.type "ClusterIP") -}}
{{- $problems = append $problems "hub.relayService.nodePort is set and hub.relayService.type is ClusterIP: use NodePort or LoadBalancer." -}}
{{- end -}}
{{- end -}}
{{- $exposure := $v.intake.exposure -}}
{{- if ne $exposure.type "none" -}}
{{- if not $exposure.hosts -}}
{{- $problems = append $problems (printf "intake.exposure.type is %s and intake.exposure.hosts is empty: name the hosts that sources use." $exposure.type) -}}
{{- end -}}
{{- end -}}
{{- if eq $exposure.type "gateway" -}}
{{- if not $exposure.gateway.parentRefs -}}
{{- $problems = append $problems "intake.exposure.type is gateway and intake.exposure.gateway.parentRefs is empty: name the Gateway." -}}
{{- end -}}
{{- $backend := $exposure.gateway.backendTLS -}}
{{- if and $v.intake.tlsSecret (not (and $backend.hostname $backend.caConfigMap)) -}}
{{- $problems = append $problems "intake.tlsSecret is set and intake.exposure.gateway.backendTLS is not: name the hostname in that certificate and the ConfigMap with its CA, or the gateway cannot verify the intake." -}}
{{- end -}}
{{- end -}}

{{- if $problems -}}
{{- fail (printf "\n\nThese values cannot be used:\n\n  - %s\n" (join "\n  - " $problems)) -}}
{{- end -}}
{{- end }}
