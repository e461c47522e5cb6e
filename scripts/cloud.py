"""A cloud that a script starts, talks to over plain HTTP and removes: for what is measured and tested from outside, where
a start of the `openstack` command for each request would be most of the time. Python's own library is enough."""
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import time

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "target"))
TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Refused(Exception):
    """An answer with an error's status."""

    def __init__(self, status, text):
        super().__init__(f"{status}: {text[:500]}")
        self.status, self.text = status, text


def until(seconds, what, look, also=()):
    """Waits until `look` gives something true, and returns that; what it may raise until then: what is not there yet, and `also`."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            last = look()
            if last:
                return last
        except (Refused, LookupError, KeyError, *also) as error:
            last = error
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {seconds} s; last seen: {str(last)[:2000]}")


class Cloud:
    """`braid up` in a folder, on a port and a public range that no other cloud uses."""

    def __init__(self, braid, folder, sim=False):
        self.braid, self.dir, self.port = braid, folder, free_port()
        self.args = [braid, "up", "--dir", folder, "--listen", f"127.0.0.1:{self.port}", "--detach"]
        self.args += ["--sim"] if sim else []
        self.token = None

    def up(self, status=0):
        """Starts it; `status` 3: it lacks what VMs, pods or networks need."""
        done = subprocess.run(self.args, capture_output=True, text=True)
        if done.returncode != status:
            raise RuntimeError(f"braid up: {done.stdout}{done.stderr}")
        env = self.command("env", "--admin")
        self.env = dict(line.removeprefix("export ").split("=", 1) for line in env.splitlines())
        self.cluster = json.load(open(os.path.join(self.dir, "access.json")))["cluster_id"]
        self.tls = ssl.create_default_context(cafile=os.path.join(self.dir, "ca.pem"))
        self.pid = self.status()["pid"]
        self.token = self.login()

    def command(self, *words):
        """What a command of braid says; its exit status is not looked at."""
        done = subprocess.run([self.braid, words[0], "--dir", self.dir, *words[1:]], capture_output=True, text=True)
        return done.stdout or done.stderr

    def down(self):
        self.command("down")

    def status(self):
        return json.loads(self.command("status", "--json"))

    def remove(self):
        self.command("down", "--purge")
        shutil.rmtree(self.dir, ignore_errors=True)

    def connect(self):
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.tls, timeout=120)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def login(self, project="demo"):
        user = {"name": self.env["OS_USERNAME"], "password": self.env["OS_PASSWORD"], "domain": {"id": "default"}}
        scope = {"project": {"name": project, "domain": {"id": "default"}}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        connection = self.connect()
        connection.request("POST", "/identity/v3/auth/tokens", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 201, answer.status
        return answer.headers["X-Subject-Token"]

    def ask(self, method, path, body=None, headers=None, connection=None):
        """The answer's JSON (or text) to a request of the project `demo`; raises Refused for an error."""
        headers = {"X-Auth-Token": self.token, "Authorization": f"Bearer {self.token}", **(headers or {})}
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        connection = connection or self.connect()
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        if answer.status >= 400:
            raise Refused(answer.status, text)
        return json.loads(text) if "json" in (answer.headers["Content-Type"] or "") and text else text

    def kube(self, method, path, body=None, **more):
        """A request to the cluster `demo`; the path goes on after `/api/v1/namespaces/default/`."""
        return self.ask(method, f"/clusters/{self.cluster}/api/v1/namespaces/default/{path}", body, **more)

    def find(self, path, collection, **wanted):
        """The first of a list with these fields."""
        for row in self.ask("GET", path)[collection]:
            if all(row.get(name) == value for name, value in wanted.items()):
                return row
        raise LookupError(f"{path}: none with {wanted}")

    def create_server(self, name, user_data=None, flavor="m1.tiny", connection=None, port=None):
        """Asks for a server from the image `tiny` on `demo-net`, or on a port; its id."""
        network = {"port": port} if port else {
            "uuid": self.find("/network/v2.0/networks", "networks", name="demo-net")["id"]}
        server = {
            "name": name,
            "flavorRef": self.find("/compute/v2.1/flavors", "flavors", name=flavor)["id"],
            "imageRef": self.find("/image/v2/images", "images", name="tiny")["id"],
            "networks": [network],
        }
        if user_data:
            server["user_data"] = user_data
        return self.ask("POST", "/compute/v2.1/servers", {"server": server}, connection=connection)["server"]["id"]

    def server(self, server):
        return self.ask("GET", f"/compute/v2.1/servers/{server}")["server"]

    def act(self, server, action):
        return self.ask("POST", f"/compute/v2.1/servers/{server}/action", action)

    def console(self, server):
        return self.act(server, {"os-getConsoleOutput": {}})["output"]

    def cpu(self):
        """Seconds of CPU that the process has used."""
        fields = open(f"/proc/{self.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def rss(self):
        """MiB of memory."""
        for line in open(f"/proc/{self.pid}/status"):
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0
