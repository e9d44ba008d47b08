//! What happened in a replay, as plain data: what a page tells of.
//!
//! The passes fill it first, then the log and the service are read once over the whole span.
//! Its size depends on what happened, never on how many lines there are: those are counted in
//! [`COLUMNS`] bins.

mod runs;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Remediations, Schedule};
use crate::condition::{Condition, Severity, Slot};
use crate::config::{Config, Language, Scheduler};
use crate::line::{Kind, Line};
use crate::message::Message;
use crate::pass::{Report, SchedulerReport};
use crate::plan::{Occasion, Reason, Remediation, Verdict, Withheld, Withholding};
use crate::snapshot::Deployment;

pub(super) use runs::{Fate, Lane};

/// Bins over the whole span; two pixels each on a wide screen.
pub(super) const COLUMNS: usize = 600;

/// A pause between heartbeats is a gap from here on, where no pass says what is allowed.
const LEAST_GAP: SignedDuration = SignedDuration::from_mins(5);

/// Gaps, episodes, decisions and spans of one scheduler that are kept, of each kind; more are
/// only counted.
const MOST: usize = 20_000;

/// The span of a replay, cut into columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Axis {
    /// Where a moment lies, from 0 to 1; outside of the span, at its end.
    pub fn place(&self, at: Timestamp) -> f64 {
        let whole = self.until.duration_since(self.from).as_secs_f64();
        let part = at.duration_since(self.from).as_secs_f64();
        if whole > 0.0 {
            (part / whole).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// The column of a moment, of so many.
    pub fn column(&self, at: Timestamp, of: usize) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place is between 0 and 1, and there are some hundred columns"
        )]
        let column = (self.place(at) * of as f64) as usize;
        column.min(of.saturating_sub(1))
    }

    /// When a column begins.
    pub fn begin(&self, column: usize, of: usize) -> Timestamp {
        let whole = self.until.duration_since(self.from).as_millis();
        let (column, of) = (column as i128, (of as i128).max(1));
        let part = i64::try_from(whole * column / of).unwrap_or(0);
        self.from + SignedDuration::from_millis(part)
    }

    fn holds(&self, at: Timestamp) -> bool {
        self.from <= at && at <= self.until
    }
}

/// Counts by column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bins(pub Vec<u32>);

impl Default for Bins {
    fn default() -> Self {
        Self(vec![0; COLUMNS])
    }
}

impl Bins {
    pub fn add(&mut self, axis: &Axis, at: Timestamp) {
        if axis.holds(at) {
            let bin = &mut self.0[axis.column(at, COLUMNS)];
            *bin = bin.saturating_add(1);
        }
    }

    /// Neighbouring columns that hold something: the first, the one after the last, how many.
    pub fn stretches(&self) -> Vec<(usize, usize, u64)> {
        let mut stretches: Vec<(usize, usize, u64)> = Vec::new();
        for (column, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            match stretches.last_mut() {
                Some((_, end, sum)) if *end == column => {
                    *end += 1;
                    *sum += u64::from(*count);
                }
                _ => stretches.push((column, column + 1, u64::from(*count))),
            }
        }
        stretches
    }
}

/// A span of time, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub from: Timestamp,
    pub until: Timestamp,
    pub label: String,
}

/// Everything, scheduler by scheduler.
pub(super) struct Story {
    pub axis: Axis,
    pub every: SignedDuration,
    pub passes: u64,
    /// Of the messages.
    pub language: Language,
    pub chapters: Vec<Chapter>,
    remediations: Remediations,
}

/// What happened to one scheduler.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chapter {
    pub scheduler: String,
    pub zone: TimeZone,
    pub incidents: Vec<Incident>,
    pub messages: Vec<Told>,
    pub episodes: Vec<Episode>,
    pub restarts: Vec<Restart>,
    /// When the verdict was `suspended` or `unknown`.
    pub standing: Vec<Standing>,
    pub silences: Vec<Span>,
    pub deployments: Vec<Deployment>,
    pub beats: Bins,
    pub errors: Bins,
    /// Pauses between heartbeats that are longer than `gap_from`.
    pub gaps: Vec<Span>,
    pub gap_from: SignedDuration,
    pub lanes: Vec<Lane>,
    /// What was more than [`MOST`].
    pub left_out: usize,
}

/// An incident as its messages tell of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Incident {
    pub id: String,
    /// Its faces, in order.
    pub conditions: Vec<Condition>,
    pub slot: Slot,
    pub subject: Option<String>,
    pub job: Option<String>,
    pub severity: Severity,
    pub cause: String,
    /// When the trouble began.
    pub since: Timestamp,
    /// When people were told of it first.
    pub told_at: Timestamp,
    /// When it ended; none if it goes on.
    pub until: Option<Timestamp>,
}

/// A message that was sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub at: Timestamp,
    pub occasion: Occasion,
    pub condition: Condition,
    pub job: Option<String>,
    pub subject: String,
    pub text: String,
}

