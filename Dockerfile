# The program alone, for any of its commands. docker-compose.yml runs the whole house from it.

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
