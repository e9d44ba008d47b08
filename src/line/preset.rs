//! Patterns as data: what a preset file holds, and what it is compiled to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use regex::{Captures, Regex, RegexBuilder};
use serde::Deserialize;

use crate::pattern::{Expression, Index, required};

/// The preset files, by name.
const BUILT_IN: [(&str, &str); 9] = [
    ("laravel", include_str!("../presets/laravel.toml")),
    ("supervisord", include_str!("../presets/supervisord.toml")),
    ("celery-beat", include_str!("../presets/celery-beat.toml")),
    (
        "celery-worker",
        include_str!("../presets/celery-worker.toml"),
    ),
    ("cron", include_str!("../presets/cron.toml")),
    ("supercronic", include_str!("../presets/supercronic.toml")),
    ("apscheduler", include_str!("../presets/apscheduler.toml")),
    ("node-cron", include_str!("../presets/node-cron.toml")),
    ("generic", include_str!("../presets/generic.toml")),
];

/// Files that others include, beside the presets.
const PARTS: [(&str, &str); 1] = [("python", include_str!("../presets/part/python.toml"))];

/// The names of [`BUILT_IN`].
const NAMES: [&str; BUILT_IN.len()] = {
    let mut names = [""; BUILT_IN.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = BUILT_IN[at].0;
        at += 1;
    }
    names
};

/// Those of [`BUILT_IN`] that were asked for: a program uses one or two.
static COMPILED: [OnceLock<Preset>; BUILT_IN.len()] = [const { OnceLock::new() }; BUILT_IN.len()];

#[expect(
    clippy::expect_used,
    reason = "files of this crate, which a test reads"
)]
fn built_in(toml: &str) -> Preset {
    let file = PresetFile::read(toml).expect("a preset file is valid, as are those it includes");
    Preset::compile(file.pattern, file.block, file.truths)
        .expect("a pattern of a preset file names a block of it")
}

/// The longest pattern that is accepted, in bytes.
const MAX_PATTERN: usize = 2000;

/// The most memory that one compiled pattern may take, in bytes: an expression that
/// multiplies repetitions is refused instead of filling a small function's memory.
const MAX_COMPILED: usize = 1 << 20;

/// The beginning of a line in a raw message, with colours and the like; it may stand in a log
/// router's envelope.
const LINE_START: &str = r#"(?:^|\n|"log": ?")(?:\r|\x1b\[[0-9;]*m)*"#;

/// The end of a line in a raw message.
const LINE_END: &str = r#"(?:\x1b\[[0-9;]*m)*\s*(?:$|\n|(?:\\[rn])*")"#;

/// What looks different within an envelope, which is JSON: quotes, escapes, and the end of a
/// line as one of several things that can follow.
const IN_JSON: [(&str, &str); 3] = [
    ("\"", r#"\\?""#),
    (r"\x1b", r"(?:\x1b|\\u001b)"),
    ("|$)", r#"|\\[rn]|"|$)"#),
];

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

/// What one format of log lines looks like: ordered patterns, compiled. Cheap to clone.
#[derive(Clone)]
pub struct Preset(Arc<Inner>);

struct Inner {
    patterns: Vec<Pattern>,
    index: Index,
    blocks: Vec<Block>,
    /// What everything above was compiled from.
    specs: Vec<PatternSpec>,
    block_specs: BTreeMap<String, BlockSpec>,
    truths: Truths,
}

/// What is true of a scheduler besides its lines.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Truths {
    /// The application is Laravel's.
    laravel: bool,
    /// A job that is said to have ended has succeeded.
    done_means_success: bool,
}

/// A file in `src/presets/`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PresetFile {
    /// Other files, by name, whose patterns follow its own; its own blocks come first, too.
    #[serde(default)]
    include: Vec<String>,
    /// Those of a file that it includes hold here, too.
    #[serde(default)]
    truths: Truths,
    #[serde(default)]
    block: BTreeMap<String, BlockSpec>,
    #[serde(default)]
    pattern: Vec<PatternSpec>,
}

