#!/bin/busybox sh
# The guest's first program: reaches the host's file system, read-only, below a writable layer in memory.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1

fail() {
    echo "overlay-trace-vm: $1"
    poweroff -f
}

while read -r module; do
    insmod "$module" || fail "cannot load $module"
done </modules/order

attach() { # tag folder options
    mkdir -p "$2"
    mount -t 9p -o "trans=virtio,version=9p2000.L,msize=524288,$3" "$1" "$2" || fail "cannot mount $1"
}

mkdir -p /mnt/layer
attach root /mnt/host ro,cache=loose
mount -t tmpfs -o size=75%,mode=755 layer /mnt/layer
mkdir -p /mnt/layer/upper /mnt/layer/work /mnt/joint
mount -t overlay -o lowerdir=/mnt/host,upperdir=/mnt/layer/upper,workdir=/mnt/layer/work root /mnt/joint ||
    fail "cannot put a writable layer over the host's file system"

mount -t tmpfs -o mode=755 run /mnt/joint/run
attach control /mnt/joint/run/overlay-trace-vm cache=none
exec switch_root /mnt/joint /run/overlay-trace-vm/init || fail "cannot change to the host's file system"
