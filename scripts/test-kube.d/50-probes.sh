# shellcheck shell=bash
# Probes and hooks by HTTPS and gRPC, and pods that take too much of the disk. The pod's image has no server for TLS or
# HTTP/2, so the machine's Python answers in the pod's network.
: "${dir:?set by scripts/test-kube}"

kubectl apply -f - >/dev/null <<'YAML'
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 3
  containers:
  - name: tls
    image: braid.local/tiny
    command: [sleep, "1000"]
    ports: [{containerPort: 8443, name: tls}]
    readinessProbe: {httpGet: {port: tls, scheme: HTTPS, path: /healthz}, periodSeconds: 1}
    lifecycle: {preStop: {httpGet: {port: tls, scheme: HTTPS, path: /bye}}}
  - name: grpc
    image: braid.local/tiny
    command: [sleep, "1000"]
    readinessProbe: {grpc: {port: 50051, service: db}, periodSeconds: 1}
YAML
until_true 60 "the pod runs" phase probed Running
cat >"$dir/answer.py" <<'PY'
import socketserver, ssl, struct, sys, threading

def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

def header(name, value):
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()

class Grpc(socketserver.StreamRequestHandler):
    """Just enough HTTP/2: SERVING to whoever asks for the service db, else NOT_SERVING."""
    def handle(self):
        self.rfile.read(24)
        self.wfile.write(frame(4, 0, 0, b""))
        while head := self.rfile.read(9):
            kind, flags, stream = head[3], head[4], struct.unpack(">I", head[5:])[0]
            body = self.rfile.read(int.from_bytes(head[:3], "big"))
            if kind == 4 and not flags & 1:
                self.wfile.write(frame(4, 1, 0, b""))
            if kind == 0 and flags & 1:
                status = 1 if body[5:] == b"\x0a\x02db" else 2
                self.wfile.write(frame(1, 4, stream, b"\x88" + header("content-type", "application/grpc")))
                self.wfile.write(frame(0, 0, stream, b"\0\0\0\0\2\x08" + bytes([status])))
                self.wfile.write(frame(1, 5, stream, header("grpc-status", "0")))

class Page(socketserver.StreamRequestHandler):
    def setup(self):
        self.request = context.wrap_socket(self.request, server_side=True)
        super().setup()
    def handle(self):
        line = self.rfile.readline().decode().strip()
        with open(sys.argv[1] + "/asked", "a") as asked:
            asked.write(line + "\n")
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1] + "/server.pem", sys.argv[1] + "/server.key")
socketserver.ThreadingTCPServer.allow_reuse_address = True
pages = socketserver.ThreadingTCPServer(("", 8443), Page)
threading.Thread(target=pages.serve_forever, daemon=True).start()
socketserver.ThreadingTCPServer(("", 50051), Grpc).serve_forever()
PY
refused() { kubectl describe pod probed | grep -q "Unhealthy.*$1"; }
until_true 30 "HTTPS is tried" refused 'Readiness probe failed: dial tcp .*:8443'
until_true 30 "gRPC is tried" refused 'Readiness probe failed: dial tcp .*:50051'
uid=$(kubectl get pod probed -o 'jsonpath={.metadata.uid}')
pid=$( (grep -l "pod$uid" /proc/[0-9]*/cgroup 2>/dev/null || true) | sed -n '1s|/proc/\([0-9]*\)/.*|\1|p')
nsenter --net="/proc/$pid/ns/net" python3 "$dir/answer.py" "$dir" 2>"$dir/answer.log" &
answer=$!
ready probed
has "$(cat "$dir/asked")" 'GET /healthz HTTP/1.1'
kubectl delete pod probed --timeout=60s >/dev/null || fail "it does not go"
has "$(cat "$dir/asked")" 'GET /bye HTTP/1.1'
kill $answer 2>/dev/null || true
wait $answer 2>/dev/null || true
pass "probes and hooks by HTTPS, whoever's certificate; probes by gRPC"

kubectl apply -f - >/dev/null <<'YAML'
apiVersion: v1
kind: Pod
metadata: {name: glutton}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - name: eats
    image: braid.local/tiny
    command: [sh, -c, "dd if=/dev/zero of=/v/file bs=1k count=3000; sleep 1000"]
    resources: {requests: {ephemeral-storage: 1Mi}, limits: {ephemeral-storage: 2Mi}}
    env: [{name: MOST, valueFrom: {resourceFieldRef: {resource: limits.ephemeral-storage}}}]
    volumeMounts: [{name: v, mountPath: /v}]
---
apiVersion: v1
kind: Pod
metadata: {name: scribbler}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: braid.local/tiny
    command: [sh, -c, "dd if=/dev/zero of=/file bs=1k count=4000; sleep 1000"]
    resources: {limits: {ephemeral-storage: 2Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: huge}
spec:
  containers: [{name: c, image: braid.local/tiny, resources: {requests: {ephemeral-storage: 900Ti}}}]
YAML
until_true 60 "the pod's limit" phase glutton Failed
has "$(kubectl get pod glutton -o 'jsonpath={.status.reason} {.status.message}')" \
    'Evicted Pod ephemeral local storage usage exceeds the total limit of containers 2Mi.'
until_true 90 "what a container writes into its own file system counts" phase scribbler Failed
has "$(kubectl get pod scribbler -o 'jsonpath={.status.reason}')" Evicted
full() { kubectl describe pod huge | grep -q 'FailedScheduling.*1 Insufficient ephemeral-storage'; }
until_true 30 "no host has so much" full
kubectl delete pod glutton scribbler huge --grace-period=1 --timeout=60s >/dev/null || fail "pods are not deleted"
pass "ephemeral-storage: limits evict, requests need room"
