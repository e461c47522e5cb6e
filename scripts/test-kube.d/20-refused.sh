# shellcheck shell=bash
# What is refused, in words; and what controllers say of it.

refused() {
    if kubectl run "$1" --image=braid.local/tiny --overrides="$2" 2>&1; then fail "$1 was let in"; fi
}
has "$(refused host '{"spec":{"hostNetwork":true}}')" 'violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)'
has "$(refused path '{"spec":{"volumes":[{"name":"v","hostPath":{"path":"/"}}]}}')" 'hostPath volumes (volume "v")'
has "$(refused class '{"spec":{"runtimeClassName":"kata"}}')" 'spec.runtimeClassName: Forbidden'
pass "pod security and what is not offered"

has "$(kubectl apply -f - 2>&1 <<'YAML'
apiVersion: apps/v1
kind: Deployment
metadata: {name: wants}
spec:
  selector: {matchLabels: {app: wants}}
  template:
    metadata: {labels: {app: wants}}
    spec: {containers: [{name: c, image: braid.local/tiny, securityContext: {privileged: true}}]}
YAML
)" 'Warning: would violate PodSecurity'
told() { kubectl describe rs -l app=wants | grep -q 'FailedCreate.*is forbidden: violates PodSecurity'; }
until_true 30 "the ReplicaSet says why" told
failing() { kubectl get deployment wants -o 'jsonpath={.status.conditions[?(@.type=="ReplicaFailure")].message}' | grep -q privileged; }
until_true 30 "the Deployment says why" failing
kubectl delete deployment wants >/dev/null
pass "a template that no pod may have"

limit=$(admin quota show demo -f json | python3 -c 'import json,sys
print(next(r["Limit"] for r in json.load(sys.stdin) if r["Resource"] == "cores"))')
admin quota set --cores 1 demo || fail "quota"
kubectl create deployment many --image=braid.local/tiny --replicas=3 >/dev/null
kubectl set resources deployment many --requests=cpu=600m >/dev/null
exceeded() { kubectl get events | grep -q 'FailedCreate.*exceeded quota: cores, requested: 0.6, used: .*, limited: 1'; }
until_true 60 "the quota's words are an event" exceeded
admin quota set --cores "$limit" demo
kubectl rollout status deployment many --timeout=120s >/dev/null || fail "it does not go on when there is room"
has "$(kubectl describe deployment many)" 'ScalingReplicaSet' 'Scaled up replica set'
has "$(kubectl describe --show-events rs -l app=many)" SuccessfulCreate
pass "a quota's refusal is told on the ReplicaSet, and goes on when there is room"

# How many revisions came before depends on what the planner saw first: the Deployment, or its requests set.
revision() { kubectl get deployment many -o 'jsonpath={.metadata.annotations.deployment\.kubernetes\.io/revision}'; }
first=$(revision)
kubectl set image deployment many tiny=braid.local/tiny:latest >/dev/null
kubectl rollout status deployment many --timeout=120s >/dev/null || fail "the roll-out does not end"
kubectl rollout undo deployment many >/dev/null
kubectl rollout status deployment many --timeout=120s >/dev/null || fail "the roll-back does not end"
[ "$(revision)" = $((first + 2)) ] || fail "revisions: $(kubectl rollout history deployment many)"
kubectl rollout restart deployment many >/dev/null
kubectl rollout status deployment many --timeout=120s >/dev/null || fail "the restart does not end"
kubectl delete deployment many >/dev/null
pass "roll-outs, roll-backs, their history"
