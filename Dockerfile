# choreo with the reference flow: one image for every role, chosen by its arguments (`run payment`, `topics apply`, …).
# Everything that is installed comes from a lock with a hash of every file.

FROM python:3.11-slim AS build
WORKDIR /src
# What runs is installed into one environment without pip, what builds into another that stays behind.
RUN python -m venv /opt/build && python -m venv --without-pip /opt/choreo
COPY requirements-kafka.lock ./
RUN /opt/build/bin/pip --python /opt/choreo/bin/python install --no-cache-dir --no-deps --require-hashes -r requirements-kafka.lock
COPY requirements-demo.lock ./
# The build backend and its parts are in that lock; this takes their blocks out of it.
RUN awk '/^[a-z]/ { wanted = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } wanted' \
      requirements-demo.lock > build.lock \
 && /opt/build/bin/pip install --no-cache-dir --no-deps --require-hashes -r build.lock
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY choreo choreo
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/build/bin/pip --python /opt/choreo/bin/python install --no-cache-dir --no-deps --no-index /wheels/*.whl \
 # Of the programs that came along only choreo's own is called.
 && find /opt/choreo/bin -type f ! -name choreo -delete

FROM python:3.11-slim
# The ids are fixed, so that a cluster's policy and a volume's owner can name them. They lie above a system's own
# range, so that no user of a node has them.
RUN groupadd --gid 10001 choreo \
 && useradd --uid 10001 --gid choreo --no-create-home --home-dir /var/lib/choreo --shell /usr/sbin/nologin choreo \
 && mkdir -p /app /var/lib/choreo/books && chown -R choreo: /var/lib/choreo \
 # Defaults such as .choreo/books lie where a volume can be mounted; the rest may be read-only.
 && ln -s /var/lib/choreo /app/.choreo
COPY --from=build /opt/choreo /opt/choreo
WORKDIR /app
COPY pyproject.toml ./
COPY topics topics
COPY schemas schemas
COPY services services
ENV PATH=/opt/choreo/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    # Every role answers /livez there: 200 while its hosts make progress.
    CHOREO_HEALTH_PORT=8081
USER choreo
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
# By bash, in 2 ms: a Python that starts for it every time would take 80 ms of a CPU in each container.
HEALTHCHECK --interval=3s --timeout=4s --start-period=120s --retries=5 \
  CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/$CHOREO_HEALTH_PORT && printf 'GET /livez HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
ENTRYPOINT ["choreo"]
CMD ["--help"]