impl PresetFile {
    /// Reads a file with those that it includes.
    fn read(toml: &str) -> Result<PresetFile, String> {
        let mut file: PresetFile = toml::from_str(toml).map_err(|error| error.to_string())?;
        for name in std::mem::take(&mut file.include) {
            let (_, toml) = BUILT_IN
                .iter()
                .chain(&PARTS)
                .find(|(known, _)| *known == name)
                .ok_or_else(|| format!("there is no file `{name}` to include"))?;
            let included = PresetFile::read(toml)?;
            file.truths.laravel |= included.truths.laravel;
            file.truths.done_means_success |= included.truths.done_means_success;
            file.pattern.extend(included.pattern);
            for (name, block) in included.block {
                file.block.entry(name).or_insert(block);
            }
        }
        Ok(file)
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
struct BlockSpec {
    /// What its lines look like; the first that matches decides. With a capture `text` the
    /// line continues the error's text, with `context` it names the source file, else it is
    /// a line of the trace.
    line: Vec<BlockLine>,
    /// What its last line looks like. It says nothing more.
    #[serde(default)]
    end: Option<String>,
    /// For `end`, as for patterns.
    #[serde(default)]
    coarse: Option<String>,
    /// The width at which long texts are cut in the middle of a word, in columns.
    #[serde(default)]
    wrap: Option<usize>,
    /// Its lines stand together: a heartbeat or a job's line ends it. Otherwise (another
    /// output stream) they can be interleaved with anything.
    #[serde(default)]
    together: bool,
    /// Further blocks right after the first tell where the same error came from.
    #[serde(default)]
    chained: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct BlockLine {
    pattern: String,
    #[serde(default)]
    coarse: Option<String>,
    /// The line says nothing; it only stands there.
    #[serde(default)]
    ignore: bool,
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
    fn new(pattern: &str, reason: impl Into<String>, remedy: impl Into<String>) -> PatternError {
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

    fn regex(&self) -> Result<Regex, PatternError> {
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
            .find(|example| !super::clean::lines(&example.line).any(|line| regex.is_match(&line)))
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
fn compile(pattern: &str) -> Result<Regex, PatternError> {
    if pattern.len() > MAX_PATTERN {
        return Err(PatternError::new(
            &format!("{}…", super::clean::bounded(pattern, 80)),
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

impl Preset {
    /// The built-in preset of that name.
    pub fn named(name: &str) -> Option<Preset> {
        let index = NAMES.iter().position(|known| *known == name)?;
        let preset = COMPILED[index].get_or_init(|| built_in(BUILT_IN[index].1));
        Some(preset.clone())
    }

    /// The names of the built-in presets.
    pub fn names() -> &'static [&'static str] {
        &NAMES
    }

    /// This preset with the user's own patterns, which are tried first.
    ///
    /// # Errors
    /// The first pattern that cannot be used ([`PatternSpec::check`] finds each of them).
    pub fn with_patterns(&self, own: &[PatternSpec]) -> Result<Preset, PatternError> {
        own.iter().try_for_each(PatternSpec::check)?;
        let specs = own.iter().chain(&self.0.specs).cloned().collect();
        Preset::compile(specs, self.0.block_specs.clone(), self.0.truths)
    }

    /// Whether the application is Laravel's, so that messages may name its commands.
    pub fn is_laravel(&self) -> bool {
        self.0.truths.laravel
    }

    /// Whether a job that is said to have ended has succeeded.
    pub fn done_means_success(&self) -> bool {
        self.0.truths.done_means_success
    }

    /// Whether it knows a line that proves that the scheduler lives. One that does not
    /// (`generic`, before the user's own patterns) can only ever say "silent".
    pub fn has_heartbeat(&self) -> bool {
        let beats = |pattern: &Pattern| pattern.heartbeat && pattern.kind != PatternKind::Other;
        self.0.patterns.iter().any(beats)
    }

    /// The body of a regular expression that matches, without regard to case, every raw
    /// message that the reader can use: heartbeats, jobs, errors and the lines that belong to
    /// them. Slashes in it are not escaped. `None` where a pattern requires no word, so that
    /// nothing can be left out.
    pub fn coarse_filter(&self) -> Option<String> {
        let mut bodies = BTreeSet::new();
        for (pattern, compiled) in self.0.specs.iter().zip(&self.0.patterns) {
            if compiled.matters() {
                bodies.extend(coarse(&pattern.pattern, pattern.coarse.as_deref())?);
            }
        }
        for block in self.0.block_specs.values() {
            for line in &block.line {
                bodies.extend(coarse(&line.pattern, line.coarse.as_deref())?);
            }
            if let Some(end) = &block.end {
                bodies.extend(coarse(end, block.coarse.as_deref())?);
            }
        }
        // A text that contains another is found by it already. (Of expressions that cannot
        // be said: one of their branches contains it.)
        let is_text = |body: &str| regex::escape(body) == *body;
        let (at_start, anywhere): (Vec<&str>, Vec<&str>) = bodies
            .iter()
            .map(String::as_str)
            .filter(|body| {
                !is_text(body)
                    || !bodies.iter().any(|other| {
                        other != body && is_text(other) && body.contains(other.as_str())
                    })
            })
            .partition(|body| body.starts_with('^'));
        let at_start: Vec<&str> = at_start.iter().map(|body| &body[1..]).collect();
        let at_start = match at_start.as_slice() {
            [] => None,
            some => Some(format!("{LINE_START}(?:{})", some.join("|"))),
        };
        let all: Vec<&str> = anywhere.into_iter().chain(at_start.as_deref()).collect();
        Some(all.join("|"))
    }

    fn compile(
        specs: Vec<PatternSpec>,
        block_specs: BTreeMap<String, BlockSpec>,
        truths: Truths,
    ) -> Result<Preset, PatternError> {
        let names: Vec<&str> = block_specs.keys().map(String::as_str).collect();
        let patterns = specs
            .iter()
            .map(|spec| Pattern::compile(spec, &names))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Preset(Arc::new(Inner {
            patterns,
            index: Index::new(specs.iter().map(|spec| spec.pattern.as_str())),
            blocks: block_specs.values().map(Block::compile).collect(),
            specs,
            block_specs,
            truths,
        })))
    }

    /// The first pattern that matches a cleaned line: its number, and what it captures.
    pub(super) fn classify<'t>(&self, line: &'t str) -> Option<(usize, &Pattern, Captures<'t>)> {
        let possible = self.0.index.possible(line);
        (self.0.patterns.iter().zip(possible).enumerate())
            .filter(|(_, (_, is_possible))| *is_possible)
            .find_map(|(index, (pattern, _))| Some((index, pattern, pattern.captures(line)?)))
    }

    pub(super) fn block(&self, index: usize) -> &Block {
        &self.0.blocks[index]
    }
}

impl fmt::Debug for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Preset({} patterns)", self.0.patterns.len())
    }
}

/// What the coarse filter needs for one expression.
fn coarse(pattern: &str, explicit: Option<&str>) -> Option<BTreeSet<String>> {
    match explicit {
        Some(body) => {
            let end = body.strip_suffix('$').map(|_| LINE_END);
            let body = body.strip_suffix('$').unwrap_or(body);
            let body = (IN_JSON.iter()).fold(body.to_owned(), |body, (plain, json)| {
                body.replace(plain, json)
            });
            Some(BTreeSet::from([body + end.unwrap_or_default()]))
        }
        None => required(pattern),
    }
}

/// A compiled [`PatternSpec`].
pub(super) struct Pattern {
    pub kind: PatternKind,
    pub aborts: bool,
    pub heartbeat: bool,
    pub json: bool,
    pub then: Option<usize>,
    expression: Expression,
}

impl Pattern {
    fn compile(spec: &PatternSpec, blocks: &[&str]) -> Result<Pattern, PatternError> {
        let then =
            match &spec.then {
                None => None,
                Some(name) => Some(blocks.iter().position(|block| block == name).ok_or_else(
                    || {
                        PatternError::new(
                            &spec.pattern,
                            format!("there is no block `{name}`"),
                            format!("leave `then` out, or name one of: {}", blocks.join(", ")),
                        )
                    },
                )?),
            };
        use PatternKind::{Banner, Ended, Failed, Idle, Skipped, Started, Succeeded};
        Ok(Pattern {
            kind: spec.kind,
            aborts: spec.aborts,
            heartbeat: spec.heartbeat.unwrap_or(matches!(
                spec.kind,
                Idle | Banner | Started | Ended | Succeeded | Failed | Skipped
            )),
            json: spec.json,
            then,
            expression: Expression::new(&spec.pattern),
        })
    }

    pub fn captures<'t>(&self, line: &'t str) -> Option<Captures<'t>> {
        self.expression.regex().captures(line)
    }

    /// Whether what the reader returns can depend on a line that matches.
    pub fn matters(&self) -> bool {
        self.kind != PatternKind::Other || self.then.is_some()
    }
}

/// A compiled [`BlockSpec`].
pub(super) struct Block {
    /// Each with whether it is to be ignored.
    lines: Vec<(Expression, bool)>,
    end: Option<Expression>,
    pub wrap: usize,
    pub together: bool,
    pub chained: bool,
}

/// What a line says to the block before it.
pub(super) enum BlockMatch<'t> {
    /// It belongs to the block, and is this.
    Line(Captures<'t>),
    /// It belongs to the block and says nothing.
    Ignored,
    /// It is the block's last, and says nothing.
    End,
    /// It does not belong to the block.
    None,
}

impl Block {
    fn compile(spec: &BlockSpec) -> Block {
        let lines = (spec.line.iter())
            .map(|line| (Expression::new(&line.pattern), line.ignore))
            .collect();
        Block {
            lines,
            end: spec.end.as_deref().map(Expression::new),
            wrap: spec.wrap.unwrap_or(usize::MAX),
            together: spec.together,
            chained: spec.chained,
        }
    }

    /// Whether its lines carry the error's text, not only its trace.
    pub fn has_text(&self) -> bool {
        (self.lines.iter())
            .flat_map(|(line, _)| line.regex().capture_names().flatten())
            .any(|name| name == "text")
    }

    pub fn matches<'t>(&self, line: &'t str, is_first: bool) -> BlockMatch<'t> {
        // A block can begin with a line like its last.
        if !is_first
            && self
                .end
                .as_ref()
                .is_some_and(|end| end.regex().is_match(line))
        {
            return BlockMatch::End;
        }
        self.lines
            .iter()
            .find_map(|(line_of_it, ignore)| {
                let captures = line_of_it.regex().captures(line)?;
                Some(if *ignore {
                    BlockMatch::Ignored
                } else {
                    BlockMatch::Line(captures)
                })
            })
            .unwrap_or(BlockMatch::None)
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic; that is how it fails"
)]
mod tests {
    use std::collections::HashSet;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::line::{JobEvent, Kind, Line, LogEvent, Pulse, read};

