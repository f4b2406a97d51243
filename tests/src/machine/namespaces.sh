# Process 1 of a machine made of namespaces: mounts what systemd expects to find, and becomes it.
# Arguments: the clean root, and a folder for what is changed and the mount point.
set -e
read -r pid _ < /proc/self/stat
echo "$pid"
root=$2/root
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/changes,workdir=$2/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/run" -o mode=755
mount -t tmpfs tmpfs "$root/dev" -o mode=755
mkdir "$root/dev/shm" "$root/dev/pts" "$root/run/old"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t devpts devpts "$root/dev/pts" -o newinstance,ptmxmode=666
ln -s pts/ptmx "$root/dev/ptmx"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
# Its nettopd is to see this branch alone.
mkdir -p "$root/etc/systemd/system.conf.d"
printf '[Manager]\nDefaultEnvironment=NETTOPD_NAMESPACED=1\n' > "$root/etc/systemd/system.conf.d/nettop.conf"
cd "$root"
pivot_root . run/old
umount -l /run/old
rmdir /run/old
hostname machine
exec env -i container=namespaces PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=console
