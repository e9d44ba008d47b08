//! What a person changes in the store by hand: silences. The store is the one that passes use,
//! and a change is written like theirs, only if nobody else wrote meanwhile.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::condition::Condition;
use crate::config::Scheduler;
use crate::message::safe;
use crate::silence::{OneOff, SilenceError};
use crate::state::State;
use crate::table::Table;
use crate::world::{StoreError, World};

/// Tries to write a change while passes write, too.
const TRIES: u32 = 5;

/// Recurring windows are listed this long before they open.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A change that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The state could not be read or written.
    #[error("{scheduler}: {error}")]
    Store {
        /// Whose state.
        scheduler: String,
        /// Why.
        error: StoreError,
    },
    /// The silence cannot be had.
    #[error("{scheduler}: {error}")]
    Silence {
        /// Whose silence.
        scheduler: String,
        /// Why.
        error: SilenceError,
    },
    /// There is no such silence.
    #[error("there is no silence `{id}`{}", known.as_deref().map(|known| format!("; there are: {known}")).unwrap_or_default())]
    NoSuchSilence {
        /// What was asked for.
        id: String,
        /// The names of those that there are.
        known: Option<String>,
    },
}

/// Changes a scheduler's state and writes it. What `change` returns is that of the try that was
/// written.
async fn change<W: World, T, E>(
    world: &W,
    scheduler: &str,
    mut change: impl FnMut(&mut State) -> Result<T, E>,
) -> Result<Result<T, E>, ChangeError> {
    let failed = |error| ChangeError::Store {
        scheduler: scheduler.to_owned(),
        error,
    };
    let mut last = StoreError::Conflict;
    for _ in 0..TRIES {
        let (mut state, version) = world.load(scheduler).await.map_err(failed)?;
        let done = match change(&mut state) {
            Ok(done) => done,
            Err(refused) => return Ok(Err(refused)),
        };
        match world.save(scheduler, &state, version).await {
            Ok(_) => return Ok(Ok(done)),
            Err(StoreError::Conflict) => last = StoreError::Conflict,
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(last))
}

/// Silences the schedulers.
///
/// # Errors
/// The first scheduler that could not be silenced; those before it are.
pub async fn silence<W: World>(
    world: &W,
    schedulers: &[&Scheduler],
    silence: &OneOff,
) -> Result<(), ChangeError> {
    for scheduler in schedulers {
        change(world, &scheduler.name, |state| silence.add_to(state))
            .await?
            .map_err(|error| ChangeError::Silence {
                scheduler: scheduler.name.clone(),
                error,
            })?;
    }
    Ok(())
}

/// Takes a silence back, and tells for which schedulers it held.
///
/// # Errors
/// There is none of that name, or a state could not be written.
pub async fn unsilence<W: World>(
    world: &W,
    schedulers: &[&Scheduler],
    id: &str,
) -> Result<Vec<String>, ChangeError> {
    let now = world.now();
    let (mut removed, mut known) = (Vec::new(), Vec::new());
    for scheduler in schedulers {
        let had = change(world, &scheduler.name, |state| {
            let had = state.silences.iter().any(|silence| silence.id == id);
            let open = (state.silences.iter()).filter(|silence| silence.until > now);
            known.extend(open.map(|silence| silence.id.clone()));
            state.silences.retain(|silence| silence.id != id);
            // Without it there is nothing to write.
            if had { Ok(()) } else { Err(()) }
        })
        .await?;
        if had.is_ok() {
            removed.push(scheduler.name.clone());
        }
    }
    if removed.is_empty() {
        known.sort();
        known.dedup();
        return Err(ChangeError::NoSuchSilence {
            id: safe::line(id),
            known: (!known.is_empty()).then(|| known.join(", ")),
        });
    }
    Ok(removed)
}

/// A time by a zone's clock, as lists of silences show it: `Tue 2026-11-24 12:40 JST`.
pub fn moment(at: Timestamp, zone: &TimeZone) -> String {
    let wall = at.to_zoned_datetime(zone.clone());
    wall.strftime("%a %Y-%m-%d %H:%M %Z").to_string()
}

/// The silences of the schedulers as a table: those that are open, and the recurring ones that
/// open within a week.
///
/// # Errors
/// A state could not be read.
pub async fn silences<W: World>(
    world: &W,
    schedulers: &[&Scheduler],
) -> Result<String, ChangeError> {
    let now = world.now();
    let titles = [
        "ID",
        "SCHEDULER",
        "WITHHELD",
        "FROM",
        "UNTIL",
        "REASON",
        "BY",
    ];
    let mut table = Table::new(titles);
    for scheduler in schedulers {
        let (state, _) =
            (world.load(&scheduler.name).await).map_err(|error| ChangeError::Store {
                scheduler: scheduler.name.clone(),
                error,
            })?;
        let moment = |at| moment(at, &scheduler.timezone);
        let until = |at: Timestamp| {
            let left = at.duration_since(now).as_mins();
            format!("{} ({} h {:02} min left)", moment(at), left / 60, left % 60)
        };
        for silence in state.silences.iter().filter(|silence| silence.until > now) {
            table.row([
                silence.id.clone(),
                scheduler.name.clone(),
                silence
                    .condition
                    .map_or("everything", Condition::id)
                    .to_owned(),
                moment(silence.from),
                until(silence.until),
                silence.reason.clone(),
                silence.author.clone(),
            ]);
        }
        for silence in &scheduler.silences {
            let Some((from, end)) = silence.next(now).filter(|(from, _)| *from <= now + SOON)
            else {
                continue;
            };
            let conditions: Vec<&str> = silence.conditions.iter().map(|c| c.id()).collect();
            table.row([
                "(recurring)".to_owned(),
                scheduler.name.clone(),
                if conditions.is_empty() {
                    "everything".to_owned()
                } else {
                    conditions.join(", ")
                },
                moment(from),
                if from <= now { until(end) } else { moment(end) },
                safe::line(&silence.reason),
                "configuration".to_owned(),
            ]);
        }
    }
    if table.is_empty() {
        return Ok("no silences\n".to_owned());
    }
    Ok(table.print())
}
