//! What is remembered of a scheduler between passes: one bounded JSON document.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::cause::Cause;
use crate::condition::{Condition, Fact, Finding, Severity, Slot};
use crate::history::{ErrorHistory, Heartbeats, JobHistory};
use crate::plan::{CureKind, Notification};
use crate::silence::OneOff;

/// The version of the document that this program writes. A newer one is refused.
pub const SCHEMA: u32 = 1;

/// The document's bound. A DynamoDB item may hold 400 KB; this keeps reads and writes cheap
/// and the memory of a pass predictable.
pub const MOST_BYTES: usize = 64 * 1024;

/// Streams that are kept as long as there is anything else to drop.
const LEAST_STREAMS: usize = 4;

/// What is remembered of one scheduler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The version of the document that was read; what is written is [`SCHEMA`].
    #[serde(serialize_with = "of_this_program")]
    pub schema: u32,
    /// The first pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installed_at: Option<Timestamp>,
    /// The log was read up to here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked_until: Option<Timestamp>,
    /// The last pass that counted as a look of its own. Repeated invocations within a minute
    /// advance no counter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looked_at: Option<Timestamp>,
    /// The longest of the newest measured log delays, in milliseconds; sets the overlap.
    pub lags_ms: Vec<i64>,
    /// The loop's signs of life.
    pub heartbeats: Heartbeats,
    /// The errors of the last day.
    pub errors: ErrorHistory,
    /// The jobs, by normalised name: those in the configuration, and long ones.
    pub jobs: BTreeMap<String, JobHistory>,
    /// Passes in a row that could not see, by sense (`logs`, `ecs`).
    pub blind: BTreeMap<String, Blind>,
    /// Since when the silence is excused by a deployment or a starting task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excused_since: Option<Timestamp>,
    /// Incidents, one a slot and subject. Resolved ones stay for two hours, to notice flapping.
    pub incidents: Vec<Incident>,
    /// Messages that were decided and not delivered yet, oldest first.
    pub outbox: Vec<Notification>,
    /// The newest look at which the service was meant to run no task, and no heartbeat since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off_at: Option<Timestamp>,
    /// It was seen to be meant to run again; `off_at` is that look.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub on_again: bool,
    /// Restarts, and whether more are allowed.
    pub restarts: Restarts,
    /// Silences that somebody asked for, oldest first; those that are over are forgotten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub silences: Vec<OneOff>,
    /// The newest test alert; only in the state of the watchdog's own configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_alert_at: Option<Timestamp>,
    /// Fields of a version that this program does not know; kept as they are.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn of_this_program<S: Serializer>(_: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u32(SCHEMA)
}

/// A sense that did not see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blind {
    /// Passes in a row.
    pub passes: u32,
    /// The first of them.
    pub since: Timestamp,
}

/// Something wrong, from the first look to the all-clear.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Stable: scheduler, condition and time of the first look.
    pub id: String,
    /// What it is about.
    pub slot: Slot,
    /// Which replica, or which of the watchdog's senses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What is wrong, as last found.
    pub condition: Condition,
    /// The first look that found this, after another condition of the slot; else `found_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition_since: Option<Timestamp>,
    /// How bad, as last found.
    pub severity: Severity,
    /// Where it stands.
    pub phase: Phase,
    /// When the trouble began.
    pub since: Timestamp,
    /// Since when it is there again, where it was gone in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_since: Option<Timestamp>,
    /// The first look that found it.
    pub found_at: Timestamp,
    /// When it began to fire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fired_at: Option<Timestamp>,
    /// When the trouble ended, once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// When the newest message about it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notified_at: Option<Timestamp>,
    /// Messages about it so far; numbers the ids.
    #[serde(default)]
    pub messages: u32,
    /// Reminders since the last change; each waits twice as long as the one before.
    #[serde(default)]
    pub reminders: u32,
    /// The faces that were told already, `condition/cause`, so that a flip back is no news.
    #[serde(default)]
    pub told: Vec<String>,
    /// Why, as last proven; root cause first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// The facts that prove it, as last found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proof: Vec<Fact>,
    /// Looks in a row that found nothing.
    #[serde(default)]
    pub good_looks: u32,
    /// Different heartbeats that these looks saw.
    #[serde(default)]
    pub good_beats: u32,
    /// The newest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_beat_at: Option<Timestamp>,
    /// When it began to look good, or bad, without a break; for flapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steady_since: Option<Timestamp>,
    /// It was found while a silence withheld it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silenced: bool,
    /// It comes and goes: held open until it is quiet.
    #[serde(default)]
    pub flapping: bool,
    /// When this slot fired or was resolved, newest last; at most a handful within two hours.
    #[serde(default)]
    pub transitions: Vec<Timestamp>,
    /// Fields of a version that this program does not know; kept as they are.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Where an incident stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Found once, not told.
    Pending,
    /// Told.
    Firing,
    /// Told, and not found in the newest looks.
    Recovering,
    /// Over, and told so.
    Resolved,
}

