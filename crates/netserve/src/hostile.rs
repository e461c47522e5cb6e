//! What reads a stranger's bytes, for the crate `fuzz`: the servers without sockets. What they answer is given back.

use crate::sample::{MAC, NETWORK, facts};

/// A guest's question to the DNS server.
pub fn dns(bytes: &[u8]) -> Vec<u8> {
    crate::dns::consider(&facts(), bytes)
}

/// A guest's message to the DHCPv4 server.
pub fn dhcp(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(crate::dhcp::consider(&facts(), NETWORK, bytes)?.0)
}

/// A guest's message to the DHCPv6 server.
pub fn dhcp6(bytes: &[u8]) -> Option<Vec<u8>> {
    crate::dhcp6::consider(&facts(), NETWORK, MAC.link_local(), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_question_is_answered() {
        let association = [0, 3, 0, 12, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
        let solicit = [&[1, 1, 2, 3, 0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 5][..], &association].concat();
        let answer = dhcp6(&solicit).expect("an advertisement");
        assert_eq!(answer[..4], [2, 1, 2, 3]);
        let own = [0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
        assert!(answer.windows(16).any(|part| part == own), "{answer:02x?}");
    }
}
