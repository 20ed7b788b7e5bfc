{{/* Labels of every object; give (dict "root" $ "component" <name>). */}}
{{- define "esb.labels" -}}
{{ include "esb.selector" . }}
app.kubernetes.io/part-of: esb
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name (.root.Chart.Version | replace "+" "_") }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of a Pod, without what changes with every release and would replace it; its role's values are those of `of`. */}}
{{- define "esb.podLabels" -}}
{{ include "esb.selector" . }}
app.kubernetes.io/part-of: esb
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with get (get .root.Values (.of | default .component) | default dict) "podLabels" }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The service account of a role; give (dict "root" $ "component" <name>). */}}
{{- define "esb.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: esb-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "esb.labels" . | nindent 4 }}
  {{- with (get .root.Values (.of | default .component)).serviceAccountAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* The name of the priority class of Pods that hold memory. What cannot be changed of a class is part of its name. */}}
{{- define "esb.holdPriorityClass" -}}
{{- with .Values.hold.priorityClass -}}
{{- .name -}}
{{- if and .name .create -}}
{{- if .value }}-{{ int64 .value | toString | replace "-" "minus-" }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Labels by which the Pods of a component are told, which never change. */}}
{{- define "esb.selector" -}}
app.kubernetes.io/name: esb
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- if .component }}
app.kubernetes.io/component: {{ .component }}
{{- end }}
{{- end }}

