//! Log line → [`Line`]: what a scheduler's output says.
//!
//! A source delivers [`LogEvent`]s; [`read`] cleans them, matches them against the
//! ordered patterns of a [`Preset`] and returns [`Line`]s. Patterns are data
//! (`src/presets/*.toml`): a new format needs no Rust.

pub(crate) mod clean;
mod job;
mod preset;
mod reader;
mod record;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

pub use job::job_name;
pub use preset::{Example, PatternError, PatternKind, PatternSpec, Preset};
pub use reader::read;

/// One raw log event as a source delivers it.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEvent {
    /// When the line was written (CloudWatch's `@timestamp`).
    pub at: Timestamp,
    /// When the log service received it, where the source says so.
    pub ingested: Option<Timestamp>,
    /// The log stream it came from; lines of different streams never belong together.
    pub stream: Arc<str>,
    /// The source's own id (`@ptr`, `eventId`): the same id in the same stream is the same event.
    pub id: Option<String>,
    /// The text, raw: escapes, carriage returns, several lines.
    pub message: String,
}

/// What one log line means.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// When it was written.
    pub at: Timestamp,
    /// The log stream it came from.
    pub stream: Arc<str>,
    /// Its meaning.
    pub kind: Kind,
    /// Whether it proves that the scheduler's loop lives; see [`Line::is_heartbeat`].
    pub heartbeat: bool,
    /// The text without escapes and control characters, at most [`MAX_TEXT`] bytes.
    /// For an error: its message, unwrapped and joined.
    pub text: String,
}

/// The longest text that a [`Line`] holds, in bytes.
pub const MAX_TEXT: usize = 4 * 1024;

/// The most trace lines that an error holds.
pub const MAX_TRACE: usize = 20;

/// The meaning of a line.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// The loop lives; says nothing about any job.
    Heartbeat(Pulse),
    /// Something happened to a job.
    Job {
        /// Normalised by [`job_name`].
        name: String,
        /// What happened.
        event: JobEvent,
        /// It was handed to a background process: its end means "spawned".
        background: bool,
    },
    /// The scheduler was started (the entrypoint's or the worker's first words).
    Boot,
    /// Jobs are held back on purpose from here on: a pause, or maintenance mode.
    Held,
    /// They are not any more.
    Released,
    /// Something went wrong.
    Error {
        /// The whole scheduler run ended with it.
        aborts: bool,
        /// The source file named with it, without its directory.
        context: Option<String>,
        /// Stack frames, previous exceptions: at most [`MAX_TRACE`] lines.
        trace: Vec<String>,
    },
    /// Nothing that a preset knows.
    Other,
}

/// Why a heartbeat line is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// Nothing was due.
    Idle,
    /// A line that the loop prints around its work.
    Banner,
}

/// What happened to a job.
#[derive(Clone, Debug, PartialEq)]
pub enum JobEvent {
    /// It began.
    Started,
    /// It began, and its line breaks off before it says how the run ended.
    CutOff,
    /// It ended; that is not to say that it succeeded.
    Ended {
        /// How long it took, where the line says so in known words.
        took: Option<SignedDuration>,
    },
    /// It ended, and has succeeded.
    Succeeded {
        /// How long it took, where the line says so in known words.
        took: Option<SignedDuration>,
    },
    /// It failed.
    Failed {
        /// How long it took, where the line says so in known words.
        took: Option<SignedDuration>,
        /// The exit code, where the line says so.
        exit_code: Option<i32>,
    },
    /// It was due, and another server runs it.
    Skipped,
}

impl JobEvent {
    /// How long a run took that has ended, where its line says so.
    pub fn took(&self) -> Option<SignedDuration> {
        match self {
            Self::Ended { took } | Self::Succeeded { took } | Self::Failed { took, .. } => *took,
            Self::Started | Self::CutOff | Self::Skipped => None,
        }
    }
}

impl Line {
    /// A line of that kind. It counts as a heartbeat if the kind is one, or a job's line.
    pub fn new(at: Timestamp, stream: Arc<str>, kind: Kind, text: impl Into<String>) -> Line {
        let heartbeat = matches!(kind, Kind::Heartbeat(_) | Kind::Job { .. });
        Line {
            at,
            stream,
            kind,
            heartbeat,
            text: text.into(),
        }
    }

    /// Whether the line proves that the scheduler's loop lives: a heartbeat, or a job's line
    /// that the loop itself printed (not a log record that only mentions the job).
    pub fn is_heartbeat(&self) -> bool {
        self.heartbeat
    }
}
