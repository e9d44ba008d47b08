//! Why something is wrong, with the line or fact that proves it.

mod catalogue;
mod stop;

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::condition::{Condition, Fact};
use crate::message::safe;
use crate::snapshot::ServiceFacts;

#[cfg(test)]
pub(crate) use catalogue::all;
pub(crate) use catalogue::{SetUp, Step, Texts, named};

/// The longest text of an error that is remembered, in bytes.
const MOST_TEXT: usize = 600;

/// Lines below an error that are remembered, and the longest of them, in bytes. An exception
/// behind another one comes first among them.
const MOST_TRACE: usize = 3;
const MOST_TRACE_TEXT: usize = 300;

/// What happened this long before the last heartbeat can still have to do with the silence:
/// a task has 30 seconds to stop, and times of ECS and of lines are not of one clock.
const AROUND_THE_LAST_HEARTBEAT: SignedDuration = SignedDuration::from_mins(2);

/// ECS counts a task as started when its containers run, so an entrypoint's first line can be
/// a moment older.
const BOOT_LATENESS: SignedDuration = SignedDuration::from_secs(30);

/// The most pieces of evidence for one cause.
const MOST_EVIDENCE: usize = 2;

/// What Laravel puts before the statement that failed.
const STATEMENT: [&str; 2] = ["(Connection: ", "(SQL: "];

/// Where Laravel says which error it could not write to its log.
const WHILE_LOGGING: &str = "The exception occurred while attempting to log:";

/// What Monolog puts behind it.
const LOG_CONTEXT: &str = "Context: {";

/// A proven cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Its name, such as `redis-unreachable`.
    pub id: String,
    /// What proves it; never empty.
    pub evidence: Vec<Evidence>,
}

/// What proves a cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Evidence {
    /// A log line or a sentence of ECS, as it was written: redacted and cut.
    Line(String),
    /// What follows from several signs; messages say it in the reader's language.
    Fact(Fact),
}

impl Evidence {
    /// A line, made safe to show.
    pub fn line(text: &str) -> Self {
        Self::Line(safe::evidence(text))
    }
}

impl From<&str> for Evidence {
    fn from(line: &str) -> Self {
        Self::Line(line.to_owned())
    }
}

impl From<String> for Evidence {
    fn from(line: String) -> Self {
        Self::Line(line)
    }
}

/// For reports and tests; messages have better words.
impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => f.write_str(line),
            Self::Fact(fact) => write!(f, "{fact:?}"),
        }
    }
}

impl Cause {
    /// A cause with the one thing that proves it.
    pub fn new(id: &str, evidence: impl Into<Evidence>) -> Self {
        Self {
            id: id.to_owned(),
            evidence: vec![evidence.into()],
        }
    }

    /// Whether a restart can help against it under that condition; none for a name that is
    /// not known.
    ///
    /// A service that is down stays down. But a loop that fell silent over a connection that
    /// broke while it was in use hangs on it or died of it, and a new one connects anew.
    pub fn restart_helps(&self, condition: Condition) -> Option<bool> {
        let entry = catalogue::named(&self.id)?;
        let silent = matches!(
            condition,
            Condition::SchedulerSilent | Condition::ReplicaSilent
        );
        let broke = |evidence: &Evidence| match evidence {
            Evidence::Line(line) => entry.wedged.iter().any(|pattern| pattern.is_match(line)),
            Evidence::Fact(_) => false,
        };
        Some(entry.restart_helps || (silent && self.evidence.iter().all(broke)))
    }

    /// Whether it holds for all jobs alike.
    pub fn is_shared(&self) -> bool {
        catalogue::named(&self.id).is_some_and(|entry| entry.shared)
    }
}

/// An error line as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorNote {
    /// When it was written.
    pub at: Timestamp,
    /// The log stream that it came from.
    #[serde(default)]
    pub stream: String,
    /// Its text, cut to length.
    pub text: String,
    /// The source file named with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// What stood below it: previous exceptions, the first stack frames.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<String>,
    /// The whole scheduler run ended with it.
    #[serde(default)]
    pub aborts: bool,
}

impl ErrorNote {
    /// Keeps the first part of an error.
    pub fn new(
        at: Timestamp,
        text: &str,
        context: Option<&str>,
        trace: &[String],
        aborts: bool,
    ) -> Self {
        // The state is no place for secrets either.
        let keep = |text: &str, most: usize| safe::cut(&safe::redact(&safe::line(text)), most);
        let (behind, frames): (Vec<&String>, Vec<&String>) =
            (trace.iter()).partition(|line| catalogue::behind(line).is_some());
        Self {
            at,
            stream: String::new(),
            text: keep(text, MOST_TEXT),
            context: context.map(|context| keep(context, 100)),
            trace: (behind.into_iter().chain(frames))
                .take(MOST_TRACE)
                .map(|line| keep(line, MOST_TRACE_TEXT))
                .collect(),
            aborts,
        }
    }

