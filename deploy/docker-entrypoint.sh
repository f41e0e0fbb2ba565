#!/bin/sh
# Runs nginx, and reloads and stops it without breaking a request. nginx closes its idle connections at once when it is
# told to reload or to stop, and a request may be on its way on one of them. So for a moment before, and while old
# workers end, every answer says `Connection: close` (nginx.conf: @closing). Clients then open a new connection for
# their next request.
#
#   docker-entrypoint.sh nginx -g 'daemon off;'        SIGHUP reloads it; SIGQUIT and SIGTERM stop it
set -u

closing=${CLOSING_FILE:-/tmp/nginx-closing} # nginx looks for it at each request
close_delay=1                               # seconds; a client that comes less often may have its idle connection closed

# shellcheck disable=SC2329 # called by the trap below
reload() {
  touch "$closing"
  sleep "$close_delay"
  kill -HUP "$nginx"
  sleep "$close_delay" # the master starts new workers before it tells the old ones to end
  rm -f "$closing"
}

# shellcheck disable=SC2329 # called by the trap below
stop() {
  touch "$closing"
  sleep "$close_delay"
  kill -QUIT "$nginx"
}

rm -f "$closing"
"$@" &
nginx=$!
trap reload HUP
trap stop QUIT TERM

# A signal ends `wait`, but not nginx. If nginx ended while a signal was handled, its code is still to be had.
while kill -0 "$nginx" 2>/dev/null; do
  wait "$nginx"
  code=$?
done
wait "$nginx" 2>/dev/null
late=$?
[ "$late" -eq 127 ] || code=$late # 127: it was had already

# Workers outlive a master that was killed and keep the port. They are in the process group of this script.
[ "$code" -le 128 ] || kill -KILL 0
exit "$code"