/// Consecutive passes in which the same was withheld for the same kind of reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Episode {
    pub condition: Condition,
    pub subject: Option<String>,
    pub kind: &'static str,
    /// The reason as the first pass gave it.
    pub why: String,
    pub first: Timestamp,
    pub last: Timestamp,
    pub passes: u32,
    /// The number of the last pass.
    pass: u64,
}

/// A decision about a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Restart {
    pub at: Timestamp,
    pub action: &'static str,
    pub attempt: u32,
    /// The closed gates; none if it was made.
    pub gates: Vec<&'static str>,
}

/// Consecutive passes in which the scheduler was not judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub verdict: Verdict,
    pub span: Span,
    /// The service is meant to run no task: no run of a job is due.
    pub off: bool,
}

impl Story {
    /// An empty story of the configured schedulers.
    pub fn new(config: &Config, schedule: &Schedule) -> Self {
        let axis = Axis {
            from: schedule.from,
            until: schedule.last,
        };
        let chapters = (config.schedulers.iter())
            .map(|scheduler| Chapter::new(scheduler, &axis))
            .collect();
        Self {
            axis,
            every: schedule.every,
            passes: 0,
            language: config.alerts.language,
            chapters,
            remediations: Remediations::default(),
        }
    }

    /// One pass, and the messages that it sent.
    pub fn pass(&mut self, report: &Report, messages: &[Message]) {
        self.passes += 1;
        for scheduler in &report.schedulers {
            let Some(chapter) = (self.chapters.iter_mut()).find(|c| c.scheduler == scheduler.name)
            else {
                continue;
            };
            chapter.stood(scheduler, report.at, self.every);
            let Some(plan) = &scheduler.plan else {
                continue;
            };
            chapter.gap_from = chapter.gap_from.min(plan.allowed_silence);
            for withheld in &plan.withheld {
                chapter.withheld(withheld, report.at, self.passes);
            }
            if let Some(remediation) = &plan.remediation
                && self.remediations.is_news(&scheduler.name, remediation)
            {
                chapter.decided(report.at, remediation);
            }
        }
        for message in messages {
            let name = &message.notification.scheduler;
            if let Some(chapter) = self.chapters.iter_mut().find(|c| c.scheduler == *name) {
                chapter.told(message);
            }
        }
    }
}

impl Chapter {
    fn new(scheduler: &Scheduler, axis: &Axis) -> Self {
        let silences = (scheduler.silences.iter()).flat_map(|silence| {
            (silence.spans(axis.from, axis.until)).map(|(from, until)| Span {
                from,
                until,
                label: format!("silence: {}", silence.reason),
            })
        });
        let mut chapter = Self {
            scheduler: scheduler.name.clone(),
            zone: scheduler.timezone.clone(),
            incidents: Vec::new(),
            messages: Vec::new(),
            episodes: Vec::new(),
            restarts: Vec::new(),
            standing: Vec::new(),
            silences: Vec::new(),
            deployments: Vec::new(),
            beats: Bins::default(),
            errors: Bins::default(),
            gaps: Vec::new(),
            gap_from: SignedDuration::MAX,
            lanes: Vec::new(),
            left_out: 0,
        };
        for silence in silences {
            keep(&mut chapter.silences, silence, &mut chapter.left_out);
        }
        chapter
    }

    /// How it stood in a pass; what holds in one pass holds until the next.
    fn stood(&mut self, report: &SchedulerReport, at: Timestamp, every: SignedDuration) {
        let (verdict, label, off) = match &report.plan {
            Some(plan) => (
                plan.verdict,
                plan.reason.to_string(),
                plan.reason == Reason::DesiredCountZero,
            ),
            None => (Verdict::Unknown, "could not be judged".to_owned(), false),
        };
        if !matches!(verdict, Verdict::Suspended | Verdict::Unknown) {
            return;
        }
        let until = at.checked_add(every).unwrap_or(Timestamp::MAX);
        let goes_on = |last: &&mut Standing| {
            last.verdict == verdict && last.span.until == at && last.span.label == label
        };
        if let Some(last) = self.standing.last_mut().filter(goes_on) {
            last.span.until = until;
        } else {
            let from = at;
            let span = Span { from, until, label };
            let standing = Standing { verdict, span, off };
            keep(&mut self.standing, standing, &mut self.left_out);
        }
    }

    fn withheld(&mut self, withheld: &Withheld, at: Timestamp, pass: u64) {
        let kind = match &withheld.why {
            Withholding::SecondLook => "second look",
            Withholding::Explained => "explained",
            Withholding::Flapping => "flapping",
            Withholding::Silenced(_) => "silenced",
        };
        let known = (self.episodes.iter_mut().rev()).take(256).find(|episode| {
            episode.pass + 1 == pass
                && episode.kind == kind
                && episode.condition == withheld.condition
                && episode.subject == withheld.subject
        });
        if let Some(episode) = known {
            (episode.last, episode.pass) = (at, pass);
            episode.passes += 1;
            return;
        }
        let episode = Episode {
            condition: withheld.condition,
            subject: withheld.subject.clone(),
            kind,
            why: match &withheld.why {
                // Its end differs from one episode to the next.
                Withholding::Silenced(quiet) => format!("silenced: {}", quiet.reason),
                why => why.to_string(),
            },
            first: at,
            last: at,
            passes: 1,
            pass,
        };
        keep(&mut self.episodes, episode, &mut self.left_out);
    }

