#!/bin/bash
# usage: scripts/trap.sh PID PERCENT [ringfold options]
# What `ringfold trap --when 'cpu(pid=PID)>PERCENT%/2s'` does, in a few lines for those who script it: records the next 5 s
# whenever the process used more than that of one CPU for 2 s, into spike-DATE-TIME.folded. Only trap itself has the seconds
# before it.
set -euo pipefail
pid=${1:?which process?} percent=${2:?which share of a CPU?}
shift 2
ringfold=${RINGFOLD:-$(dirname "$0")/../build/release/app/ringfold}
hz=$(getconf CLK_TCK)

ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$pid/stat"; }

last=$(ticks)
while sleep 2 && now=$(ticks 2>/dev/null); do
	share=$((100 * (now - last) / (2 * hz)))
	last=$now
	((share > percent)) || continue
	echo "process $pid used $share % of a CPU" >&2
	"$ringfold" record -p "$pid" -d 5 -o "spike-$(date +%Y%m%d-%H%M%S).folded" "$@"
	last=$(ticks)
done
