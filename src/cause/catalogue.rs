//! The causes that are known: data, read once from `src/causes/*.toml`.
//!
//! A new cause, a new pattern or a new language needs no Rust. Order matters: what stands
//! earlier is closer to the root, and is named first where several causes are proven.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Deserializer};

use crate::data::data;

/// A text in every language, by the language's code.
pub(crate) type Texts = BTreeMap<String, String>;

/// An exception behind another one, as the logger and the console tell it, with its file.
static BEHIND: LazyLock<Regex> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a constant; the tests use it")]
    Regex::new(
        r"^(?:\[previous exception\] \[object\] \([\w\\]+\(code: [^)]*\): (?<logged>.+) at (?:\S*/)?(?<log_file>[^\s/:]+):[0-9]+\)|In (?<box_file>.+?) line (?:[0-9]+|n/a): ?(?<boxed>.+))$",
    )
    .expect("a valid regular expression")
});

static CATALOGUE: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let files: [File; 8] = [
        data!("causes/ecs"),
        data!("causes/code"),
        data!("causes/redis"),
        data!("causes/database"),
        data!("causes/permissions"),
        data!("causes/absence"),
        data!("causes/jobs"),
        data!("causes/effects"),
    ];
    files.into_iter().flat_map(|file| file.cause).collect()
});

/// Every known cause, root causes first.
pub(crate) fn all() -> &'static [Entry] {
    &CATALOGUE
}

/// The known cause of that name.
pub(crate) fn named(id: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.id == id)
}

/// Where the cause of that name stands.
pub(super) fn place(id: &str) -> Option<usize> {
    CATALOGUE.iter().position(|entry| entry.id == id)
}

/// The text and the file of an exception behind another one, if a line below an error tells
/// of one.
pub(super) fn behind(line: &str) -> Option<(&str, &str)> {
    let found = BEHIND.captures(line.trim())?;
    let group = |name| found.name(name).map(|group| group.as_str());
    group("logged")
        .zip(group("log_file"))
        .or_else(|| group("boxed").zip(group("box_file")))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cause: Vec<Entry>,
}

/// One cause: what proves it, what it means, what to do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Entry {
    /// Its name in messages and in the replay contract.
    pub id: String,
    /// Whether a restart can help.
    pub restart_helps: bool,
    /// It says little; where the same error proves another cause, it is left out.
    #[serde(default)]
    pub generic: bool,
    /// It holds for all jobs alike: those that it holds back are told together, however few.
    #[serde(default)]
    pub shared: bool,
    /// Its errors tell that a process was ended from outside, so that it left its locks.
    #[serde(default)]
    pub kills: bool,
    /// Evidence of a connection that broke while it was in use; see
    /// [`super::Cause::restart_helps`].
    #[serde(default, deserialize_with = "patterns")]
    pub wedged: Vec<Regex>,
    /// What it means, in one or two sentences.
    pub meaning: Texts,
    /// What to do about it, in order.
    pub steps: Vec<Step>,
    /// Errors that prove it.
    #[serde(default)]
    pub errors: Vec<ErrorPattern>,
    /// Stop codes, stop reasons, reasons of containers and service events that prove it.
    #[serde(default, deserialize_with = "patterns")]
    pub stops: Vec<Regex>,
    /// Exit codes of containers and of jobs that prove it.
    #[serde(default)]
    pub exit_codes: Vec<i32>,
    /// Texts that must prove it, and texts that must not; the tests run them.
    #[cfg(test)]
    #[serde(default)]
    pub examples: Vec<Example>,
}

/// An error that proves a cause.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ErrorPattern {
    /// Matches its text.
    #[serde(deserialize_with = "pattern")]
    pub text: Regex,
    /// Matches the source file named with it. Where none is named, the text and the trace must
    /// name one.
    #[serde(default, deserialize_with = "optional_pattern")]
    pub context: Option<Regex>,
    /// The text says itself that it is about the scheduler, so it counts even where it ended
    /// no run.
    #[serde(default)]
    pub own: bool,
}

/// How a scheduler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SetUp {
    /// In a container that stays up, as a loop mostly.
    Container,
    /// Each run in a task of its own.
    Tasks,
}

/// One thing that a person can do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// What and why, in one short sentence.
    pub say: Texts,
    /// The command to paste, by its name in `src/message/commands.toml`.
    pub command: Option<String>,
    /// The command to run inside the container.
    pub exec: Option<String>,
    /// It restarts something, so it is shown only where that can help and does no harm.
    #[serde(default)]
    pub restart: bool,
    /// It is shown only for these conditions; for all, if empty.
    #[serde(default)]
    pub conditions: Vec<String>,
    /// It is shown only where the scheduler runs so; everywhere, if not said.
    #[serde(default)]
    pub only: Option<SetUp>,
}

/// An example for the tests.
#[cfg(test)]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Example {
    /// An error's text.
    pub error: Option<String>,
    /// The file named with the error.
    pub context: Option<String>,
    /// Whether the error ended a run.
    #[serde(default = "yes")]
    pub aborts: bool,
    /// A reason why a task or a container stopped, or a service event.
    pub stop: Option<String>,
    /// The code with which ECS says who stopped the task.
    #[serde(default)]
    pub stop_code: String,
    /// A container's exit code.
    pub exit_code: Option<i32>,
    /// Whether it proves the cause.
    #[serde(default = "yes")]
    pub proves: bool,
}

#[cfg(test)]
fn yes() -> bool {
    true
}

fn compile<E: serde::de::Error>(pattern: &str) -> Result<Regex, E> {
    Regex::new(pattern).map_err(E::custom)
}

fn pattern<'de, D: Deserializer<'de>>(from: D) -> Result<Regex, D::Error> {
    compile(&String::deserialize(from)?)
}

fn optional_pattern<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Regex>, D::Error> {
    pattern(from).map(Some)
}

fn patterns<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Regex>, D::Error> {
    (Vec::<String>::deserialize(from)?.iter())
        .map(|pattern| compile(pattern))
        .collect()
}
