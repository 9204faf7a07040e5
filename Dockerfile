# CPU target (default): what continuous integration runs.   docker build --target cpu -t research .
# CUDA target: vLLM beside the trainer.                     docker build --target cuda -t research:cuda .
FROM python:3.11-slim-bookworm AS cpu
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home researcher
USER researcher
RUN mkdir /home/researcher/project
WORKDIR /home/researcher/project
COPY --chown=researcher . .
RUN make .venv/.installed-dev
ENV PATH=/home/researcher/project/.venv/bin:$PATH
CMD ["make", "test"]

FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04 AS cuda
RUN apt-get update && apt-get install -y --no-install-recommends git make python3 python3-venv && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home researcher
USER researcher
RUN mkdir /home/researcher/project
WORKDIR /home/researcher/project
COPY --chown=researcher . .
RUN make .venv/.installed && .venv/bin/pip install --no-cache-dir -c constraints.txt -e '.[vllm]'
ENV PATH=/home/researcher/project/.venv/bin:$PATH
CMD ["research", "doctor"]
