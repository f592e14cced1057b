# Sourced by init.sh: how a component is started, kept up and waited for. The current folder is /run/cluster.

now_ms() { date +%s%3N; }
die() { echo "$*" >&2; exit 1; }

# phase TEXT: what `cargo xtask cluster up` shows while it waits.
phase() { echo "$*" >phase.new; mv phase.new phase; echo "$(date +%T.%3N) $*"; }

# supervise NAME COMMAND...: keeps it running. Its output goes to log/NAME.log, its pid (of this namespace) to
# pids/NAME; while held/NAME exists it stays down.
supervise() {
  local name=$1; shift
  (
    while :; do
      while [ -e "held/$name" ]; do sleep 0.1; done
      "$@" >>"log/$name.log" 2>&1 </dev/null &
      echo $! >"pids/$name.new"; mv "pids/$name.new" "pids/$name"
      status=0; wait $! || status=$?
      echo "supervise: $name ended with $status" >>"log/$name.log"
      sleep 0.2
    done
  ) &
}

# await SECONDS WHAT COMMAND...: polls until the command succeeds.
await() {
  local end=$(( $(now_ms) + $1 * 1000 )) what=$2; shift 2
  until "$@" >/dev/null 2>&1; do
    (( $(now_ms) < end )) || die "timed out waiting for $what"
    sleep 0.1
  done
}
