//! Why a job does not run although the loop lives: what follows from its missing lines.
//!
//! A job that is held back prints nothing, so a stuck lock, a pause, and a date condition look
//! alike. Each needs a sign of its own here; without one the cause stays unknown.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Case, NEAR};
use crate::cause::{Cause, Evidence};
use crate::condition::Fact;
use crate::config::Scheduler;
use crate::due::Missed;
use crate::hash::short_hash;
use crate::history::StreamBeats;
use crate::job::Job;
use crate::state::State;

/// How long Laravel keeps the lock of `withoutOverlapping` unless it is told otherwise: 1440
/// minutes.
const LOCK_LASTS: SignedDuration = SignedDuration::from_hours(24);

/// Jobs that must have stopped at once to say that all did.
const ALL: usize = 2;

/// A job that runs less often than this meets a midnight by chance too often.
const OFTEN: SignedDuration = SignedDuration::from_mins(15);

/// Runs that must be missing at an edge: one can be lost. A job of every five minutes is told with
/// two, so its first message has the cause.
const LASTING: u32 = 2;

/// Times are told in whole seconds, of runs that may take less.
const MOMENT: SignedDuration = SignedDuration::from_secs(1);

/// How far two time zones can be apart.
const ZONES_APART: SignedDuration = SignedDuration::from_hours(14);

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// The cause of a job's missing runs, where their absence proves one. `all` is what
/// [`all_stopped`] found.
pub(super) fn cause(case: &Case<'_>, missed: &Missed, all: Option<&Cause>) -> Option<Cause> {
    if !case.scheduler.preset.is_laravel() {
        return None;
    }
    let last = case.state.heartbeats.last_job;
    // A job that is missing since before has a reason of its own.
    let all = all.filter(|_| last.is_some_and(|last| stopped_after(missed, last)));
    held_back(case, missed)
        .or_else(|| all.cloned())
        .or_else(|| date_edge(case, missed))
}

/// The job's newest run was killed, or its task ended in the middle of it: nobody gave back
/// the lock, and it has not expired yet.
pub(super) fn stuck_lock(case: &Case<'_>, missed: &Missed) -> Option<Cause> {
    if !case.scheduler.preset.is_laravel() {
        return None;
    }
    let cut = case.history.cut.as_ref()?;
    let newest = case.history.starts.last()?;
    let is_newest = newest.as_second() <= cut.start.as_second();
    // Of the same second, it is the end of this very run.
    let is_over = (case.history.ended_at.max(case.history.failed_at)) >= Some(cut.start);
    let locked = missed.first? > cut.start && missed.last? <= cut.start + LOCK_LASTS;
    let gone = cut.killed || its_task_is_gone(case, cut.on, cut.start);
    (is_newest && !is_over && locked && gone).then(|| {
        Cause::new(
            "stuck-mutex",
            Evidence::Fact(Fact::CutOff {
                job: case.job.name.clone(),
                start: cut.start,
                killed: cut.killed,
                line: cut.line.clone(),
            }),
        )
    })
}

/// Whether a stream fell silent with that run, and another one took over. Where each run is a
/// task of its own, others begin whether it has ended or not.
fn its_task_is_gone(case: &Case<'_>, stream: u32, start: Timestamp) -> bool {
    let streams = &case.state.heartbeats.streams;
    let last_words = |name: &str, beats: &StreamBeats| {
        short_hash(name) == stream && beats.last.as_second() == start.as_second()
    };
    !case.scheduler.runs_as_tasks()
        && streams.iter().any(|(name, beats)| last_words(name, beats))
        && streams.values().any(|beats| beats.first > start)
}

/// The log says that jobs are held back, and none has run since.
fn held_back(case: &Case<'_>, missed: &Missed) -> Option<Cause> {
    let beats = &case.state.heartbeats;
    let held = beats.held()?;
    // A run from before prints its line when it ends.
    let began = beats.last_start.map(|start| start + MOMENT);
    let none_ran = [beats.last_job, began].into_iter().flatten().min();
    let none_ran = none_ran.is_none_or(|last| last < held.at);
    (none_ran && held.at <= missed.last?)
        .then(|| Cause::new("maintenance-or-pause", held.line.as_str()))
}

