# shellcheck shell=bash
# Streams: logs, exec, cp, attach, port-forward.
: "${dir:?set by scripts/test-kube}"

kubectl apply -f - >/dev/null <<'YAML'
apiVersion: v1
kind: Pod
metadata: {name: talks}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: web, image: braid.local/tiny, command: [serve], ports: [{containerPort: 80, name: http}]}
  - {name: echo, image: braid.local/tiny, stdin: true, command: [sh, -c, "while read -r line; do echo \"heard $line\"; done; sleep 1000"]}
  - {name: shell, image: braid.local/tiny, stdin: true, tty: true, command: [sh]}
  - {name: count, image: braid.local/tiny, command: [sh, -c, "i=0; while [ $i -lt 5 ]; do echo line $i; i=$((i + 1)); done; echo oops >&2; sleep 1000"]}
YAML
ready talks
# Two pipes come out of a container: which of "line 0" and "oops" is first in the log is nobody's promise.
all_counted() { counted=$(kubectl logs talks -c count) && [ "$(wc -l <<<"$counted")" = 6 ]; }
until_true 60 "the whole log of count" all_counted
has "$counted" 'line 0' 'line 4' oops
[ "$(kubectl logs talks -c count --tail=2 | wc -l)" = 2 ] || fail "logs --tail"
has "$(kubectl logs talks -c count --timestamps --tail=1)" "$(date -u +%Y-)"
[ -z "$(kubectl logs talks -c count --since-time=2100-01-01T00:00:00Z)" ] || fail "logs --since-time"
[ "$(kubectl logs talks -c count --limit-bytes=4)" = "${counted:0:4}" ] || fail "logs --limit-bytes"
kubectl run brief --image=braid.local/tiny --restart=OnFailure -- sh -c 'echo try; sleep 1; exit 1' >/dev/null
previous() { kubectl logs brief -p | grep -q try; }
until_true 60 "logs of the attempt before" previous
kubectl run slow --image=braid.local/tiny --restart=Never -- sh -c 'sleep 1; echo tick 1; sleep 1; echo tick 2; sleep 1; echo tick 3' >/dev/null
until_true 60 "a log that can be read" kubectl logs slow
has "$(timeout 60 kubectl logs -f slow)" 'tick 3'
kubectl delete pod slow --grace-period=1 >/dev/null
kubectl delete pod brief --grace-period=1 >/dev/null
pass "logs: tail, timestamps, since, limit, previous, follow"

head -c 300000 /dev/urandom >"$dir/there"
kubectl cp "$dir/there" talks:/tmp/there -c web >/dev/null || fail "cp to the pod"
kubectl cp talks:/tmp/there "$dir/back" -c web >/dev/null || fail "cp from the pod"
cmp "$dir/there" "$dir/back" || fail "cp changed the file"
pass "cp, both ways"

# Input and its end are told apart: what `attach` reads is held open until both answers came.
exec {input}> >(exec timeout 60 kubectl attach -i talks -c echo >"$dir/attached" 2>"$dir/attached.err")
attached=$!
printf 'one\ntwo\n' >&"$input"
until_true 50 "attach hears" grep -q 'heard two' "$dir/attached"
has "$(cat "$dir/attached")" 'heard one' 'heard two'
exec {input}>&-
kill $attached 2>/dev/null || true
has "$(echo 'some words' | timeout 90 kubectl run -i --rm --restart=Never eat --image=braid.local/tiny -- sh -c 'sleep 3; cat; echo eaten' 2>&1)" 'some words' eaten
pass "attach with input, and the end of input"
typed=$(python3 - talks shell <<'PY'
import os, pty, select, subprocess, sys, time
master, slave = pty.openpty()
child = subprocess.Popen(["kubectl", "attach", "-it", sys.argv[1], "-c", sys.argv[2]], stdin=slave, stdout=slave, stderr=slave)
seen, end = "", time.monotonic() + 60
# Until the shell is attached, only the terminal itself echoes what is typed.
while "42 from" not in seen and time.monotonic() < end:
    os.write(master, b"echo $((40 + 2)) from a terminal\n")
    while select.select([master], [], [], 2)[0]:
        seen += os.read(master, 65536).decode(errors="replace")
child.kill()
child.wait()
print(seen)
PY
)
has "$typed" '42 from a terminal'
pass "attach with a terminal"

kubectl port-forward talks 0:80 >"$dir/forward" 2>&1 &
forward=$!
listening() { grep -q 'Forwarding from 127.0.0.1' "$dir/forward"; }
until_true 30 "port-forward listens" listening
local_port=$(sed -n 's/.*127.0.0.1:\([0-9]*\) ->.*/\1/p' "$dir/forward" | head -n 1)
for _ in 1 2 3; do
    curl -sS --max-time 20 "http://127.0.0.1:$local_port/" >"$dir/page" || fail "through port-forward: $(cat "$dir/forward")"
done
[ -s "$dir/page" ] || fail "an empty page through port-forward"
ended() { kill "$1" 2>/dev/null || true; wait "$1" 2>/dev/null || true; }
ended $forward
kubectl port-forward talks 0:81 >"$dir/forward" 2>&1 &
forward=$!
until_true 30 "port-forward listens" listening
local_port=$(sed -n 's/.*127.0.0.1:\([0-9]*\) ->.*/\1/p' "$dir/forward" | head -n 1)
if curl -sS --max-time 20 "http://127.0.0.1:$local_port/" >/dev/null 2>&1; then fail "nobody listens at port 81"; fi
refused() { grep -q 'an error occurred forwarding' "$dir/forward"; }
until_true 20 "the refusal is told" refused
ended $forward
pass "port-forward, and what is told when nobody listens"
has "$(kubectl debug talks --image=braid.local/tiny 2>&1 || true)" 'ephemeral'
kubectl delete pod talks --grace-period=1 >/dev/null
