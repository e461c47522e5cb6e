//! Lists of servers. What they are filtered and sorted by is declared with what servers show.

use model::{Fault, Server};
use serde_json::json;

use super::view::{self, Seen};
use crate::attrs::{Answers, Shown};
use crate::call::{Call, Reply};
use crate::compute::wire::{page, pages};
use crate::json::Json;
use crate::lists::{self, Filters};

/// `GET /servers`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    listing(&call, Answers::BRIEF)
}

/// `GET /servers/detail`
pub async fn index_detail(call: Call) -> Result<Reply, Fault> {
    listing(&call, Answers::LIST)
}

fn listing(call: &Call, answer: Answers) -> Result<Reply, Fault> {
    let filters = Filters::<Server>::read(call)?;
    let view = call.view()?;
    let all = lists::flag(call, "all_tenants")?;
    if all && !view.who.is_admin() {
        return Err(Fault::Forbidden(
            "Policy doesn't allow os_compute_api:servers:index:get_all_tenants to be performed.".into(),
        ));
    }
    let rows: Vec<&Server> = if all {
        view.all::<Server>().map(|entry| entry.value).collect()
    } else {
        view.mine::<Server>().map(|entry| entry.value).collect()
    };
    let seen = rows.into_iter().map(|server| Seen::new(call, server, answer));
    let mut items: Vec<Seen<'_>> = seen.filter(|seen| filters.pass(seen)).collect();
    lists::sort::<Server>(call, &mut items, "created_at", true)?;
    let page = page(call, items, |seen| seen.server.id.clone())?;
    let next = page.more.then(|| page.items.last().map(|seen| seen.server.id.clone())).flatten();
    let items = page.items.iter().map(|seen| Server::shown(call, seen, answer)).collect();
    let links = pages(&call.page("servers", next.as_deref()));
    let mut body = vec![("servers", Json::List(items))];
    body.extend(links.iter().map(|(name, links)| (name.as_str(), Json::from(links))));
    Ok(Reply::ok(Json::Object(body)))
}

/// `GET /servers/{id}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let server = super::find(&call.view()?, call.param("id"))?;
    Ok(Reply::ok(json!({"server": view::server(&call, &server, Answers::ONE)})))
}
