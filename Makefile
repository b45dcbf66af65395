# An index: each line runs one thing; the logic lives in xtask, fleet and fleetctl.
.DEFAULT_GOAL := help
.PHONY: help demo up test check chaos soak bench gen fmt parts

help: ## lists the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 16

demo: ## the whole fleet on this machine, shown on the clone's own history, to the proof of a deletion (KEEP=1 leaves it running)
	cargo xtask parts --only demo
	cargo build --package fleet --package fleetctl --package index-worker
	cargo xtask demo

up: ## every service in one process, on this machine
	cargo run --package fleet -- up

test: ## every test, with real PostgreSQL, Redis, OpenSearch and LocalStack
	cargo xtask parts
	cargo build --workspace --bins
	cargo xtask gen --check
	cargo test --workspace

check: ## formatting, lints, dependencies, tidiness, unit tests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --test chaos -- -D warnings
	cargo xtask deny
	cargo xtask tidy
	cargo test --workspace --lib --bins

chaos: ## ten minutes of kills, pauses, restarts and cuts on a real fleet, then the books
	cargo xtask parts
	cargo build --workspace --bins
	mkdir -p target
	cargo test --package flotilla-tests --test chaos -- --report $(CURDIR)/target/chaos.md
	cargo xtask proof chaos target/chaos.md

bench: ## throughput and latency beside bare baselines
	cargo xtask parts
	cargo build --release --package ingest-api --package index-worker --package scheduler --package fleet --package sqs-local --package archive-worker
	cargo build --release --manifest-path bench/shove/Cargo.toml --target-dir "$${CARGO_TARGET_DIR:-target}"
	cargo build --release --manifest-path bench/Cargo.toml --target-dir "$${CARGO_TARGET_DIR:-target}" --package bench --package contender
	"$${CARGO_TARGET_DIR:-target}/release/bench"

soak: ## the long proofs, into docs/PROOF.md: simulation, mutants, drains, fuzz targets, memory
	cargo xtask parts
	cargo xtask soak

gen: ## rewrites what is derived from the catalogue, the error registry and the options
	cargo xtask gen

fmt: ## formats every file
	cargo fmt --all

parts: ## installs what the tests need and this machine lacks
	cargo xtask parts