impl Incident {
    /// Whether a finding is about it.
    pub fn is_of(&self, finding: &Finding) -> bool {
        self.slot == finding.condition.slot() && self.subject == finding.subject
    }

    /// Told and not over.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Firing | Phase::Recovering)
    }

    /// Told and going on: when it ends in a silence, its all-clear waits for the silence to end.
    pub fn goes_on(&self) -> bool {
        self.is_open() && self.ended_at.is_none()
    }
}

/// Restarts, and whether more are allowed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Restarts {
    /// The newest ones, oldest first.
    pub attempts: Vec<Attempt>,
    /// When restarts were given up, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_out_at: Option<Timestamp>,
    /// When a person allowed restarts again: what was tried before does not count for its incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cleared_at: Option<Timestamp>,
    /// Since when every look was good; ends a lock-out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy_since: Option<Timestamp>,
}

impl Restarts {
    /// A person allows restarts again.
    pub fn clear(&mut self, now: Timestamp) {
        (self.locked_out_at, self.cleared_at) = (None, Some(now));
    }

    /// Whether the watchdog started that task itself, by RunTask.
    pub fn started(&self, task: &str) -> bool {
        (self.attempts.iter())
            .any(|a| a.cure == CureKind::RunTask && a.task.as_deref() == Some(task))
    }
}

/// One restart, from the claim to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The incident's id.
    pub incident: String,
    /// The cure.
    pub cure: CureKind,
    /// The task that was stopped, for [`CureKind::StopTask`]; the one that was started, for
    /// [`CureKind::RunTask`], once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Marks what RunTask starts, and makes a repeated call harmless.
    #[serde(default)]
    pub token: String,
    /// When the claim was written; the restart follows it.
    pub claimed_at: Timestamp,
    /// Calls that failed. They use up retries, not the attempt.
    #[serde(default)]
    pub failed_calls: u32,
    /// How it stands.
    pub outcome: Outcome,
    /// People were told how it ended.
    #[serde(default)]
    pub told: bool,
    /// Fields of a version that this program does not know; kept as they are.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// How a restart stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Outcome {
    /// Claimed; whether the call was made is not known yet.
    Claimed,
    /// The call was made and accepted.
    Made {
        /// The new deployment's id, or the started task's; none for a stopped task.
        started: Option<String>,
    },
    /// The call failed; it may be tried again.
    CallFailed {
        /// What it answered.
        error: String,
    },
    /// A new task's heartbeat proves it.
    Proven {
        /// The heartbeat.
        at: Timestamp,
    },
    /// No new task's heartbeat came in time, or the call kept failing.
    Failed {
        /// When it was given up.
        at: Timestamp,
    },
}

impl Attempt {
    /// Remembers the task that RunTask started, beyond its proof.
    pub fn note_task(&mut self) {
        if let (CureKind::RunTask, Outcome::Made { started }) = (self.cure, &self.outcome)
            && started.is_some()
        {
            self.task.clone_from(started);
        }
    }

    /// Whether it was really made, as far as is known; only these count against the caps.
    pub fn counts(&self) -> bool {
        matches!(
            self.outcome,
            Outcome::Claimed
                | Outcome::Made { .. }
                | Outcome::Proven { .. }
                | Outcome::Failed { .. }
        )
    }

    /// Whether its end is still awaited.
    pub fn is_open(&self) -> bool {
        matches!(self.outcome, Outcome::Claimed | Outcome::Made { .. })
    }
}

/// A document that cannot be used. It is reported and never overwritten; a person must look.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Written by a newer version of this program.
    #[error(
        "the state has schema {found}, this program knows {SCHEMA}: deploy the newer version again, \
         or delete the item to start afresh"
    )]
    Newer {
        /// The document's schema.
        found: u32,
    },
    /// Not a state document at all.
    #[error("the state cannot be read ({why}): restore the item, or delete it to start afresh")]
    Broken {
        /// What the parser said.
        why: String,
    },
}

/// What all versions of the document have in common.
#[derive(Deserialize)]
struct Head {
    schema: Option<Value>,
}

impl State {
    /// Reads a document.
    ///
    /// # Errors
    /// It is newer than this program, or no state document.
    pub fn from_json(text: &str) -> Result<Self, Unreadable> {
        let broken = |error: serde_json::Error| Unreadable::Broken {
            why: error.to_string(),
        };
        // The schema is looked at first: a newer document may not parse otherwise.
        let head: Head = serde_json::from_str(text).map_err(broken)?;
        let found = head.schema.as_ref().and_then(Value::as_u64);
        match found.and_then(|schema| u32::try_from(schema).ok()) {
            Some(schema) if schema > SCHEMA => Err(Unreadable::Newer { found: schema }),
            Some(_) => serde_json::from_str(text).map_err(broken),
            None => Err(Unreadable::Broken {
                why: "it has no schema".to_owned(),
            }),
        }
    }

