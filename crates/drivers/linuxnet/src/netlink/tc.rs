//! What the kernel calls traffic control, as far as it is used here: a token bucket at the root of a device, and at its entry
//! a program that looks at frames, and the way to another device. The options of a bucket are written byte by byte, since the
//! library has no words for them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::LinkIfb;
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcActionAttribute, TcActionMirrorOption, TcActionOption, TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption,
    TcFilterU32Option, TcHandle, TcMessage, TcOption,
};

use super::{Netlink, failed, unless};

const OPTIONS: u16 = 2;
const PARAMETERS: u16 = 1;
const RATE_64: u16 = 4;
const BURST: u16 = 6;
const ETHERNET: u8 = 1;
/// The length of `struct tc_tbf_qopt`: two rates of 12 bytes, then limit, buffer and MTU.
const LENGTH: usize = 36;
const RATE_AT: usize = 8;
const LIMIT_AT: usize = 24;
/// Of the filter that runs a program.
const PROGRAM: u16 = 50;
/// Of the filter that leads everything elsewhere.
const LEAD: u16 = 100;
const ALL_PROTOCOLS: u16 = 3_u16.to_be();

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Bytes a second.
    pub rate: u64,
    /// Bytes that may pass at once. The kernel does not tell it as it was given: two buckets of one rate differ by their limit.
    pub burst: u32,
    /// Bytes that may be there, waiting or passing; what comes beyond them is dropped.
    pub limit: u32,
}

/// What is at a device's entry, as the kernel shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The name of the program that looks at what comes from the device.
    pub program: Option<String>,
    /// The device to which the rest is led.
    pub leads: Option<u32>,
}

/// What a device's traffic meets, as the kernel shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shaped {
    /// Rate and limit of the bucket through which what is sent to the device passes.
    pub bucket: Option<(u64, u32)>,
    /// What comes from the device is looked at before anything else.
    pub entry: bool,
}

impl Netlink {
    /// What the traffic of each device meets, by the device's index. Devices without anything of the sort are left out.
    pub async fn shaped(&self) -> io::Result<BTreeMap<u32, Shaped>> {
        let mut dump = self.handle.qdisc().get().execute();
        let mut shaped: BTreeMap<u32, Shaped> = BTreeMap::new();
        while let Some(message) = dump.try_next().await.map_err(failed)? {
            let index = u32::try_from(message.header.index).unwrap_or_default();
            match kind(&message) {
                "tbf" if message.header.parent == TcHandle::ROOT => {
                    shaped.entry(index).or_default().bucket = read_bucket(&message);
                }
                "ingress" => shaped.entry(index).or_default().entry = true,
                _ => {}
            }
        }
        Ok(shaped)
    }

    /// Lets what is sent to the device pass through a bucket, in the place of what was there.
    pub async fn set_bucket(&self, index: u32, bucket: Bucket) -> io::Result<()> {
        let mut message = root(index);
        message.attributes.push(TcAttribute::Kind("tbf".to_owned()));
        message.attributes.push(TcAttribute::Other(DefaultNla::new(OPTIONS, options(bucket))));
        self.control(RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_REPLACE).await
    }

    /// Takes the bucket away.
    pub async fn remove_bucket(&self, index: u32) -> io::Result<()> {
        gone(self.control(RouteNetlinkMessage::DelQueueDiscipline(root(index)), 0).await)
    }

    /// Has what comes from the device looked at.
    pub async fn add_entry(&self, index: u32) -> io::Result<()> {
        let request = self.handle.qdisc().add(number(index)).ingress();
        unless(request.execute().await, io::ErrorKind::AlreadyExists)
    }

    /// What comes from the device goes its way again.
    pub async fn remove_entry(&self, index: u32) -> io::Result<()> {
        let mut message = TcMessage::with_index(number(index));
        message.header.parent = TcHandle::INGRESS;
        message.header.handle = TcHandle { major: 0xffff, minor: 0 };
        gone(self.control(RouteNetlinkMessage::DelQueueDiscipline(message), 0).await)
    }

    /// Has a program look at what comes from the device, which has an entry, in the place of the one that did.
    pub async fn run(&self, index: u32, program: impl AsFd, name: String) -> io::Result<()> {
        let mut message = at_entry(index, PROGRAM);
        message.header.handle = TcHandle { major: 0, minor: 1 };
        let fd = u32::try_from(program.as_fd().as_raw_fd()).map_err(io::Error::other)?;
        message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
        message.attributes.push(TcAttribute::Options(vec![
            TcOption::Bpf(TcFilterBpfOption::ProgFd(fd)),
            TcOption::Bpf(TcFilterBpfOption::ProgName(name)),
            TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
        ]));
        self.control(RouteNetlinkMessage::NewTrafficFilter(message), NLM_F_CREATE).await
    }

    /// Takes the program away.
    pub async fn remove_program(&self, index: u32) -> io::Result<()> {
        gone(self.control(RouteNetlinkMessage::DelTrafficFilter(at_entry(index, PROGRAM)), 0).await)
    }

    /// What comes from the device is no longer led to another.
    pub async fn remove_lead(&self, index: u32) -> io::Result<()> {
        gone(self.control(RouteNetlinkMessage::DelTrafficFilter(at_entry(index, LEAD)), 0).await)
    }

