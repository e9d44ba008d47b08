//! Past logs through the same pass, with a simulated clock: "what would it have said?"

mod html;
mod output;
mod story;

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use jiff::{SignedDuration, Timestamp};

use crate::config::Config;
use crate::local::LocalWorld;
use crate::message::Message;
use crate::pass::{self, Report, Request};
use crate::plan::{CureKind, Gate, Occasion, Remediation};

pub use output::Format;
use output::Output;
use story::Story;

/// More passes than this are a mistake in the interval: 12 years of one a minute.
const MOST_PASSES: i64 = 6_500_000;

/// A longer span is a mistake, such as a line of the year 1970; the page looks at each time at which
/// a job was due. CloudWatch Logs began in 2014, and keeps for ten years what it does not keep for ever.
const LONGEST_SPAN: SignedDuration = SignedDuration::from_hours(15 * 366 * 24);

/// Problems of passes that are told, each once.
const MOST_PROBLEMS: usize = 20;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The first pass. By default the first event's time, rounded up to a whole minute.
    pub from: Option<Timestamp>,
    /// No pass is later. By default the first pass that sees the last event is the last one:
    /// that time went on after it is known only if it is said here.
    pub until: Option<Timestamp>,
    /// The time between passes.
    pub every: SignedDuration,
    /// For people or for programs.
    pub format: Format,
    /// Tell of every pass, not only of messages and restarts.
    pub all: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Passes made.
    pub passes: u64,
    /// Messages sent.
    pub messages: u64,
    /// Incidents opened.
    pub opened: u64,
    /// Incidents resolved.
    pub resolved: u64,
    /// Restarts that would have been made.
    pub restarts: u64,
}

/// A replay that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is nothing to tell the time by.
    #[error("the logs hold no event; give --from and --until")]
    NoEvents,
    /// The span ends before it begins.
    #[error("nothing to replay: --until {until} is before --from {from}")]
    Backwards {
        /// The first pass.
        from: Timestamp,
        /// The end.
        until: Timestamp,
    },
    /// The interval is not positive.
    #[error("--every must be at least one second")]
    Interval,
    /// The span is longer than fifteen years.
    #[error(
        "{from} to {until} are more than 15 years, so that the time of some line seems to be wrong; \
         give --from and --until"
    )]
    TooLong {
        /// The first pass.
        from: Timestamp,
        /// The end.
        until: Timestamp,
    },
    /// The span holds too many passes.
    #[error("{from} to {until} are more than {MOST_PASSES} passes; raise --every")]
    TooMany {
        /// The first pass.
        from: Timestamp,
        /// The end.
        until: Timestamp,
    },
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// The times of the passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The first pass.
    pub from: Timestamp,
    /// The last pass.
    pub last: Timestamp,
    /// The end of the logs, where nobody said how far time went on.
    pub log_ends: Option<Timestamp>,
    every: SignedDuration,
}

impl Schedule {
    /// Works the times out from what was asked for and what the logs hold.
    ///
    /// # Errors
    /// There is no such span.
    pub fn new(world: &LocalWorld, options: &Options) -> Result<Self, ReplayError> {
        let every = options.every;
        if every < SignedDuration::from_secs(1) {
            return Err(ReplayError::Interval);
        }
        let span = world.span();
        let from = (options.from)
            .or_else(|| span.map(|span| whole_minute(span.first)))
            .ok_or(ReplayError::NoEvents)?;
        let (until, log_ends) = match (options.until, span) {
            (Some(until), _) => (until, None),
            (None, Some(span)) => (span.arrived.max(from), Some(span.arrived)),
            (None, None) => return Err(ReplayError::NoEvents),
        };
        if until < from {
            return Err(ReplayError::Backwards { from, until });
        }
        if until.duration_since(from) > LONGEST_SPAN {
            return Err(ReplayError::TooLong { from, until });
        }
        let (length, step) = (until.duration_since(from).as_millis(), every.as_millis());
        let passes = if log_ends.is_some() {
            length.div_euclid(step) + i128::from(length % step > 0)
        } else {
            length / step
        };
        let too_many = ReplayError::TooMany { from, until };
        let Ok(passes) = i32::try_from(passes) else {
            return Err(too_many);
        };
        match from.checked_add(every * passes) {
            Ok(last) if i64::from(passes) < MOST_PASSES => Ok(Self {
                from,
                last,
                log_ends,
                every,
            }),
            _ => Err(too_many),
        }
    }

    /// How many passes there are.
    pub fn passes(&self) -> u64 {
        let steps = self.last.duration_since(self.from).as_millis() / self.every.as_millis();
        u64::try_from(steps).unwrap_or(0) + 1
    }

    /// The passes.
    pub fn times(&self) -> impl Iterator<Item = Timestamp> + use<> {
        let Self {
            from, last, every, ..
        } = *self;
        std::iter::successors(Some(from), move |at| at.checked_add(every).ok())
            .take_while(move |at| *at <= last)
    }
}

/// The minute that has begun by then, or the next one: passes at whole minutes read well.
fn whole_minute(at: Timestamp) -> Timestamp {
    let seconds = at.as_millisecond().div_euclid(1000) + i64::from(at.subsec_millisecond() != 0);
    let minutes = seconds.div_euclid(60) + i64::from(seconds.rem_euclid(60) > 0);
    Timestamp::from_second(minutes * 60).unwrap_or(at)
}

