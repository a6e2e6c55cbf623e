#!/bin/sh
# usage: scripts/check-layers.sh [SOURCE-DIRECTORY]
# Holds the promises of the source tree: folders include only what stands below them, only target/ opens files, and what is
# ours is included before what is the system's, a file's own header first, so that each header is seen to stand alone.
# Exits 1 and names each place that breaks one.
set -u
cd "${1:-$(dirname "$0")/..}" || exit 2
bad=0
folders=0

# The files of a folder; nothing when it does not exist (yet).
sources() {
	find "$1" -name '*.[ch]' 2>/dev/null | sort
}

# FILE:LINE:TEXT of what is left of the files named when strings and comments are gone.
code() {
	for file in "$@"; do
		sed -e 's,"[^"]*","",g' -e 's,/\*.*\*/,,' -e 's,//.*,,' -e '/^[[:space:]]*\/\*/,/\*\//s/.*//' "$file" |
			grep -n '' | sed "s,^,$file:,"
	done
}

while read -r dir allowed; do
	files=$(sources "$dir")
	[ -n "$files" ] || continue
	folders=$((folders + 1))
	for header in $(cat $files | sed -n 's,^[[:space:]]*#[[:space:]]*include "\(.*\)".*,\1,p' | sort -u); do
		case $header in
		*/*) ;;
		*)
			echo "$dir/ must name \"$header\" from the project root" >&2
			bad=1
			continue
			;;
		esac
		case " $dir $allowed " in
		*" ${header%%/*} "*) ;;
		*)
			echo "$dir/ must not include $header:" $(grep -l "include \"$header\"" $files) >&2
			bad=1
			;;
		esac
		case $header in
		"$dir"/*) ;;
		*_priv.h)
			echo "$dir/ must not include $header, which is private to its folder" >&2
			bad=1
			;;
		esac
		if [ ! -e "$header" ] && [ ! -e "$header.in" ] && [ ! -e "${header%.pb-c.h}.proto" ]; then # made by the build
			echo "$dir/ includes $header, which does not exist" >&2
			bad=1
		fi
	done

	# A compiler run in $dir/ finds ours.
	for header in $(cat $files | sed -n 's,^#include <\([^/>]*\)>.*,\1,p' | sort -u); do
		if [ -e "$dir/$header" ]; then
			echo "$dir/$header hides <$header>, which is included in $dir/" >&2
			bad=1
		fi
	done

	# The door: whatever a path leads to is opened in target/ (for reading) or base/outfile.c (for writing).
	[ "$dir" != target ] || continue
	opens=$(code $files | grep -v '^base/outfile\.c:' |
		grep -E '(^|[^A-Za-z0-9_.>])(open|open64|openat|openat2|creat|fopen|fopen64|freopen|opendir)[[:space:]]*\(|(SYS|__NR)_(open|creat)')
	if [ -n "$opens" ]; then
		printf '%s\n' "$dir/ must not open files itself, target/ does:" "$opens" >&2
		bad=1
	fi
done <<'TABLE'
base
target base
symbols target base
perfmap symbols target base
unwinder symbols base
runtimes unwinder symbols target base
collector target base
output base
app collector unwinder symbols perfmap runtimes target output base
TABLE

# Up to the first line of another kind: what is conditional stands behind it.
order=$(find . -path ./.git -prune -o -name '*.[ch]' -print | sed 's,^\./,,' | grep -E '^(app|base|collector|output|perfmap|runtimes|symbols|target|test|unwinder)/' | sort |
	xargs awk 'FNR == 1 { system_seen = 0; begun = 0; over = 0 }
	over || /^$/ { next }
	/^#include </ { begun = system_seen = 1; next }
	/^#include "/ { begun = 1; if (system_seen) { print FILENAME ":" FNR ": " $0; over = 1 }; next }
	begun { over = 1 }')
if [ -n "$order" ]; then
	printf '%s\n' 'ours are included before the system'"'"'s:' "$order" >&2
	bad=1
fi

if [ "$folders" -lt 2 ]; then
	echo "found $folders folders with sources in $PWD: nothing was checked" >&2
	exit 2
fi
exit $bad