    /// Writes the document, at most [`MOST_BYTES`] long. What is dearest to the watchdog's
    /// promises goes last.
    pub fn to_json(&self) -> String {
        let whole = self.text();
        if whole.len() <= MOST_BYTES {
            return whole;
        }
        let mut state = self.clone();
        while state.drop_least() {
            let text = state.text();
            if text.len() <= MOST_BYTES {
                return text;
            }
        }
        state.text()
    }

    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Drops a little of what is missed least: jobs that nobody configured, what single streams
    /// ran, old streams, old errors, what configured jobs did lately, and last what is expected of
    /// them. False when nothing is left to drop.
    fn drop_least(&mut self) -> bool {
        if self.drop_jobs(|job| job.plan.is_none())
            || self.heartbeats.drop_runs()
            || (self.heartbeats.streams.len() > LEAST_STREAMS
                && self.heartbeats.drop_oldest_stream())
            || self.errors.drop_oldest()
            || self.thin_jobs()
            || self.drop_jobs(|_| true)
            || self.heartbeats.drop_oldest_stream()
        {
            return true;
        }
        let resolved = (self.incidents.iter()).position(|i| i.phase == Phase::Resolved);
        if let Some(index) = resolved {
            self.incidents.remove(index);
            return true;
        }
        // A message is never dropped, only shortened: less evidence, and then what proves the least.
        self.outbox.iter_mut().any(Notification::thin)
            || self.drop_unknown()
            || self.outbox.iter_mut().any(Notification::shorten)
    }

    /// Drops the fields of another version; those of jobs went with them. False if there are none.
    fn drop_unknown(&mut self) -> bool {
        let incidents = self.incidents.iter_mut().map(|i| &mut i.unknown);
        let attempts = self.restarts.attempts.iter_mut().map(|a| &mut a.unknown);
        let whole = [
            &mut self.heartbeats.unknown,
            &mut self.errors.unknown,
            &mut self.unknown,
        ];
        let mut dropped = false;
        for unknown in incidents.chain(attempts).chain(whole) {
            dropped |= !std::mem::take(unknown).is_empty();
        }
        dropped
    }

    /// Thins out jobs, an eighth of them at a time, those that were seen longest ago first. False
    /// if none can be.
    fn thin_jobs(&mut self) -> bool {
        let most = self.jobs.len().div_ceil(8);
        let mut jobs: Vec<&mut JobHistory> = self.jobs.values_mut().collect();
        jobs.sort_by_key(|job| job.last_seen());
        (jobs.into_iter())
            .filter_map(|job| job.thin().then_some(()))
            .take(most)
            .count()
            > 0
    }

    /// Drops an eighth of such jobs, those that were seen longest ago; each try costs a
    /// serialisation. False if there are none.
    fn drop_jobs(&mut self, such: impl Fn(&JobHistory) -> bool) -> bool {
        let mut oldest: Vec<_> = (self.jobs.iter())
            .filter(|(_, job)| such(job))
            .map(|(name, job)| (job.last_seen(), name.clone()))
            .collect();
        oldest.sort_unstable();
        for (_, name) in oldest.iter().take(oldest.len().div_ceil(8)) {
            self.jobs.remove(name);
        }
        !oldest.is_empty()
    }

    /// The open or pending incident of a slot and subject.
    pub fn incident(&self, slot: Slot, subject: Option<&str>) -> Option<&Incident> {
        (self.incidents.iter()).find(|i| {
            i.slot == slot && i.subject.as_deref() == subject && i.phase != Phase::Resolved
        })
    }

    /// Whether the loop is told to be in trouble, or was until the look that the present one
    /// repeats: what that look left to the next one, its repetition does not say either.
    pub fn loop_is_settling(&self) -> bool {
        (self.incidents.iter())
            .filter(|incident| incident.slot == Slot::Loop)
            .any(|incident| {
                let ended_now = || incident.transitions.last().copied() >= self.looked_at;
                incident.goes_on() || (incident.phase == Phase::Resolved && ended_now())
            })
    }

    /// Whether an incident fires that restarts are made for; counts towards a storm.
    pub fn is_down(&self) -> bool {
        (self.incidents.iter()).any(|i| i.slot == Slot::Loop && i.phase == Phase::Firing)
    }

    /// How long after a run's first line its last words may arrive: as late as the next run, and
    /// late on top of that.
    pub fn pace(&self) -> SignedDuration {
        self.heartbeats.rhythm() + SignedDuration::from_mins(1) + self.overlap()
    }

    /// Where the next window of the log begins: an overlap before the last one's end, and where runs
    /// are not settled yet, which was further back if the overlap has shrunk since.
    pub fn unread_from(&self) -> Option<Timestamp> {
        let from = self.checked_until? - self.overlap();
        let settled = self.heartbeats.settled_until;
        Some(settled.map_or(from, |settled| settled.min(from)))
    }

    /// How far windows of the log overlap: two minutes, or twice the measured delay, at most ten.
    pub fn overlap(&self) -> SignedDuration {
        let lag = self.lags_ms.iter().max().copied().unwrap_or(0);
        SignedDuration::from_millis(lag.saturating_mul(2))
            .clamp(SignedDuration::from_mins(2), SignedDuration::from_mins(10))
    }
}
