//! What the host and a VM on it have done so far: `uptime`'s line, and a VM's usage.

use axum::extract::{Path as Part, State};
use axum::response::{IntoResponse, Response};
use driver::DriverFault;
use http::StatusCode;
use model::Time;

use crate::Agent;

/// What a VM has used since it was started, as JSON; 404 while it does not run.
pub async fn usage(State(agent): State<Agent>, Part(vm): Part<String>) -> Result<Response, (StatusCode, String)> {
    let usage = agent.drivers().vm.usage(&vm).await.map_err(|fault| match fault {
        DriverFault::NotReady(_) => (StatusCode::NOT_FOUND, fault.to_string()),
        _ => (StatusCode::SERVICE_UNAVAILABLE, fault.to_string()),
    })?;
    let text = serde_json::to_string(&usage).map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    Ok(text.into_response())
}

/// How long the host runs, in the words of the program that people call for it, which clients take apart.
pub async fn uptime() -> Response {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let load: Vec<String> = read("/proc/loadavg").split(' ').take(3).map(str::to_owned).collect();
    let users = logged_in(&std::fs::read("/var/run/utmp").unwrap_or_default());
    line(Time::now(), driver::process::uptime(), users, &load).into_response()
}

fn line(now: Time, seconds: u64, users: usize, load: &[String]) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    let days = match days {
        0 => String::new(),
        1 => "1 day, ".to_owned(),
        more => format!("{more} days, "),
    };
    let since = if hours > 0 { format!("{hours:2}:{minutes:02}") } else { format!("{minutes} min") };
    let users = if users == 1 { "1 user".to_owned() } else { format!("{users} users") };
    let clock = now.strftime("%H:%M:%S");
    format!(" {clock} up {days}{since},  {users},  load average: {}", load.join(", "))
}

/// How many sessions the host's records of log-ins have: entries of 384 bytes, whose first two say what each is.
fn logged_in(records: &[u8]) -> usize {
    const ENTRY: usize = 384;
    const USER_PROCESS: u16 = 7;
    records.chunks_exact(ENTRY).filter(|entry| u16::from_le_bytes([entry[0], entry[1]]) == USER_PROCESS).count()
}

#[cfg(test)]
mod tests {
    use super::{line, logged_in};

    #[test]
    fn a_line_reads_as_the_programs() {
        let now = "2026-11-29T03:04:05Z".parse().unwrap();
        let load = ["0.10", "0.20", "0.30"].map(str::to_owned);
        let says = |seconds, users| line(now, seconds, users, &load);
        assert_eq!(
            says(2 * 86400 + 3 * 3600 + 240, 2),
            " 03:04:05 up 2 days,  3:04,  2 users,  load average: 0.10, 0.20, 0.30"
        );
        assert_eq!(says(86400 + 59, 1), " 03:04:05 up 1 day, 0 min,  1 user,  load average: 0.10, 0.20, 0.30");
        assert_eq!(says(11 * 3600, 0), " 03:04:05 up 11:00,  0 users,  load average: 0.10, 0.20, 0.30");
        let mut records = vec![0; 3 * 384 + 5];
        (records[0], records[384], records[768]) = (2, 7, 7);
        assert_eq!(logged_in(&records), 2);
    }
}
