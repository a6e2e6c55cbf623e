#!/bin/sh
# usage: scripts/container-root.sh DIR
# Makes DIR a small Debian root (debootstrap, with Node and a JRE, about 480 MB) for the tests that run containers.
# Does nothing where it was made before; takes about a minute and needs root and a Debian mirror. MIRROR names one.
set -eu
[ $# = 1 ] || { sed -n 's/^# \(usage:.*\)/\1/p' "$0" >&2; exit 2; }
dir=$1
[ ! -e "$dir/.complete" ] || exit 0
command -v debootstrap >/dev/null || { echo "debootstrap is not installed" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "debootstrap needs root" >&2; exit 1; }
mirror=${MIRROR:-$(sed -n 's/^URIs: *\([^ ]*debian\.org\/debian\)\/\{0,1\}$/\1/p' /etc/apt/sources.list.d/*.sources 2>/dev/null |
	head -n 1)}
dir=$(realpath -m "$dir")
# An attempt that was killed leaves its /proc mounted; nothing of the host's is to be removed with it.
unmount() { sed -n "s,^[^ ]* \($dir/[^ ]*\) .*,\1,p" /proc/mounts | sort -r | xargs -r -n 1 umount -l; }
unmount
rm -rf --one-file-system "$dir"
mkdir -p "$dir"
log=$(mktemp)
trap 'rm -f "$log"; unmount' EXIT
trap 'exit 1' HUP INT TERM
if ! debootstrap --variant=minbase --include=nodejs,openjdk-17-jre-headless bookworm "$dir" \
	"${mirror:-http://deb.debian.org/debian}" >"$log" 2>&1 </dev/null; then
	tail -n 5 "$log" >&2
	exit 1
fi
rm -rf "$dir"/var/cache/apt/* "$dir"/var/lib/apt/lists/* "$dir"/usr/share/doc "$dir"/usr/share/man "$dir"/usr/share/locale
touch "$dir/.complete"
