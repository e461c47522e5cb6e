# shellcheck shell=bash
# What kubelets do that clients and programs rely on: clients of SPDY alone, back-off, files that change at once, and the
# first error told.
: "${dir:?set by scripts/test-kube}"

kubectl apply -f - >/dev/null <<'YAML'
apiVersion: v1
kind: ConfigMap
metadata: {name: pair}
data: {tls.crt: "1", tls.key: "1"}
---
apiVersion: v1
kind: Pod
metadata: {name: served}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: braid.local/tiny
    command: [serve]
    stdin: true
    volumeMounts: [{name: v, mountPath: /tls}, {name: all, mountPath: /all}]
  volumes:
  - {name: v, configMap: {name: pair}}
  - name: all
    projected: {sources: [{configMap: {name: pair}}, {downwardAPI: {items: [{path: who/name, fieldRef: {fieldPath: metadata.name}}]}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: typo}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: braid.local/tiny, command: [/no/such/binary]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: noimage}
spec: {restartPolicy: Never, containers: [{name: c, image: "braid.local/no-such:v1"}]}
YAML
ready served
for path in /tls/tls.crt /all/tls.key /all/who; do
    has "$(kubectl exec served -- readlink "$path")" "..data/"
done
[ "$(kubectl exec served -- cat /all/who/name)" = served ] || fail "a file in a folder of a projected volume"
before=$(kubectl exec served -- readlink /tls/..data)
kubectl patch configmap pair --type merge -p '{"data": {"tls.crt": "2", "tls.key": "2"}}' >/dev/null
changed() { [ "$(kubectl exec served -- cat /tls/tls.crt /tls/tls.key)" = 22 ]; }
until_true 90 "the files change" changed
[ "$(kubectl exec served -- readlink /tls/..data)" != "$before" ] || fail "..data was not replaced"
pass "files of a volume change all at once, through ..data"

# A client that speaks SPDY alone.
spdy() { KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false KUBECTL_PORT_FORWARD_WEBSOCKETS=false timeout 60 kubectl "$@"; }
has "$(spdy exec served -v=8 -- true 2>&1)" 'Upgrade: SPDY/3.1' '101 Switching Protocols'
[ "$(head -c 300000 /dev/urandom | tee "$dir/typed" | spdy exec -i served -- sha256sum | cut -c1-64)" = "$(sha256sum <"$dir/typed" | cut -c1-64)" ] || fail "exec with input and its end, by SPDY"
code=0
spdy exec served -- sh -c 'echo out; echo err >&2; exit 3' >"$dir/out" 2>"$dir/err" || code=$?
[ "$code" = 3 ] || fail "the exit code by SPDY: $code"
has "$(cat "$dir/out")" out
has "$(cat "$dir/err")" err
spdy port-forward served 0:80 >"$dir/forward" 2>&1 &
forward=$!
listens() { grep -q 'Forwarding from 127' "$dir/forward"; }
until_true 30 "port-forward listens" listens
local_port=$(sed -n 's/.*127.0.0.1:\([0-9]*\) .*/\1/p' "$dir/forward" | head -n 1)
curl -sS --max-time 20 "http://127.0.0.1:$local_port/" >"$dir/page" || fail "through port-forward by SPDY: $(cat "$dir/forward")"
[ -s "$dir/page" ] || fail "an empty page through port-forward by SPDY"
kill $forward
pass "exec and port-forward by SPDY"

state() { kubectl get pod "$1" -o 'jsonpath={.status.containerStatuses[0].state.waiting.reason}'; }
backs_off() { [ "$(state "$1")" = "$2" ]; }
until_true 60 "an image that is not there" backs_off noimage ImagePullBackOff
has "$(kubectl get pod noimage -o 'jsonpath={.status.containerStatuses[0].state.waiting.message}')" 'not found' ErrImagePull
has "$(kubectl exec noimage -- ls 2>&1 || true)" 'container not found ("c")'
has "$(kubectl logs noimage 2>&1 || true)" 'container "c" in pod "noimage" is waiting to start: trying and failing to pull image'
pass "the first error is told: image, exec, logs"

until_true 60 "a command that is not there" backs_off typo CrashLoopBackOff
tries() { kubectl get pod typo -o 'jsonpath={.status.containerStatuses[0].restartCount}'; }
third() { [ "$(tries)" -ge 3 ]; }
until_true 90 "the third restart" third
# Restarts after 0, 10 and 20 seconds: were there no waiting, there would have been many more by then.
[ "$(tries)" -le 4 ] || fail "$(tries) restarts"
kubectl delete pod served typo noimage --grace-period=1 >/dev/null
pass "a container that cannot start is tried again later each time"
