//! The whole cloud in one thread, with a seeded will of its own: users who create and delete, planners that look at old
//! snapshots, clients that do too, agents that crash, drivers that fail before or after an act took effect, containers that
//! come to their ends. The planners, the agent and the store are the real ones; only drivers, clock and chance are simulated,
//! so a seed reproduces a run exactly.
//!
//! [`run`] plays a seed, then heals everything, lets it settle and checks what must always hold.

mod batch;
mod check;
mod chronicle;
mod client;
mod late;
mod mutation;
mod planning;
mod policy;
mod rows;
mod world;

use std::cell::Cell;

use model::Time;

pub use mutation::Mutation;
pub use world::{Report, World};

/// Steps of one run, before everything is healed.
const STEPS: u32 = 300;
/// Rounds within which a healed cloud must have settled.
const SETTLE: u32 = 80;
/// So many rounds without a change are rest, each of so many seconds: within them what was refused is tried again, who
/// waits for room has lost patience, and what failed has waited long enough.
const REST: u32 = 3;
const REST_SECONDS: i64 = 15;

thread_local! {
    /// Seconds since the beginning of the simulated time.
    static CLOCK: Cell<i64> = const { Cell::new(0) };
}

/// The simulated moment.
pub fn now() -> Time {
    const BEGIN: i64 = 1_800_000_000;
    Time::from_second(BEGIN + CLOCK.get()).unwrap_or(Time::UNIX_EPOCH)
}

fn pass(seconds: i64) {
    CLOCK.set(CLOCK.get() + seconds);
}

/// Plays one seed. The error says what did not hold, and after which step.
pub fn run(seed: u64) -> Result<Report, String> {
    run_with(seed, None)
}

/// Plays one seed of a cloud with a bug, which the error should tell of.
pub fn run_with(seed: u64, mutation: Option<Mutation>) -> Result<Report, String> {
    CLOCK.set(0);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|e| format!("no runtime: {e}"))?;
    runtime.block_on(play(seed, mutation))
}

async fn play(seed: u64, mutation: Option<Mutation>) -> Result<Report, String> {
    let mut world = World::new(seed, mutation).await?;
    for step in 0..STEPS {
        let what = world.step().await;
        pass(1);
        check::always(&mut world).map_err(|e| format!("after step {step} ({what}): {e}"))?;
    }
    world.heal_most().await;
    world.suspend_cron_jobs(true).await?;
    settle(&mut world).await?;
    if world.stubborn.is_some() {
        world.heal();
        settle(&mut world).await?;
    }
    world.run_cron_jobs().await?;
    settle(&mut world).await?;
    world.audit().await?;
    let store = world.store.clone();
    world.follower.check(&store)?;
    Ok(world.report())
}

/// Plays until nothing moves any more, and checks that everything is as it shall be.
async fn settle(world: &mut World) -> Result<(), String> {
    let (mut last, mut rest) = (0, 0);
    for round in 0.. {
        pass(if rest == 0 { 1 } else { REST_SECONDS });
        world.calm_round().await;
        // Heartbeats go on for ever; what counts is whether anything else moves.
        let revision = world.revision_without_heartbeats();
        rest = if revision == last { rest + 1 } else { 0 };
        if rest == REST {
            break;
        }
        last = revision;
        if round > SETTLE {
            return Err(format!("the healed cloud did not settle within {SETTLE} rounds: {}", world.describe()));
        }
    }
    check::always(world)?;
    check::settled(world)
}
