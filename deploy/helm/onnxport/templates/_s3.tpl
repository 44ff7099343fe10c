{{- define "onnxport.copyFromS3" -}}
{{- $s3 := .Values.models.s3 }}
- name: models
  image: {{ $s3.image | quote }}
  command: [aws]
  args:
    - s3
    - sync
    - --no-progress
    - --exact-timestamps
    - {{ printf "s3://%s/%s" (required "models.s3.bucket: which bucket holds the models?" $s3.bucket) $s3.prefix | quote }}
    - /models
  env:
    - name: HOME
      value: /tmp
    {{- with $s3.region }}
    - name: AWS_REGION
      value: {{ . | quote }}
    {{- end }}
    {{- with $s3.endpoint }}
    - name: AWS_ENDPOINT_URL_S3
      value: {{ . | quote }}
    {{- end }}
  {{- with $s3.existingSecret }}
  envFrom:
    - secretRef:
        name: {{ . }}
  {{- end }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  volumeMounts:
    - name: models
      mountPath: /models
    - name: tmp
      mountPath: /tmp
{{- end }}
