# The driver as an image, for hosts that are not Debian and for `npm run plugin`. How it is run: docs/install.md.
#
#   docker build -t calico-libnetwork .

ARG BASE=node:20-bookworm-slim

FROM ${BASE} AS package
WORKDIR /build
COPY . .
# What a clone has already is neither fetched nor made again: where `npm run build` has run, this needs no network.
RUN ([ -f dist/main.js ] && [ -d node_modules ] || (npm ci && npm run build)) && npm prune --omit=dev --offline

FROM ${BASE}
RUN missing= && for command in ip nft iptables etcd setpriv nsenter; do command -v $command >/dev/null || missing=yes; done && \
    if [ -n "$missing" ]; then \
      apt-get update && \
      apt-get install -y --no-install-recommends iproute2 nftables iptables etcd-server util-linux && \
      rm -rf /var/lib/apt/lists/*; \
    fi
COPY --from=package /build/package.json /opt/calico-libnetwork/
COPY --from=package /build/node_modules /opt/calico-libnetwork/node_modules
COPY --from=package /build/dist /opt/calico-libnetwork/dist
RUN ln -s /opt/calico-libnetwork/dist/main.js /usr/local/bin/calico-libnetwork
WORKDIR /
STOPSIGNAL SIGTERM
ENTRYPOINT ["calico-libnetwork"]
CMD ["serve"]
