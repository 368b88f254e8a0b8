# ROOT TREE COMMAND...: run a command in a Debian root, in the same directory of the tree as here. What is mounted for it
# is seen by it alone, and gone when it ends, so that deleting the root deletes nothing else.
set -eu
root=$1
tree=$2
shift 2
mkdir -p "$root$tree"
mount --bind "$tree" "$root$tree"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
exec chroot "$root" env --chdir="$PWD" "$@"
