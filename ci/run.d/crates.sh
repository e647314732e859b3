# shellcheck shell=bash
# What whoever depends on a published crate relies on.

# Each published crate with none of its features, with each alone, and with all; and what a page offers.
step_features() {
    local lines name features feature
    lines=$(published '"\(.name) \(.features | keys - ["default"] | join(" "))"')
    while read -r name features; do
        check_features "$name" ""
        for feature in $features; do
            check_features "$name" "$feature"
        done
        if [[ $features = *" "* ]]; then
            check_features "$name" "${features// /,}"
        fi
    done <<<"$lines"
    # Stubs are for those of the two that are enabled.
    check_features notnets client,stubs
    check_features notnets server,stubs
}

# check_features CRATE FEATURES: clippy and not check, as only it makes errors of
# warnings without building all dependencies anew.
check_features() {
    echo "$1 with ${2:-no features}"
    cargo clippy --quiet --locked -p "$1" --no-default-features --features "$2" -- -D warnings </dev/null
}

# The lowest version of Rust, and that of each dependency, is what Cargo.toml says. A lint knows it for
# what the standard library has, and only the compiler of that version for the language.
step_msrv() {
    local lowest newer names
    lowest=$(published .rust_version | sort -u)
    newer=$(newer_dependencies "$lowest")
    if [ -n "$newer" ]; then
        printf 'need a later Rust than %s:\n%s\n' "$lowest" "$newer" >&2
        return 1
    fi
    step_clippy
    if rustup toolchain list 2>/dev/null | grep -q "^$lowest\b"; then
        names=$(published '"-p \(.name)"')
        # shellcheck disable=SC2086
        cargo "+$lowest" check --locked $names
    else
        echo "not compiled by Rust $lowest itself: it is not installed (rustup toolchain install $lowest)"
    fi
}

# newer_dependencies RUST: the dependencies of published crates that ask for a later version.
newer_dependencies() {
    local names used newer
    names=$(published '"-p \(.name)"')
    # shellcheck disable=SC2086
    used=$(cargo tree --locked --quiet $names --edges normal,build --prefix none --format '{p}')
    newer=$(cargo metadata --format-version 1 --locked --quiet | jq --raw-output --arg rust "$1" '
        def numbers: split(".") | map(tonumber) | .[:2];
        .packages[]
        | select((.rust_version // "0" | numbers) > ($rust | numbers))
        | "\(.name) v\(.version)"')
    awk '{ print $1, $2 }' <<<"$used" | sort -u | grep -xFf <(echo "$newer") || true
}

# Each published crate's package says what it is, holds what it needs, and builds on its own.
step_packaging() {
    local name names missing
    # shellcheck disable=SC2016
    missing=$(published '
        . as $crate
        | ["description", "readme", "repository", "homepage", "documentation", "license", "rust_version"]
        | map(select($crate[.] == null))
        + if $crate.keywords == [] then ["keywords"] else [] end
        + if $crate.categories == [] then ["categories"] else [] end
        | select(. != [])
        | "\($crate.name) lacks \(join(", "))"')
    missing+=$(published .description | sort | uniq -d)
    if [ -n "$missing" ]; then
        printf '%s\n' "$missing" >&2
        return 1
    fi
    names=$(published .name)
    for name in $names; do
        packaged_files "$name"
    done
    names=$(published '"-p \(.name)"')
    # shellcheck disable=SC2086
    cargo package --locked --allow-dirty --no-verify --quiet $names
    check_packages
}

# Compiles what the packages hold, as a workspace of their own. `cargo package` would verify each
# by itself, and build all dependencies anew for each.
check_packages() {
    local work=$PWD/target/packaged name
    rm -rf "$work"
    mkdir -p "$work"
    cp Cargo.lock "$work/"
    printf '[workspace]\nresolver = "3"\nmembers = ["*"]\n[patch.crates-io]\n' >"$work/Cargo.toml"
    for name in $(published '"\(.name)-\(.version)"'); do
        tar -xf "target/package/$name.crate" -C "$work"
    done
    published '"\(.name) = { path = \"\(.name)-\(.version)\" }"' >>"$work/Cargo.toml"
    CARGO_TARGET_DIR=$PWD/target cargo check --manifest-path "$work/Cargo.toml" --workspace
}

# packaged_files CRATE: lists them, and finds what must be among them and what must not.
packaged_files() {
    local files file
    files=$(cargo package --locked --allow-dirty --list -p "$1")
    echo "$1: $(wc -l <<<"$files") files"
    for file in README.md LICENSE-MIT LICENSE-APACHE; do
        if ! grep -qx "$file" <<<"$files"; then
            echo "$file is not in the package of $1" >&2
            return 1
        fi
    done
    if grep -E '^(tests|benches|examples|target)/' <<<"$files"; then
        echo "the package of $1 holds what its users do not need" >&2
        return 1
    fi
}

# published EXPRESSION: what jq makes of each published crate's metadata.
published() {
    jq --version >/dev/null || packages "reading Cargo's metadata needs jq" jq >&2
    cargo metadata --format-version 1 --no-deps --locked --quiet |
        jq --raw-output ".packages[] | select(.publish != []) | $1"
}

# Licences, sources and duplicates of all dependencies, by deny.toml. Advisories need a database
# from the network: `cargo deny check advisories` looks at them.
step_deny() {
    PATH=$PWD/target/tools/bin:$PATH
    cargo deny --version 2>/dev/null || tool cargo-deny 0.20.2
    cargo deny --locked check licenses bans sources
}
