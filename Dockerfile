# The images of Zen Mesh, for people with Docker; `cargo xtask images` makes them without. One target for each program:
#   docker build --target zen-ingester --tag localhost/zen-mesh/zen-ingester:0.1.0 .
ARG RUST=1.95-bookworm

FROM rust:${RUST} AS build
WORKDIR /src
COPY . .
# As in xtask/src/images.rs: static, and nothing in the programs tells where they were built.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/target \
    triple=$(rustc -vV | sed -n 's/^host: //p') && \
    export CARGO_TARGET_DIR=/target CARGO_PROFILE_RELEASE_DEBUG=none CARGO_PROFILE_RELEASE_STRIP=debuginfo && \
    export RUSTFLAGS="-Ctarget-feature=+crt-static --remap-path-prefix=/usr/local/cargo=/cargo" && \
    export "CFLAGS_$(echo "$triple" | tr - _)=-ffile-prefix-map=/usr/local/cargo=/cargo" && \
    cargo build --locked --release --target "$triple" \
      --package zen-operator --package zen-ingester --package zen-egress --package zenlock-webhook \
      --package zen-audit-store --package zen && \
    mkdir /out && \
    for program in zen-operator zen-ingester zen-egress zenlock-webhook zen-audit zen; do \
      cp "/target/$triple/release/$program" /out/; done

# No shell, no libraries: the program, and the roots that public targets are verified with. Not root.
FROM scratch AS base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
WORKDIR /
USER 65532:65532

FROM base AS zen-operator
COPY --from=build /out/zen-operator /zen-operator
ENTRYPOINT ["/zen-operator"]

FROM base AS zen-egress
COPY --from=build /out/zen-egress /zen-egress
ENTRYPOINT ["/zen-egress"]

FROM base AS zenlock-webhook
COPY --from=build /out/zenlock-webhook /zenlock-webhook
ENTRYPOINT ["/zenlock-webhook"]

FROM base AS zen-audit
COPY --from=build /out/zen-audit /zen-audit
ENTRYPOINT ["/zen-audit"]

FROM base AS zen
COPY --from=build /out/zen /zen
ENTRYPOINT ["/zen"]

FROM base AS zen-ingester
COPY --from=build /out/zen-ingester /zen-ingester
ENTRYPOINT ["/zen-ingester"]
