#!/bin/sh
# usage: scripts/deps.sh [-n] [test]
# Installs what building needs on Debian (12 or later), with `test` also what the tests record; only what is
# missing, so it does nothing the second time. -n lists what is missing instead and exits 1 if anything is.
set -eu

dry=
test=
for arg; do
	case $arg in
	-n) dry=1 ;;
	test) test=1 ;;
	*) sed -n 's/^# \(usage:.*\)/\1/p' "$0" >&2; exit 2 ;;
	esac
done

# COMMAND:PACKAGE, where a command from elsewhere is as good; a name alone is looked up as a package.
build='gcc:gcc meson:meson ninja:ninja-build pkg-config:pkg-config libc6-dev libdw-dev libelf-dev libunwind-dev
	libcap-dev libiberty-dev liblzma-dev zlib1g-dev libbz2-dev libzstd-dev libseccomp-dev libminizip-dev
	protoc-c:protobuf-c-compiler libprotobuf-c-dev'
recorded='g++:g++ go:golang-go sqlite3:sqlite3 openssl:openssl javac:default-jdk-headless node:nodejs perf:linux-perf
	python3:python3 objdump:binutils perl:perl strace:strace
	runc:runc crun:crun debootstrap:debootstrap musl-gcc:musl-tools libssl-dev sshd:openssh-server ssh:openssh-client
	busybox-static file:file chromium:chromium fonts-dejavu-core'

is_there() {
	case $1 in
	*:*) command -v "${1%%:*}" ;;
	*) dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep 'ok installed' ;;
	esac >/dev/null
}

missing=
for want in $build ${test:+$recorded}; do
	is_there "$want" || missing="$missing ${want#*:}"
done
[ -n "$missing" ] || exit 0
if [ -n "$dry" ]; then
	echo "missing:$missing"
	exit 1
fi
if ! command -v apt-get >/dev/null; then
	echo "no apt-get here; please install what corresponds to:$missing" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "missing:$missing; as root: apt-get install --no-install-recommends$missing" >&2
	exit 1
fi

echo "installing$missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
quietly() {
	"$@" >"$log" 2>&1 </dev/null || { cat "$log" >&2; exit 1; }
}
quietly apt-get -q update
quietly apt-get -q -y --no-install-recommends install $missing