    fn event(message: &str) -> LogEvent {
        LogEvent {
            at: Timestamp::UNIX_EPOCH,
            ingested: None,
            stream: "app/app/1".into(),
            id: None,
            message: message.to_owned(),
        }
    }

    fn filter(preset: &Preset) -> Regex {
        let body = preset
            .coarse_filter()
            .expect("every pattern requires a word");
        Regex::new(&format!("(?i)({body})")).unwrap()
    }

    /// Checks what was read from an example against what it says must be read.
    fn check(spec: &PatternSpec, example: &Example, lines: &[Line]) {
        let shown = &example.line;
        if spec.kind == PatternKind::Other {
            assert!(lines.iter().all(|line| line.kind == Kind::Other), "{shown}");
            return;
        }
        let line = lines.iter().find(|line| line.kind != Kind::Other);
        let line = line.unwrap_or_else(|| panic!("nothing was read from {shown}"));
        if let Some(text) = &example.text {
            assert_eq!(&line.text, text, "{shown}");
        }
        match (spec.kind, &line.kind) {
            (PatternKind::Idle, Kind::Heartbeat(Pulse::Idle))
            | (PatternKind::Banner, Kind::Heartbeat(Pulse::Banner))
            | (PatternKind::Boot, Kind::Boot)
            | (PatternKind::Held, Kind::Held)
            | (PatternKind::Released, Kind::Released) => {}
            (
                kind,
                Kind::Job {
                    name,
                    event,
                    background,
                },
            ) => {
                assert_eq!(Some(name), example.job.as_ref(), "{shown}");
                assert_eq!(
                    *background,
                    example.background.unwrap_or(*background),
                    "{shown}"
                );
                let took = match event {
                    JobEvent::Ended { took }
                    | JobEvent::Succeeded { took }
                    | JobEvent::Failed { took, .. } => *took,
                    _ => None,
                };
                let milliseconds = took.map(|took| took.as_micros() as f64 / 1000.0);
                assert_eq!(milliseconds, example.took, "{shown}");
                match (kind, event) {
                    (PatternKind::Started, JobEvent::Started | JobEvent::CutOff)
                    | (PatternKind::Skipped, JobEvent::Skipped)
                    | (PatternKind::Ended, JobEvent::Ended { .. })
                    | (PatternKind::Succeeded, JobEvent::Succeeded { .. }) => {}
                    (PatternKind::Failed, JobEvent::Failed { exit_code, .. }) => {
                        assert_eq!(*exit_code, example.exit_code, "{shown}");
                    }
                    other => panic!("{other:?} was read from {shown}"),
                }
            }
            (
                PatternKind::Error,
                Kind::Error {
                    aborts,
                    context,
                    trace,
                },
            ) => {
                assert_eq!(*aborts, spec.aborts, "{shown}");
                if example.context.is_some() {
                    assert_eq!(*context, example.context, "{shown}");
                }
                assert_eq!(
                    trace.len(),
                    example.trace.unwrap_or(trace.len()),
                    "{trace:?}"
                );
            }
            other => panic!("{other:?} was read from {shown}"),
        }
        assert_eq!(
            line.is_heartbeat(),
            spec.heartbeat
                .unwrap_or(matches!(line.kind, Kind::Heartbeat(_) | Kind::Job { .. })),
            "{shown}"
        );
    }

