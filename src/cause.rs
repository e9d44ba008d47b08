//! Why something is wrong, with the line or fact that proves it.

mod catalogue;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::message::safe;
use crate::snapshot::{ServiceFacts, Task};

#[cfg(test)]
pub(crate) use catalogue::all;
pub(crate) use catalogue::{SetUp, Step, Texts, named};

/// The longest text of an error that is remembered, in bytes.
const MOST_TEXT: usize = 600;

/// What happened this long before the last heartbeat can still have to do with the silence:
/// a task has 30 seconds to stop, and times of ECS and of lines are not of one clock.
const AROUND_THE_LAST_HEARTBEAT: SignedDuration = SignedDuration::from_mins(2);

/// ECS counts a task as started when its containers run, so an entrypoint's first line can be
/// a moment older.
const BOOT_LATENESS: SignedDuration = SignedDuration::from_secs(30);

/// A proven cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Its name, such as `redis-unreachable`.
    pub id: String,
    /// The log lines or ECS facts that prove it; never empty.
    pub evidence: Vec<String>,
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
        let keep = |text: &str, most: usize| safe::cut(&safe::redact(text), most);
        Self {
            at,
            stream: String::new(),
            text: keep(text, MOST_TEXT),
            context: context.map(|context| keep(context, 100)),
            trace: trace.iter().take(3).map(|line| keep(line, 200)).collect(),
            aborts,
        }
    }
}

/// What a cause is looked for in.
#[derive(Clone, Copy, Debug)]
pub struct Clues<'a> {
    /// What is wrong.
    pub condition: Condition,
    /// The errors that belong to it, oldest first.
    pub errors: &'a [ErrorNote],
    /// What ECS says, where it was asked and answered.
    pub service: Option<&'a ServiceFacts>,
    /// The newest line that says the scheduler was started.
    pub booted_at: Option<Timestamp>,
    /// The newest heartbeat.
    pub last_heartbeat: Option<Timestamp>,
    /// Tasks that started after this are too young to prove anything by their silence.
    pub settled_tasks: Timestamp,
}

impl ErrorNote {
    /// The error as evidence: its file, where one is named, and its text.
    pub fn evidence(&self) -> String {
        match &self.context {
            Some(file) => safe::evidence(&format!("{file}: {}", self.text)),
            None => safe::evidence(&self.text),
        }
    }
}

/// The most lines of evidence for one cause.
const MOST_EVIDENCE: usize = 2;

/// What Laravel puts before the statement that failed.
const STATEMENT: [&str; 2] = ["(Connection: ", "(SQL: "];

/// Where Laravel says which error it could not write to its log.
const WHILE_LOGGING: &str = "The exception occurred while attempting to log:";

/// The causes that the clues prove, root cause first; empty where nothing proves any.
///
/// A wrong cause is worse than none. So an error counts only if it ended a run of the
/// scheduler (unless errors as such are what is wrong), and what stopped counts only if it
/// stopped when the trouble began.
pub fn find(clues: &Clues<'_>) -> Vec<Cause> {
    let errors = relevant_errors(clues);
    let stops = relevant_stops(clues);
    let mut proofs: Vec<Vec<String>> = vec![Vec::new(); catalogue::all().len()];
    // Newest first, so that the evidence is fresh.
    for error in errors.iter().rev() {
        for (index, line) in proven_by(error) {
            note(&mut proofs[index], line);
        }
    }
    for (index, entry) in catalogue::all().iter().enumerate() {
        for stop in &stops {
            if entry.stops.iter().any(|pattern| pattern.is_match(stop)) {
                note(&mut proofs[index], safe::evidence(stop));
            }
        }
    }
    let proven = proofs.iter().any(|lines| !lines.is_empty());
    if !proven && errors.is_empty() {
        return absent(clues).into_iter().collect();
    }
    (catalogue::all().iter().zip(proofs))
        .filter(|(_, evidence)| !evidence.is_empty())
        .map(|(entry, evidence)| Cause {
            id: entry.id.clone(),
            evidence,
        })
        .collect()
}

/// Whether a restart can help against a cause; none for a name that is not known.
pub fn restart_helps(id: &str) -> Option<bool> {
    catalogue::named(id).map(|entry| entry.restart_helps)
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
                .filter(|error| error.aborts && since.is_none_or(|since| error.at >= since))
                .collect()
        }
        Condition::SchedulerFailing
        | Condition::ReplicaSilent
        | Condition::NeverSeen
        | Condition::ServiceDown
        | Condition::DeploymentStuck
        | Condition::JobOverdue
        | Condition::JobFailing => errors.filter(|error| error.aborts).collect(),
        Condition::JobOverrun
        | Condition::DuplicateRuns
        | Condition::LogsSilent
        | Condition::WatchdogBlind
        | Condition::Misconfigured => Vec::new(),
    }
}

