{{- define "onnxport.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "onnxport.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "onnxport.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "onnxport.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "onnxport.selectorLabels" -}}
app.kubernetes.io/name: {{ include "onnxport.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "onnxport.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "onnxport.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "onnxport.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "onnxport.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "onnxport.image" -}}
{{- $tag := default (printf "%s%s" .Chart.AppVersion (ternary "-gpu" "" .Values.gpu.enabled)) .Values.image.tag }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository $tag }}
{{- end }}
{{- end }}

{{- define "onnxport.claimName" -}}
{{- default (printf "%s-models" (include "onnxport.fullname" .)) .Values.models.pvc.existingClaim }}
{{- end }}

{{- define "onnxport.resources" -}}
{{- $resources := deepCopy .Values.resources }}
{{- if .Values.gpu.enabled }}
{{- $_ := set $resources "limits" (merge (dict .Values.gpu.resource .Values.gpu.count) (default dict $resources.limits)) }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{- define "onnxport.modelsVolume" -}}
- name: models
{{- if eq .Values.models.type "pvc" }}
  persistentVolumeClaim:
    claimName: {{ include "onnxport.claimName" . }}
    readOnly: true
{{- else if eq .Values.models.type "image" }}
  image:
    reference: {{ required "models.image.reference: which image holds the models?" .Values.models.image.reference | quote }}
    pullPolicy: {{ .Values.models.image.pullPolicy }}
{{- else }}
  emptyDir:
    sizeLimit: {{ .Values.models.s3.sizeLimit }}
{{- end }}
{{- end }}

{{- define "onnxport.queueQuery" -}}
{{- $service := include "onnxport.fullname" . }}
{{- default (printf "histogram_quantile(0.95, sum by (le) (rate(onnxport_request_seconds_bucket{stage=\"queue\",namespace=%q,service=%q}[1m])))" .Release.Namespace $service) .Values.autoscaling.keda.query }}
{{- end }}
