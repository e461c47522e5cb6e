//! What reads a stranger's bytes, for the crate `fuzz`.

use super::exec::{Said, said};
use super::spdy::{Frame, Reader};

/// Reads a message of a client of exec; whether it means something.
pub fn exec(message: &[u8]) -> bool {
    said(message) != Said::Nothing
}

/// Reads what a client of a port-forward sends, in pieces of so many bytes; how many streams it opens.
pub fn forward(bytes: &[u8], piece: usize) -> usize {
    let mut reader = Reader::default();
    let mut opened = 0;
    for piece in bytes.chunks(piece.max(1)) {
        let Ok(frames) = reader.feed(piece) else { break };
        opened += frames.iter().filter(|frame| matches!(frame, Frame::Open { .. })).count();
    }
    opened
}