    /// The error as evidence: its file, where one is named, and its text.
    pub fn evidence(&self) -> String {
        match &self.context {
            Some(file) => safe::evidence(&format!("{file}: {}", self.text)),
            None => safe::evidence(&self.text),
        }
    }

    /// The errors that it tells of: its own, the one that could not be logged, and those
    /// behind it.
    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        // The file is named for the outermost error, and so are the stack frames; the others
        // must name their own.
        let own = (self.text.split(WHILE_LOGGING).enumerate()).map(|(index, text)| Part {
            text: without_statement(text),
            unlogged: index > 0,
            context: self.context.as_deref().filter(|_| index == 0),
            trace: if index == 0 {
                self.trace.as_slice()
            } else {
                &[]
            },
        });
        let behind = (self.trace.iter())
            .filter_map(|line| catalogue::behind(line))
            .map(|(text, file)| Part {
                text: without_statement(text),
                unlogged: false,
                context: Some(file),
                trace: &[],
            });
        own.chain(behind)
    }
}

/// One of the errors that one report tells of.
struct Part<'a> {
    text: &'a str,
    /// It could not be logged; the report is about that.
    unlogged: bool,
    context: Option<&'a str>,
    trace: &'a [String],
}

/// The statement's own words and values prove nothing.
fn without_statement(text: &str) -> &str {
    (STATEMENT.iter())
        .fold(text, |text, start| text.split(start).next().unwrap_or(text))
        .trim()
}

/// What a cause is looked for in.
#[derive(Clone, Copy, Debug)]
pub struct Clues<'a> {
    /// What is wrong.
    pub condition: Condition,
    /// The replica that it is about, where it is about one.
    pub task: Option<&'a str>,
    /// The errors that belong to it, oldest first.
    pub errors: &'a [ErrorNote],
    /// What ECS says, where it was asked and answered.
    pub service: Option<&'a ServiceFacts>,
    /// The newest line that says the scheduler was started.
    pub booted_at: Option<Timestamp>,
    /// The newest heartbeat.
    pub last_heartbeat: Option<Timestamp>,
    /// The tasks that gave heartbeats lately.
    pub heard: &'a [&'a str],
    /// Tasks that started after this are too young to prove anything by their silence.
    pub settled_tasks: Timestamp,
}

/// The causes that the clues prove, root cause first; empty where nothing proves any.
///
/// A wrong cause is worse than none. So an error counts only if it ended a run of the
/// scheduler or says itself that it is about the scheduler (unless errors as such are what is
/// wrong), and what stopped counts only if it stopped when the trouble began.
pub fn find(clues: &Clues<'_>) -> Vec<Cause> {
    let errors = relevant_errors(clues);
    let stops = stop::relevant(clues);
    let mut proofs: Vec<Vec<Evidence>> = vec![Vec::new(); catalogue::all().len()];
    // Newest first, so that the evidence is fresh.
    for error in errors.iter().rev() {
        let any = clues.condition == Condition::ErrorSpike;
        for (index, line) in proven_by(error, any) {
            note(&mut proofs[index], Evidence::Line(line));
        }
    }
    for stop in &stops {
        for index in proven_by_stop(stop) {
            note(&mut proofs[index], stop.evidence.clone());
        }
    }
    // An error of a run proves that runs were started.
    if !errors.iter().any(|error| error.aborts)
        && let Some((id, fact)) = absent(clues)
        && let Some(index) = catalogue::place(id)
    {
        note(&mut proofs[index], Evidence::Fact(fact));
    }
    (catalogue::all().iter().zip(proofs))
        .filter(|(_, evidence)| !evidence.is_empty())
        .map(|(entry, evidence)| Cause {
            id: entry.id.clone(),
            evidence,
        })
        .collect()
}

/// The cause that an exit code proves, shown by `fact`.
pub(crate) fn of_exit_code(code: i32, fact: &Fact) -> Option<Cause> {
    let entry = (catalogue::all().iter()).find(|entry| entry.exit_codes.contains(&code))?;
    Some(Cause::new(&entry.id, Evidence::Fact(fact.clone())))
}

/// Whether an error tells that a process was ended from outside, so that it left its locks.
pub(crate) fn tells_of_a_kill(text: &str) -> bool {
    let mut kills = catalogue::all().iter().filter(|entry| entry.kills);
    kills.any(|entry| (entry.errors.iter()).any(|pattern| pattern.text.is_match(text)))
}

