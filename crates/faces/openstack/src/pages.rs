//! Pages of lists: what of a request a service needs to link the pages around the one that it answers with.

use crate::call::escape;

/// One page of a list.
pub struct Page<'a> {
    /// The list's name in the body: `servers`.
    pub list: &'a str,
    /// By which the client reached us: `https://10.0.0.1:8443`.
    pub base: String,
    /// The path and query as sent.
    pub uri: &'a str,
    /// The query, decoded.
    pub query: &'a [(String, String)],
    /// The item behind which the next page begins, if there is one; empty: the next page begins at the list's beginning.
    pub next: Option<&'a str>,
    /// The item before which the previous page ends, in the same way.
    pub previous: Option<&'a str>,
}

impl Page<'_> {
    /// The path as sent.
    pub fn path(&self) -> &str {
        self.uri.split('?').next().unwrap_or_default()
    }

    /// The query that asks for the page at an item: as sent, but for the marker and what else is to be left out.
    pub fn query_at(&self, marker: &str, without: &[&str]) -> String {
        let kept = self.query.iter().filter(|(name, _)| name != "marker" && !without.contains(&name.as_str()));
        let mut pairs: Vec<String> = kept.map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        if !marker.is_empty() {
            pairs.push(format!("marker={}", escape(marker)));
        }
        pairs.join("&")
    }
}
