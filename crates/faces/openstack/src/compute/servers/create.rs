//! `POST /servers`: one transaction for all servers of the request. Quota is claimed by their rows; a refusal leaves
//! nothing behind.

use model::{Change, Claim, Fault, Pool, Refused, Resource, Server};
use serde_json::{Value, json};

use super::networks;
use super::requests::{self, Asked};
use crate::call::{Call, Reply};
use crate::compute::wire::{href, links};

/// `POST /servers`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    requests::BODY.read(call.version, &body)?;
    call.who()?.project()?;
    networks::allocate(&mut call, &body).await?;
    let asked = requests::read(&call, &body)?;
    let reservation = reservation_id();
    let servers = fit(&call, &asked, &reservation).await?;
    if asked.return_reservation {
        return Ok(Reply::json(202, &json!({"reservation_id": reservation})));
    }
    let Some(first) = servers.first() else { return Err(Fault::Internal("no server was made".into())) };
    let path = format!("/servers/{}", first.id);
    let groups: Vec<Value> = asked.security_group_names.iter().map(|name| json!({"name": name})).collect();
    let out = json!({"server": {
        "id": first.id, "links": links(&call.url(""), &path), "adminPass": asked.admin_pass, "security_groups": groups,
        "OS-DCF:diskConfig": if asked.server.auto_disk { "AUTO" } else { "MANUAL" },
    }});
    Ok(Reply::json(202, &out).with("location", &href(&call, &path)))
}

/// How often it is tried anew when others take of the quota meanwhile.
const TRIES: usize = 8;

/// As many servers as fit into the quota, at least the least. How many that are is asked of the quota before the rows are
/// made, so that a request for a thousand costs what it gets and not a commit for each number that does not fit.
async fn fit(call: &Call, asked: &Asked, reservation: &str) -> Result<Vec<Server>, Fault> {
    let mut most = asked.most;
    let mut tries = TRIES;
    loop {
        let one = row(asked, reservation, 0, most);
        let count = fitting(&one.claims(), |pool| call.cloud.store.pool(pool), asked.least, most)?;
        check_size(&one, count)?;
        asked.hints.check_room(&call.cloud.store.snapshot(), count)?;
        let servers: Vec<Server> = (0..count).map(|index| row(asked, reservation, index, count)).collect();
        let made = call
            .cloud
            .store
            .transact(|_| {
                let mut change = Change::new();
                for server in &servers {
                    change.create(server.clone()).create(super::logged(call, server, "create")?);
                }
                Ok((change, ()))
            })
            .await;
        tries -= 1;
        match made {
            Ok(()) => return Ok(servers),
            Err(Fault::Quota { .. }) if count > asked.least && tries > 0 => most = count - 1,
            Err(fault) => return Err(fault),
        }
    }
}

/// How many rows with these claims the pools take, up to `most`; refused if they do not take `least`. The commit decides;
/// others may be faster.
fn fitting(claims: &[Claim], pool: impl Fn(&str) -> Pool, least: u32, most: u32) -> Result<u32, Refused> {
    let mut count = most;
    for claim in claims {
        let Claim::Use { pool: name, amount } = claim else { continue };
        let Pool { used, limit: Some(limit) } = pool(name) else { continue };
        let Some(room) = limit.saturating_sub(used).checked_div(*amount) else { continue };
        if room < u64::from(least) {
            let asked = amount.saturating_mul(least.into());
            return Err(Refused::Exceeded { pool: name.clone(), asked, used, limit });
        }
        count = count.min(u32::try_from(room).unwrap_or(u32::MAX));
    }
    Ok(count)
}

/// Refuses more than one commit takes before that many rows are in memory.
fn check_size(one: &Server, count: u32) -> Result<(), Fault> {
    let size = serde_json::to_vec(one).map_or(usize::MAX, |bytes| bytes.len());
    match size.saturating_mul(count as usize) > store::MAX_BYTES {
        true => Err(Fault::TooLarge(format!(
            "{count} servers of this sort have more than {} bytes together; ask for fewer at once.",
            store::MAX_BYTES
        ))),
        false => Ok(()),
    }
}

fn reservation_id() -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("r-{}", &id[..8])
}

fn row(asked: &Asked, reservation: &str, index: u32, count: u32) -> Server {
    let id = uuid::Uuid::new_v4().to_string();
    let numbered = |text: &str| if count > 1 { format!("{text}-{}", index + 1) } else { text.to_owned() };
    let name = numbered(&asked.server.name);
    let hostname = match asked.server.hostname.as_str() {
        "" => requests::hostname_of(&name, &id),
        given => numbered(given),
    };
    let reservation_id = reservation.to_owned();
    Server { id, name, hostname, reservation_id, launch_index: index, ..asked.server.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_tried_as_fit() {
        let uses = |pool: &str, amount| Claim::Use { pool: pool.to_owned(), amount };
        let claims = [uses("instances", 1), uses("cores", 2000), uses("free", 7), uses("ram", 0)];
        let pool = |name: &str| match name {
            "instances" => Pool { used: 3, limit: Some(10) },
            "cores" => Pool { used: 9000, limit: Some(20_000) },
            "ram" => Pool { used: 5, limit: Some(1) },
            _ => Pool::default(),
        };
        assert_eq!(fitting(&claims, pool, 1, 1000), Ok(5));
        assert_eq!(fitting(&claims, pool, 1, 4), Ok(4));
        assert_eq!(fitting(&claims, |_| Pool::default(), 1000, 1000), Ok(1000));
        let refused = Refused::Exceeded { pool: "cores".into(), asked: 12_000, used: 9000, limit: 20_000 };
        assert_eq!(fitting(&claims, pool, 6, 1000), Err(refused));
    }
}
