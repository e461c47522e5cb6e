//! The files in which the runtime keeps what containers print: `TIME STREAM TAG TEXT`, where the tag `P` is a part of a line
//! and `F` its end. See the kubelet's CRI log format.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// A line of such a file, or a part of a line: then its text ends without a newline.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub time: &'a [u8],
    pub text: &'a [u8],
}

impl<'a> Line<'a> {
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |b| *b == b' ');
        let (time, _stream, tag, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let part = tag.split(|b| *b == b':').next() == Some(b"P");
        Some(Self { time, text: if part { text.strip_suffix(b"\n").unwrap_or(text) } else { text } })
    }
}

/// The last bytes of a file.
pub fn tail(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The end of a log: so many lines and bytes at most.
pub fn last_lines(path: &Path, lines: usize, bytes: usize) -> Vec<u8> {
    let Ok(log) = tail(path, (bytes * 4) as u64) else { return Vec::new() };
    let all: Vec<&[u8]> = log.split_inclusive(|b| *b == b'\n').filter_map(Line::parse).map(|line| line.text).collect();
    let text = all[all.len().saturating_sub(lines)..].concat();
    text[text.len().saturating_sub(bytes)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_parts() {
        let text = |line: &'static str| Line::parse(line.as_bytes()).map(|line| line.text);
        assert_eq!(text("2026-01-01T00:00:00Z stdout F hello\n"), Some(&b"hello\n"[..]));
        assert_eq!(text("2026-01-01T00:00:00Z stdout P hel\n"), Some(&b"hel"[..]));
        assert_eq!(text("2026-01-01T00:00:00Z stdout P:x hel\n"), Some(&b"hel"[..]));
        assert_eq!(text("nonsense\n"), None);
    }

    #[test]
    fn the_end_of_a_log() {
        let log = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(log.path(), "t s F one\nt s P tw\nt s F o\nt s F three\n").expect("written");
        assert_eq!(last_lines(log.path(), 3, 100), b"two\nthree\n");
        assert_eq!(last_lines(log.path(), 3, 8), b"o\nthree\n");
    }
}