    /// Leads all that comes from the device to another, which has an entry.
    pub async fn lead(&self, index: u32, to: u32) -> io::Result<()> {
        let filter = self.handle.traffic_filter(number(index)).add().ingress();
        let filter = filter.priority(LEAD).protocol(ALL_PROTOCOLS).redirect(to).map_err(failed)?;
        filter.execute().await.map_err(failed)
    }

    /// What is at the device's entry.
    pub async fn entry(&self, index: u32) -> io::Result<Entry> {
        let mut dump = self.handle.traffic_filter(number(index)).get().ingress().execute();
        let mut entry = Entry::default();
        while let Some(message) = dump.try_next().await.map_err(failed)? {
            entry.leads = entry.leads.or(read_lead(&message));
            entry.program = entry.program.or(read_program(&message));
        }
        Ok(entry)
    }

    /// Makes a device that gives back what it is sent, as if it came from where it was sent from.
    pub async fn add_ifb(&self, name: &str) -> io::Result<()> {
        unless(self.handle.link().add(LinkIfb::new(name).up().build()).execute().await, io::ErrorKind::AlreadyExists)
    }

    async fn control(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut answers = self.handle.clone().request(request).map_err(failed)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload {
                return unless(Err(rtnetlink::Error::NetlinkError(error)), io::ErrorKind::AlreadyExists);
            }
        }
        Ok(())
    }
}

/// What is not there need not be removed: the kernel says so with one of three words.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) => Ok(()),
        other => other,
    }
}

fn number(index: u32) -> i32 {
    i32::try_from(index).unwrap_or_default()
}

fn root(index: u32) -> TcMessage {
    let mut message = TcMessage::with_index(number(index));
    message.header.parent = TcHandle::ROOT;
    message
}

/// About a filter at the device's entry.
fn at_entry(index: u32, priority: u16) -> TcMessage {
    let mut message = TcMessage::with_index(number(index));
    message.header.parent = TcHandle { major: 0xffff, minor: TcHandle::MIN_INGRESS };
    message.header.info = TcHandle { major: priority, minor: ALL_PROTOCOLS }.into();
    message
}

fn kind(message: &TcMessage) -> &str {
    let kind = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.as_str()),
        _ => None,
    });
    kind.unwrap_or("")
}

/// An attribute as it goes over the wire, filled up to a multiple of four.
fn attribute(into: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    into.extend(length.to_ne_bytes());
    into.extend(kind.to_ne_bytes());
    into.extend(value);
    into.resize(into.len().next_multiple_of(4), 0);
}

fn options(bucket: Bucket) -> Vec<u8> {
    let mut parameters = [0; LENGTH];
    parameters[1] = ETHERNET;
    let rate = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    parameters[RATE_AT..RATE_AT + 4].copy_from_slice(&rate.to_ne_bytes());
    parameters[LIMIT_AT..LIMIT_AT + 4].copy_from_slice(&bucket.limit.to_ne_bytes());
    let mut bytes = Vec::new();
    attribute(&mut bytes, PARAMETERS, &parameters);
    if rate == u32::MAX {
        attribute(&mut bytes, RATE_64, &bucket.rate.to_ne_bytes());
    }
    attribute(&mut bytes, BURST, &bucket.burst.to_ne_bytes());
    bytes
}

/// Rate and limit of a bucket.
fn read_bucket(message: &TcMessage) -> Option<(u64, u32)> {
    use rtnetlink::packet_core::{Nla, NlasIterator};
    let bytes = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => options.iter().find_map(|option| match option {
            TcOption::Other(other) => {
                let mut value = vec![0; other.value_len()];
                other.emit_value(&mut value);
                Some(value)
            }
            _ => None,
        }),
        _ => None,
    })?;
    let word = |bytes: &[u8], at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (mut rate, mut limit) = (None, None);
    for option in NlasIterator::new(bytes.as_slice()).filter_map(Result::ok) {
        match option.kind() {
            PARAMETERS => {
                rate = rate.or(word(option.value(), RATE_AT).map(u64::from));
                limit = word(option.value(), LIMIT_AT);
            }
            RATE_64 => rate = option.value().try_into().ok().map(u64::from_ne_bytes),
            _ => {}
        }
    }
    Some((rate?, limit?))
}

fn all_options(message: &TcMessage) -> impl Iterator<Item = &TcOption> {
    let options = message.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    options.flatten()
}

fn read_program(message: &TcMessage) -> Option<String> {
    all_options(message).find_map(|option| match option {
        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => Some(name.clone()),
        _ => None,
    })
}

fn read_lead(message: &TcMessage) -> Option<u32> {
    let actions = all_options(message).filter_map(|option| match option {
        TcOption::U32(TcFilterU32Option::Action(actions)) => Some(actions),
        _ => None,
    });
    let mut about = actions.flatten().flat_map(|action| &action.attributes);
    about.find_map(|attribute| match attribute {
        TcActionAttribute::Options(options) => options.iter().find_map(|option| match option {
            TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror)) => Some(mirror.ifindex),
            _ => None,
        }),
        _ => None,
    })
}
