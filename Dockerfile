# chaosd as an agent in a container: make image, on a Debian of the base's release. docs/containers.md says
# how it is run, and which capabilities it needs.
ARG BASE=debian:bookworm-slim
FROM ${BASE}

# Nothing is fetched where the base has all of them.
ARG PACKAGES="python3 libbpf1 iproute2 kmod util-linux"
RUN if ! dpkg-query --show ${PACKAGES} >/dev/null 2>&1; then \
        apt-get update \
        && apt-get install --yes --no-install-recommends ${PACKAGES} \
        && rm -rf /var/lib/apt/lists/*; \
    fi

# What tools/install.sh has staged, with all that it depends on, for the base's Python.
COPY build/root/ /
RUN chaosd --version

# Without a word it is the service: what one that was killed has left is put back first.
ENTRYPOINT ["/bin/sh", "-c", "[ $# -gt 0 ] || { chaosd revert --all && set -- daemon; }; exec chaosd \"$@\"", "chaosd"]
