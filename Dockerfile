# lth-run in a container. TORCH_INDEX is the address of torch's index, for CPUs or for a version of
# CUDA (it comes with its own libraries; the machine brings driver and container toolkit):
#   docker build --build-arg TORCH_INDEX=<torch's CPU index> -t lth-runner:cpu .
#   docker build --build-arg TORCH_INDEX=<torch's CUDA index> -t lth-runner:cuda .
#   docker run --rm -u $(id -u):$(id -g) -v $PWD:/results lth-runner:cpu +experiment=digits_imp
#   docker run --rm --gpus all --shm-size 8g -u $(id -u):$(id -g) -v $PWD:/results lth-runner:cuda device=cuda
# Results and data come to lie in /results. Any other command: --entrypoint lth-status.
FROM python:3.12-slim
ARG TORCH_INDEX
# a C compiler: loops over surviving weights are made on first use
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN test -n "$TORCH_INDEX" || (echo "give --build-arg TORCH_INDEX=..." >&2 && false)
RUN pip install --no-cache-dir torch torchvision --index-url "$TORCH_INDEX"
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY conf conf
COPY src src
RUN pip install --no-cache-dir . && rm -rf /src
# a home within the image, for whatever user it is run as: caches of data, compiled loops and fonts
RUN mkdir -m 1777 /srv/lth
ENV HOME=/srv/lth
WORKDIR /results
ENTRYPOINT ["lth-run"]
