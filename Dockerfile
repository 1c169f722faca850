# The workbook in a container:  docker build -t ferkit .  &&  docker run --rm -p 127.0.0.1:8888:8888 ferkit
# then open the address that it prints. To use pictures and keep results of your own: add  -v "$PWD/mine:/ferkit/mine".
FROM python:3.12-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home reader && mkdir /ferkit && chown reader /ferkit
USER reader
WORKDIR /ferkit
COPY --chown=reader . .

# The index of small PyTorch builds; without it a download of several gigabytes of GPU libraries.
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu PIP_NO_CACHE_DIR=1
RUN make setup

EXPOSE 8888
CMD ["make", "lab", "ARGS=--ip 0.0.0.0 --port 8888 --no-browser"]
