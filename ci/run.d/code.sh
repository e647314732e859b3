# shellcheck shell=bash
# What each line of code is held to.

step_format() {
    cargo fmt --all --check
    locked
    long_comments
    ci/atomics
    named_tests
}

# All lock files name what the manifests ask for.
locked() {
    local manifest
    for manifest in Cargo.toml foreign-crates/Cargo.toml fuzz/Cargo.toml; do
        cargo metadata --format-version 1 --locked --quiet --manifest-path "$manifest" >/dev/null
    done
}

# rustfmt leaves comments as they are.
long_comments() {
    local lines
    lines=$(git ls-files -- '*.rs' | xargs -r awk 'length > 110 && /^ *\/\// { print FILENAME ":" FNR }')
    if [ -n "$lines" ]; then
        printf 'comments longer than 110 characters:\n%s\n' "$lines" >&2
        return 1
    fi
}

# What the page on safety names in backticks, with underscores, is in the code: its tests above all.
named_tests() {
    local words='[a-z][a-z0-9]*_[a-z0-9_]*' missing
    missing=$(comm -23 <(grep -o "\`$words\`" docs/safety.md | tr -d '`' | sort -u) \
        <(git ls-files -- '*.rs' | xargs grep -ohw "$words" | sort -u))
    if [ -n "$missing" ]; then
        printf 'named in docs/safety.md, and nowhere in the code:\n%s\n' "$missing" >&2
        return 1
    fi
}

step_clippy() {
    cargo clippy --workspace --all-targets --locked -- -D warnings
}

# Most tests wait most of the time.
step_tests() {
    RUST_TEST_THREADS=$(($(nproc) * 2)) cargo test --workspace --locked
}

# Every interleaving of the few steps of rings, arenas, doorbells and records.
step_loom() {
    RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom \
        cargo test --locked -p notnets-memory --lib --release loom
}

# What needs no mapped memory, in an interpreter that knows undefined behaviour. Not what takes it minutes.
step_miri() {
    if ! cargo +nightly miri --version 2>/dev/null; then
        echo "skipped: there is no miri here (rustup toolchain install nightly --component miri)"
        return
    fi
    CARGO_TARGET_DIR=target/miri cargo +nightly miri test --locked -p notnets-memory --lib -- \
        arena::tests::a_ arena::tests::small doorbell:: record::tests::a_record_is ring::tests::a_reader ring::tests::what_was
}

step_docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
}

# The pages of docs/ as a site, below target/book. Their links lead somewhere.
step_book() {
    tool mdbook 0.5.4 --no-default-features --features search
    target/tools/bin/mdbook build docs
    ci/links target/book
}

# A minute of each fuzz target, all at once, from a seed that is printed. The stable compiler instruments code if it
# is told that it may.
step_fuzz() {
    local work target failed=0
    local -A fuzzers=()
    tool cargo-fuzz 0.13.2
    export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$PWD/target/fuzz PATH=$PWD/target/tools/bin:$PATH
    cargo fuzz build --fuzz-dir fuzz
    work=$(mktemp -d)
    for target in $(cargo fuzz list --fuzz-dir fuzz); do
        mkdir "$work/$target"
        nice -n 9 cargo fuzz run --fuzz-dir fuzz "$target" "$work/$target" -- \
            -max_len=4096 -max_total_time=60 -print_final_stats=1 >"$work/$target.log" 2>&1 &
        fuzzers[$target]=$!
    done
    for target in "${!fuzzers[@]}"; do
        if wait "${fuzzers[$target]}"; then
            echo "$target: $(grep -o 'Seed: .*' "$work/$target.log"), $(grep '^Done' "$work/$target.log")"
        else
            tail -n 100 "$work/$target.log"
            failed=1
        fi
    done
    rm -r "$work"
    return $failed
}

# What has code of its own for this processor. Without its standard library nothing can be checked.
step_aarch64() {
    local target=aarch64-unknown-linux-gnu
    if ! has_std $target; then
        echo "skipped: there is no standard library for $target here (rustup target add $target)"
        return
    fi
    cargo clippy --locked --target $target -p notnets-memory -p notnets-core -- -D warnings
}

has_std() {
    compgen -G "$(rustc --print target-libdir --target "$1")/libstd-*.rlib" >/dev/null
}

# Instructions of the hot paths, against the limits that are recorded beside them.
step_instructions() {
    valgrind --version || packages "counting instructions needs valgrind" valgrind
    tool gungraun-runner "$(version_of gungraun)"
    GUNGRAUN_RUNNER="$PWD/target/tools/bin/gungraun-runner" \
        cargo bench --locked -p notnets-costs --bench instructions
}
