//! Patterns as they are written, in the preset files and in the configuration.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use crate::data::data;
use crate::line::clean;

/// Reads a file.
pub(super) type Read = fn() -> PresetFile;

/// The preset files, by name.
pub(super) const BUILT_IN: [(&str, Read); 9] = [
    ("laravel", || data!("presets/laravel")),
    ("supervisord", || data!("presets/supervisord")),
    ("celery-beat", || data!("presets/celery-beat")),
    ("celery-worker", || data!("presets/celery-worker")),
    ("cron", || data!("presets/cron")),
    ("supercronic", || data!("presets/supercronic")),
    ("apscheduler", || data!("presets/apscheduler")),
    ("node-cron", || data!("presets/node-cron")),
    ("generic", || data!("presets/generic")),
];

/// Files that others include, beside the presets.
const PARTS: [(&str, Read); 1] = [("python", || data!("presets/part/python"))];

/// The longest pattern that is accepted, in bytes.
pub(super) const MAX_PATTERN: usize = 2000;

/// The most memory that one compiled pattern may take, in bytes: an expression that
/// multiplies repetitions is refused instead of filling a small function's memory.
const MAX_COMPILED: usize = 1 << 20;

/// The captures that the reader knows.
const CAPTURES: [&str; 9] = [
    "job",
    "background",
    "took",
    "exit_code",
    "rest",
    "text",
    "message",
    "context",
    "trace",
];

/// What is true of a scheduler besides its lines.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Truths {
    /// The application is Laravel's.
    pub laravel: bool,
    /// A job that is said to have ended has succeeded.
    pub done_means_success: bool,
}

/// A file in `src/presets/`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PresetFile {
    /// Other files, by name, whose patterns follow its own; its own blocks come first, too.
    #[serde(default)]
    pub include: Vec<String>,
    /// Those of a file that it includes hold here, too.
    #[serde(default)]
    pub truths: Truths,
    #[serde(default)]
    pub block: BTreeMap<String, BlockSpec>,
    #[serde(default)]
    pub pattern: Vec<PatternSpec>,
}

impl PresetFile {
    /// With what the files hold that it includes.
    pub(super) fn with_included(mut self) -> Result<PresetFile, String> {
        for name in std::mem::take(&mut self.include) {
            let (_, read) = BUILT_IN
                .iter()
                .chain(&PARTS)
                .find(|(known, _)| *known == name)
                .ok_or_else(|| format!("there is no file `{name}` to include"))?;
            let included = read().with_included()?;
            self.truths.laravel |= included.truths.laravel;
            self.truths.done_means_success |= included.truths.done_means_success;
            self.pattern.extend(included.pattern);
            for (name, block) in included.block {
                self.block.entry(name).or_insert(block);
            }
        }
        Ok(self)
    }
}

/// One pattern as it is written in a preset file or in the configuration.
///
/// The first pattern that matches decides. Patterns see the line without escapes and
/// control characters, but with its spaces. Named captures say what is where: `job`,
/// `background` (present: in the background), `took`, `exit_code`; `rest` (the line of an
/// unfinished job: what came between); for errors `text`, `message` (the part of it that other
/// reports of the same error repeat), `context` (a source file), `trace`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatternSpec {
    /// What a line that matches means.
    pub kind: PatternKind,
    /// The regular expression (syntax of the `regex` crate).
    pub pattern: String,
    /// A regular expression for the raw lines, escapes included, that can match; must be
    /// understood by the log service too, and is matched without regard to case. Needed where
    /// the pattern's own words say too little. `^` as its first character holds for all of it
    /// and stands for the beginning of a line, `$` as its last for the end, escapes allowed.
    #[serde(default)]
    pub coarse: Option<String>,
    /// For errors: the whole scheduler run ended with it.
    #[serde(default)]
    pub aborts: bool,
    /// Whether the line proves that the scheduler's loop lives; by default heartbeats and
    /// jobs' lines do. `false` for records that only mention a job.
    #[serde(default)]
    pub heartbeat: Option<bool>,
    /// The captured texts are JSON strings, still escaped.
    #[serde(default)]
    pub json: bool,
    /// The name of the preset's block whose lines can follow and belong to this one.
    #[serde(default)]
    pub then: Option<String>,
    /// Real lines with what they must yield.
    #[serde(default)]
    pub examples: Vec<Example>,
}

/// A real line, or several, and what must be read from it. A job, duration or exit code that is
/// left out must not be there; the others are not checked then.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// The text as it stands in the log.
    pub line: String,
    /// The job's normalised name.
    #[serde(default)]
    pub job: Option<String>,
    /// Whether it runs in the background.
    #[serde(default)]
    pub background: Option<bool>,
    /// The duration in milliseconds.
    #[serde(default)]
    pub took: Option<f64>,
    /// The exit code.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// The text.
    #[serde(default)]
    pub text: Option<String>,
    /// The source file.
    #[serde(default)]
    pub context: Option<String>,
    /// The number of trace lines.
    #[serde(default)]
    pub trace: Option<usize>,
}

