# Two images: nginx with the site (--target nginx), and the program alone, for any of its commands. docker-compose.yml runs
# everything from them.

# Swagger UI and Redoc for /docs and /redoc: those that `make assets` has fetched already, or fetched here.
FROM debian:bookworm-slim AS assets
COPY nginx /src
RUN if [ -f /src/assets/installed ]; then mv /src/assets /assets; else \
      apt-get update && apt-get install -y --no-install-recommends python3-pip && \
      pip download -q --no-deps --require-hashes -r /src/assets.txt -d /tmp/wheel && \
      mkdir /assets && python3 /src/unpack-assets /tmp/wheel/*.whl /assets \
      || { echo "Swagger UI could not be fetched: run 'make assets' first, where there is a network"; exit 1; }; fi

FROM nginx:stable AS nginx
COPY nginx/templates /etc/nginx/templates
COPY nginx/snippets /etc/nginx/snippets
# Whoever comes through a published port has the address of Docker's gateway, a private one: /status and /metrics are for the
# container itself.
RUN sed -i -E '/^allow (10|172|192|fc00)[.:]/d' /etc/nginx/snippets/forkloop-private.conf
COPY nginx/html /usr/share/nginx/html
COPY --from=assets /assets /usr/share/nginx/assets

FROM swift:6.3-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends libfcgi-dev libpq-dev libxxhash-dev pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# Dependencies have a layer of their own, so that a change of ours does not fetch them anew. Package.resolved may be missing.
COPY Package.swift Package.resolve[d] ./
RUN swift package resolve
COPY . .
RUN swift build -c release --static-swift-stdlib --product forkloop \
 && install -Ds "$(swift build -c release --static-swift-stdlib --show-bin-path)/forkloop" /out/forkloop

FROM debian:bookworm-slim
# 101 is nginx's group in its official image: the responders' sockets have mode 0660. A fresh volume on this folder takes
# over its owner and mode.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libfcgi0ldbl libpq5 \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o 10001 -g 101 -m 0750 /run/forkloop
COPY --from=build /out/forkloop /usr/local/bin/
USER 10001:101
STOPSIGNAL SIGTERM
ENTRYPOINT ["forkloop"]
