#!/bin/sh
# Process 1 of the guest, on the host's programs. The variables below come from settings.sh.
control=/run/overlay-trace-vm
. "$control/settings.sh"
export PATH HOME TERM DIRECTORY

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
mkdir -p /dev/pts /dev/shm /lib/modules
mount -t devpts -o ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t securityfs securityfs /sys/kernel/security
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind "$MODULES" /lib/modules
mkdir -p /run/netns /run/lock
hostname "$NAME"
ip link set lo up
# One after the other: their order is that of the NICs' names.
for module in $NIC_MODULES; do
    modprobe "$module"
done
if [ -n "$SHARE" ]; then
    mkdir -p "$SHARE"
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=none share "$SHARE"
fi
: >"$control/started"

if [ -e "$control/command.sh" ]; then
    # Ports appear a moment after their driver.
    until output=$(echo /dev/vport*p1) errors=$(echo /dev/vport*p2); [ -c "$output" ] && [ -c "$errors" ]; do
        sleep 0.05
    done
    setsid -w sh "$control/command.sh" </dev/null >"$output" 2>"$errors"
else
    echo "Kernel $(uname -r), on this machine's files; what is written is kept in memory. To leave: exit"
    stty sane rows "$ROWS" cols "$COLUMNS"
    cd "$DIRECTORY" && setsid -c "$SHELL" </dev/ttyS0 >/dev/ttyS0 2>&1
fi
echo $? >"$control/status.new"
mv "$control/status.new" "$control/status"
busybox poweroff -f
