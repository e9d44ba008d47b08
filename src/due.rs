//! What became of the runs that were due. Each is answered by a run, missed while the loop
//! lived, or lost in the loop's own trouble; never two of these, and none before it is known.
//!
//! A job has one cursor, [`JobHistory::due`]: the first expected run that nothing is known of
//! yet. Runs move it ([`answered`]), and where none comes, time does ([`account`]). A job that
//! is new to the watchdog starts with its next due time: it has not had its first chance yet.

mod close;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::condition::{Fact, Slot};
use crate::config::Scheduler;
use crate::cron::horizon;
use crate::history::{Heartbeats, JobHistory};
use crate::job::Job;
use crate::snapshot::LogWindow;
use crate::state::{Incident, Phase, State};

pub use self::close::{Lost, ManyLost, close, close_many, close_one, close_untold, newest_return};

/// A run may begin this much before its due time, by another clock than the watchdog's.
const EARLY: SignedDuration = SignedDuration::from_secs(5);

/// How far from a due time a stream may have fallen silent to be busy with its run, beyond the
/// usual gap between heartbeats.
const BUSY_SLACK: SignedDuration = SignedDuration::from_mins(2);

/// Runs of one job that did not happen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Missed {
    /// How many.
    pub count: u32,
    /// The due time of the first.
    #[serde(skip_serializing_if = "Option::is_none", with = "seconds")]
    pub first: Option<Timestamp>,
    /// The due time of the last.
    #[serde(skip_serializing_if = "Option::is_none", with = "seconds")]
    pub last: Option<Timestamp>,
    /// The run that came after them, if one has.
    #[serde(skip_serializing_if = "Option::is_none", with = "seconds")]
    pub back: Option<Timestamp>,
}

impl Missed {
    /// Whether there is nothing to account for.
    pub fn is_none(&self) -> bool {
        self.last.is_none()
    }

    /// One more due time without a run.
    fn miss(&mut self, due: Timestamp, runs: u32) {
        // All that were missed before have come after all.
        if self.count == 0 {
            self.first = None;
        }
        self.back = None;
        self.count = self.count.saturating_add(runs);
        self.first.get_or_insert(due);
        self.last = Some(due);
    }

    /// They as a fact about a job; none if there are none.
    pub fn fact(&self, job: &str) -> Option<Fact> {
        (self.count > 0).then_some(())?;
        Some(Fact::MissedRuns {
            job: job.to_owned(),
            count: self.count,
            first: self.first?,
            last: self.last?,
        })
    }

    fn answered(&mut self, at: Timestamp) {
        if !self.is_none() {
            self.back.get_or_insert(at);
        }
    }

    /// Others that did not happen either.
    fn take_over(&mut self, others: Self) {
        // All that were missed before have come after all.
        if self.count == 0 {
            self.first = None;
        }
        self.back = None;
        self.count = self.count.saturating_add(others.count);
        self.first = self.first.into_iter().chain(others.first).min();
        self.last = self.last.max(others.last);
    }

    /// The last of them came after all, too late.
    fn came_late(&mut self, at: Timestamp, runs: u32) {
        self.count = self.count.saturating_sub(runs);
        self.back = Some(at);
    }
}

impl JobHistory {
    /// The runs that are missing at present: missed, and none has come since.
    pub fn missing(&self) -> Option<&Missed> {
        (Some(&self.missed)).filter(|missed| !missed.is_none() && self.back().is_none())
    }

    /// Whether a run was missed that was due at a moment or later.
    pub fn missed_since(&self, moment: Timestamp) -> bool {
        (self.missed.last).is_some_and(|due| due >= whole_minute(moment))
    }

    /// Whether none was missed since a moment because none was due.
    pub fn had_no_chance_since(&self, moment: Timestamp, now: Timestamp) -> bool {
        !self.missed_since(moment) && self.due.is_none_or(|due| due > now)
    }

    /// The run that came after those that were missed, settled or not.
    fn back(&self) -> Option<Timestamp> {
        let came = |due: Timestamp| {
            (self.starts.iter())
                .find(|start| **start + EARLY >= due)
                .copied()
        };
        self.missed.back.or_else(|| came(self.missed.last?))
    }
}

/// Whether two runs, the earlier given first, belong to one due time.
pub fn is_same(job: &Job, earlier: Timestamp, later: Timestamp) -> bool {
    job.next_run(earlier + EARLY, later + EARLY).is_none()
}

/// Begins to expect the runs of jobs that are new, or that are expected at other times now. If the first
/// run by the new times is the one that is awaited anyway, it stays awaited.
pub fn expect(state: &mut State, scheduler: &Scheduler, now: Timestamp) {
    for job in &scheduler.jobs {
        let known = state.jobs.get(&job.name);
        if known.is_some_and(|history| history.plan == Some(job.plan)) {
            continue;
        }
        let history = state.jobs.entry(job.name.clone()).or_default();
        history.plan = Some(job.plan);
        let moment = SignedDuration::from_nanos(1);
        let first = |due: Timestamp| job.next_run(due.min(now) - moment, horizon(now));
        if history.due.is_none_or(|due| first(due) != Some(due)) {
            history.due = job.next_run(now, horizon(now));
            (history.missed, history.lost) = (Missed::default(), Missed::default());
        }
    }
}