/// The errors that can be the cause.
fn relevant_errors<'a>(clues: &Clues<'a>) -> Vec<&'a ErrorNote> {
    let errors = clues.errors.iter();
    match clues.condition {
        Condition::ErrorSpike => the_many(errors.collect()),
        // What a heartbeat came after did not end the loop.
        Condition::SchedulerSilent => {
            let since = clues
                .last_heartbeat
                .map(|at| at - AROUND_THE_LAST_HEARTBEAT);
            errors
                .filter(|error| since.is_none_or(|since| error.at >= since))
                .collect()
        }
        // Those of the new tasks; the old ones have troubles of their own.
        Condition::DeploymentStuck => {
            let service = clues.service;
            let deployment = service.and_then(ServiceFacts::deploying);
            let is_new = |error: &&ErrorNote| {
                let tasks = service.map_or(&[][..], |service| service.tasks.as_slice());
                (tasks.iter())
                    .filter(|task| deployment.is_some_and(|new| new.id == task.started_by))
                    .any(|task| error.stream.ends_with(&task.id))
            };
            errors.filter(is_new).collect()
        }
        Condition::SchedulerFailing
        | Condition::ReplicaSilent
        | Condition::NeverSeen
        | Condition::ServiceDown
        | Condition::JobOverdue
        | Condition::JobFailing => errors.collect(),
        Condition::JobOverrun
        | Condition::DuplicateRuns
        | Condition::LogsSilent
        | Condition::WatchdogBlind
        | Condition::Misconfigured
        | Condition::TestAlert => Vec::new(),
    }
}

/// The errors of the causes that explain at least half of all: one odd error among many is no
/// cause of a spike.
fn the_many(errors: Vec<&ErrorNote>) -> Vec<&ErrorNote> {
    let causes: Vec<Vec<usize>> = (errors.iter())
        .map(|error| {
            proven_by(error, true)
                .into_iter()
                .map(|(index, _)| index)
                .collect()
        })
        .collect();
    let explains_half = |cause: &usize| {
        2 * causes.iter().filter(|these| these.contains(cause)).count() >= errors.len()
    };
    (errors.iter().zip(&causes))
        .filter(|(_, these)| these.iter().any(explains_half))
        .map(|(error, _)| *error)
        .collect()
}

/// The causes that one error proves (as places in the catalogue), each with the proving line.
/// `any` error counts, or only those that are about the scheduler.
fn proven_by(error: &ErrorNote, any: bool) -> Vec<(usize, String)> {
    let mut proven: Vec<(usize, String)> = Vec::new();
    for part in error.parts() {
        let mut explained = false;
        for (index, entry) in catalogue::all().iter().enumerate() {
            let fits = |pattern: &catalogue::ErrorPattern| {
                if !(any || error.aborts || pattern.own) {
                    return None;
                }
                let found = pattern.text.find(part.text)?;
                let named = match (&pattern.context, part.context) {
                    (None, _) => true,
                    (Some(wanted), Some(file)) => wanted.is_match(file),
                    (Some(wanted), None) => {
                        wanted.is_match(part.text)
                            || part.trace.iter().any(|line| wanted.is_match(line))
                    }
                };
                named.then_some(found)
            };
            if let Some(found) = entry.errors.iter().find_map(fits) {
                explained = true;
                let line = evidence(part.text, part.context, found.start());
                // What could not be logged may be that the log cannot be written.
                let again =
                    |(other, known): &(usize, String)| *other == index && known.ends_with(&line);
                if !proven.iter().any(again) {
                    proven.push((index, line));
                }
            }
        }
        // Whoever mends the log should know what it would have said.
        if part.unlogged
            && !explained
            && let Some((index, _)) = proven.first()
        {
            let text = part.text.split(LOG_CONTEXT).next().unwrap_or(part.text);
            proven.push((*index, safe::evidence(&format!("{WHILE_LOGGING} {text}"))));
        }
    }
    without_generic(proven, |(index, _)| *index)
}

/// The causes that the end of a task or container proves.
fn proven_by_stop(stop: &stop::Stop) -> Vec<usize> {
    let proves = |entry: &catalogue::Entry| {
        entry
            .stops
            .iter()
            .any(|pattern| pattern.is_match(&stop.text))
            || (stop.exit_code).is_some_and(|code| entry.exit_codes.contains(&code))
    };
    let all = catalogue::all().iter().enumerate();
    let proven = all
        .filter(|(_, entry)| proves(entry))
        .map(|(index, _)| index);
    without_generic(proven.collect(), |index| *index)
}

/// What says little is left out where the same thing proves more.
fn without_generic<T>(mut proven: Vec<T>, place: impl Fn(&T) -> usize) -> Vec<T> {
    let is_generic = |one: &T| catalogue::all()[place(one)].generic;
    if !proven.iter().all(is_generic) {
        proven.retain(|one| !is_generic(one));
    }
    proven
}

