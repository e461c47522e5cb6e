//! `braid trash` and `braid confirm`: what a host put aside, and the questions that it asks before it does more. The list is
//! read from the folder, so that it is there when the cloud is not.

use std::path::PathBuf;
use std::process::ExitCode;

use agent::trash::{Entry, Trash};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::paths::Dir;
use crate::status::{ask, tell};
use crate::{DEFAULT_DIR, DirArg, Problem, say};

#[derive(Args)]
pub struct TrashArgs {
    /// The folder in which the cloud keeps everything
    #[arg(long, env = "BRAID_DIR", default_value = DEFAULT_DIR, global = true)]
    dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Give back what was put aside
    Restore {
        /// Its name in the list, or its id
        name: String,
    },
}

#[derive(Args)]
pub struct ConfirmArgs {
    #[command(flatten)]
    dir: DirArg,
    /// Go on
    #[arg(long)]
    yes: bool,
}

pub fn run(args: &TrashArgs) -> Result<ExitCode, Problem> {
    let dir = Dir::open(&args.dir)?;
    if let Some(What::Restore { name }) = &args.what {
        return restore(&dir, name);
    }
    let entries = Trash::of(dir.path()).list();
    if args.json {
        let entries: Vec<Value> = entries.iter().map(view).collect();
        say(format_args!("{:#}", json!({"trash": entries})));
        return Ok(ExitCode::SUCCESS);
    }
    if entries.is_empty() {
        say("nothing was put aside");
    }
    for entry in &entries {
        say(format_args!("{}  {} MiB, put aside at {}", entry.name, entry.size() >> 20, entry.about.since));
    }
    Ok(ExitCode::SUCCESS)
}

fn view(entry: &Entry) -> Value {
    json!({
        "name": entry.name, "sort": entry.about.sort, "id": entry.about.id, "since": entry.about.since,
        "cloud": entry.about.cloud, "confirmed": entry.about.confirmed, "bytes": entry.size(),
        "path": entry.content(),
    })
}

fn restore(dir: &Dir, name: &str) -> Result<ExitCode, Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(Problem::words("a name as `braid trash` lists it, please"));
    }
    let restored = tell(dir, &format!("/trash/restore/{name}"))?;
    say(format_args!("{} is given back", restored["restored"].as_str().unwrap_or(name)));
    Ok(ExitCode::SUCCESS)
}

/// Exits with 1 while there is a question and nobody has said yes.
pub fn confirm(args: &ConfirmArgs) -> Result<ExitCode, Problem> {
    let dir = Dir::open(&args.dir.dir)?;
    let answer = if args.yes { tell(&dir, "/confirm")? } else { ask(&dir, "/questions")? };
    let list = &answer[if args.yes { "confirmed" } else { "questions" }];
    let list: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if list.is_empty() {
        say("nothing waits for anybody");
        return Ok(ExitCode::SUCCESS);
    }
    list.iter().for_each(say);
    if args.yes {
        say("confirmed; the host goes on");
        return Ok(ExitCode::SUCCESS);
    }
    say("to go on all the same: braid confirm --yes");
    Ok(ExitCode::FAILURE)
}