/// Leaves out the due times that fell into a part of the log that was not seen: between two
/// windows, or cut off at the query's limit.
pub fn skip_unseen(state: &mut State, scheduler: &Scheduler, window: &LogWindow) {
    let gap = (state.checked_until.is_some_and(|until| window.from > until)).then_some(window.from);
    let cut = (window.lines.iter().map(|line| line.at).min()).filter(|_| window.truncated);
    if let Some(seen_from) = gap.max(cut) {
        skip_until(state, scheduler, seen_from);
    }
}

/// Leaves out the due times before a moment: whether they were answered is not known, or nobody
/// expects it.
fn skip_until(state: &mut State, scheduler: &Scheduler, until: Timestamp) {
    for job in &scheduler.jobs {
        if let Some(history) = state.jobs.get_mut(&job.name)
            && history.due.is_some_and(|due| due < until)
        {
            history.due = job.next_run(until - SignedDuration::from_nanos(1), horizon(until));
        }
    }
}

/// A run began: it answers the newest due time before it, and those before that one were not
/// answered.
pub fn answered(
    history: &mut JobHistory,
    job: &Job,
    start: Timestamp,
    incidents: &[Incident],
    beats: &Heartbeats,
) {
    let reach = start + EARLY;
    if let Some(last) = history.missed.last.filter(|last| *last <= reach)
        && history.missed.back.is_none()
    {
        let next = job.next_run(last, horizon(last));
        if next.is_none_or(|next| next > reach) {
            history.missed.came_late(start, job.runs_a_minute());
        } else {
            history.missed.answered(start);
        }
    }
    while let Some(due) = history.due.filter(|due| *due <= reach) {
        let next = job.next_run(due, horizon(due));
        if next.is_some_and(|next| next <= reach) {
            let lost = is_lost(incidents, beats, due);
            if lost || !had_no_chance(job, beats, due) {
                miss(history, job, due, lost);
            }
        } else {
            history.missed.answered(start);
        }
        history.due = next;
    }
}

fn miss(history: &mut JobHistory, job: &Job, due: Timestamp, is_lost: bool) {
    let missed = if is_lost {
        &mut history.lost
    } else {
        &mut history.missed
    };
    missed.miss(due, job.runs_a_minute());
}

/// What the loop's standing means for the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loop {
    /// It lives: what does not run is missed.
    Lives,
    /// It is in trouble, or cannot be judged: so is every job.
    Unclear,
    /// Nobody expects it to run.
    Off,
}

/// Moves the cursors past the due times whose grace is over. A due time is judged once its
/// grace and the log's own delay are over, and only if the loop began a turn after its grace:
/// until then its run may wait behind another job.
pub fn account(state: &mut State, scheduler: &Scheduler, standing: Loop, now: Timestamp) {
    match standing {
        Loop::Unclear => return,
        Loop::Off => return skip_until(state, scheduler, now),
        Loop::Lives => {}
    }
    let late = state.overlap();
    let State {
        jobs,
        heartbeats,
        incidents,
        ..
    } = state;
    let turn = heartbeats.newest_turn().map(|turn| turn.began);
    for job in &scheduler.jobs {
        let Some(history) = jobs.get_mut(&job.name) else {
            continue;
        };
        let grace = job.grace();
        while let Some(due) = history.due {
            let over = due + grace;
            if turn.is_none_or(|turn| turn < over) {
                break;
            }
            let next = job.next_run(due, horizon(due));
            if !settle_by_starts(history, due, next) {
                if now < over + late + busy(heartbeats, job, history, due) {
                    break;
                }
                let lost = is_lost(incidents, heartbeats, due);
                if lost || !had_no_chance(job, heartbeats, due) {
                    miss(history, job, due, lost);
                }
            }
            history.due = next;
        }
    }
}

/// Whether the loop was busy, or paused, when a job was due that is due again soon: what it
/// missed meanwhile is not the job's trouble. For a rare job each run counts.
fn had_no_chance(job: &Job, beats: &Heartbeats, due: Timestamp) -> bool {
    let paused = (beats.paused_at.zip(beats.resumed_at))
        .is_some_and(|(from, until)| whole_minute(from) <= due && due < whole_minute(until));
    paused && job.period() <= job.grace()
}

/// Whether a run that has been seen, settled or not, answers a due time.
fn settle_by_starts(history: &mut JobHistory, due: Timestamp, next: Option<Timestamp>) -> bool {
    let answers =
        |start: &Timestamp| *start + EARLY >= due && next.is_none_or(|next| *start + EARLY < next);
    let start = history.starts.iter().find(|start| answers(start)).copied();
    start
        .inspect(|start| history.missed.answered(*start))
        .is_some()
}

