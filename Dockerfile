# One image with every binary; the command names the one to run. Needs no BuildKit.
#   docker build -t flotilla:local .

# The manifests alone, with empty sources: this layer changes only when a manifest or the lock file
# does, and so does the layer that builds the dependencies from it.
FROM rust:1.95-slim-bookworm AS manifests
WORKDIR /tree
COPY . .
RUN mkdir /skeleton \
 && cp --parents Cargo.toml Cargo.lock .cargo/config.toml /skeleton \
 && find crates bins tests xtask -name Cargo.toml -exec cp --parents {} /skeleton \; \
 && find crates bins tests xtask \( -name lib.rs -o -name main.rs -o -name build.rs \) -exec cp --parents {} /skeleton \; \
 && find /skeleton -name lib.rs -exec sh -c ': > "$1"' - {} \; \
 && find /skeleton \( -name main.rs -o -name build.rs \) -exec sh -c 'echo "fn main() { }" > "$1"' - {} \;

FROM rust:1.95-slim-bookworm AS builder
# `dev` builds in a third of the time, for trying.
ARG PROFILE=release
RUN apt-get update \
 && apt-get install --yes --no-install-recommends cmake g++ pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY --from=manifests /skeleton .
RUN cargo build --locked --profile "$PROFILE" --workspace --exclude xtask --exclude flotilla-tests --bins
COPY . .
# Sources carry the dates of the checkout; cargo must see them as newer than the empty ones.
RUN find . -name '*.rs' -exec touch {} + \
 && cargo build --locked --profile "$PROFILE" --workspace --exclude xtask --exclude flotilla-tests --bins \
 && mkdir /app \
 && find target -maxdepth 2 -type f -executable ! -name '*.so' ! -name '*.d' -exec cp {} /app/ \;
# Line tables are four fifths of a binary; the names of functions stay for backtraces.
RUN strip --strip-debug /app/*

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 flotilla \
 && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin flotilla
COPY --from=builder /app /app
USER 10001:10001
ENV PATH="/app:$PATH" LOG_FORMAT=json
EXPOSE 3000
STOPSIGNAL SIGTERM
CMD ["/app/fleetctl", "--help"]
