# shellcheck shell=bash disable=SC2154  # dir, hook and port are those of scripts/test-kube
# Kinds that the cluster defines for itself, and a webhook that is asked before anything is written.

gadgets='
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: gadgets, kind: Gadget, shortNames: [gd]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    additionalPrinterColumns: [{name: Color, type: string, jsonPath: .spec.color}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [color]
            properties:
              color: {type: string, description: How it is painted., enum: [red, green]}
              replicas: {type: integer, default: 1}
          status: {type: object, properties: {replicas: {type: integer}}}
'
gadget() { printf 'apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: %s}\nspec: {color: %s}\n' "$1" "$2"; }
kubectl apply -f - <<<"$gadgets" >/dev/null
kubectl wait --for=condition=Established crd/gadgets.example.com --timeout=10s >/dev/null
gadget a red | kubectl apply -f - >/dev/null
gadget a green | kubectl apply -f - >/dev/null
has "$(kubectl get gd)" COLOR green
has "$(kubectl explain gadget.spec)" 'How it is painted.' 'red, green'
kubectl scale gadget a --replicas=3 >/dev/null
[ "$(kubectl get gadget a -o 'jsonpath={.spec.replicas}')" = 3 ] || fail "it is not scaled"
if text=$(gadget b blue | kubectl apply -f - 2>&1); then fail "a blue gadget was let in"; fi
has "$text" 'Unsupported value: "blue": supported values: "red", "green"'
pass "a kind that the cluster defines"

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=hook \
    -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
    -keyout "$dir/hook.key" -out "$dir/hook.crt" 2>/dev/null
python3 - "$hook" "$dir" <<'PYTHON' &
import http.server, json, ssl, sys

class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))["request"]
        denied = ((request.get("object") or {}).get("spec") or {}).get("color") == "red"
        response = {"uid": request["uid"], "allowed": not denied, "warnings": ["it was looked at"]}
        if denied:
            response["status"] = {"message": "red is out"}
        answer = json.dumps({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass

server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Hook)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2] + "/hook.crt", sys.argv[2] + "/hook.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
PYTHON
hook_pid=$!
asks() {
    kubectl apply -f - >/dev/null <<YAML
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: colours}
webhooks:
- name: colours.example.com
  clientConfig: {url: "https://localhost:$1/check", caBundle: "$(base64 -w0 "$dir/hook.crt")"}
  rules: [{operations: [CREATE, UPDATE], apiGroups: [example.com], apiVersions: ["*"], resources: [gadgets]}]
  sideEffects: None
  admissionReviewVersions: [v1]
  timeoutSeconds: 5
YAML
}
asks "$hook"
answers() { [[ $(gadget b green | kubectl apply --dry-run=server -f - 2>&1) == *'Warning: it was looked at'* ]]; }
until_true 20 "the webhook is asked" answers
if text=$(gadget c red | kubectl apply -f - 2>&1); then fail "a red gadget was let in"; fi
has "$text" 'admission webhook "colours.example.com" denied the request: red is out'
kubectl get gadget c >/dev/null 2>&1 && fail "what was denied is there"
pass "a webhook is asked and denies"

# The cloud's own API is not lent to tenants, by whichever name.
asks "$port"
if text=$(gadget d green | kubectl apply -f - 2>&1); then fail "the cloud's own port was asked"; fi
has "$text" 'failed calling webhook' "port $port is not one of those that may be reached"
kubectl delete validatingwebhookconfiguration colours >/dev/null
kill "$hook_pid"
kubectl delete crd gadgets.example.com >/dev/null
if kubectl get gadgets 2>/dev/null; then fail "the kind is still there"; fi
pass "what is inside is not reached; a kind is removed with its objects"
