//! What patterns are compiled to, and what they find in a line. How they are written is in `spec`.

mod spec;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use regex::Captures;

use self::spec::{BUILT_IN, BlockSpec, Read, Truths};
pub use self::spec::{Example, PatternError, PatternKind, PatternSpec};
use crate::pattern::{Expression, Index};

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
    /// the first patterns for an idle line and for the end of a job. Who waits for something else has
    /// the time for it.
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