/// What a line that matches a pattern means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PatternKind {
    /// The loop lives and had nothing to do.
    Idle,
    /// The loop lives. Also `heartbeat`.
    #[serde(alias = "heartbeat")]
    Banner,
    /// A job began. With a capture `rest`, its end can follow on a later line.
    Started,
    /// A job ended; without a capture `job`, the unfinished one.
    Ended,
    /// A job ended and has succeeded; without a capture `job`, the unfinished one.
    Succeeded,
    /// A job failed; without a capture `job`, the unfinished one.
    Failed,
    /// A job was due and is not run here.
    Skipped,
    /// The scheduler was started.
    Boot,
    /// Jobs are held back on purpose from here on.
    Held,
    /// They are not any more.
    Released,
    /// Something went wrong.
    Error,
    /// Nothing; for lines that a later pattern would misread.
    Other,
}

/// Lines that can follow a line and belong to it: a stack trace, a console's error box.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockSpec {
    /// What its lines look like; the first that matches decides. With a capture `text` the
    /// line continues the error's text, with `context` it names the source file, else it is
    /// a line of the trace.
    pub line: Vec<BlockLine>,
    /// What its last line looks like. It says nothing more.
    #[serde(default)]
    pub end: Option<String>,
    /// For `end`, as for patterns.
    #[serde(default)]
    pub coarse: Option<String>,
    /// The width at which long texts are cut in the middle of a word, in columns.
    #[serde(default)]
    pub wrap: Option<usize>,
    /// Its lines stand together: a heartbeat or a job's line ends it. Otherwise (another
    /// output stream) they can be interleaved with anything.
    #[serde(default)]
    pub together: bool,
    /// Further blocks right after the first tell where the same error came from.
    #[serde(default)]
    pub chained: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockLine {
    pub pattern: String,
    #[serde(default)]
    pub coarse: Option<String>,
    /// The line says nothing; it only stands there.
    #[serde(default)]
    pub ignore: bool,
}

/// A pattern that cannot be used: which, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pattern `{pattern}`: {reason}; {remedy}")]
pub struct PatternError {
    /// The pattern as written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

impl PatternError {
    pub(super) fn new(
        pattern: &str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> PatternError {
        PatternError {
            pattern: pattern.to_owned(),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

impl PatternSpec {
    /// A pattern with nothing but a meaning and an expression.
    pub fn new(kind: PatternKind, pattern: impl Into<String>) -> PatternSpec {
        PatternSpec {
            kind,
            pattern: pattern.into(),
            coarse: None,
            aborts: false,
            heartbeat: None,
            json: false,
            then: None,
            examples: Vec::new(),
        }
    }

    /// Whether the pattern can be used; the first mistake in it otherwise.
    pub fn check(&self) -> Result<(), PatternError> {
        self.regex().map(drop)
    }

    pub(super) fn regex(&self) -> Result<Regex, PatternError> {
        let wrong =
            |reason: &str, remedy: &str| Err(PatternError::new(&self.pattern, reason, remedy));
        let regex = compile(&self.pattern)?;
        if regex.is_match("") {
            return wrong(
                "it matches an empty line, so it would match every line",
                "make at least one word of it required",
            );
        }
        let captures: Vec<&str> = regex.capture_names().flatten().collect();
        if let Some(unknown) = captures.iter().find(|name| !CAPTURES.contains(name)) {
            return wrong(
                &format!("the capture `{unknown}` has no meaning"),
                &format!("use one of {}, or `(?:…)`", CAPTURES.join(", ")),
            );
        }
        let names_job = captures.contains(&"job");
        if matches!(self.kind, PatternKind::Started | PatternKind::Skipped) && !names_job {
            return wrong(
                "it does not say which job",
                "put `(?<job>…)` around the job's name",
            );
        }
        if let Some(coarse) = &self.coarse {
            compile(coarse)?;
        }
        if let Some(example) = self
            .examples
            .iter()
            .find(|example| !clean::lines(&example.line).any(|line| regex.is_match(&line)))
        {
            return wrong(
                &format!(
                    "it does not match its example `{}`",
                    example.line.escape_debug()
                ),
                "correct the one or the other",
            );
        }
        Ok(regex)
    }
}

/// Compiles an expression from outside, within bounds.
pub(super) fn compile(pattern: &str) -> Result<Regex, PatternError> {
    if pattern.len() > MAX_PATTERN {
        return Err(PatternError::new(
            &format!("{}…", clean::bounded(pattern, 80)),
            format!("it is longer than {MAX_PATTERN} bytes"),
            "split it into several patterns",
        ));
    }
    RegexBuilder::new(pattern)
        .size_limit(MAX_COMPILED)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::new(
                pattern,
                "it needs too much memory",
                "use smaller repetition counts, and `[0-9]` in place of `\\d`",
            ),
            // The last line of a syntax error says what; the others draw where.
            other => {
                let text = other.to_string();
                let reason = text.lines().last().unwrap_or_default().trim();
                PatternError::new(
                    pattern,
                    reason.strip_prefix("error: ").unwrap_or(reason),
                    "see https://docs.rs/regex/latest/regex/#syntax",
                )
            }
        })
}
