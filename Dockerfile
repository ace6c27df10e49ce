# The service in one image: the wheel is built in the first stage, and only the environment that it was installed into is kept.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# Locked, with hashes, wheels only: nothing enters the image that requirements/ does not name.
COPY requirements/build.txt requirements/run.txt requirements/
RUN python3 -m venv /build \
    && /build/bin/python -m pip install --require-hashes --only-binary=:all: --requirement requirements/build.txt \
    && python3 -m venv /opt/rolehost \
    && /opt/rolehost/bin/python -m pip install --require-hashes --only-binary=:all: --requirement requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY legacy_bin legacy_bin
COPY rolehost rolehost
RUN /build/bin/python -m hatchling build --target wheel \
    && /opt/rolehost/bin/python -m pip install --no-index --no-deps dist/*.whl \
    && /opt/rolehost/bin/python -m compileall -q /opt/rolehost/lib

FROM ${BASE}
LABEL org.opencontainers.image.title="rolehost" \
    org.opencontainers.image.description="The worker-role runtime of Azure Cloud Services, brought to containers and to Python." \
    org.opencontainers.image.licenses="MIT"
# setpriv and prlimit put the limits on console applications: without them the build stops here, not a job later.
RUN setpriv --version && prlimit --version \
    && groupadd --gid 10001 rolehost \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin rolehost \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data
COPY --from=build /opt/rolehost /opt/rolehost
ENV PATH=/opt/rolehost/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
# Of `rolehost up`. A container that starts with `run ROLE` has its probes on --probe-port, and its orchestrator asks there.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "from urllib.request import ProxyHandler as P, build_opener; build_opener(P({})).open('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["rolehost"]
CMD ["up", "--host", "0.0.0.0"]
