# shellcheck shell=bash
# Fields of pods, done for real.

kubectl apply -f - >/dev/null <<'YAML'
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: red, "part.conf": "a=b"}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {selector: {app: front}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: fields, labels: {app: fields}, annotations: {note: hello}}
spec:
  hostname: box
  subdomain: front
  hostAliases: [{ip: 192.0.2.7, hostnames: [elsewhere, elsewhere.example]}]
  dnsConfig: {options: [{name: attempts, value: "3"}]}
  securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000}
  terminationGracePeriodSeconds: 5
  volumes:
  - {name: work, emptyDir: {}}
  - {name: quick, emptyDir: {medium: Memory, sizeLimit: 4Mi}}
  - {name: conf, configMap: {name: settings}}
  - name: about
    downwardAPI:
      items:
      - {path: labels, fieldRef: {fieldPath: metadata.labels}}
      - {path: memory, resourceFieldRef: {containerName: main, resource: limits.memory, divisor: 1Mi}}
  initContainers:
  - {name: first, image: braid.local/tiny, command: [sh, -c, "echo made > /work/first"], volumeMounts: [{name: work, mountPath: /work}]}
  - name: beside
    image: braid.local/tiny
    restartPolicy: Always
    command: [sh, -c, "trap exit TERM; echo up > /work/beside; while :; do sleep 0.2; done"]
    startupProbe: {exec: {command: [test, -e, /work/beside]}, periodSeconds: 1}
    volumeMounts: [{name: work, mountPath: /work}]
  containers:
  - name: main
    image: braid.local/tiny
    command: [sh, -c, "test -e /work/beside || exit 9; trap exit TERM; while :; do sleep 0.2; done"]
    env:
    - {name: WHO, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: WHERE, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
    - {name: SUB, value: "$(WHO)-sub"}
    envFrom: [{configMapRef: {name: settings}, prefix: S_}]
    resources: {limits: {memory: 64Mi, cpu: 200m}}
    readinessProbe: {exec: {command: [test, -e, /work/hook]}, periodSeconds: 1}
    lifecycle:
      postStart: {exec: {command: [sh, -c, "echo hooked > /work/hook"]}}
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false}
    volumeMounts:
    - {name: work, mountPath: /work}
    - {name: work, mountPath: /own, subPathExpr: $(SUB)}
    - {name: quick, mountPath: /quick}
    - {name: conf, mountPath: /conf}
    - {name: conf, mountPath: /one, subPath: part.conf}
    - {name: about, mountPath: /about}
YAML
ready fields
inside=$(kubectl exec fields -c main -- sh -c 'id; env; cat /etc/hosts /etc/resolv.conf /conf/colour /one /about/*; ls -d /own; df -k /quick; touch /own/mine /quick/mine; hostname; ls -ld /work; cat /work/first /work/hook; touch /x /conf/x; echo done' 2>&1) || fail "exec: $inside"
has "$inside" 'uid=1000 gid=1000' 2000 'WHO=fields' 'S_colour=red' 'FRONT_SERVICE_HOST=' 'KUBERNETES_SERVICE_PORT=443' \
    'elsewhere.example' 'box.front.default.svc' 'attempts:3' 'a=b' 'app="fields"64' 'tmpfs                     4096' 'made' 'hooked' 'Read-only file system' 'done'
pass "env, volumes, sub-paths, downward API, hosts, hooks, users and groups"

[ "$(kubectl get pod fields -o 'jsonpath={.status.initContainerStatuses[1].state.running.startedAt}')" ] || fail "the sidecar does not run"
has "$(kubectl describe pod fields)" Scheduled 'Successfully assigned default/fields' Pulled 'Created container: main' 'Started container beside'
pass "a sidecar beside the others; events on the pod"

kubectl apply -f - >/dev/null <<'YAML'
apiVersion: v1
kind: Pod
metadata: {name: ends}
spec:
  restartPolicy: Never
  initContainers:
  - {name: beside, image: braid.local/tiny, restartPolicy: Always, command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.2; done"]}
  containers:
  - {name: said, image: braid.local/tiny, command: [sh, -c, "echo because > /dev/termination-log; exit 3"]}
  - {name: logged, image: braid.local/tiny, terminationMessagePolicy: FallbackToLogsOnError, command: [sh, -c, "echo my last words; exit 4"]}
---
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  activeDeadlineSeconds: 2
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: braid.local/tiny, command: [sleep, "1000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}]
  containers:
  - {name: c, image: braid.local/tiny, command: [sh, -c, "dd if=/dev/zero of=/v/file bs=1k count=3000; sleep 1000"], volumeMounts: [{name: v, mountPath: /v}]}
---
apiVersion: v1
kind: Pod
metadata: {name: unready}
spec:
  readinessGates: [{conditionType: example.com/open}]
  terminationGracePeriodSeconds: 8
  containers:
  - name: c
    image: braid.local/tiny
    command: [serve]
    readinessProbe: {httpGet: {port: 80, path: /nowhere}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
    lifecycle: {preStop: {exec: {command: [sh, -c, "echo going; sleep 1"]}}}
YAML
until_true 60 "the pod ends" phase ends Failed
messages=$(kubectl get pod ends -o 'jsonpath={.status.containerStatuses[*].state.terminated.message}')
has "$messages" because 'my last words'
sidecar_ended() { [ "$(kubectl get pod ends -o 'jsonpath={.status.initContainerStatuses[0].state.terminated.reason}')" ]; }
until_true 60 "the sidecar ends with the others" sidecar_ended
pass "the words of containers that end; a sidecar ends with the others"

until_true 60 "the deadline" phase late Failed
[ "$(kubectl get pod late -o 'jsonpath={.status.reason}')" = DeadlineExceeded ] || fail "the pod does not say DeadlineExceeded"
stopped() { [ "$(kubectl get pod late -o 'jsonpath={.status.containerStatuses[0].state.terminated.exitCode}')" ]; }
until_true 60 "what is late is ended" stopped
until_true 60 "the limit of a volume" phase greedy Failed
has "$(kubectl get pod greedy -o 'jsonpath={.status.reason} {.status.message}')" Evicted 'exceeds the limit "1Mi"'
pass "activeDeadlineSeconds, the size of volumes"

unhealthy() { kubectl describe pod unready | grep -q 'Unhealthy.*Readiness probe failed: HTTP probe failed with statuscode: 404'; }
until_true 60 "the probe is told" unhealthy
kubectl patch pod unready --subresource=status --type=strategic -p '{"status":{"conditions":[{"type":"example.com/open","status":"True"}]}}' >/dev/null
[ "$(kubectl get pod unready -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = False ] || fail "it is ready without its probe"
kubectl delete pod unready --timeout=60s >/dev/null || fail "it does not go"
has "$(kubectl get events --field-selector involvedObject.name=unready)" 'Stopping container c'
pass "probes, readiness gates, preStop, events of the end"
kubectl delete pod fields ends late greedy --grace-period=1 --timeout=90s >/dev/null || fail "pods are not deleted"
