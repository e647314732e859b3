# shellcheck shell=bash
# Whole programs, beside others' and on other kernels.

# What the foreign clients run on. A developer's machine has it, a bare one may not.
step_foreign_clients() {
    if ! (python3 -c 'import ensurepip, venv' && node --version && npm --version); then
        packages "the foreign clients need python3 with venv, node and npm" python3-venv nodejs npm
    fi
    ci/foreign-clients
}

# Whether the README's first command does what it says; too short to measure anything.
step_demo() {
    local json transport rows work
    work=$(mktemp -d)
    json=$(cargo run --release --locked -- \
        demo --seconds 0.2 --rounds 1 --json --report "$work/report.html")
    test -s "$work/report.html"
    rm -r "$work"
    printf '%s\n' "$json"
    grep -q '"replies_wrong":0\b' <<<"$json"
    for transport in tcp uds notnets; do
        rows=$(grep -o "\"transport\":\"$transport\"" <<<"$json" | wc -l)
        if [ "$rows" != 8 ]; then
            echo "$rows journeys over $transport instead of 8" >&2
            return 1
        fi
    done
}

step_two_hosts() {
    ci/two-hosts --short
}

# Peers that do anything, beside some whose calls never fail. With the whole workspace, as its tests are built.
step_hostile() {
    cargo build --quiet --workspace --locked --bin notnets-hostile
    "${CARGO_TARGET_DIR:-target}/debug/notnets-hostile" --descriptors 10000000
}

# Calls of all kinds while processes are killed, stopped and replaced; built as the demo is.
step_soak() {
    cargo run --release --locked -- soak --for 30s
}

# Processes die at steps of the protocol. With the whole workspace, whose debug builds have failpoints.
step_kills() {
    cargo build --quiet --workspace --locked --bin notnets
    "${CARGO_TARGET_DIR:-target}/debug/notnets" soak --at-failpoints 500
}
