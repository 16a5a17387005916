# The agent, the controller and the command line in one image:
#
#   docker build -t hostward:0.1.0 .
#
# Tests run this very file, instruction by instruction, on a Debian root of their own (tests/lab/image.py), and the agent in it.
# PIP_INDEX_URL names another package index; what it serves is checked against the locks' hashes all the same.
#
# Why Python is copied and marked below: a container that isn't root keeps, over an exec, only the capabilities that the file
# says (docs/install.md). The mark grants nothing that the container wasn't given: without NET_ADMIN there it has no effect.

FROM debian:bookworm-slim AS dependencies
RUN apt-get update -q && apt-get install -q -y --no-install-recommends python3-venv python3-dev gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* /var/cache/*
WORKDIR /src
ARG PIP_INDEX_URL
COPY requirements.lock requirements-agent.lock ./
COPY scripts/venv.sh scripts/
RUN scripts/venv.sh wheels /build

FROM dependencies AS environment
WORKDIR /src
COPY pyproject.toml README.md ./
COPY agent agent
RUN scripts/venv.sh hostward /build && scripts/venv.sh install /build /opt/hostward

FROM debian:bookworm-slim AS runtime
RUN apt-get update -q && apt-get install -q -y --no-install-recommends iptables kmod python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*
RUN groupadd --gid 10001 hostward && useradd --uid 10001 --gid 10001 --home-dir / --no-create-home --shell /usr/sbin/nologin hostward

FROM runtime
COPY --from=environment /opt/hostward /opt/hostward
RUN ln -s /opt/hostward/bin/hostward /usr/local/bin/hostward \
    && cp --remove-destination "$(readlink -f /usr/bin/python3)" /opt/hostward/bin/python3 \
    && python3 -c 'import os, struct; os.setxattr("/opt/hostward/bin/python3", "security.capability", struct.pack("<5I", 0x02000000, 1 << 12 | 1 << 13, 0, 0, 0))'
USER 10001:10001
ENTRYPOINT ["hostward"]
CMD ["agent"]
