//! As much of SPDY/3.1 as streams into pods need: kubectl speaks it for port-forwards inside a WebSocket, older clients
//! for everything. Frames are read from bytes and written to
//! bytes; there is no input or output here. Refused: a general SPDY library, of which none is kept any more; compressing
//! what we send, where stored blocks say the same.
//!
//! Flow control is left out on purpose, as in Kubernetes' own implementation: nobody sends windows.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;

/// The most of a frame: the field has 24 bits, but nobody sends as much.
const LONGEST: usize = 1 << 20;
/// The most of a block of headers, decompressed.
const HEADERS: usize = 16 << 10;

/// Headers of a stream.
pub type Headers = Vec<(String, String)>;

/// What the other side says.
#[derive(Debug, PartialEq)]
pub enum Frame {
    Open {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    Data {
        stream: u32,
        bytes: Bytes,
        fin: bool,
    },
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// One that means nothing here.
    Other,
}

/// Why a connection cannot go on.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(&'static str);

/// Reads frames.
#[derive(Default)]
pub struct Reader {
    bytes: BytesMut,
    headers: Inflater,
}

impl Reader {
    /// Takes in what came; the frames that are whole now.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<VecDeque<Frame>, Broken> {
        self.bytes.extend_from_slice(bytes);
        let mut frames = VecDeque::new();
        while let Some(head) = self.bytes.first_chunk::<8>().copied() {
            let length = number24(&head[5..8]);
            if length > LONGEST {
                return Err(Broken("a frame is too long"));
            }
            if self.bytes.len() < 8 + length {
                break;
            }
            let frame = self.bytes.split_to(8 + length).freeze().slice(8..);
            frames.push_back(self.frame(&head, frame)?);
        }
        Ok(frames)
    }

    fn frame(&mut self, head: &[u8; 8], body: Bytes) -> Result<Frame, Broken> {
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let fin = head[4] & FIN != 0;
        if first >> 31 == 0 {
            return Ok(Frame::Data { stream: first, bytes: body, fin });
        }
        if (first >> 16) & 0x7fff != 3 {
            return Err(Broken("a frame is of another version than 3"));
        }
        let word = |at: usize| body.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) & 0x7fff_ffff);
        let short = Broken("a frame is too short");
        Ok(match (first & 0xffff) as u16 {
            SYN_STREAM => {
                let block = body.get(10..).ok_or(short)?;
                let headers = self.headers.block(block)?;
                Frame::Open { stream: word(0).unwrap_or(0), headers, fin }
            }
            RST_STREAM => Frame::Reset { stream: word(0).ok_or(short)? },
            PING => {
                let id = body.first_chunk::<4>().ok_or(short)?;
                Frame::Ping { id: u32::from_be_bytes(*id) }
            }
            GOAWAY => Frame::GoAway,
            SYN_REPLY => Frame::Other,
            _ => Frame::Other,
        })
    }
}

fn number24(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b))
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut out = (0x8003_0000 | u32::from(kind)).to_be_bytes().to_vec();
    out.extend((u32::from(flags) << 24 | body.len() as u32).to_be_bytes());
    out.extend(body);
    out
}

