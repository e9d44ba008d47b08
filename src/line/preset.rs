//! Patterns as data: what a preset file holds, and what it is compiled to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use regex::{Captures, Regex, RegexBuilder};
use serde::Deserialize;

use crate::data::data;
use crate::pattern::{Expression, Index};

/// Reads a file.
type Read = fn() -> PresetFile;

/// The preset files, by name.
const BUILT_IN: [(&str, Read); 9] = [
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
fn built_in(read: Read) -> Preset {
    let file = read()
        .with_included()
        .expect("the files that it includes are there");
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
    /// Of the patterns.
    index: OnceLock<Index>,
    blocks: Vec<Block>,
    /// See [`Preset::coarse_filter`].
    coarse: OnceLock<Option<String>>,
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
    /// With what the files hold that it includes.
    fn with_included(mut self) -> Result<PresetFile, String> {
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
    pub fn coarse_filter(&self) -> Option<&str> {
        let coarse = &self.0.coarse;
        coarse.get_or_init(|| self.find_coarse_filter()).as_deref()
    }

    /// Does at once what takes time when it is needed first, for a healthy log: the coarse filter, and
    /// what reads an idle line and the end of a job, in their most frequent forms. Who waits for
    /// something else has the time for it.
    pub fn prepare(&self) {
        self.coarse_filter();
        self.index();
        for kind in [PatternKind::Idle, PatternKind::Ended] {
            let first = (self.0.patterns.iter()).find(|pattern| pattern.kind == kind);
            first.map(|pattern| pattern.expression.regex());
        }
    }

    fn index(&self) -> &Index {
        let expressions = || self.0.patterns.iter().map(|pattern| &pattern.expression);
        (self.0.index).get_or_init(|| Index::new(expressions()))
    }

    fn find_coarse_filter(&self) -> Option<String> {
        let mut bodies = BTreeSet::new();
        for (spec, pattern) in self.0.specs.iter().zip(&self.0.patterns) {
            if pattern.matters() {
                bodies.extend(coarse(&pattern.expression, spec.coarse.as_deref())?);
            }
        }
        for (spec, block) in self.0.block_specs.values().zip(&self.0.blocks) {
            for (spec, (line, _)) in spec.line.iter().zip(&block.lines) {
                bodies.extend(coarse(line, spec.coarse.as_deref())?);
            }
            if let Some(end) = &block.end {
                bodies.extend(coarse(end, spec.coarse.as_deref())?);
            }
        }
        // A text that contains another is found by it already. (Of expressions that cannot
        // be said: one of their branches contains it.)
        let is_text = |body: &&str| regex::escape(body) == *body;
        let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
        let texts: Vec<&str> = bodies.iter().copied().filter(is_text).collect();
        let is_found = |body: &&str| {
            let by = |text: &&str| text != body && body.contains(text);
            is_text(body) && texts.iter().any(by)
        };
        let (at_start, anywhere): (Vec<&str>, Vec<&str>) = (bodies.into_iter())
            .filter(|body| !is_found(body))
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
            index: OnceLock::new(),
            blocks: block_specs.values().map(Block::compile).collect(),
            coarse: OnceLock::new(),
            specs,
            block_specs,
            truths,
        })))
    }

    /// The first pattern that matches a cleaned line: its number, and what it captures.
    pub(super) fn classify<'t>(&self, line: &'t str) -> Option<(usize, &Pattern, Captures<'t>)> {
        let patterns = &self.0.patterns;
        let possible = self.index().possible(line);
        (patterns.iter().zip(possible).enumerate())
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
fn coarse(expression: &Expression, explicit: Option<&str>) -> Option<BTreeSet<String>> {
    match explicit {
        Some(body) => {
            let end = body.strip_suffix('$').map(|_| LINE_END);
            let body = body.strip_suffix('$').unwrap_or(body);
            let body = (IN_JSON.iter()).fold(body.to_owned(), |body, (plain, json)| {
                body.replace(plain, json)
            });
            Some(BTreeSet::from([body + end.unwrap_or_default()]))
        }
        None => expression.required().cloned(),
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
mod tests;
