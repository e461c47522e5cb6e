//! How much is left of a file system, and how much of it is kept: one measure for whoever evicts pods when it is less, for
//! whoever refuses bytes before it is, and for what an operator is told. Two that differ would evict for what was taken a
//! moment before.

use std::path::Path;

/// Disks keep a tenth, and at most so much.
const DISK: u64 = 1 << 30;
/// Bytes of images are refused while so much more than that is left, but for a tenth of what is kept if that is less: what
/// several write at once must not reach it.
const BEFORE: u64 = 64 << 20;

/// How much is left of something, and below what it is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Margin {
    pub available: u64,
    pub threshold: u64,
}

impl Margin {
    pub fn is_short(self) -> bool {
        self.available < self.threshold
    }

    /// Whether so much more can be taken long before it is short.
    pub fn takes(self, more: u64) -> bool {
        let kept = self.threshold + BEFORE.min(self.threshold / 10);
        self.available.checked_sub(more).is_some_and(|left| left >= kept)
    }
}

/// What is left of the file system of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub disk: Margin,
    /// Bytes in all.
    pub total: u64,
    /// Files; `None` where their number has no limit.
    pub inodes: Option<Margin>,
}

/// Looks at the file system of a folder.
pub fn room(dir: &Path) -> std::io::Result<Room> {
    let fs = nix::sys::statvfs::statvfs(dir)?;
    let bytes = |blocks: u64| blocks.saturating_mul(fs.fragment_size());
    let total = bytes(fs.blocks());
    let inodes = Margin { available: fs.files_available(), threshold: fs.files() / 20 };
    Ok(Room {
        disk: Margin { available: bytes(fs.blocks_available()), threshold: (total / 10).min(DISK) },
        total,
        inodes: (fs.files() > 0).then_some(inodes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_refused_before_it_is_short() {
        let margin = |available, threshold| Margin { available, threshold };
        assert!(margin(1 << 31, 1 << 30).takes(1 << 20));
        assert!(!margin((1 << 30) + (64 << 20), 1 << 30).takes(1), "not short yet");
        assert!(!margin((1 << 30) + (64 << 20), 1 << 30).is_short());
        assert!(margin(115, 100).takes(5) && !margin(115, 100).takes(6));
        assert!(!margin(5, 0).takes(6));
        assert!(margin(99, 100).is_short());
    }
}
