#!/bin/busybox sh
# The guest's first program. Its root is the host's, which it cannot change: what is written goes
# to memory. Over the host's programs lies the udev that was unpacked for it.
set -eu
export PATH=/bin
busybox mkdir -p /proc /sys /dev /host /top /root
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module"; done < /modules/order

# nothing on the host changes that the guest has read, so what is read once can be kept
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=1048576,cache=loose host /host
mount -t tmpfs -o size=75% top /top
mkdir /top/data /top/work
cp -a /udev/. /top/data
mount -t overlay -o "lowerdir=/host,upperdir=/top/data,workdir=/top/work" root /root

mount --move /proc /root/proc
mount --move /sys /root/sys
mount --move /dev /root/dev
mount -t tmpfs run /root/run
mkdir -p /root/run/home /root/run/user /root/dev/shm /root/dev/pts
chmod 700 /root/run/user
mount -t tmpfs shm /root/dev/shm
mount -t devpts devpts /root/dev/pts
ip link set lo up

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/run/home XDG_RUNTIME_DIR=/run/user LC_ALL=C.UTF-8 PYTHONPATH="$SOURCE"
exec switch_root /root "$PYTHON" "$SOURCE/tests/hotplug/agent.py"
