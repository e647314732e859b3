# shellcheck shell=bash
# What steps need beyond the Rust toolchain.

# packages WHY NAME...: installs Debian packages, where that can be done.
packages() {
    local why=$1 root=()
    shift
    if [ "$(id -u)" != 0 ]; then
        root=(sudo -n)
    fi
    if ! command -v apt-get || ! "${root[@]}" true; then
        echo "$why: install $*" >&2
        return 1
    fi
    "${root[@]}" apt-get update
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# tool NAME VERSION OPTION...: builds a program of crates.io below target/tools/, unless it is there.
tool() {
    cargo install --locked --debug --root target/tools --target-dir target/tools/build "$1" --version "$2" "${@:3}"
}

# version_of NAME: the version of a crate that the lock file has.
version_of() {
    grep -A 1 "^name = \"$1\"$" Cargo.lock | sed -n 's/^version = "\(.*\)"$/\1/p'
}
