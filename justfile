# Shorthand for the commands of README.md.

default:
    @just --list

# The whole mesh on this machine, with a demonstration.
demo:
    cargo run --release -p zen -- up examples/quickstart --demo

# Everything that CI checks.
test:
    cargo xtask test

# Write generated files.
generate:
    cargo xtask generate

# Measure against nginx and the disk.
bench:
    cargo xtask bench

# A real cluster with the mesh on it.
cluster:
    cargo xtask cluster up
    cargo xtask cluster install

# Remove that cluster.
cluster-down:
    cargo xtask cluster down

# The images, into target/images.
images:
    cargo xtask images

# Only the tests on real pods.
test-node:
    cargo xtask test --only node
