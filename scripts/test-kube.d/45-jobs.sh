# shellcheck shell=bash
# Jobs: what succeeds is counted and stays, what fails is tried again and given up, what is deleted takes its pods along.
: "${dir:?set by scripts/test-kube}"

kubectl create job counted --image=braid.local/tiny -- true >/dev/null
kubectl wait --for=condition=complete job/counted --timeout=120s >/dev/null || fail "the Job completes"
has "$(kubectl get job counted)" Complete 1/1
has "$(kubectl describe job counted)" SuccessfulCreate Completed
kubectl apply -f - >/dev/null <<'YAML'
apiVersion: batch/v1
kind: Job
metadata: {name: given-up}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: braid.local/tiny, command: [sh, -c, "echo no luck; exit 3"]}]
YAML
kubectl wait --for=condition=failed job/given-up --timeout=120s >/dev/null || fail "the Job fails"
has "$(kubectl get job given-up -o jsonpath='{.status.conditions[*].reason} {.status.failed}')" 'BackoffLimitExceeded' ' 1'
has "$(kubectl logs job/given-up)" 'no luck'
pass "a Job completes, another is given up, both say so"

kubectl create job long --image=braid.local/tiny -- sleep 1000 >/dev/null
running() { [ "$(kubectl get job long -o jsonpath='{.status.ready}')" = 1 ]; }
until_true 60 "the Job's pod is ready" running
kubectl delete job long counted given-up --wait=true >/dev/null
gone() { [ -z "$(kubectl get pods -l job-name -o name)" ]; }
until_true 60 "the pods go with their Jobs" gone
pass "a Job that is deleted takes its pods along, nothing holds them"
