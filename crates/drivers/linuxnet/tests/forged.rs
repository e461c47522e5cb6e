//! Frames that a guest makes up by hand: tags, answers of servers that it is not, questions in somebody else's name.

mod support;

use std::process::{Command, Stdio};

use model::hostnet::{Plug, Wire};
use support::*;

/// Says every frame that reaches the pod, until the last word is heard.
const LISTEN: &str = "import socket
s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW,socket.htons(3))
s.bind(('eth0',0))
print('listening',flush=True)
while True:
  frame,(_,_,kind,*_)=s.recvfrom(2000)
  if kind==4: continue # what the pod itself says
  for word in (b'plain',b'vlan0',b'vlan7',b'service0',b'qinq',b'lease'):
    if word in frame: print(word.decode(),flush=True)
  if b'last word' in frame: break
";

/// Sends frames to the MAC and address of another pod, at last one that everybody may send: a question by ARP.
const FORGE: &str = "import socket,struct,sys
me,mac,other,address=sys.argv[1:5]
def raw(mac): return bytes.fromhex(mac.replace(':',''))
s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW)
s.bind(('eth0',0))
def udp(word,source,target,sport,dport):
  body=struct.pack('!HHHH',sport,dport,8+len(word),0)+word
  head=struct.pack('!BBHHHBBH4s4s',0x45,0,20+len(body),1,0,64,17,0,socket.inet_aton(source),socket.inet_aton(target))
  total=sum(struct.unpack('!10H',head))
  total=(total>>16)+(total&0xffff)
  total=(total>>16)+(total&0xffff)
  return head[:10]+struct.pack('!H',~total&0xffff)+head[12:]+body
def send(tags,packet,to=raw(other)): s.send(to+raw(sys.argv[5])+tags+struct.pack('!H',0x0800)+packet)
for _ in range(3):
  for word,tags in ((b'plain',b''),(b'vlan0',b'\\x81\\x00\\x00\\x00'),(b'vlan7',b'\\x81\\x00\\x00\\x07'),
      (b'service0',b'\\x88\\xa8\\x00\\x00'),(b'qinq',b'\\x88\\xa8\\x00\\x05\\x81\\x00\\x00\\x00')):
    send(tags,udp(word,me,address,4000,9999))
  send(b'',udp(b'lease',me,address,67,68))
arp=struct.pack('!HHBBH6s4s6s4s',1,0x0800,6,4,1,raw(sys.argv[5]),socket.inet_aton(me),b'\\0'*6,socket.inet_aton(address))
s.send(b'\\xff'*6+raw(sys.argv[5])+struct.pack('!H',0x0806)+arp+b'last word')
";

/// What reached a pod of what its neighbour forged.
fn heard(listener: &str, forger: &str, from: &Wire, to: &Wire) -> Vec<String> {
    use std::io::{BufRead, BufReader};
    let python = |pod: &str, program: &str, arguments: &[&str]| {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/var/run/netns/{pod}")).args(["timeout", "30", "python3", "-c", program]);
        command.args(arguments).stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut ear = python(listener, LISTEN, &[]);
    let mut lines = BufReader::new(ear.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    assert_eq!(lines.next().as_deref(), Some("listening"));
    let (me, other) = (from.addresses[0].0.to_string(), to.addresses[0].0.to_string());
    let mut forger = python(forger, FORGE, &[&me, "-", &to.mac, &other, &from.mac]);
    assert!(forger.wait().unwrap().success());
    let heard = lines.collect();
    assert!(ear.wait().unwrap().success(), "the last word, which everybody may say, was not heard: {heard:?}");
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_goes_round_nothing() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    // The neighbour may be reached by nobody; the third port has no rules of its own.
    let (a, b, c) = (
        wire(1, 5, Plug::Veth, Some(egress())),
        wire(1, 6, Plug::Veth, Some(Vec::new())),
        wire(1, 7, Plug::Veth, None),
    );
    lab.apply(&network(vec![domain(1, vec![bridge(1, vec![a.clone(), b.clone(), c.clone()])])])).await;
    let (pod_a, pod_b, pod_c) = (lab.plug(&a).await, lab.plug(&b).await, lab.plug(&c).await);
    for (forger, from) in [(&pod_a, &a), (&pod_c, &c)] {
        assert_eq!(heard(&pod_b, forger, from, &b), Vec::<String>::new(), "from {}", from.device);
    }
    // Who takes everything hears what is not tagged, and no answer of a DHCP server from who is none.
    assert_eq!(heard(&pod_c, &pod_a, &a, &c), vec!["plain"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_not_told_to_an_address_that_is_only_allowed() {
    if !able() {
        return;
    }
    let mut lab = Lab::new();
    let (mut a, b) = (wire(1, 5, Plug::Veth, Some(egress())), wire(1, 6, Plug::Veth, Some(egress())));
    // The network's owner may let a port of his use any address, and take port security off another.
    a.allowed_pairs = vec![(None, "10.1.0.0/24".into())];
    let c = wire(1, 7, Plug::Veth, None);
    lab.apply(&network(vec![domain(1, vec![bridge(1, vec![a.clone(), b.clone(), c.clone()])])])).await;
    for wire in [&a, &c] {
        let pod = lab.plug(wire).await;
        sh(&format!("ip -n {pod} addr add 10.1.0.6/24 dev eth0"));
        let ask = |address: &str| {
            text(&inside(&pod, &format!("curl -sS -m 3 --interface {address} http://169.254.169.254/latest")))
        };
        let own = wire.addresses[0].0.to_string();
        assert_eq!(ask(&own), format!("{} /latest", wire.port_id));
        let other = ask("10.1.0.6");
        assert!(other.contains("(28)"), "{other}");
    }
}
