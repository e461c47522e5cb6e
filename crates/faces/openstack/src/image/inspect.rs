//! What the first bytes of an upload tell. A qcow2 file that names other files would show a guest what lies on the
//! host, so it is refused here, long before a driver meets it; how large the disk is to a guest is noted.
//!
//! That bytes are of the format which the image claims is not demanded: drivers are always told the format and refuse
//! what does not fit.

/// The bytes that [`look`] needs.
pub const HEADER: usize = 80;

/// What a header tells.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The format, if it is one that can be known.
    pub qcow2: bool,
    /// The size that a guest sees, if the header says it.
    pub virtual_size: Option<u64>,
    /// The file refers to other files.
    pub depends: bool,
}

/// Looks at the first [`HEADER`] bytes, or all of a shorter file.
pub fn look(bytes: &[u8]) -> Found {
    let mut header = [0; HEADER];
    let length = bytes.len().min(HEADER);
    header[..length].copy_from_slice(&bytes[..length]);
    let word = |at: usize| header[at..at + 8].iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    let version = word(4) >> 32;
    if length < 72 || &header[..4] != b"QFI\xfb" || !(2..=3).contains(&version) {
        return Found { qcow2: false, virtual_size: None, depends: false };
    }
    // Of the features of version 3 that a reader must know, bit 2 is an external data file.
    let data_file = version == 3 && word(72) & 4 != 0;
    Found { qcow2: true, virtual_size: Some(word(24)), depends: word(8) != 0 || data_file }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qcow2(backing: u64, size: u64, features: u64) -> Vec<u8> {
        let mut header = vec![0; 112];
        header[..4].copy_from_slice(b"QFI\xfb");
        header[7] = 3;
        header[8..16].copy_from_slice(&backing.to_be_bytes());
        header[24..32].copy_from_slice(&size.to_be_bytes());
        header[72..80].copy_from_slice(&features.to_be_bytes());
        header
    }

    #[test]
    fn qcow2_tells_its_size_and_what_it_needs() {
        assert_eq!(look(&qcow2(0, 1 << 30, 0)), Found { qcow2: true, virtual_size: Some(1 << 30), depends: false });
        assert!(look(&qcow2(104, 1 << 30, 0)).depends);
        assert!(look(&qcow2(0, 1 << 30, 4)).depends);
        for other in [&b""[..], b"QFI\xfb", &[0; 200]] {
            assert!(!look(other).qcow2);
        }
    }
}