/// The line that proves a cause: from its beginning, unless the proof would be cut off.
fn evidence(text: &str, context: Option<&str>, proof: usize) -> String {
    let text = if proof < safe::MAX_EVIDENCE / 2 {
        text
    } else {
        &text[proof..]
    };
    match context {
        Some(file) => safe::evidence(&format!("{file}: {text}")),
        None => safe::evidence(text),
    }
}

/// Remembers evidence once, up to the limit.
fn note(known: &mut Vec<Evidence>, evidence: Evidence) {
    if known.len() < MOST_EVIDENCE && !known.contains(&evidence) {
        known.push(evidence);
    }
}

/// What is proven by something that is missing.
fn absent(clues: &Clues<'_>) -> Option<(&'static str, Fact)> {
    // An application whose start was never seen may not print it at all.
    let booted_at = clues.booted_at?;
    // An old task may have gone on for a while beside the new one. Who spoke is known for a day.
    let remembered = !clues.heard.is_empty();
    let newest_task = (clues.service)
        .and_then(|service| {
            (service.running())
                .filter(|task| clues.task.is_none_or(|replica| replica == task.id))
                .filter_map(|task| Some((task.started_at?, task)))
                .max_by_key(|(started_at, _)| *started_at)
        })
        .filter(|(started_at, task)| {
            *started_at > booted_at + BOOT_LATENESS
                && *started_at <= clues.settled_tasks
                && !clues.heard.contains(&task.id.as_str())
                && (remembered || clues.last_heartbeat.is_none_or(|at| *started_at > at))
        });
    let is_of_tasks = matches!(
        clues.condition,
        Condition::SchedulerSilent | Condition::NeverSeen | Condition::ReplicaSilent
    );
    match (clues.condition, newest_task) {
        (_, Some((running_since, task))) if is_of_tasks => Some((
            "not-started",
            Fact::NotStarted {
                task: task.id.clone(),
                running_since,
                booted_at,
            },
        )),
        (Condition::NeverSeen, None) => {
            Some(("output-to-file", Fact::NothingSinceStart { booted_at }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Container, Task};

    /// The causes that one error or stop proves, as [`find`] sees it.
    fn proven(example: &catalogue::Example) -> Vec<String> {
        let at = Timestamp::UNIX_EPOCH;
        let context = example.context.as_deref();
        let errors: Vec<ErrorNote> = (example.error.iter())
            .map(|text| ErrorNote::new(at, text, context, &[], example.aborts))
            .collect();
        let mut service = ServiceFacts::default();
        service.tasks.push(Task {
            id: "t".to_owned(),
            started_by: String::new(),
            last_status: "STOPPED".to_owned(),
            started_at: None,
            stopped_at: Some(at),
            stop_code: example.stop_code.clone(),
            stopped_reason: example.stop.clone().unwrap_or_default(),
            health: String::new(),
            containers: vec![Container {
                exit_code: example.exit_code,
                ..Container::default()
            }],
        });
        find(&Clues {
            condition: Condition::ServiceDown,
            task: None,
            errors: &errors,
            service: Some(&service),
            booted_at: None,
            last_heartbeat: None,
            heard: &[],
            settled_tasks: Timestamp::MAX,
        })
        .into_iter()
        .map(|cause| cause.id)
        .collect()
    }

    #[test]
    fn examples_prove_their_cause_and_no_other() {
        for entry in catalogue::all() {
            for example in &entry.examples {
                let found = proven(example);
                if example.proves {
                    assert_eq!(found, [entry.id.as_str()], "{example:?}");
                } else {
                    assert!(!found.contains(&entry.id), "{} by {example:?}", entry.id);
                }
            }
        }
    }

    #[test]
    fn every_cause_is_complete() {
        let mut ids: Vec<&str> = catalogue::all()
            .iter()
            .map(|entry| entry.id.as_str())
            .collect();
        for entry in catalogue::all() {
            let says = |texts: &catalogue::Texts| {
                let languages: Vec<&str> = texts.keys().map(String::as_str).collect();
                assert_eq!(languages, ["en", "ja"], "{}", entry.id);
                assert!(texts.values().all(|text| !text.is_empty()), "{}", entry.id);
            };
            says(&entry.meaning);
            entry.steps.iter().for_each(|step| says(&step.say));
            assert!(!entry.steps.is_empty(), "{}", entry.id);
            let patterns = entry.errors.len() + entry.stops.len() + entry.exit_codes.len();
            let shown = entry
                .examples
                .iter()
                .filter(|example| example.proves)
                .count();
            assert!(shown >= patterns.min(1), "{}", entry.id);
            let cause = Cause::new(&entry.id, "x");
            let helps = cause.restart_helps(Condition::SchedulerFailing);
            assert_eq!(helps, Some(entry.restart_helps));
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), catalogue::all().len());
        let unknown = Cause::new("unknown", "x");
        assert_eq!(unknown.restart_helps(Condition::SchedulerFailing), None);
    }
}
