//! The formats of texts that a schema's `format` is held to. Others are for people, as in Kubernetes, where a format that the
//! server does not know is no rule.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Whether a text has this format.
pub fn holds(format: &str, text: &str) -> bool {
    match format {
        "byte" => BASE64_STANDARD.decode(text).is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "uuid" => uuid::Uuid::parse_str(text).is_ok(),
        _ => true,
    }
}
