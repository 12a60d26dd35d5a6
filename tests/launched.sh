# shellcheck shell=bash disable=SC2154 # temp is of tap.sh
# launched.sh: sourced, behind chapter.sh, by tests of common/tools/launch.
unset SLURM_JOB_ID
export LAUNCH_MARK=$temp # in the environment of all that is started here
launch() { timeout 100 common/tools/launch "$@"; }
# what is left of it: ranks, those who watch them, mpiexec, the ones that show a log
left() { grep -lazF "LAUNCH_MARK=$temp" /proc/[0-9]*/environ 2>/dev/null | sed 's/environ/comm/' | xargs -r grep -hxE '0[0-9]_.*|rank-watcher|mpiexec.*|hydra.*|tail|prog' 2>/dev/null; }
