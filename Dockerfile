# The image of ESB, for those who build with a container engine:
#
#   docker build -t registry.example/esb:0.1.0 .
#
# Its first stage runs the build that needs no engine (node hack/run.mjs hack/build-image.ts), so both give the same files
# in the same three layers; what follows FROM scratch says what hack/image/image-content.ts says, which a test checks.
# Nothing of the images named here gets into it but Node.js and, through their apt, Debian packages. Give them by digest,
# and a day of snapshot.debian.org, for a build that can be repeated later:
#
#   --build-arg GO_IMAGE=golang:1.26.8-bookworm@sha256:… --build-arg NODE_IMAGE=node:26.10.0-bookworm@sha256:…
#   --build-arg DEBIAN_SNAPSHOT=20261125T000000Z --build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
ARG GO_IMAGE=golang:1.26.8-bookworm
ARG NODE_IMAGE=node:26.10.0-bookworm

FROM ${GO_IMAGE} AS go

FROM ${NODE_IMAGE} AS build
ARG DEBIAN_SNAPSHOT=
ARG SOURCE_DATE_EPOCH=0
COPY --from=go /usr/local/go /usr/local/go
ENV PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin GOTOOLCHAIN=local
RUN if [ -n "$DEBIAN_SNAPSHOT" ]; then \
      rm -f /etc/apt/sources.list.d/*; \
      for part in debian:bookworm debian:bookworm-updates debian-security:bookworm-security; do \
        echo "deb [check-valid-until=no] http://snapshot.debian.org/archive/${part%:*}/$DEBIAN_SNAPSHOT ${part#*:} main"; \
      done > /etc/apt/sources.list; \
    fi; \
    apt-get update && apt-get install --yes --no-install-recommends binutils gcc libc6-dev make
WORKDIR /src
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund
COPY . .
RUN node hack/build-image.ts --root /image

FROM scratch
COPY --from=build /image/base /
COPY --from=build /image/modules /
COPY --from=build /image/program /
LABEL org.opencontainers.image.title=esb \
      org.opencontainers.image.version=0.1.0 \
      org.opencontainers.image.licenses=Apache-2.0
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    NODE_ENV=production
WORKDIR /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/esb"]
CMD ["--help"]