/// Makes the passes and writes what they say to `out`. `progress` is told before each pass how
/// many are behind, and `note` what else is worth knowing.
///
/// # Errors
/// The output cannot be written.
pub async fn run(
    config: &Config,
    world: &LocalWorld,
    schedule: &Schedule,
    options: &Options,
    out: &mut dyn Write,
    watcher: &mut dyn Watcher,
) -> Result<Summary, ReplayError> {
    let mut output = Output::new(options.format, out);
    let mut summary = Summary::default();
    let mut remediations = Remediations::default();
    let mut problems = HashSet::new();
    let mut story = (options.format == Format::Html).then(|| Story::new(config, schedule));
    for at in schedule.times() {
        watcher.progress(summary.passes);
        world.set_now(at);
        let report = pass::run(world, config, &Request::default()).await;
        summary.passes += 1;
        let messages = world.take_published();
        for message in &messages {
            summary.messages += 1;
            match message.notification.occasion {
                Occasion::Opened => summary.opened += 1,
                Occasion::Resolved => summary.resolved += 1,
                _ => {}
            }
        }
        write_pass(
            &report,
            &messages,
            options.all,
            &mut remediations,
            &mut summary,
            &mut output,
        )?;
        if let Some(story) = &mut story {
            story.pass(&report, &messages);
        }
        for problem in &report.problems {
            if problems.insert(problem.clone()) {
                watcher.note(format!("{at} {problem}"));
            }
        }
        for scheduler in &report.schedulers {
            for problem in &scheduler.problems {
                let problem = format!("{}: {problem}", scheduler.name);
                if problems.len() < MOST_PROBLEMS && problems.insert(problem.clone()) {
                    watcher.note(format!("{at} {problem}"));
                }
            }
        }
    }
    watcher.progress(summary.passes);
    if let Some(mut story) = story {
        read_on(&mut story, config, world);
        output.page(&story)?;
    }
    output.end(schedule, &summary)?;
    Ok(summary)
}

/// Adds to a story what no pass tells: every line, and the deployments.
fn read_on(story: &mut Story, config: &Config, world: &LocalWorld) {
    let axis = story.axis;
    let heard_from = world.span().map_or(axis.from, |span| span.first);
    for (chapter, scheduler) in story.chapters.iter_mut().zip(&config.schedulers) {
        if let Some(ecs) = &scheduler.ecs {
            chapter.deployed(world.deployments(ecs), &axis);
        }
        let mut listener = chapter.listen(scheduler, &axis, heard_from);
        world.lines(scheduler, axis.from, axis.until, &mut |lines, until| {
            listener.hear(lines, until);
        });
        listener.end();
    }
}

/// Follows a replay.
pub trait Watcher {
    /// So many passes are behind.
    fn progress(&mut self, passes: u64);
    /// Something is worth knowing that is no output.
    fn note(&mut self, note: String);
}

/// Writes what one pass said, scheduler by scheduler.
fn write_pass(
    report: &Report,
    messages: &[Message],
    all: bool,
    remediations: &mut Remediations,
    summary: &mut Summary,
    output: &mut Output<'_>,
) -> Result<(), ReplayError> {
    for scheduler in &report.schedulers {
        if all {
            output.check(report.at, scheduler)?;
        }
        let own = |message: &&Message| message.notification.scheduler == scheduler.name;
        for message in messages.iter().filter(own) {
            output.notification(report.at, message)?;
        }
        let remediation = scheduler
            .plan
            .as_ref()
            .and_then(|plan| plan.remediation.as_ref());
        if let Some(remediation) = remediation {
            summary.restarts += u64::from(remediation.allowed());
            if remediations.is_news(&scheduler.name, remediation) {
                output.remediation(report.at, &scheduler.name, remediation)?;
            }
        }
    }
    // What is about no scheduler in particular.
    let orphan = |message: &&Message| {
        !(report.schedulers.iter()).any(|s| s.name == message.notification.scheduler)
    };
    for message in messages.iter().filter(orphan) {
        output.notification(report.at, message)?;
    }
    Ok(())
}

/// The newest decision about a restart for each scheduler's incidents.
#[derive(Default)]
struct Remediations {
    newest: HashMap<(String, String), Decision>,
}

/// What a decision says, whatever the order of its gates.
#[derive(Clone, Debug, PartialEq)]
struct Decision {
    cure: CureKind,
    task: Option<String>,
    attempt: u32,
    gates: Vec<&'static str>,
}

impl Remediations {
    /// Whether this decision differs from the one before it for the same incident.
    fn is_news(&mut self, scheduler: &str, remediation: &Remediation) -> bool {
        let mut gates: Vec<&'static str> = (remediation.blocked_by.iter())
            .map(|gate: &Gate| gate.id())
            .collect();
        gates.sort_unstable();
        gates.dedup();
        let key = (scheduler.to_owned(), remediation.incident.clone());
        let decision = Decision {
            cure: remediation.cure,
            task: remediation.task.clone(),
            attempt: remediation.attempt,
            gates,
        };
        let before = self.newest.insert(key, decision.clone());
        before.is_none_or(|before| before != decision)
    }
}

#[cfg(test)]
mod tests;