/// Data of a stream, and whether it is the last.
pub fn data(stream: u32, bytes: &[u8], fin: bool) -> Vec<u8> {
    let mut out = (stream & 0x7fff_ffff).to_be_bytes().to_vec();
    out.extend((u32::from(if fin { FIN } else { 0 }) << 24 | bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
    out
}

/// The stream will not go on.
pub fn reset(stream: u32) -> Vec<u8> {
    const CANCEL: u32 = 5;
    control(RST_STREAM, 0, &[stream.to_be_bytes(), CANCEL.to_be_bytes()].concat())
}

pub fn pong(id: u32) -> Vec<u8> {
    control(PING, 0, &id.to_be_bytes())
}

/// Writes replies to new streams; the blocks of headers of a connection are one compressed stream.
#[derive(Default)]
pub struct Writer {
    begun: bool,
}

impl Writer {
    /// Accepts a stream, without headers.
    pub fn reply(&mut self, stream: u32) -> Vec<u8> {
        let block = stored(std::mem::replace(&mut self.begun, true), &0u32.to_be_bytes());
        control(SYN_REPLY, 0, &[&stream.to_be_bytes(), &block[..]].concat())
    }
}

/// A block of headers as a compressor writes it that does not compress; `begun`: one went before it.
fn stored(begun: bool, block: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if !begun {
        // Deflate with a window of 32 KiB, a dictionary, and a check over both bytes; then which dictionary.
        out.extend([0x78, 0xbb]);
        out.extend(DICTIONARY_ID.to_be_bytes());
    }
    // A stored block, then an empty one, which is how a compressor is flushed.
    let length = block.len() as u16;
    out.push(0);
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(block);
    out.extend([0, 0, 0, 0xff, 0xff]);
    out
}

const WINDOW: usize = 32 << 10;

/// Decompresses the blocks of headers of a connection, with SPDY's dictionary.
struct Inflater {
    state: Box<DecompressorOxide>,
    window: Box<[u8]>,
    at: usize,
    begun: bool,
}

impl Default for Inflater {
    fn default() -> Self {
        let dictionary = dictionary();
        let mut window = vec![0; WINDOW].into_boxed_slice();
        window[..dictionary.len()].copy_from_slice(&dictionary);
        Self { state: Box::default(), window, at: dictionary.len(), begun: false }
    }
}

impl Inflater {
    fn block(&mut self, mut bytes: &[u8]) -> Result<Headers, Broken> {
        if !self.begun {
            let (head, rest) = bytes.split_at_checked(6).ok_or(Broken("headers are too short"))?;
            if head[0] & 0x0f != 8 || head[1] & 0x20 == 0 || head[2..] != DICTIONARY_ID.to_be_bytes() {
                return Err(Broken("headers are not compressed with the dictionary"));
            }
            (bytes, self.begun) = (rest, true);
        }
        let mut out = Vec::new();
        loop {
            let (status, read, written) =
                decompress(&mut self.state, bytes, &mut self.window, self.at, TINFL_FLAG_HAS_MORE_INPUT);
            out.extend_from_slice(&self.window[self.at..self.at + written]);
            self.at = (self.at + written) % WINDOW;
            bytes = &bytes[read..];
            if out.len() > HEADERS {
                return Err(Broken("headers are too long"));
            }
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if bytes.is_empty() => break,
                TINFLStatus::NeedsMoreInput if read > 0 => {}
                _ => return Err(Broken("headers cannot be decompressed")),
            }
        }
        headers(&out).ok_or(Broken("headers end too soon"))
    }
}

fn headers(mut bytes: &[u8]) -> Option<Headers> {
    fn word(bytes: &mut &[u8]) -> Option<usize> {
        let (head, rest) = bytes.split_first_chunk::<4>()?;
        *bytes = rest;
        usize::try_from(u32::from_be_bytes(*head)).ok()
    }
    fn text(bytes: &mut &[u8]) -> Option<String> {
        let length = word(bytes)?;
        let (text, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(String::from_utf8_lossy(text).into_owned())
    }
    let count = word(&mut bytes)?;
    let mut all = Headers::new();
    for _ in 0..count.min(HEADERS / 8) {
        let name = text(&mut bytes)?;
        all.push((name, text(&mut bytes)?));
    }
    Some(all)
}

/// The Adler-32 sum of [`dictionary`].
const DICTIONARY_ID: u32 = 0xe3c6_a7c2;

const WORDS: &[&str] = &[
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

const REST: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov \
Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,\
utf-,*,enq=0.";

/// What both sides know before the first byte: draft-mbelshe-httpbis-spdy-00, section 2.6.10.1.
fn dictionary() -> Vec<u8> {
    let mut out = Vec::with_capacity(1423);
    for word in WORDS {
        out.extend((word.len() as u32).to_be_bytes());
        out.extend(word.as_bytes());
    }
    out.extend(REST.as_bytes());
    out
}

/// What a client writes to open a stream; `begun`: it opened one before.
#[cfg(test)]
pub fn open(begun: bool, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = (headers.len() as u32).to_be_bytes().to_vec();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        block.extend((text.len() as u32).to_be_bytes());
        block.extend(text.as_bytes());
    }
    let mut body = [stream.to_be_bytes(), [0; 4]].concat();
    body.extend([0, 0]);
    body.extend(stored(begun, &block));
    control(SYN_STREAM, 0, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adler(bytes: &[u8]) -> u32 {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in bytes {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        b << 16 | a
    }

    #[test]
    fn the_dictionary_is_spdys() {
        assert_eq!((dictionary().len(), adler(&dictionary())), (1423, DICTIONARY_ID));
    }

    /// Two streams as zlib compresses them, one after the other in one compressed stream.
    const OPENED: &[&str] = &[
        "78f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45e01c6061606100a4398b20d198094ade8c0600000000ffff",
        "c2aa19540e2512d60b000000ffff",
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex")).collect()
    }

    #[test]
    fn streams_are_opened_and_carry_data() {
        let mut reader = Reader::default();
        for (stream, (hex, kind)) in [1u32, 3].into_iter().zip(OPENED.iter().zip(["error", "data"])) {
            let mut body = [stream.to_be_bytes(), [0; 4]].concat();
            body.extend([0, 0]);
            body.extend(bytes(hex));
            let frame = control(SYN_STREAM, 0, &body);
            // It comes in two pieces.
            assert!(reader.feed(&frame[..7]).expect("fine").is_empty());
            let frames = reader.feed(&frame[7..]).expect("fine");
            let Some(Frame::Open { stream: opened, headers, fin: false }) = frames.front() else {
                panic!("{frames:?}")
            };
            assert_eq!(*opened, stream);
            assert!(headers.contains(&("streamtype".into(), kind.into())), "{headers:?}");
            assert!(headers.contains(&("port".into(), "8080".into())), "{headers:?}");
        }
        let frames = reader.feed(&data(3, b"hello", true)).expect("fine");
        assert_eq!(frames, [Frame::Data { stream: 3, bytes: Bytes::from_static(b"hello"), fin: true }]);
        assert_eq!(reader.feed(&pong(7)), Ok([Frame::Ping { id: 7 }].into()));
        assert_eq!(reader.feed(&reset(3)), Ok([Frame::Reset { stream: 3 }].into()));
    }

    #[test]
    fn nonsense_breaks_the_connection_and_nothing_else() {
        assert!(Reader::default().feed(&[0x80, 2, 0, 1, 0, 0, 0, 0]).is_err());
        assert!(Reader::default().feed(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff]).is_err());
        for seed in 0u8..=255 {
            let mut body = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x78, 0xbb];
            body.extend(DICTIONARY_ID.to_be_bytes());
            body.extend((0u8..60).map(|i| i.wrapping_mul(seed).wrapping_add(seed ^ 0x5a)));
            let _ = Reader::default().feed(&control(SYN_STREAM, 0, &body));
        }
    }
}