    fn decided(&mut self, at: Timestamp, remediation: &Remediation) {
        let restart = Restart {
            at,
            action: remediation.cure.id(),
            attempt: remediation.attempt,
            gates: remediation.blocked_by.iter().map(|g| g.id()).collect(),
        };
        keep(&mut self.restarts, restart, &mut self.left_out);
    }

    fn told(&mut self, message: &Message) {
        let notification = &message.notification;
        let known = (self.incidents.iter_mut().rev()).find(|i| i.id == notification.incident);
        match known {
            Some(incident) => {
                if !incident.conditions.contains(&notification.condition) {
                    incident.conditions.push(notification.condition);
                }
                incident.since = incident.since.min(notification.since);
                incident.severity = incident.severity.max(notification.severity);
                incident.until = (notification.until)
                    .or((notification.occasion == Occasion::Resolved).then_some(notification.at))
                    .or(incident.until);
                if incident.cause == "unknown" {
                    notification.cause_id().clone_into(&mut incident.cause);
                }
            }
            None => self.incidents.push(Incident {
                id: notification.incident.clone(),
                conditions: vec![notification.condition],
                slot: notification.condition.slot(),
                subject: notification.subject.clone(),
                job: notification.job().map(str::to_owned),
                severity: notification.severity,
                cause: notification.cause_id().to_owned(),
                since: notification.since,
                told_at: notification.at,
                until: notification.until,
            }),
        }
        self.messages.push(Told {
            at: notification.at,
            occasion: notification.occasion,
            condition: notification.condition,
            job: notification.job().map(str::to_owned),
            subject: message.subject.clone(),
            text: message.text.clone(),
        });
    }

    /// The deployments of the span.
    pub fn deployed(&mut self, deployments: Vec<Deployment>, axis: &Axis) {
        self.deployments = deployments;
        self.deployments.retain(|d| axis.holds(d.created_at));
    }

    /// A reader of the scheduler's lines, to be given all of the span in order.
    /// Nothing is known of runs before `heard_from`.
    pub fn listen<'a>(
        &'a mut self,
        scheduler: &'a Scheduler,
        axis: &'a Axis,
        heard_from: Timestamp,
    ) -> Listener<'a> {
        if self.gap_from == SignedDuration::MAX {
            self.gap_from = LEAST_GAP;
        }
        let trackers = (scheduler.jobs.iter())
            .map(|job| runs::Tracker::new(job, self, axis, heard_from))
            .collect();
        Listener {
            chapter: self,
            scheduler,
            axis,
            trackers,
            last_beat: None,
        }
    }
}

/// Counts a scheduler's lines.
pub(super) struct Listener<'a> {
    chapter: &'a mut Chapter,
    scheduler: &'a Scheduler,
    axis: &'a Axis,
    trackers: Vec<runs::Tracker<'a>>,
    last_beat: Option<Timestamp>,
}

impl Listener<'_> {
    /// The next lines; there will be none before `until` any more.
    pub fn hear(&mut self, lines: &[Line], until: Timestamp) {
        for line in lines {
            if line.is_heartbeat() && self.axis.holds(line.at) {
                self.chapter.beats.add(self.axis, line.at);
                self.pause(line.at);
                self.last_beat = self.last_beat.max(Some(line.at));
            }
            match &line.kind {
                Kind::Error { .. } if !self.is_ignored(line) => {
                    self.chapter.errors.add(self.axis, line.at);
                }
                Kind::Job { name, event, .. } => {
                    let own = |t: &&mut runs::Tracker<'_>| t.job.owns(name, &line.text);
                    for tracker in self.trackers.iter_mut().filter(own) {
                        tracker.hear(line, event);
                    }
                }
                _ => {}
            }
        }
        for tracker in &mut self.trackers {
            tracker.settle(until);
        }
    }

    fn is_ignored(&self, line: &Line) -> bool {
        let ignore = &self.scheduler.errors.ignore;
        ignore.iter().any(|text| line.text.contains(text.as_str()))
    }

    /// A heartbeat, or the end, after a pause.
    fn pause(&mut self, at: Timestamp) {
        let from = self.last_beat.unwrap_or(self.axis.from);
        let chapter = &mut *self.chapter;
        if at.duration_since(from) > chapter.gap_from {
            let gap = Span {
                from,
                until: at,
                label: "no heartbeat".to_owned(),
            };
            keep(&mut chapter.gaps, gap, &mut chapter.left_out);
        }
    }

    /// No line is left.
    pub fn end(mut self) {
        self.pause(self.axis.until);
        self.chapter.lanes = (self.trackers.into_iter())
            .map(runs::Tracker::end)
            .collect();
    }
}

/// Keeps one more, or counts it.
fn keep<T>(kept: &mut Vec<T>, one: T, left_out: &mut usize) {
    if kept.len() < MOST {
        kept.push(one);
    } else {
        *left_out += 1;
    }
}

#[cfg(test)]
mod tests;
