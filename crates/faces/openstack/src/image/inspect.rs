//! What the first bytes of an upload tell. A qcow2 file that names other files would show a guest what lies on the host, and
//! bytes that are of another format than the image says are, sooner or later, read as what they are not: both are refused
//! here, long before a driver meets them. How large the disk is to a guest is noted.

/// The bytes that [`look`] needs: a disc's first descriptor is behind its first 16 sectors.
pub const HEADER: usize = 32_768 + 6;

/// In the place of a format: what no driver here would read.
const UNREADABLE: &str = "a qcow2 that is encrypted, damaged or of a later version";
/// The most tables of the first level that QEMU reads.
const MOST_TABLES: u64 = 4 << 20;

/// What a header tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The format by Glance's name, if it is one that can be known; else it may be `raw`.
    pub format: Option<&'static str>,
    /// The size that a guest sees, if the header says it.
    pub virtual_size: Option<u64>,
    /// The file refers to other files.
    pub depends: bool,
}

impl Found {
    /// The bytes can be what the image says. Of kernels, file systems without partitions and containers nothing is known.
    pub fn is_of(&self, disk_format: &str, container_format: &str) -> bool {
        match disk_format {
            _ if container_format != "bare" => true,
            "raw" => self.format.is_none(),
            "qcow2" | "vmdk" | "vdi" | "vhdx" | "iso" => self.format == Some(disk_format),
            // One of fixed size says what it is in its last bytes.
            "vhd" => self.format.is_none_or(|found| found == "vhd"),
            _ => true,
        }
    }
}

/// Looks at the first [`HEADER`] bytes, or all of a shorter file.
pub fn look(bytes: &[u8]) -> Found {
    if let Some(found) = qcow2(bytes) {
        return found;
    }
    let at = |place: usize, magic: &[u8]| bytes.get(place..).is_some_and(|rest| rest.starts_with(magic));
    let signs: [(&str, usize, &[u8]); 7] = [
        ("vmdk", 0, b"KDMV"),
        ("vmdk", 0, b"COWD"),
        ("vmdk", 0, b"# Disk DescriptorFile"),
        ("vhd", 0, b"conectix"),
        ("vhdx", 0, b"vhdxfile"),
        ("vdi", 64, b"\x7f\x10\xda\xbe"),
        ("iso", 32_769, b"CD001"),
    ];
    let format = signs.iter().find(|(_, place, magic)| at(*place, magic)).map(|(name, ..)| *name);
    Found { format, virtual_size: None, depends: false }
}

fn qcow2(bytes: &[u8]) -> Option<Found> {
    let mut header = [0; 80];
    let length = bytes.len().min(header.len());
    header[..length].copy_from_slice(&bytes[..length]);
    let word = |at: usize| header[at..at + 8].iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    let version = word(4) >> 32;
    if length < 72 || &header[..4] != b"QFI\xfb" || !(2..=3).contains(&version) {
        return None;
    }
    // Of the features of version 3 that a reader must know, bit 2 is an external data file, and there are five.
    let data_file = version == 3 && word(72) & 4 != 0;
    let (cluster_bits, encrypted, tables) = (word(20) >> 32, word(32) >> 32 != 0, word(36) >> 32);
    let odd = cluster_bits > 21 || encrypted || tables > MOST_TABLES || (version == 3 && word(72) >> 5 != 0);
    let format = Some(if odd { UNREADABLE } else { "qcow2" });
    Some(Found { format, virtual_size: Some(word(24)), depends: word(8) != 0 || data_file })
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
        assert_eq!(
            look(&qcow2(0, 1 << 30, 0)),
            Found { format: Some("qcow2"), virtual_size: Some(1 << 30), depends: false }
        );
        assert!(look(&qcow2(104, 1 << 30, 0)).depends);
        assert!(look(&qcow2(0, 1 << 30, 4)).depends);
        for (at, byte) in [(23, 63), (35, 1), (36, 255), (78, 1)] {
            let mut odd = qcow2(0, 1 << 30, 0);
            odd[at] = byte;
            assert!(!look(&odd).is_of("qcow2", "bare") && !look(&odd).is_of("raw", "bare"), "{at}");
        }
        for other in [&b""[..], b"QFI\xfb", &[0; 200]] {
            assert_eq!(look(other).format, None);
        }
    }

    #[test]
    fn an_image_is_what_its_format_says() {
        let with = |at: usize, magic: &[u8]| {
            let mut bytes = vec![0; HEADER];
            bytes[at..at + magic.len()].copy_from_slice(magic);
            look(&bytes)
        };
        for (format, at, magic) in
            [("vmdk", 0, &b"KDMV"[..]), ("vdi", 64, b"\x7f\x10\xda\xbe"), ("iso", 32_769, b"CD001")]
        {
            let found = with(at, magic);
            assert!(
                found.is_of(format, "bare") && !found.is_of("raw", "bare") && !found.is_of("qcow2", "bare"),
                "{format}"
            );
            assert!(found.is_of("raw", "ovf") && !with(0, b"").is_of(format, "bare"), "{format}");
        }
        assert!(!look(&qcow2(0, 1, 0)).is_of("raw", "bare") && with(0, b"any").is_of("raw", "bare"));
        assert!(with(0, b"").is_of("vhd", "bare") && with(0, b"any").is_of("aki", "bare"));
    }
}