/// Forgets missed runs that are over and told: once a run has come, and no incident waits for
/// its end, the next one that is missed begins a new account.
pub fn forget_told(state: &mut State) {
    let State {
        jobs, incidents, ..
    } = state;
    let waits = |job: &str| {
        (incidents.iter()).any(|incident| {
            incident.slot == Slot::JobRuns
                && incident.phase != Phase::Resolved
                && incident
                    .subject
                    .as_deref()
                    .is_none_or(|subject| subject == job)
        })
    };
    for (name, history) in jobs.iter_mut() {
        if history.missed.back.is_some() && !waits(name) {
            history.missed = Missed::default();
        }
    }
}

/// How much longer a run may take whose line comes only when it ends: as long as is known of
/// it, if some replica has been silent since it was due. (A single loop that is busy with it
/// gives no heartbeat.)
fn busy(beats: &Heartbeats, job: &Job, history: &JobHistory, due: Timestamp) -> SignedDuration {
    let around = beats.usual_gap().unwrap_or_default() + BUSY_SLACK;
    let silent_since = beats.streams.len() > 1
        && (beats.streams.values()).any(|stream| stream.last.duration_since(due).abs() <= around);
    let known = job.max_runtime.or(history.longest());
    known.filter(|_| silent_since).unwrap_or_default()
}

/// Whether an incident of the loop explains that nothing ran at a due time.
pub fn is_lost(incidents: &[Incident], beats: &Heartbeats, due: Timestamp) -> bool {
    (incidents.iter())
        .filter(|incident| incident.slot == Slot::Loop)
        .filter(|incident| incident.phase != Phase::Pending || incident.silenced)
        .any(|incident| {
            let end = incident.ended_at.or_else(|| came_back(incident, beats));
            whole_minute(incident.since) <= due && end.is_none_or(|end| due < whole_minute(end))
        })
}

/// When the loop came back from an incident that is still open: with the heartbeat that broke
/// the silence, else with the first look that was good again.
pub fn came_back(incident: &Incident, beats: &Heartbeats) -> Option<Timestamp> {
    let resumed =
        (beats.resumed_at).filter(|at| incident.slot == Slot::Loop && *at > incident.since);
    let good = incident
        .steady_since
        .filter(|_| incident.phase != Phase::Firing);
    resumed.or(good)
}

/// The beginning of the minute: the scheduler looks at its jobs once a minute.
fn whole_minute(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second().div_euclid(60) * 60).unwrap_or(at)
}

/// A time as the state keeps it: in seconds; earlier versions of the program wrote text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Kept {
    Seconds(i64),
    Text(Timestamp),
}

impl Kept {
    fn time<E: serde::de::Error>(self) -> Result<Timestamp, E> {
        match self {
            Self::Seconds(seconds) => Timestamp::from_second(seconds).map_err(E::custom),
            Self::Text(at) => Ok(at),
        }
    }
}

/// A time of whole seconds as a number: half of the text, and there are many.
pub(crate) mod second {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(at.as_second())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        super::Kept::deserialize(from)?.time()
    }
}

/// The same for times that may be missing.
pub(crate) mod seconds {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub fn serialize<S: Serializer>(at: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => to.serialize_i64(at.as_second()),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        (Option::<super::Kept>::deserialize(from)?)
            .map(super::Kept::time)
            .transpose()
    }
}

/// The same for a list.
pub(crate) mod list_of_seconds {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(list: &[Timestamp], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|at| at.as_second()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Timestamp>, D::Error> {
        (Vec::<super::Kept>::deserialize(from)?.into_iter())
            .map(super::Kept::time)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_late_is_not_missing_when_others_are() {
        let at = |minute| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute);
        for (late, first) in [(true, 60), (false, 0)] {
            let [mut missed, mut others] = [Missed::default(), Missed::default()];
            missed.miss(at(0), 1);
            if late {
                missed.came_late(at(20), 1);
            }
            others.miss(at(60), 1);
            missed.take_over(others);
            assert_eq!(missed.first, Some(at(first)));
            assert_eq!(missed.count, if late { 1 } else { 2 });
            assert_eq!(missed.back, None);
        }
    }

    #[test]
    fn who_is_due_now_has_a_chance() {
        let at = |minute| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute);
        for (now, had_none) in [(59, true), (60, false), (61, false)] {
            let mut history = JobHistory {
                due: Some(at(60)),
                ..JobHistory::default()
            };
            history.missed.miss(at(0), 1);
            let none = history.had_no_chance_since(at(30), at(now));
            assert_eq!(none, had_none, "{now}");
        }
    }

    #[test]
    fn a_run_that_came_late_is_not_the_first_that_is_missing() {
        let at = |minute| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute);
        let mut missed = Missed::default();
        missed.miss(at(0), 1);
        missed.came_late(at(20), 1);
        assert_eq!(missed.fact("reports"), None);
        missed.miss(at(30), 1);
        missed.miss(at(60), 1);
        let fact = Fact::MissedRuns {
            job: "reports".to_owned(),
            count: 2,
            first: at(30),
            last: at(60),
        };
        assert_eq!(missed.fact("reports"), Some(fact));
    }
}