    #[test]
    fn every_example_is_read_as_it_says() {
        for name in Preset::names() {
            let preset = Preset::named(name).unwrap();
            let filter = filter(&preset);
            for (index, spec) in preset.0.specs.iter().enumerate() {
                assert!(!spec.examples.is_empty(), "no example for {}", spec.pattern);
                for example in &spec.examples {
                    let lines: Vec<_> = super::super::clean::lines(&example.line).collect();
                    assert!(
                        lines.iter().any(|line| preset
                            .classify(line)
                            .is_some_and(|(found, ..)| found == index)),
                        "a pattern before `{}` takes {}",
                        spec.pattern,
                        example.line
                    );
                    check(spec, example, &read(&preset, &[event(&example.line)]));
                    let events: Vec<_> = example.line.split('\n').map(event).collect();
                    check(spec, example, &read(&preset, &events));
                    // What the log service would let through says the same.
                    let kept: Vec<_> = events
                        .iter()
                        .filter(|event| filter.is_match(&event.message))
                        .cloned()
                        .collect();
                    check(spec, example, &read(&preset, &kept));
                    assert!(
                        !preset.0.patterns[index].matters() || filter.is_match(&example.line),
                        "{}",
                        example.line
                    );
                }
            }
        }
    }

    #[test]
    fn a_pattern_may_be_as_long_as_it_may() {
        for (length, fits) in [(MAX_PATTERN, true), (MAX_PATTERN + 1, false)] {
            let spec = PatternSpec::new(PatternKind::Error, "x".repeat(length));
            assert_eq!(spec.check().is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn what_holds_for_a_preset_holds_for_those_that_include_it() {
        let those = |holds: fn(&Preset) -> bool| -> Vec<&str> {
            let names = Preset::names().iter().copied();
            names
                .filter(|name| holds(&Preset::named(name).unwrap()))
                .collect()
        };
        assert_eq!(those(Preset::is_laravel), ["laravel", "supervisord"]);
        assert_eq!(
            those(Preset::done_means_success),
            ["celery-worker", "supercronic", "apscheduler", "node-cron"]
        );
    }

    /// They are compiled only when they are needed; a mistake must not wait for that.
    #[test]
    fn every_pattern_and_block_of_a_preset_compiles() {
        for name in Preset::names() {
            let preset = Preset::named(name).unwrap();
            for spec in &preset.0.specs {
                spec.check()
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            for block in &preset.0.blocks {
                let lines = block.lines.iter().map(|(line, _)| line);
                for expression in lines.chain(&block.end) {
                    compile(expression.pattern()).unwrap_or_else(|error| panic!("{name}: {error}"));
                }
            }
        }
    }

    /// What the reader must find: every pattern is tried, in order.
    fn first_of_all(preset: &Preset, line: &str) -> Option<usize> {
        let matches = |pattern: &Pattern| pattern.expression.regex().is_match(line);
        preset.0.patterns.iter().position(matches)
    }

    proptest! {
        /// The words that patterns require leave out no pattern.
        #[test]
        fn words_leave_out_no_pattern(
            name in proptest::sample::select(Preset::names()),
            example in any::<proptest::sample::Index>(),
            (cut, case, noise) in (0..200usize, any::<bool>(), "\\PC{0,20}"),
        ) {
            let preset = Preset::named(name).unwrap();
            let examples: Vec<&str> = (preset.0.specs.iter())
                .flat_map(|spec| &spec.examples)
                .flat_map(|example| example.line.lines())
                .collect();
            let line = examples[example.index(examples.len())];
            let line = super::super::clean::bounded(line, line.len().saturating_sub(cut));
            let line = super::super::clean::clean(line).into_owned();
            let line = if case { line.to_uppercase() } else { line };
            for line in [line.clone(), format!("{line}{noise}"), format!("{noise}{line}")] {
                let found = preset.classify(&line).map(|(index, ..)| index);
                prop_assert_eq!(found, first_of_all(&preset, &line), "{}: {:?}", name, line);
            }
        }
    }

    #[test]
    fn the_coarse_filter_suits_the_log_service() {
        for name in Preset::names() {
            let body = Preset::named(name).unwrap().coarse_filter().unwrap();
            assert!(body.len() < 5000, "{} bytes", body.len());
            assert!(!body.contains("(?<") && !body.contains("(?="), "{body}");
            for dull in [
                "",
                "GET /api/tasks 200 12ms",
                "[2026-11-24 03:39:09] production.INFO: User 7 logged in",
                "10.0.0.1 - - [24/Nov/2026:03:39:09 +0000] \"GET /index.php HTTP/1.1\" 200",
                " indented by one",
            ] {
                assert!(
                    !filter(&Preset::named(name).unwrap()).is_match(dull),
                    "{dull}"
                );
            }
        }
    }

    #[test]
    fn own_patterns_come_first() {
        let preset = Preset::named("laravel").unwrap();
        let own = [
            PatternSpec::new(PatternKind::Banner, r"^tick$"),
            PatternSpec::new(PatternKind::Other, "No scheduled commands are ready"),
        ];
        let preset = preset.with_patterns(&own).unwrap();
        let lines = read(
            &preset,
            &[event("tick\nNo scheduled commands are ready to run.")],
        );
        assert_eq!(lines[0].kind, Kind::Heartbeat(Pulse::Banner));
        assert_eq!(lines[1].kind, Kind::Other);
        assert!(filter(&preset).is_match("tick"));
    }

    #[test]
    fn an_own_word_hides_no_other_pattern() {
        let own = [
            PatternSpec::new(PatternKind::Banner, "php"),
            PatternSpec::new(PatternKind::Banner, "error"),
            PatternSpec::new(PatternKind::Banner, "scheduled command"),
        ];
        let preset = Preset::named("laravel").unwrap();
        let filter = filter(&preset.with_patterns(&own).unwrap());
        for specs in &preset.0.specs {
            for example in specs
                .examples
                .iter()
                .filter(|_| specs.kind != PatternKind::Other)
            {
                assert!(filter.is_match(&example.line), "{}", example.line);
            }
        }
    }

    #[test]
    fn without_a_required_word_every_line_is_fetched() {
        let own = [PatternSpec::new(PatternKind::Banner, r"^[0-9]+$")];
        let preset = Preset::named("laravel")
            .unwrap()
            .with_patterns(&own)
            .unwrap();
        assert_eq!(preset.coarse_filter(), None);
    }

    #[test]
    fn mistakes_are_explained() {
        let laravel = Preset::named("laravel").unwrap();
        let message = |spec: PatternSpec| {
            let error = laravel
                .with_patterns(std::slice::from_ref(&spec))
                .unwrap_err();
            error.to_string()
        };
        let spec = PatternSpec::new;
        let messages = [
            message(spec(PatternKind::Banner, "tick(")),
            message(spec(PatternKind::Banner, "(?=tick)")),
            message(spec(PatternKind::Banner, "(tick)*")),
            message(spec(PatternKind::Started, "Running (?<name>.+)")),
            message(spec(PatternKind::Started, "Running .+")),
            message(spec(PatternKind::Banner, r"(\w{100}){100}")),
            message(spec(PatternKind::Banner, &"tick".repeat(600))),
            message(PatternSpec {
                then: Some("bocks".into()),
                ..spec(PatternKind::Error, "boom")
            }),
            message(PatternSpec {
                coarse: Some("[".into()),
                ..spec(PatternKind::Error, "boom")
            }),
            message(PatternSpec {
                examples: vec![Example {
                    line: "bang".into(),
                    ..Example::default()
                }],
                ..spec(PatternKind::Error, "boom")
            }),
        ];
        insta::assert_snapshot!(messages.join("\n"));
    }

    #[test]
    fn names_are_unique_and_known() {
        let names: HashSet<_> = Preset::names().iter().collect();
        assert_eq!(names.len(), BUILT_IN.len());
        assert!(Preset::named("nosuch").is_none());
    }

    /// A user's pattern, and raw lines that match it.
    fn pattern_with_lines() -> impl Strategy<Value = (String, Vec<String>)> {
        let atom = prop_oneof![
            "[A-Za-z]{1,8}",
            Just(" ".to_owned()),
            Just(r"\[".to_owned()),
            Just("[0-9]+".to_owned()),
            Just("[a-c]".to_owned()),
            Just("(?:up|down|sideways)".to_owned()),
            Just("(?:ready)?".to_owned()),
            Just("(?:tick )+".to_owned()),
            Just("(?i:Done|Fail)".to_owned()),
            Just("開始".to_owned()),
            Just("é".to_owned()),
        ];
        prop::collection::vec(atom, 1..8).prop_flat_map(|atoms| {
            let pattern = atoms.concat();
            let lines = prop::string::string_regex(&pattern).unwrap();
            (Just(pattern), prop::collection::vec(lines, 1..8))
        })
    }

    proptest! {
        #[test]
        fn the_coarse_filter_lets_every_match_through((pattern, lines) in pattern_with_lines()) {
            let own = [PatternSpec::new(PatternKind::Banner, format!("^{pattern}$"))];
            let Ok(preset) = Preset::compile(own.to_vec(), BTreeMap::new(), Truths::default()) else {
                return Ok(());
            };
            if let Some(body) = preset.coarse_filter() {
                let filter = Regex::new(&format!("(?i)({body})")).unwrap();
                for line in lines {
                    prop_assert!(filter.is_match(&line), "{pattern:?} {body:?} {line:?}");
                    // A terminal's colours stand at the edges of punctuation.
                    let coloured = line.replace('[', "\x1b[1m[").replace(']', "]\x1b[22m");
                    prop_assert!(filter.is_match(&coloured), "{pattern:?} {body:?} {coloured:?}");
                }
            }
        }
    }
}
