#!/bin/bash
# usage: scripts/deb.sh [DIR]
# Builds a Debian package of ringfold (release, stripped) in DIR, by default the current one, and prints its name.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
out=$(cd "${1:-.}" && pwd)
"$source/scripts/deps.sh" >&2
command -v dpkg-deb >/dev/null || { echo "no dpkg-deb here: this needs Debian" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build=$source/build/deb
log=$work/log
run() { "$@" >>"$log" 2>&1 || { cat "$log" >&2; exit 1; }; }
[[ -f $build/build.ninja ]] || run meson setup --buildtype=release --prefix=/usr -Db_lto=true "$build" "$source"
run ninja -C "$build" app/ringfold
run env DESTDIR="$work/root" meson install -C "$build" --no-rebuild --strip

version=$("$work/root/usr/bin/ringfold" --version | cut -d' ' -f2)
[[ ! -d $source/.git ]] || version+=+git$(git -C "$source" log -1 --format=%cd.%h --date=format:%Y%m%d)
architecture=$(dpkg --print-architecture)
root=$work/root
gzip -9n "$root/usr/share/man/man1/ringfold.1"
mkdir -p "$root/usr/share/doc/ringfold" "$root/DEBIAN"
cp "$source/README.md" "$source/ARCHITECTURE.md" "$root/usr/share/doc/ringfold/"
cp -r "$source/docs" "$root/usr/share/doc/ringfold/"
[[ ! -f $source/LICENSE ]] || cp "$source/LICENSE" "$root/usr/share/doc/ringfold/copyright"

# The packages of the libraries it is linked with.
depends=$(objdump -p "$root/usr/bin/ringfold" | awk '$1 == "NEEDED" { print $2 }' | while read -r lib; do
	path=$(ldd "$root/usr/bin/ringfold" | awk -v lib="$lib" '$1 == lib { print $3 }')
	dpkg-query -S "*/$(basename "$(readlink -f "$path")")" | head -1 | cut -d: -f1
done | sort -u | paste -sd, | sed 's/,/, /g')
cat >"$root/DEBIAN/control" <<CONTROL
Package: ringfold
Version: $version
Architecture: $architecture
Maintainer: The ringfold project <ringfold@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Depends: $depends
Suggests: libdebuginfod1
Section: devel
Priority: optional
Description: CPU profiler for Linux that needs no BPF
 Samples with perf_event, takes a copy of the user stack with every sample,
 unwinds the copies itself while recording, and writes collapsed stacks, flame
 graphs and what other tools read. Every profile says how complete it is.
CONTROL
file=$out/ringfold_${version}_$architecture.deb
run dpkg-deb --root-owner-group --build "$root" "$file"
echo "$file"
