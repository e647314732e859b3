# The machines: where their shared memory comes from, what they do as their
# first process, and how they are started, told what to do, and ended.

declare -A pid=() in=() out=()

# ---- the shared memory
#
# Each of these sets the size of the shared file, the options of QEMU and of
# the kernel, the drivers, and what the machine does after it has loaded them.

# RAM that the firmware calls "soft reserved". All kernels have it from 4 GiB on, where neither puts
# anything else.
device_hmem() {
    shared=64M
    machine=(-cpu max -M q35,max-ram-below-4g=512M -m 576M
        -object memory-backend-ram,id=own,size=512M -numa node,nodeid=0,memdev=own,cpus=0-1
        -numa node,nodeid=1,memdev=shared)
    append="memmap=$shared%4G-1+0xefffffff"
    device_drivers=(dax/hmem/dax_hmem dax/device_dax)
    setup=:
}

# A CXL type-3 device behind a root port, of which the machine makes a region. QEMU treats it as a device
# and not as RAM: it is slow, and only words that one side writes are whole. Under a hypervisor a kernel
# can't make regions, so it is not told of one.
device_cxl() {
    shared=256M
    machine=(-cpu "max,-hypervisor" -M q35,cxl=on,cxl-fmw.0.targets.0=cxl.1,cxl-fmw.0.size=4G
        -m 576M,slots=2,maxmem=8G
        -device pxb-cxl,bus_nr=12,bus=pcie.0,id=cxl.1 -device cxl-rp,port=0,bus=cxl.1,id=port0,chassis=0,slot=2
        -device cxl-type3,bus=port0,volatile-memdev=shared,id=memory,sn=0xc0ffee)
    append=
    device_drivers=(cxl/cxl_acpi cxl/cxl_pci cxl/cxl_mem dax/dax_cxl dax/device_dax)
    # What `cxl create-region -t ram -d decoder0.0 mem0` does.
    setup='
    cd /sys/bus/cxl/devices
    until [ -e decoder2.0 ]; do usleep 10000; done
    region=$(cat decoder0.0/create_ram_region)
    echo "$region" >decoder0.0/create_ram_region
    echo 256 >"$region/interleave_granularity"
    echo 1 >"$region/interleave_ways"
    echo ram >decoder2.0/mode
    echo 0x10000000 >decoder2.0/dpa_size
    echo 0x10000000 >"$region/size"
    echo decoder2.0 >"$region/target0"
    echo 1 >"$region/commit"
    echo "$region" >/sys/bus/cxl/drivers/cxl_region/bind'
}

# ---- the first process