/// Jobs that ran regularly have all stopped at once, and the same task goes on to find nothing
/// to do. A new task could have another schedule, aborted runs another reason, and at a full
/// hour a filter of all jobs may have closed.
pub(super) fn all_stopped(scheduler: &Scheduler, state: &State) -> Option<Cause> {
    let last = state.heartbeats.last_job?;
    let stopped: Vec<(&Job, Timestamp)> = (scheduler.jobs.iter())
        .filter_map(|job| {
            let history = state.jobs.get(&job.name)?;
            let first = history.missing()?.first?;
            let regular = job.next_run(*history.starts.last()?, first) == Some(first);
            (regular && stopped_after(&history.missed, last)).then_some((job, first))
        })
        .collect();
    let since = stopped.iter().map(|(_, first)| *first).min()?;
    let at_an_hour =
        |(job, _): &(&Job, Timestamp)| edge(&job.timezone, HOUR, last, since).is_some();
    let sure = stopped.len() >= ALL
        && same_task(state, last)
        && nothing_aborted(state, last, since)
        && !stopped.iter().any(at_an_hour);
    sure.then(|| {
        Cause::new(
            "maintenance-or-pause",
            Evidence::Fact(Fact::AllStopped {
                last,
                since,
                jobs: u32::try_from(stopped.len()).unwrap_or(u32::MAX),
            }),
        )
    })
}

/// Whether the first missing run was due after a moment.
fn stopped_after(missed: &Missed, moment: Timestamp) -> bool {
    missed.first.is_some_and(|first| moment < first)
}

/// A frequent job stopped just at a midnight, or at a full hour around the end of its
/// configured window (which the application may see in another time zone), while the same task
/// went on to run other jobs.
fn date_edge(case: &Case<'_>, missed: &Missed) -> Option<Cause> {
    let last = *case.history.starts.last()?;
    let first = missed.first?;
    let often = case.job.period() <= OFTEN
        && missed.count >= LASTING.saturating_mul(case.job.runs_a_minute());
    let at_once = case.job.next_run(last, first) == Some(first);
    let others_ran = (case.state.heartbeats.last_job).is_some_and(|other| other > first);
    let sure = often
        && at_once
        && others_ran
        && same_task(case.state, last)
        && nothing_aborted(case.state, last, first);
    let zone = &case.job.timezone;
    let edge = edge(zone, DAY, last, first)
        .or_else(|| edge(&TimeZone::UTC, DAY, last, first))
        .or_else(|| edge(zone, HOUR, last, first).filter(|edge| is_near_its_end(case, *edge)))
        .filter(|_| sure)?;
    Some(Cause::new(
        "date-condition",
        Evidence::Fact(Fact::StoppedAtEdge {
            job: case.job.name.clone(),
            last,
            edge,
        }),
    ))
}

/// Whether no task has begun since the last run. One that ran before goes on then: a run counts as
/// missed only once some loop has gone on past its due time.
fn same_task(state: &State, last: Timestamp) -> bool {
    let mut streams = state.heartbeats.streams.values();
    !streams.any(|beats| beats.first > last)
}

/// Whether no run ended with an error around that time.
fn nothing_aborted(state: &State, last: Timestamp, since: Timestamp) -> bool {
    let notes = &state.errors.notes;
    let around = last - NEAR..since + NEAR;
    !notes
        .iter()
        .any(|note| note.aborts && around.contains(&note.at))
}

/// The last full hour, or midnight, of the wall clock in `(after, until]`.
fn edge(zone: &TimeZone, unit: i64, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
    let offset = i64::from(zone.to_offset(until).seconds());
    let edge = (until.as_second() + offset).div_euclid(unit) * unit - offset;
    let edge = Timestamp::from_second(edge).ok()?;
    (after < edge).then_some(edge)
}

/// Whether a moment lies around the end of the last day of the job's last window.
fn is_near_its_end(case: &Case<'_>, at: Timestamp) -> bool {
    let end = (case.job.ends_on()).and_then(|last| {
        let midnight = last.tomorrow().ok()?;
        case.job.timezone.to_timestamp(midnight.into()).ok()
    });
    end.is_some_and(|end| end.duration_since(at).abs() <= ZONES_APART)
}
