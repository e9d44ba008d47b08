//! Why something is wrong, with the line or fact that proves it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::snapshot::ServiceFacts;

/// The longest text of an error that is remembered, in bytes.
const MOST_TEXT: usize = 600;

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
        let cut = |text: &str, most: usize| text[..text.floor_char_boundary(most)].to_owned();
        Self {
            at,
            text: cut(text, MOST_TEXT),
            context: context.map(|context| cut(context, 100)),
            trace: trace.iter().take(3).map(|line| cut(line, 200)).collect(),
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
}

/// The causes that the clues prove, root cause first; empty where nothing proves any.
pub fn find(clues: &Clues<'_>) -> Vec<Cause> {
    let _ = clues;
    Vec::new()
}

/// Whether a restart can help against a cause; none for a name that is not known.
pub fn restart_helps(id: &str) -> Option<bool> {
    let _ = id;
    None
}