# It does what it is told over the machine's second serial line, and answers there.
init() {
    echo '#!/bin/busybox sh'
    echo "prepare() { $setup"
    echo '}'
    cat <<'INIT'
/bin/busybox --install -s /bin
export PATH=/bin NOTNETS_DIR=/tmp/names
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /tmp
(
    set -e
INIT
    printf '    insmod /drivers/%s.ko\n' "${device_drivers[@]##*/}"
    cat <<'INIT'
    prepare
    until [ -e /sys/bus/dax/devices/dax0.0 ]; do usleep 10000; done
    # Else it is for the kernel, as RAM.
    echo dax0.0 >/sys/bus/dax/drivers/device_dax/new_id
) >/tmp/prepared 2>&1

# A busy machine may keep an emulated one from answering within the few seconds that making a link may take.
call() {
    name=$1 method=$2 said=$(mktemp)
    shift 2
    while
        notnets call "notnets://pod0/$name" "notnets.conformance.$method" "$@" >"$said" 2>&1
        code=$?
        grep -q 'no answer within' "$said"
    do :; done
    cat "$said"
    return $code
}

# begin NAME LINES INPUT COMMAND...: until it has said READY so often, or has ended.
begin() {
    name=$1 lines=$2 input=$3
    shift 3
    "$@" <"$input" >"/tmp/$name.out" 2>&1 &
    echo $! >"/tmp/$name.pid"
    until [ "$(grep -c READY "/tmp/$name.out")" -ge "$lines" ]; do
        kill -0 $! || break
        usleep 10000
    done
    cat "/tmp/$name.out"
}
ended() { while kill -0 "$(cat "/tmp/$1.pid")" 2>/dev/null; do usleep 10000; done; }
end() {
    kill "$(cat "/tmp/$1.pid")"
    ended "$1"
}

begin_agent() {
    mkdir -p -m 700 "$NOTNETS_DIR"
    begin agent 0 /dev/null notnets agent --region /dev/dax0.0 --host-id "$1"
}

leave_pod() {
    notnets agent --region /dev/dax0.0 --host-id "$1" --leave
    ended agent
}

# A server ends with its standard input, which stays open as long as somebody holds the pipe.
serve() {
    mkfifo "/tmp/$1.in"
    sleep 100000 >"/tmp/$1.in" &
    echo $! >"/tmp/$1.held"
    begin "$1" 1 "/tmp/$1.in" conformance-server --transport pod-software "notnets://pod0/$1"
}
unserve() {
    kill "$(cat "/tmp/$1.held")"
    ended "$1"
    rm "/tmp/$1.in"
}

open_shop() { begin shop $# /dev/null notnets demo serve --pod pod0 "$@"; }

exec </dev/ttyS1 >/dev/ttyS1
stty raw -echo
echo UP
while read -r line; do
    (eval "$line") </dev/null >/tmp/said 2>&1
    code=$?
    cat /tmp/said
    echo "END $code"
done
INIT
}

# ---- starting and ending

start_machine() {
    local to from
    mkfifo "$work/$1.in"
    exec {to}<>"$work/$1.in"
    # With a single possible processor, the emulation leaves out what only several need.
    exec {from}< <(exec "${qemu[@]}" -accel tcg,thread=multi -smp 1,maxcpus=2 \
        -nodefaults -nic none -display none -no-reboot \
        -object "memory-backend-file,id=shared,share=on,mem-path=$memory,size=$shared" "${machine[@]}" \
        -kernel "$kernel" -initrd "$work/initrd" \
        -append "console=ttyS0 panic=-1 quiet nokaslr rdinit=/init $append" \
        -serial "file:$work/console-$1" -serial stdio <&"$to" 2>"$work/qemu-$1")
    pid[$1]=$! in[$1]=$to out[$1]=$from
}

await_machine() {
    local line
    while read -r -t "$boot_limit" line <&"${out[$1]}"; do
        if [[ $line == UP* ]]; then
            run "$1" "cat /tmp/prepared; test -c /dev/dax0.0"
            return
        fi
    done
    fail "machine $1 does not come up within $boot_limit s, or has ended"
}

# As a host that loses its power.
stop_machine() {
    kill -KILL "${pid[$1]}" 2>/dev/null || true
    wait "${pid[$1]}" 2>/dev/null || true
    local to=${in[$1]} from=${out[$1]}
    exec {to}>&- {from}<&-
    rm "$work/$1.in"
    unset "pid[$1]"
}

# ---- telling them what to do

# run HOST COMMAND: what it says is then in $said. One that fails, or does not end in time, fails the test.
run() {
    local line
    said=
    printf '%s\n' "$2" >&"${in[$1]}"
    while read -r -t "$step_limit" line <&"${out[$1]}"; do
        line=${line%$'\r'}
        case $line in
        "END 0") return ;;
        "END "*) fail "host $1: $2: exit code ${line#END }: $said" ;;
        *) said+=$line$'\n' ;;
        esac
    done
    fail "host $1: $2: no end after $step_limit s, or its machine has ended: $said"
}

# expect HOST COMMAND TEXT...: runs it there, and each text is in what it says.
expect() {
    local host=$1 command=$2 text
    run "$host" "$command"
    shift 2
    for text in "$@"; do
        if [[ $said != *"$text"* ]]; then
            fail "host $host: $command: no '$text' in what it said: $said"
        fi
    done
}

# ---- leaving nothing behind

work=$(mktemp -d)
memory= hosts=()
finish() {
    local status=$? host
    # Signals may come twice, as from `timeout` and from its group.
    trap '' INT TERM
    trap - EXIT
    if [ "$status" != 0 ]; then
        for host in "${hosts[@]}"; do
            if [ -n "${pid[$host]-}" ]; then
                tail -n 20 "$work/console-$host" "$work/qemu-$host" >&2 || true
            fi
        done
    fi
    for host in "${!pid[@]}"; do
        stop_machine "$host"
    done
    rm -rf "$work" ${memory:+"$memory"}
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
