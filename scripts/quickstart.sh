#!/bin/bash
# usage: scripts/quickstart.sh [RECORD-OPTION...] [-- COMMAND ARG...]
# Installs what is missing, builds the release binary and profiles the whole machine for 5 seconds, or what
# the options of `ringfold record` say. A flame graph (.html) and the collapsed stacks (.folded) go to new files in the
# current directory, the hottest functions and the quality of the profile to the terminal.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
build=$source/build/release
log=$build.log

"$source/scripts/deps.sh"

run() {
	"$@" >>"$log" 2>&1 || { cat "$log" >&2; exit 1; }
}
mkdir -p "$source/build"
: >"$log"
if [[ ! -x $build/app/ringfold ]]; then
	echo "building in $build ..." >&2
fi
if [[ ! -f $build/build.ninja ]]; then
	rm -rf "$build" # left by a set-up that failed
	run meson setup --native-file "$source/scripts/release.ini" "$build" "$source"
fi
run ninja -C "$build" app/ringfold

# What the user says replaces what is set here. Options that take a value are known, so that the value of
# one (-o -a) is not taken for another.
target= duration= output= value= file= page=
for arg in "$@"; do
	if [[ -n $value ]]; then
		[[ $value != output ]] || file=$arg
		value=
		continue
	fi
	case $arg in
	--) target=1 duration=1; break ;;
	-a | --all) target=1 ;;
	-[ptuG] | --pid | --tid | --uid | --cgroup | --container) target=1 value=1 ;;
	-[ptuG]* | --pid=* | --tid=* | --uid=* | --cgroup=* | --container=*) target=1 ;;
	-d | --duration) duration=1 value=1 ;;
	-d* | --duration=*) duration=1 ;;
	-o | --output) output=1 value=output ;;
	-o*) output=1 file=${arg#-o} ;;
	--output=*) output=1 file=${arg#*=} ;;
	-[CFcef] | --cpu | --freq | --count | --event | --format | --stats | --stack-bytes | --unwinder | --by | --ring-bytes | --map-dir)
		value=1
		;;
	-h | --help) exec "$build/app/ringfold" record --help ;;
	esac
done

options=()
if [[ -z $output ]]; then
	base=ringfold-$(date +%Y%m%d-%H%M%S)
	file=$base.folded
	for ((n = 2; ; n++)); do
		page=${file%.folded}.html
		[[ -e $file || -e $page ]] || break
		file=$base-$n.folded
	done
	options+=(-o "$file" -o "$page")
fi
[[ -n $target ]] || options+=(-a)
[[ -n $duration ]] || options+=(-d 5)
[[ $file == - ]] || options+=(--report)

status=0
"$build/app/ringfold" record "${options[@]}" "$@" || status=$?
if [[ $file != - && -s $file ]]; then
	echo
	if [[ -n $page ]]; then
		echo "flame graph:      $page (open it in a browser)"
	fi
	echo "collapsed stacks: $file (flamegraph.pl $file > flame.svg, or open it in speedscope)"
fi
exit $status
