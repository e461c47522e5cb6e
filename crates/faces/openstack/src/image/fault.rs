//! Glance's errors: WebOb's, which come as HTML unless the request asks for JSON.

use model::{Fault, Kind};
use serde_json::json;

use crate::call::Reply;
use crate::fault;
use crate::service::ErrorContext;

/// 404 in words of its own.
pub fn missing(text: impl Into<String>) -> Fault {
    Fault::NotFound { what: text.into(), id: String::new() }
}

fn message(fault: &Fault) -> String {
    match fault {
        Fault::NotFound { what, .. } if what == "resource" => "The resource could not be found.".to_owned(),
        Fault::NotFound { what, id } if id.is_empty() => what.clone(),
        Fault::NotFound { what, id } if what == Kind::Image.as_str() => format!("No image found with ID {id}"),
        other => fault::message(other),
    }
}

/// A fault as WebOb words it. A missing token is refused by Keystone's middleware.
pub fn render(fault: &Fault, context: &ErrorContext<'_>) -> Reply {
    let status = match fault {
        Fault::Unauthorized(_) => return fault::keystone(fault, context),
        Fault::Quota { .. } => 413,
        other => fault::status(other),
    };
    refusal(status, &message(fault), context.accept)
}

/// An error of any status, in the form that the Accept header asks for.
pub fn refusal(status: u16, text: &str, accept: &str) -> Reply {
    let title = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Error");
    let line = format!("{status} {title}");
    match form(accept) {
        Form::Json => {
            Reply::json(status, &json!({"message": format!("{text}<br /><br />\n\n\n"), "code": line, "title": title}))
        }
        Form::Html => {
            let body = format!("{}<br /><br />\n\n\n", escape(text));
            let page = format!(
                "<html>\n <head>\n  <title>{line}</title>\n </head>\n <body>\n  <h1>{line}</h1>\n  {body}\n </body>\n</html>"
            );
            written(status, "text/html; charset=UTF-8", page)
        }
        Form::Plain => written(status, "text/plain; charset=UTF-8", format!("{line}\n\n{text}\n\n\n")),
    }
}

fn written(status: u16, content_type: &str, text: String) -> Reply {
    let mut reply = Reply::empty(status).with("content-type", content_type);
    reply.body = text.into();
    reply
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[derive(Debug, PartialEq)]
enum Form {
    Html,
    Json,
    Plain,
}

/// WebOb offers HTML, then JSON; of equal weight the first wins.
fn form(accept: &str) -> Form {
    let weight = |offer: &str| -> f32 {
        if accept.trim().is_empty() {
            return 1.0;
        }
        let group = offer.split('/').next().unwrap_or_default();
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next()?.to_ascii_lowercase();
            let precision = match name.as_str() {
                "*/*" => 0,
                n if n == offer => 2,
                n if n.strip_suffix("/*") == Some(group) => 1,
                _ => return None,
            };
            let q = parts.find_map(|p| p.strip_prefix("q=")).and_then(|q| q.parse().ok()).unwrap_or(1.0);
            Some((precision, q))
        });
        ranges.max_by_key(|(precision, _)| *precision).map_or(0.0, |(_, q)| q)
    };
    let (html, json) = (weight("text/html"), weight("application/json"));
    if html > 0.0 && html >= json {
        Form::Html
    } else if json > 0.0 {
        Form::Json
    } else {
        Form::Plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_header_chooses_the_form() {
        for (accept, expected) in [
            ("", Form::Html),
            ("*/*", Form::Html),
            ("application/json", Form::Json),
            ("application/json, */*;q=0.5", Form::Json),
            ("text/*;q=0.2, application/json;q=0.1", Form::Html),
            ("text/plain", Form::Plain),
            ("text/html;q=0, */*", Form::Json),
        ] {
            assert_eq!(form(accept), expected, "{accept}");
        }
    }

    #[test]
    fn what_the_caller_sent_is_no_markup() {
        let reply = refusal(404, "No image found with ID <b>", "");
        assert_eq!(reply.headers["content-type"], "text/html; charset=UTF-8");
        assert_eq!(escape("<b>"), "&lt;b&gt;");
    }
}