{{/* The image of ESB. */}}
{{- define "esb.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* What a container of Pod Security "restricted" has. */}}
{{- define "esb.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* What a Pod of Pod Security "restricted" has. 65532 is nobody on the nodes. */}}
{{- define "esb.restrictedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* What every Pod's spec begins with; give (dict "root" $ "account" <service account>). */}}
{{- define "esb.pod" -}}
serviceAccountName: {{ .account }}
# No variables of every Service of the namespace.
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What every container of ours begins with. */}}
{{- define "esb.container" -}}
image: {{ include "esb.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}

{{/* Where a role's Pods may be; give (dict "root" $ "values" <of the role> "component" <name>). */}}
{{- define "esb.placement" -}}
{{- $placement := dict }}
{{- range $key := list "priorityClassName" "nodeSelector" "tolerations" "affinity" }}
{{- with get $.values $key }}
{{- $_ := set $placement $key . }}
{{- end }}
{{- end }}
{{- $selector := include "esb.selector" (dict "root" .root "component" .component) | fromYaml }}
{{- $spread := list }}
{{- range .values.topologySpreadConstraints }}
{{- $spread = append $spread (merge (deepCopy .) (dict "labelSelector" (dict "matchLabels" $selector))) }}
{{- end }}
{{- with $spread }}
{{- $_ := set $placement "topologySpreadConstraints" . }}
{{- end }}
{{- toYaml $placement }}
{{- end }}

{{/* Probes by /healthz and /readyz of the port `metrics`. */}}
{{- define "esb.probes" -}}
# Until everything that an earlier run left was looked at.
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 2
  failureThreshold: 60
# That the process turns, and no more: a restart mends neither the API server nor containerd.
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end }}

{{/* Annotations of what is there while the release is uninstalled; give (list <pre-delete or post-delete> <weight>). */}}
{{- define "esb.uninstallHook" -}}
helm.sh/hook: {{ first . }}
helm.sh/hook-weight: {{ last . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
helm.sh/hook-output-log-policy: hook-failed
{{- end }}

{{/*
A Job that runs `esb retire`; give (dict "root" $ "name" <of the Job and its account> "args" <options> "seconds" <limit>
"critical" <whether it has the priority class of controllers, which may need a quota of the release>).
*/}}
{{- define "esb.retireJob" -}}
backoffLimit: 1
activeDeadlineSeconds: {{ .seconds }}
template:
  metadata:
    labels:
      {{- include "esb.podLabels" (dict "root" .root "component" "retire") | nindent 6 }}
  spec:
    {{- include "esb.pod" (dict "root" .root "account" .name) | nindent 4 }}
    restartPolicy: Never
    securityContext:
      {{- include "esb.restrictedPod" .root | nindent 6 }}
    {{- include "esb.placement" (dict "root" .root "values" (.critical | ternary (pick .root.Values.controller "priorityClassName" "nodeSelector" "tolerations") (pick .root.Values.controller "nodeSelector" "tolerations")) "component" "retire") | nindent 4 }}
    containers:
      - name: retire
        {{- include "esb.container" .root | nindent 8 }}
        args:
          - retire
          {{- range .args }}
          - {{ . }}
          {{- end }}
          - --system-namespace={{ .root.Release.Namespace }}
        securityContext:
          {{- include "esb.restricted" .root | nindent 10 }}
        resources:
          requests: {cpu: 10m, memory: 64Mi}
          limits: {memory: 512Mi}
        volumeMounts:
          - {name: tmp, mountPath: /tmp}
    volumes:
      - name: tmp
        emptyDir: {sizeLimit: 64Mi}
{{- end }}

{{/* A quantity of bytes in MiB, rounded up; other suffixes than those of the resource definition count as bytes. */}}
{{- define "esb.mebibytes" -}}
{{- $text := toString . -}}
{{- $number := regexFind "^[0-9.]+" $text | float64 -}}
{{- $suffix := regexFind "[A-Za-z]*$" $text -}}
{{- $bytes := dict "" 1.0 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 -}}
{{- ceil (divf (mulf $number (get $bytes $suffix | default 1.0)) 1048576.0) | int64 -}}
{{- end }}

{{/* The namespaces that gateways serve, each with what the names of its objects end with. */}}
{{- define "esb.gateways" -}}
- {namespace: {{ .Values.gateway.namespace | quote }}, suffix: ""}
{{- range .Values.gateway.namespaces }}
- {namespace: {{ . | quote }}, suffix: {{ printf "-%s" . | quote }}}
{{- end }}
{{- end }}

{{/* The component of the Pods of all gateways, or of all roles that keep events; give (dict "root" $ "role" <name>). */}}
{{- define "esb.components" -}}
{{- $role := .role -}}
matchLabels:
  {{- include "esb.selector" (dict "root" .root) | nindent 2 }}
matchExpressions:
  - key: app.kubernetes.io/component
    operator: In
    values:
      {{- range include "esb.gateways" .root | fromYamlArray }}
      - {{ $role }}{{ .suffix }}
      {{- end }}
{{- end }}

{{/* The service account of each gateway and of each role that keeps events, as the subjects of a binding. */}}
{{- define "esb.gatewayAccounts" -}}
{{- $root := . }}
{{- range include "esb.gateways" . | fromYamlArray }}
- {kind: ServiceAccount, name: esb-gateway{{ .suffix }}, namespace: {{ $root.Release.Namespace }}}
{{- if eq $root.Values.gateway.events.store "sqlite" }}
- {kind: ServiceAccount, name: esb-events{{ .suffix }}, namespace: {{ $root.Release.Namespace }}}
{{- end }}
{{- end }}
{{- end }}

{{/* What cannot be said by the schema, or is rendered without it. */}}
{{- define "esb.checks" -}}
{{- with .Values.gateway }}
{{- range $namespace, $_ := .hosts }}
{{- if not (has $namespace (append $.Values.gateway.namespaces $.Values.gateway.namespace)) }}
{{- fail (printf "gateway.hosts: %s is no namespace of gateway.namespace or gateway.namespaces" $namespace) }}
{{- end }}
{{- end }}
{{- if has .namespace .namespaces }}
{{- fail (printf "gateway.namespaces: %s is that of gateway.namespace already" .namespace) }}
{{- end }}
{{- if and .enabled (eq .events.store "postgres") (not .events.postgres.secretName) }}
{{- fail "gateway.events.postgres.secretName: the event store postgres needs a Secret with the connection string" }}
{{- end }}
{{- range .extraArgs }}
{{- if hasPrefix "--event-store" . }}
{{- fail "gateway.extraArgs: gateway.events.store says where events are kept" }}
{{- end }}
{{- if and (eq $.Values.gateway.events.store "postgres") (hasPrefix "--events-address" .) }}
{{- fail "gateway.extraArgs: --events-address has no meaning with a database that keeps the events" }}
{{- end }}
{{- end }}
{{- if and .tls.clientCAConfigMap (not .tls.secretName) }}
{{- fail "gateway.tls.clientCAConfigMap: clients show a certificate only where gateway.tls.secretName is set" }}
{{- end }}
{{- if gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas) }}
{{- fail "gateway.autoscaling: minReplicas is more than maxReplicas" }}
{{- end }}
{{- end }}
{{- if .Values.agent.enabled }}
{{- $namespace := lookup "v1" "Namespace" "" .Release.Namespace }}
{{- $enforced := dig "metadata" "labels" "pod-security.kubernetes.io/enforce" "" $namespace }}
{{- if has $enforced (list "restricted" "baseline") }}
{{- fail (printf "the namespace %s enforces Pod Security %s, with which no agent runs: kubectl label --overwrite namespace %s pod-security.kubernetes.io/enforce=privileged" .Release.Namespace $enforced .Release.Namespace) }}
{{- end }}
{{- end }}
{{- range list .Values.agent.stateDir .Values.agent.runDir .Values.agent.containerd.root }}
{{- if has . (list "/" "/var" "/var/lib" "/run" "/etc") }}
{{- fail (printf "agent: %s is shared with others; name a folder of its own" .) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The users that policies take for the controller, as items of a list of CEL. */}}
{{- define "esb.controllerUsers" -}}
'system:serviceaccount:{{ .Release.Namespace }}:esb-controller'{{ if .Values.controller.localUser }}, 'esb:controller'{{ end }}
{{- end -}}
