# What the machines are made of: QEMU, a kernel and busybox from Debian's
# archive, unpacked and not installed, and the programs that run in them.

cache=$PWD/target/two-hosts

# Finds or fetches all tools. Sets $kernel, $drivers, $busybox and $qemu.
tools() {
    local root=$cache/$device
    if [ ! -e "$root/complete" ]; then
        rm -rf "$root"
        mkdir -p "$root"
        fetch "$root" >"$work/packages" 2>&1 || {
            cat "$work/packages" >&2
            fail "QEMU, a kernel and busybox can't be had from the Debian archive: see above"
        }
        touch "$root/complete"
    fi
    kernel=$(find "$root" -path '*/boot/vmlinuz-*')
    drivers=$(find "$root" -path '*/kernel/drivers' -type d)
    busybox=$(find "$root" -path '*bin/busybox' -type f)
    # What is installed here already was not fetched.
    if [ -e "$root/usr/bin/qemu-system-x86_64" ]; then
        local libraries=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu
        qemu=(env "LD_LIBRARY_PATH=$libraries" "$root/usr/bin/qemu-system-x86_64"
            -L "$root/usr/share/qemu" -L "$root/usr/share/seabios")
    else
        qemu=(qemu-system-x86_64)
    fi
}

# fetch DIRECTORY: with lists of packages of its own, so that nobody's are changed.
fetch() {
    local root=$1 apt=$cache/apt backports= options packages image package
    if ! command -v apt-get; then
        echo "there is no apt-get here"
        return 1
    fi
    mkdir -p "$apt"/{lists,archives}/partial
    cat /etc/apt/sources.list >"$apt/sources.list" || true
    # CXL memory wants QEMU 10 and Linux 6.12, and Debian 12 has them as backports only.
    if [ "$device" = cxl ] && grep -q '^VERSION_CODENAME=bookworm$' /etc/os-release; then
        backports=bookworm-backports
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
            "http://deb.debian.org/debian $backports main" >>"$apt/sources.list"
    fi
    options=(-o "Dir::Etc::sourcelist=$apt/sources.list" -o "Dir::State::lists=$apt/lists"
        -o "Dir::Cache=$apt" -o "APT::Default-Release=$backports" -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update || return 1
    packages=$(apt-get "${options[@]}" --simulate install --no-install-recommends qemu-system-x86) || return 1
    packages=$(sed -n 's/^Inst \([^ ]*\) .*/\1/p' <<<"$packages")
    image=$(apt-cache "${options[@]}" depends linux-image-cloud-amd64) || return 1
    image=$(sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' <<<"$image")
    # shellcheck disable=SC2086
    (cd "$apt/archives" && apt-get "${options[@]}" download $packages "$image" busybox-static) || return 1
    for package in "$apt"/archives/*.deb; do
        dpkg-deb --extract "$package" "$root" || return 1
    done
    rm -r "$apt"
}

# Builds what runs in the machines, as the other steps of a build do. Sets $built, where they are.
programs() {
    say "build"
    # Few cases take no longer with what the tests have built. All of them would take three times as long.
    if [ ${#cases[@]} != 0 ]; then
        built=target/debug
        cargo build --locked --workspace --bins
        return
    fi
    built=target/release
    cargo build --release --locked -p notnets-cli --bin notnets
    cargo build --release --locked -p notnets-conformance --bins
}

# The machines' files: busybox, the drivers, the programs and the shared libraries that these need.
initrd() {
    local tree=$work/tree program driver library
    mkdir -p "$tree"/{bin,dev,proc,sys,tmp,drivers}
    cp "$busybox" "$tree/bin/busybox"
    for program in "$built"/{notnets,conformance-server,conformance-client}; do
        strip -o "$tree/bin/${program##*/}" "$program"
    done
    for library in $(ldd "$tree"/bin/{notnets,conformance-server,conformance-client} |
        grep -o '/[^ ]*lib[^ ]*\.so[^ ]*' | sort -u); do
        install -D "$library" "$tree$library"
    done
    for driver in "${device_drivers[@]}"; do
        driver=$(echo "$drivers/$driver".ko*)
        case $driver in
        *.xz) "$busybox" xzcat "$driver" >"$tree/drivers/$(basename "${driver%.xz}")" ;;
        *) cp "$driver" "$tree/drivers/" ;;
        esac
    done
    init >"$tree/init"
    chmod +x "$tree/init"
    (cd "$tree" && find . | "$busybox" cpio -o -H newc) >"$work/initrd" 2>/dev/null
    rm -r "$tree"
}
