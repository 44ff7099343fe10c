# syntax=docker/dockerfile:1
# The images of onnxport: cpu (the default), gpu (CUDA 13) and trainer (torch for the CPU).
# scripts/image builds them with docker, podman or buildah.  To pin the base by its digest:
#   --build-arg BASE=python:3.11-slim-bookworm@sha256:...
ARG BASE=python:3.11-slim-bookworm

# ---- Our wheel. What pip needs to make it stays in this stage. ----
FROM ${BASE} AS wheel
WORKDIR /build
COPY scripts/image-venv /usr/local/bin/
COPY requirements/build.txt requirements/
RUN image-venv tools --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY service service
COPY training training
# One date for all files, so that the same sources make the same bytes.
RUN SOURCE_DATE_EPOCH=1767225600 tools/bin/hatchling build --target wheel

# ---- The environments, each from its lock. ----
FROM ${BASE} AS cpu-packages
COPY scripts/image-venv /usr/local/bin/
COPY requirements/cpu.txt /tmp/requirements.txt
RUN image-venv /opt/onnxport/.venv --require-hashes -r /tmp/requirements.txt
COPY --from=wheel /build/dist /tmp/dist
RUN image-venv /opt/onnxport/.venv --no-deps /tmp/dist/*.whl

# ---- What every server has. ----
FROM ${BASE} AS server
# An unwritable root keeps no bytecode: it is made with the image, and nothing is tried at run time.
# Folders that libraries want to write in are under HOME, which is where a tmpfs belongs.
ENV PATH=/opt/onnxport/.venv/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    MALLOC_ARENA_MAX=2 \
    ONNXPORT_HOST=0.0.0.0 \
    ONNXPORT_ALLOW_OPEN=1 \
    ONNXPORT_MODEL_CONTROL=none
# onnxport.toml may be mounted here.  There is no /models: the first of /models, /mnt/models and
# /opt/ml/model that exists is served, so each platform finds its own.
WORKDIR /etc/onnxport
# Any other number works too, as OpenShift gives one: nothing is owned, all is readable by group 0.
USER 10001:0
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=120s --retries=3 \
    CMD ["onnxport", "healthcheck"]
ENTRYPOINT ["onnxport"]
CMD ["serve"]

FROM server AS cpu
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="onnxport" \
      org.opencontainers.image.description="Serves verified ONNX models on the CPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=cpu-packages /opt/onnxport /opt/onnxport

# ---- CUDA 13. The driver comes from the host (580 or newer), all else from pip. ----
FROM ${BASE} AS gpu-packages
COPY scripts/image-venv /usr/local/bin/
COPY requirements/gpu.txt /tmp/requirements.txt
RUN image-venv /opt/onnxport/.venv --require-hashes -r /tmp/requirements.txt
COPY --from=wheel /build/dist /tmp/dist
RUN image-venv /opt/onnxport/.venv --no-deps /tmp/dist/*.whl

FROM server AS gpu
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="onnxport" \
      org.opencontainers.image.description="Serves verified ONNX models on CUDA 13" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CUDA_MODULE_LOADING=LAZY
COPY --from=gpu-packages /opt/onnxport /opt/onnxport

# ---- The trainer. The only image with torch; it writes bundles and ends. ----
FROM ${BASE} AS trainer-packages
# Where the CPU builds of torch lie: the page of links that PyTorch names for them, or a folder that the build mounts.
ARG TORCH_FROM
COPY scripts/image-venv /usr/local/bin/
COPY requirements/train.txt /tmp/requirements.txt
RUN image-venv /opt/onnxport/.venv ${TORCH_FROM:+--find-links "${TORCH_FROM}"} \
    --require-hashes -r /tmp/requirements.txt
COPY --from=wheel /build/dist /tmp/dist
RUN image-venv /opt/onnxport/.venv --no-deps /tmp/dist/*.whl

FROM ${BASE} AS trainer
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="onnxport-trainer" \
      org.opencontainers.image.description="Trains models and exports them with proof" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/opt/onnxport/.venv/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A volume that is new takes owner and mode from here, so that group 0 may write in it.
RUN mkdir -p /models /runs && chmod 0775 /models /runs
COPY --from=trainer-packages /opt/onnxport /opt/onnxport
COPY scripts/train /opt/onnxport/scripts/
WORKDIR /runs
USER 10001:0
ENTRYPOINT ["onnxport-train"]
CMD ["list"]

# ---- The default. ----
FROM cpu
