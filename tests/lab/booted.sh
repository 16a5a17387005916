#!/bin/sh
# Makes a small machine of this one's programs, in mount, process, cgroup and other namespaces of its own, and boots it: systemd
# becomes process 1. Run by tests/lab/booted.py, which says where by these variables:
#   HOME_DIR  `root` (empty), `etc` (laid over a copy of /etc), `state` (/var/lib/hostward), `shared` (/shared)
#   VISIBLE   further paths that are visible, read-only
set -eu
R=$HOME_DIR/root
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$R"
cd "$R"
mkdir -p usr proc sys run tmp var/lib/hostward var/log var/tmp dev etc/systemd opt root home shared old
chmod 1777 tmp var/tmp
for link in bin sbin lib lib64; do
    if [ -L "/$link" ]; then cp -P "/$link" "$link"; fi
done
mount --rbind /usr usr
for path in $VISIBLE; do
    mkdir -p "./$path"
    mount --bind "$path" "./$path"
    mount -o remount,bind,ro "./$path"
done
cp -a /etc/. etc/
rm -rf etc/systemd/system etc/fstab
cp -R "$HOME_DIR/etc/." etc/
echo 0123456789abcdef0123456789abcdef >etc/machine-id
mount --bind "$HOME_DIR/state" var/lib/hostward
mount --bind "$HOME_DIR/shared" shared
# What belongs to the kernel is not this machine's: it can't be written, so that nothing of it is set, loaded or triggered.
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
    : >"dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/shm dev/pts dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
: >shared/console
: >dev/console
mount --bind shared/console dev/console
pivot_root . old
cd /
systemd-sysusers hostward.conf
# shellcheck disable=SC2086 # a list of words
systemctl --root=/ enable $UNITS
for other in systemd-modules-load systemd-sysctl systemd-udevd systemd-udev-trigger systemd-timesyncd systemd-networkd; do
    ln -s /dev/null "/etc/systemd/system/$other.service"
done
umount -l /old
exec env -i PATH="$PATH" container=test setpriv --bounding-set=-sys_module,-sys_time,-sys_boot,-sys_rawio,-syslog \
    /lib/systemd/systemd --system --unit=multi-user.target
