# shellcheck shell=bash
# Pods pull the images of their own project without a secret, and nobody else's.
: "${dir:?set by scripts/test-kube}" "${port:?set by scripts/test-kube}"

images=${BRAID_IMAGES:-/var/cache/braid/images}
mkdir -p "$dir/certificates"
cp "$dir/ca.pem" "$dir/certificates/ca.crt"
token=$(admin token issue -f value -c id)
for repository in demo/own admin/other; do
    skopeo --insecure-policy copy --dest-cert-dir "$dir/certificates" --dest-creds "token:$token" \
        "oci-archive:$images/tiny-oci.tar" "docker://127.0.0.1:$port/$repository:v1" >/dev/null
done
pod_of() { # NAME IMAGE POLICY
    kubectl apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: $2, imagePullPolicy: $3}]}
YAML
}
refused() { [[ $(kubectl get pod "$1" -o 'jsonpath={.status.containerStatuses[0].state.waiting.reason}') == *Pull* ]]; }

pod_of own braid.local/demo/own:v1 Always
pod_of other braid.local/admin/other:v1 Always
ready own
until_true 30 "another project's image is not pulled" refused other
pass "a pod pulls its project's image without a secret, and no other project's"
kubectl delete pod own other --wait=false >/dev/null
