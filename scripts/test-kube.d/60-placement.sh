# shellcheck shell=bash
# Pods that care where others are, names for what is elsewhere, and the host's address.

kubectl apply -f - >/dev/null <<'YAML'
apiVersion: apps/v1
kind: Deployment
metadata: {name: apart}
spec:
  replicas: 2
  selector: {matchLabels: {app: apart}}
  template:
    metadata: {labels: {app: apart}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: apart}}}
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {labelSelector: {matchLabels: {app: apart}}, topologyKey: kubernetes.io/hostname}
      containers: [{name: c, image: braid.local/tiny, command: [sleep, "1000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: near}
spec:
  terminationGracePeriodSeconds: 1
  affinity:
    podAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
      - {labelSelector: {matchLabels: {app: apart}}, topologyKey: kubernetes.io/hostname}
  containers: [{name: c, image: braid.local/tiny, command: [sleep, "1000"]}]
YAML
ready near
waits() { kubectl get events | grep -q "FailedScheduling.*0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules."; }
until_true 30 "the second waits, and says why" waits
one_runs() { [ "$(kubectl get deployment apart -o 'jsonpath={.status.readyReplicas}')" = 1 ]; }
until_true 60 "one of two runs" one_runs
kubectl delete deployment apart >/dev/null
pass "affinity and anti-affinity between pods"

kubectl create service externalname elsewhere --external-name kubernetes.default.svc.cluster.local >/dev/null
api=$(kubectl get service kubernetes -o 'jsonpath={.spec.clusterIP}')
named() { kubectl exec near -- nslookup elsewhere.default.svc.cluster.local | grep -q "$api"; }
until_true 30 "a name for another" named
[ "$(kubectl get endpointslice kubernetes -o 'jsonpath={.endpoints[0].addresses[0]} {.ports[0].port}')" = "$api 443" ] ||
    fail "the API's slice: $(kubectl get endpointslice kubernetes -o yaml)"
kubectl patch service elsewhere --type=merge -p '{"spec": {"type": "ClusterIP", "ports": [{"port": 80}]}}' >/dev/null
has "$(kubectl get service elsewhere -o 'jsonpath={.spec.clusterIP}')" .
kubectl patch service elsewhere --type=merge -p '{"spec": {"type": "ExternalName"}}' >/dev/null
[ -z "$(kubectl get service elsewhere -o 'jsonpath={.spec.clusterIP}')" ] || fail "the address stays"
kubectl delete service elsewhere >/dev/null
pass "services of type ExternalName; the endpoints of the API"

address=$(kubectl get node -o 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}')
if [ -n "$address" ]; then
    [ "$(kubectl get pod near -o 'jsonpath={.status.hostIP}')" = "$address" ] || fail "the pod's host is not at $address"
    pass "the host's address, on the node and its pods"
fi
[ "$(kubectl get nodes -l topology.kubernetes.io/zone=nova -o name | wc -l)" = 1 ] || fail "no node in zone nova: $(kubectl get nodes --show-labels)"
pass "the zone of OpenStack is a label of nodes"
kubectl delete pod near --grace-period=1 --timeout=60s >/dev/null || fail "it does not go"
