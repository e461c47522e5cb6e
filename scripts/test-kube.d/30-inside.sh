# shellcheck shell=bash
# A pod talks to the API with what it finds in its file system, and may what its service account may. The pod's image has no
# client for TLS, so the machine's own curl is run in the pod's network.
: "${dir:?set by scripts/test-kube}"

kubectl create serviceaccount robot >/dev/null
kubectl create role reader --verb=list --resource=pods >/dev/null
kubectl create rolebinding robot-reads --role=reader --serviceaccount=default:robot >/dev/null
kubectl apply -f - >/dev/null <<'YAML'
apiVersion: apps/v1
kind: Deployment
metadata: {name: robot}
spec:
  selector: {matchLabels: {app: robot}}
  template:
    metadata: {labels: {app: robot}}
    spec:
      serviceAccountName: robot
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: braid.local/tiny, command: [serve]}]
YAML
kubectl rollout status deployment robot --timeout=90s >/dev/null || fail "the robot does not start"
robot=$(kubectl get pods -l app=robot -o 'jsonpath={.items[0].metadata.name}')
uid=$(kubectl get pod "$robot" -o 'jsonpath={.metadata.uid}')
account=/var/run/secrets/kubernetes.io/serviceaccount
token=$(kubectl exec "$robot" -- cat $account/token) || fail "no token in the pod"
kubectl exec "$robot" -- cat $account/ca.crt >"$dir/pod-ca.crt"
[ "$(kubectl exec "$robot" -- cat $account/namespace)" = default ] || fail "no namespace in the pod"
address=$(kubectl exec "$robot" -- env | sed -n 's/^KUBERNETES_SERVICE_HOST=//p')
has "$(kubectl exec "$robot" -- nslookup kubernetes.default.svc.cluster.local)" "$address"
pid=$( (grep -l "pod$uid" /proc/[0-9]*/cgroup 2>/dev/null || true) | sed -n '1s|/proc/\([0-9]*\)/.*|\1|p')
# inside PATH [OPTION...]: asks from the pod's network, trusting the pod's certificate alone.
inside() {
    local path=$1
    shift
    nsenter --net="/proc/$pid/ns/net" curl -sS --max-time 20 --cacert "$dir/pod-ca.crt" \
        --resolve "kubernetes.default.svc:443:$address" "$@" "https://kubernetes.default.svc$path"
}
has "$(inside /api/v1/namespaces/default/pods -H "Authorization: Bearer $token")" '"kind":"PodList"' "\"name\":\"$robot\""
has "$(inside /api/v1/namespaces/default/secrets -H "Authorization: Bearer $token")" \
    'User \"system:serviceaccount:default:robot\" cannot list resource \"secrets\"'
has "$(inside /api/v1/namespaces/default/pods)" '"reason":"Unauthorized"'
if nsenter --net="/proc/$pid/ns/net" curl -sS --max-time 20 "https://$address/healthz" >/dev/null 2>&1; then
    fail "a certificate of nobody is trusted"
fi
has "$(nsenter --net="/proc/$pid/ns/net" curl -sS --max-time 20 --cacert "$dir/pod-ca.crt" "https://$address/healthz")" Unauthorized
pass "a pod lists pods at https://kubernetes.default.svc with its token and certificate, and may nothing else"
kubectl delete deployment robot >/dev/null
