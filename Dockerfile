# Two images of this project: --target cpu, and --target cuda for a machine with an NVIDIA GPU and NVIDIA's container
# toolkit (the driver comes from the host, CUDA's libraries with torch). How to run them: compose.yaml, docs/containers.md.
FROM python:3.12-slim-bookworm AS base
# Genesis imports the first two, and its camera draws with the others; see install_genesis.sh.
# Debian keeps one version of each per release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libx11-6 libegl1 libxrender1 libgl1-mesa-dri \
    && rm -rf /var/lib/apt/lists/*
# Any user may write the home and the caches: compose.yaml runs as the person whose logs these are.
RUN useradd --create-home --uid 1000 biped \
    && mkdir -p /biped /cache \
    && chown biped:biped /biped \
    && chmod 1777 /home/biped /cache
WORKDIR /biped
USER 1000
# Genesis compiles its kernels once per volume, not once per container.
ENV HOME=/home/biped USER=biped LOGNAME=biped XDG_CACHE_HOME=/cache PATH=/biped/.venv/bin:$PATH PYTHONUNBUFFERED=1
VOLUME /cache
# A training writes its metrics after each rollout. Before the first one kernels are compiled.
HEALTHCHECK --interval=60s --timeout=10s --start-period=15m \
    CMD ["/bin/sh", "-c", "test -n \"$(find logs -name metrics.jsonl -mmin -15 -print -quit)\""]
STOPSIGNAL SIGTERM
CMD ["python", "biped_train.py"]

FROM base AS cpu
COPY --chown=biped:biped . .
RUN ./install_genesis.sh --cpu --no-dev --venv .venv --python python3.12 && rm -rf /cache/* /home/biped/.cache

FROM base AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics
COPY --chown=biped:biped . .
RUN ./install_genesis.sh --cuda --no-dev --venv .venv --python python3.12 && rm -rf /cache/* /home/biped/.cache
