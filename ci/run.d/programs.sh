# shellcheck shell=bash
# Whole programs, beside others' and on other kernels.

# Crates that have gRPC clients of their own, over links. Some of their build scripts want a protoc, and get ours.
step_foreign_crates() {
    local manifest=foreign-crates/Cargo.toml
    export CARGO_TARGET_DIR=$PWD/target
    cargo fmt --all --check --manifest-path $manifest
    cargo build --locked --manifest-path $manifest -p protoc
    PROTOC=$CARGO_TARGET_DIR/debug/protoc cargo test --locked --manifest-path $manifest
}

# What the foreign clients run on. A developer's machine has it, a bare one may not.
step_foreign_clients() {
    if ! (python3 -c 'import ensurepip, venv' && node --version && npm --version); then
        packages "the foreign clients need python3 with venv, node and npm" python3-venv nodejs npm
    fi
    ci/foreign-clients
}

# A day in production, by processes of several users.
step_day() {
    local root=()
    if [ "$(id -u)" != 0 ]; then
        root=(sudo -n)
    fi
    cargo build --quiet --workspace --locked --bin notnets --example foreign-server
    "${root[@]}" ci/day
}

# What is to be copied is what systemd and Kubernetes take it for. Nothing of it is started here.
step_deploy() {
    local work validate=target/foreign/kubernetes-validate
    if ! (command -v systemd-analyze && command -v systemd-tmpfiles && python3 -c 'import ensurepip, venv'); then
        packages "units and manifests are checked by systemd and kubernetes-validate" systemd python3-venv
    fi
    if [ ! -e $validate/bin/kubernetes-validate ]; then
        python3 -m venv $validate
        $validate/bin/pip install --quiet --disable-pip-version-check kubernetes-validate==1.37.0
    fi
    $validate/bin/kubernetes-validate --strict deploy/kubernetes/*.yaml

    # As deploy/container/Containerfile has it, but for how much it is optimised.
    cargo rustc --quiet --locked -p notnets-cli --no-default-features --bin notnets -- -C target-feature=+crt-static
    work=$(mktemp -d)
    cp "${CARGO_TARGET_DIR:-target}/debug/notnets" "$work/"
    ci/static-command "$work/notnets"

    mkdir "$work/etc"
    systemd-sysusers --root="$work" "$PWD/deploy/systemd/notnets.sysusers.conf"
    systemd-tmpfiles --root="$work" --create "$PWD/deploy/systemd/notnets.tmpfiles.conf"
    test "$(stat -c '%a %u' "$work/run/notnets")" = "3770 0"
    # They name a program that is not installed.
    for unit in agent proxy; do
        sed "s|/usr/bin/notnets|$work/notnets|" "deploy/systemd/notnets-$unit@.service" \
            >"$work/notnets-$unit@1.service"
        systemd-analyze verify "$work/notnets-$unit@1.service"
    done
    # Neither is daxctl, which it needs only where there is such a device.
    sed "s|/usr/bin/daxctl|/bin/true|" "deploy/systemd/notnets-devdax@.service" >"$work/notnets-devdax@dax0.0.service"
    systemd-analyze verify "$work/notnets-devdax@dax0.0.service"
    # udev has a check of its own from version 254 on.
    if udevadm verify --help >/dev/null 2>&1; then
        udevadm verify deploy/systemd/99-notnets-dax.rules
    fi
    rm -r "$work"
}

# Whether the README's first command does what it says, built as the workspace's tests are; too short to measure
# anything.
step_demo() {
    local json transport rows work
    work=$(mktemp -d)
    json=$(built notnets demo --seconds 0.2 --rounds 1 --json --report "$work/report.html")
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

# Peers that do anything, beside some whose calls never fail. What is built without optimisation divides two
# processors badly: safety.md has the figures of what is optimised.
step_hostile() {
    built notnets-hostile --descriptors 10000000 --times 30
}

# Calls of all kinds while processes are killed, stopped and replaced.
step_soak() {
    built notnets soak --for 30s
    built notnets soak --replace 50
    built notnets soak --move-replicas 20
}

# Processes die at steps of the protocol.
step_kills() {
    built notnets soak --at-failpoints 500
}

# built PROGRAM ARGUMENT...: runs a program of the workspace as it is built for the tests, with failpoints.
built() {
    cargo build --quiet --workspace --locked --bin "$1" --example foreign-server
    "${CARGO_TARGET_DIR:-target}/debug/$1" "${@:2}"
}