/// The errors of the causes that explain at least half of all: one odd error among many is no
/// cause of a spike.
fn the_many(errors: Vec<&ErrorNote>) -> Vec<&ErrorNote> {
    let causes: Vec<Vec<usize>> = (errors.iter())
        .map(|error| {
            proven_by(error)
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
fn proven_by(error: &ErrorNote) -> Vec<(usize, String)> {
    let mut proven: Vec<(usize, String)> = Vec::new();
    for (part, text) in error.text.split(WHILE_LOGGING).enumerate() {
        // The statement's own words and values prove nothing.
        let text = STATEMENT
            .iter()
            .fold(text, |text, start| text.split(start).next().unwrap_or(text))
            .trim();
        // The file is named for the outermost error; those behind it must name their own.
        let context = error.context.as_deref().filter(|_| part == 0);
        for (index, entry) in catalogue::all().iter().enumerate() {
            let fits = |pattern: &catalogue::ErrorPattern| {
                let found = pattern.text.find(text)?;
                let named = match (&pattern.context, context) {
                    (None, _) => true,
                    (Some(wanted), Some(file)) => wanted.is_match(file),
                    (Some(wanted), None) => {
                        part == 0
                            && (wanted.is_match(text)
                                || error.trace.iter().any(|line| wanted.is_match(line)))
                    }
                };
                named.then_some(found)
            };
            if let Some(found) = entry.errors.iter().find_map(fits) {
                proven.push((index, evidence(text, context, found.start())));
            }
        }
    }
    let specific = (proven.iter()).any(|(index, _)| !catalogue::all()[*index].generic);
    proven.retain(|(index, _)| !(specific && catalogue::all()[*index].generic));
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

/// Remembers a line once, up to the limit.
fn note(lines: &mut Vec<String>, line: String) {
    if lines.len() < MOST_EVIDENCE && !lines.contains(&line) {
        lines.push(line);
    }
}

/// Why tasks and containers stopped, where that can have to do with the trouble, newest first.
fn relevant_stops(clues: &Clues<'_>) -> Vec<String> {
    let Some(service) = clues.service else {
        return Vec::new();
    };
    let any_stop = matches!(
        clues.condition,
        Condition::ServiceDown | Condition::DeploymentStuck
    );
    let loop_is_gone = any_stop
        || matches!(
            clues.condition,
            Condition::SchedulerSilent | Condition::ReplicaSilent | Condition::NeverSeen
        );
    if !loop_is_gone {
        return Vec::new();
    }
    let since = clues
        .last_heartbeat
        .map(|at| at - AROUND_THE_LAST_HEARTBEAT);
    let mut tasks: Vec<&Task> = (service.tasks.iter())
        .filter(|task| {
            // A running task can hold a container that is gone; a stopped one counts if it
            // stopped when the heartbeats did.
            task.is_running()
                || any_stop
                || since.is_some_and(|since| task.stopped_at >= Some(since))
        })
        .collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(task.stopped_at));
    tasks.into_iter().flat_map(stops_of).collect()
}

/// What ECS says about the end of a task and of its containers, a sentence each.
fn stops_of(task: &Task) -> Vec<String> {
    let id = &task.id;
    let of_task =
        (!task.stopped_reason.is_empty()).then(|| format!("task {id}: {}", task.stopped_reason));
    let of_containers = (task.containers.iter())
        .filter(|container| !container.reason.is_empty())
        .map(|container| {
            let code =
                (container.exit_code).map_or(String::new(), |code| format!(" (exit code {code})"));
            format!(
                "task {id}, container {}: {}{code}",
                container.name, container.reason
            )
        });
    of_containers.chain(of_task).collect()
}

/// A cause that is proven by what is missing.
fn absent(clues: &Clues<'_>) -> Option<Cause> {
    let cause = |id: &str, evidence: String| Cause {
        id: id.to_owned(),
        evidence: vec![evidence],
    };
    // An application whose start was never seen may not print it at all.
    let booted_at = clues.booted_at?;
    let newest_task = (clues.service)
        .and_then(|service| {
            (service.running())
                .filter_map(|task| Some((task.started_at?, task)))
                .max_by_key(|(started_at, _)| *started_at)
        })
        .filter(|(started_at, _)| {
            *started_at > booted_at + BOOT_LATENESS
                && *started_at <= clues.settled_tasks
                && clues
                    .last_heartbeat
                    .is_none_or(|heartbeat| *started_at > heartbeat)
        });
    match (clues.condition, newest_task) {
        (Condition::SchedulerSilent | Condition::NeverSeen, Some((started_at, task))) => {
            Some(cause(
                "not-started",
                format!(
                    "task {} runs since {started_at:.0}; the newest line that says the scheduler was started is from {booted_at:.0}",
                    task.id
                ),
            ))
        }
        (Condition::NeverSeen, None) if clues.last_heartbeat.is_none() => Some(cause(
            "output-to-file",
            format!(
                "the scheduler was started at {booted_at:.0}, and not one line of its output followed"
            ),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The causes that one error or stop proves, as [`find`] sees it.
    fn proven(error: Option<(&str, Option<&str>)>, stop: Option<&str>) -> Vec<String> {
        let at = Timestamp::UNIX_EPOCH;
        let errors: Vec<ErrorNote> = (error.into_iter())
            .map(|(text, context)| ErrorNote::new(at, text, context, &[], true))
            .collect();
        let mut service = ServiceFacts::default();
        service.tasks.push(Task {
            id: "t".to_owned(),
            started_by: String::new(),
            last_status: "STOPPED".to_owned(),
            started_at: None,
            stopped_at: Some(at),
            stop_code: String::new(),
            stopped_reason: stop.unwrap_or_default().to_owned(),
            health: String::new(),
            containers: Vec::new(),
        });
        find(&Clues {
            condition: Condition::ServiceDown,
            errors: &errors,
            service: Some(&service),
            booted_at: None,
            last_heartbeat: None,
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
                let error =
                    (example.error.as_deref()).map(|text| (text, example.context.as_deref()));
                let found = proven(error, example.stop.as_deref());
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
            let patterns = entry.errors.len() + entry.stops.len();
            let shown = entry
                .examples
                .iter()
                .filter(|example| example.proves)
                .count();
            assert!(shown >= patterns.min(1), "{}", entry.id);
            assert_eq!(restart_helps(&entry.id), Some(entry.restart_helps));
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), catalogue::all().len());
        assert_eq!(restart_helps("unknown"), None);
    }
}
