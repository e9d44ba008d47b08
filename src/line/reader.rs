//! Events → lines: puts together again what a scheduler wrote as one thing and the log
//! delivered as many.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use regex::Captures;

use super::clean::{append, bounded, clean, lines};
use super::job::{job_name, took};
use super::preset::{BlockMatch, Pattern, PatternKind, Preset};
use super::record::unwrap;
use super::{JobEvent, Kind, Line, LogEvent, MAX_TEXT, MAX_TRACE, Pulse};
use crate::message::safe;

/// Lines that belong together are written at once; a longer pause ends what was open.
const MAX_PAUSE: SignedDuration = SignedDuration::from_secs(5);

/// Boxes that tell where an error came from stand right below its own; a later box is another
/// error.
const MAX_CHAIN_PAUSE: SignedDuration = SignedDuration::from_secs(1);

/// One failure can be reported twice (by the logger and on the console, by PHP's log and
/// its display), on two output streams, within this time.
const SAME_FAILURE: SignedDuration = SignedDuration::from_secs(2);

/// How many of the latest errors of a stream are remembered for that.
const MAX_RECENT: usize = 16;

/// The longest trace line that is kept, in bytes.
const MAX_TRACE_LINE: usize = 1024;

/// The most lines that one block can have. A box of the console has no other bound.
const MAX_BLOCK_LINES: usize = 100;

/// How often one physical line can hold an unfinished job's line and something else.
const MAX_SPLICES: usize = 4;

/// Reads events, in any order and of any streams, into lines in time order. Events with the
/// same time keep the order in which they were given (turned round, if the events as a
/// whole are given newest first). An event with an `id` is read once.
///
/// Lines that belong to another one (a stack trace, the lines of a box) become part of it;
/// blank lines are left out.
pub fn read(preset: &Preset, events: &[LogEvent]) -> Vec<Line> {
    let mut ordered: Vec<&LogEvent> = events.iter().collect();
    if newest_first(events) {
        ordered.reverse();
    }
    ordered.sort_by_key(|event| event.at);

    let mut seen = HashSet::new();
    let mut streams: HashMap<&str, Stream> = HashMap::new();
    let mut reader = Reader {
        preset,
        out: Vec::with_capacity(ordered.len()),
    };
    for event in ordered {
        let is_new = match &event.id {
            Some(id) => seen.insert((&*event.stream, id.as_str())),
            None => true,
        };
        if is_new {
            reader.read(event, streams.entry(&event.stream).or_default());
        }
    }
    let mut lines: Vec<Line> = reader.out.into_iter().flatten().collect();
    // Nor do the names of streams keep secrets; they stand in the state and in messages.
    let mut shown: HashMap<Arc<str>, Arc<str>> = HashMap::new();
    for line in &mut lines {
        let name = shown.entry(line.stream.clone());
        line.stream = name
            .or_insert_with_key(|name| safe::stream(name).into())
            .clone();
    }
    lines
}

/// A source that sorts newest first turns round the lines of one moment, too.
fn newest_first(events: &[LogEvent]) -> bool {
    match (events.first(), events.last()) {
        (Some(first), Some(last)) => first.at > last.at && events.is_sorted_by(|a, b| a.at >= b.at),
        _ => false,
    }
}

struct Reader<'p> {
    preset: &'p Preset,
    /// What was read so far. A line that turns out to be part of another one is taken out.
    out: Vec<Option<Line>>,
}

/// What is unfinished in one log stream.
#[derive(Default)]
struct Stream {
    job: Option<OpenJob>,
    /// At most one for each of the preset's blocks.
    blocks: Vec<OpenBlock>,
    recent: VecDeque<Recent>,
}

/// A job whose line was cut before it said how the job ended.
struct OpenJob {
    slot: usize,
    job: Job,
}

/// A line of which more lines can follow.
struct OpenBlock {
    block: usize,
    /// The pattern of the line that it began with.
    pattern: usize,
    /// Where that line is in `out`; none if what follows it is not wanted.
    slot: Option<usize>,
    /// Where its texts go.
    target: Target,
    /// The last text filled its line, so the next one goes on in the middle of a word.
    cut: bool,
    last: Timestamp,
    lines: usize,
    ended: bool,
}

/// Where a block's texts go.
#[derive(Clone, Copy, PartialEq)]
enum Target {
    /// To the error's text, and none has come yet.
    NewText,
    /// To the error's text.
    Text,
    /// To this line of the trace.
    Trace(usize),
    Nothing,
}

/// An error that may be reported again in other words.
struct Recent {
    slot: usize,
    at: Timestamp,
    /// See [`gist`].
    gist: String,
    /// The patterns by which it was reported. The same pattern again is another failure.
    patterns: Vec<usize>,
}

/// Where and when a line was written.
#[derive(Clone, Copy)]
struct Origin<'e> {
    at: Timestamp,
    stream: &'e Arc<str>,
}

impl Reader<'_> {
    fn read(&mut self, event: &LogEvent, stream: &mut Stream) {
        let origin = Origin {
            at: event.at,
            stream: &event.stream,
        };
        stream.expire(origin.at);
        for line in lines(&unwrap(&event.message)) {
            self.read_line(origin, stream, &line);
        }
    }

    fn read_line(&mut self, origin: Origin, stream: &mut Stream, line: &str) {
        if line.trim_start().is_empty() {
            for open in &mut stream.blocks {
                let block = self.preset.block(open.block);
                open.ended |= matches!(block.matches(line, open.lines == 0), BlockMatch::End);
            }
            return;
        }
        let mut line = line;
        for splice in 0..MAX_SPLICES {
            let said = Said::by(self.preset, line);
            // An error's text can quote an error, but not a heartbeat or a job's line.
            let may_continue = match &said {
                None => true,
                Some(said) => said.pattern.kind == PatternKind::Error,
            };
            if may_continue && self.continues(origin, stream, line) {
                return;
            }
            match &said {
                Some(said) if said.pattern.kind == PatternKind::Error => {
                    self.error(origin, stream, line, said);
                }
                Some(said) => self.event(origin, stream, line, said),
                None if splice == 0 => {
                    self.push(origin, false, Kind::Other, line);
                }
                None => {}
            }
            let rest = said.and_then(|said| said.captures.name("rest"));
            line = rest.map_or("", |rest| rest.as_str().trim_start());
            if line.is_empty() {
                return;
            }
        }
    }

    /// Adds the line to a block that is open, if it belongs to one.
    fn continues(&mut self, origin: Origin, stream: &mut Stream, line: &str) -> bool {
        let Stream { blocks, recent, .. } = stream;
        let preset = self.preset;
        for open in blocks.iter_mut().rev().filter(|open| !open.ended) {
            let block = preset.block(open.block);
            let matched = block.matches(line, open.lines == 0);
            if matches!(matched, BlockMatch::None) {
                continue;
            }
            open.last = origin.at;
            open.lines += 1;
            open.ended = matches!(matched, BlockMatch::End) || open.lines >= MAX_BLOCK_LINES;
            let BlockMatch::Line(captures) = matched else {
                return true;
            };
            if let Some(text) = captures.name("text") {
                if open.target == Target::NewText {
                    self.find_first_report(origin, recent, open, text.as_str());
                }
                self.add_text(open, text.as_str(), block.wrap);
            } else if let Some(Kind::Error { context, trace, .. }) = self.kind(open.slot) {
                if let (None, Some(file)) = (&context, captures.name("context")) {
                    *context = Some(file.as_str().to_owned());
                }
                push_trace(trace, line);
            }
            return true;
        }
        false
    }

    /// Adds what a pattern says about a line, unless that is an error.
    fn event(&mut self, origin: Origin, stream: &mut Stream, line: &str, said: &Said) {
        use PatternKind::{
            Banner, Boot, Ended, Failed, Held, Idle, Released, Skipped, Started, Succeeded,
        };
        let kind = said.pattern.kind;
        let mut text = String::new();
        let job = match kind {
            Ended | Succeeded | Failed if !said.has("job") => {
                self.finish(stream.job.take(), &mut text)
            }
            Started | Ended | Succeeded | Failed | Skipped => said.job(),
            _ => None,
        };
        append(&mut text, line.trim(), MAX_TEXT);
        if said.pattern.heartbeat || kind == Boot {
            // The scheduler goes on: whatever it was at is over.
            stream.job = None;
            stream
                .blocks
                .retain(|open| !self.preset.block(open.block).together);
        }

        let took = said.get("took").and_then(|text| took(&text));
        let meaning = match (kind, &job) {
            (Idle, _) => Kind::Heartbeat(Pulse::Idle),
            (Banner, _) => Kind::Heartbeat(Pulse::Banner),
            (Boot, _) => Kind::Boot,
            (Held, _) => Kind::Held,
            (Released, _) => Kind::Released,
            (Started, Some(job)) if said.has("rest") => job.kind(JobEvent::CutOff),
            (Started, Some(job)) => job.kind(JobEvent::Started),
            (Skipped, Some(job)) => job.kind(JobEvent::Skipped),
            (Ended, Some(job)) => job.kind(JobEvent::Ended { took }),
            (Succeeded, Some(job)) => job.kind(JobEvent::Succeeded { took }),
            (Failed, Some(job)) => {
                let exit_code = said.get("exit_code").and_then(|code| code.parse().ok());
                job.kind(JobEvent::Failed { took, exit_code })
            }
            // Nothing, or the end of a job whose beginning is not in sight.
            _ => Kind::Other,
        };
        let beats = said.pattern.heartbeat && meaning != Kind::Other;
        let slot = self.push(origin, beats, meaning, &text);
        if let (Some(job), true) = (job, said.has("rest")) {
            stream.job = Some(OpenJob { slot, job });
        }
        if let Some(block) = said.pattern.then {
            // Only an error keeps the lines that follow it; these are taken in, and forgotten.
            stream.open(said.opens(block, None, Target::Nothing, origin.at));
        }
    }

    /// Takes back the start of an unfinished job, because its end has come.
    fn finish(&mut self, open: Option<OpenJob>, text: &mut String) -> Option<Job> {
        let open = open?;
        if let Some(beginning) = self.out[open.slot].take() {
            append(text, &beginning.text, MAX_TEXT);
            append(text, " ", MAX_TEXT);
        }
        Some(open.job)
    }

    /// Adds an error, or what a line tells about one that was reported before.
    fn error(&mut self, origin: Origin, stream: &mut Stream, line: &str, said: &Said) {
        let pattern = said.pattern;
        if pattern.aborts {
            // The run is over, and with it the job that it was at.
            stream.job = None;
        }
        let block = pattern.then.map(|block| (block, self.preset.block(block)));
        if let Some((block, true)) = block.map(|(block, compiled)| (block, compiled.chained))
            && let Some(open) = stream.blocks.iter_mut().find(|open| open.block == block)
            && origin.at.duration_since(open.last) <= MAX_CHAIN_PAUSE
        {
            // Where the error that was just told about came from.
            if let Some(Kind::Error { trace, .. }) = self.kind(open.slot) {
                open.target = push_trace(trace, line).map_or(Target::Nothing, Target::Trace);
            }
            open.cut = false;
            open.ended = false;
            open.last = origin.at;
            open.lines = 0;
            return;
        }

        let text = said.get("text");
        let mut trace = Vec::new();
        if let Some(more) = said.get("trace") {
            push_trace(&mut trace, &more);
        }
        let kind = Kind::Error {
            aborts: pattern.aborts,
            context: said.get("context"),
            trace,
        };
        let text_follows = text.is_none() && block.is_some_and(|(_, block)| block.has_text());
        let text = text.unwrap_or_else(|| line.trim().to_owned());
        let mut slot = self.push(origin, pattern.heartbeat, kind, &text);
        if !text_follows {
            let message = said.get("message").unwrap_or(text);
            slot = self.first_report(origin, &mut stream.recent, slot, said.index, &message);
        }
        if let Some((block, _)) = block {
            let target = if text_follows {
                Target::NewText
            } else {
                Target::Nothing
            };
            stream.open(said.opens(block, Some(slot), target, origin.at));
        }
    }

    /// Finds out, at the first text of a block, whether it tells about an error that was
    /// reported already.
    fn find_first_report(
        &mut self,
        origin: Origin,
        recent: &mut VecDeque<Recent>,
        open: &mut OpenBlock,
        text: &str,
    ) {
        let Some(slot) = open.slot else { return };
        let first = self.first_report(origin, recent, slot, open.pattern, text);
        if first != slot {
            open.slot = Some(first);
            open.target = Target::Nothing;
        }
    }

    /// The place of the first report of the failure that the error at `slot` reports; if that
    /// is another one, the error becomes part of it.
    fn first_report(
        &mut self,
        origin: Origin,
        recent: &mut VecDeque<Recent>,
        slot: usize,
        pattern: usize,
        message: &str,
    ) -> usize {
        let gist = gist(message);
        let first = recent.iter_mut().find(|recent| {
            origin.at.duration_since(recent.at) <= SAME_FAILURE
                && !recent.patterns.contains(&pattern)
                && alike(&recent.gist, &gist)
        });
        let Some(first) = first else {
            recent.push_back(Recent {
                slot,
                at: origin.at,
                gist,
                patterns: vec![pattern],
            });
            if recent.len() > MAX_RECENT {
                recent.pop_front();
            }
            return slot;
        };
        first.patterns.push(pattern);
        let again = self.out[slot].take();
        if let Some(Line {
            kind:
                Kind::Error {
                    aborts,
                    context,
                    trace,
                },
            text,
            ..
        }) = again
            && let Some(Kind::Error {
                aborts: first_aborts,
                context: first_context,
                trace: first_trace,
            }) = self.kind(Some(first.slot))
        {
            *first_aborts |= aborts;
            if first_context.is_none() {
                *first_context = context;
            }
            push_trace(first_trace, &text);
            for line in trace {
                push_trace(first_trace, &line);
            }
        }
        first.slot
    }

    /// Adds a block's text. A text that filled its line was cut there, in the middle of a
    /// word; any other ended with a line break of its own.
    fn add_text(&mut self, open: &mut OpenBlock, padded: &str, wrap: usize) {
        let text = padded.trim_end();
        let cut = std::mem::replace(&mut open.cut, fills(text, padded.len() - text.len(), wrap));
        let text = if cut { text } else { text.trim_start() };
        let Some(Some(line)) = open.slot.map(|slot| &mut self.out[slot]) else {
            return;
        };
        let (target, max) = match (open.target, &mut line.kind) {
            (Target::NewText, _) => {
                line.text.clear();
                open.target = Target::Text;
                append(&mut line.text, text, MAX_TEXT);
                return;
            }
            (Target::Text, _) => (&mut line.text, MAX_TEXT),
            (Target::Trace(at), Kind::Error { trace, .. }) => match trace.get_mut(at) {
                Some(entry) => (entry, MAX_TRACE_LINE),
                None => return,
            },
            _ => return,
        };
        if !cut {
            append(target, " ", max);
        }
        append(target, text, max);
    }

    fn push(&mut self, origin: Origin, heartbeat: bool, kind: Kind, text: &str) -> usize {
        self.out.push(Some(Line {
            at: origin.at,
            stream: origin.stream.clone(),
            kind,
            heartbeat,
            text: bounded(text.trim(), MAX_TEXT).to_owned(),
        }));
        self.out.len() - 1
    }

    fn kind(&mut self, slot: Option<usize>) -> Option<&mut Kind> {
        self.out.get_mut(slot?)?.as_mut().map(|line| &mut line.kind)
    }
}

impl Stream {
    /// Closes what has been open for too long.
    fn expire(&mut self, now: Timestamp) {
        self.blocks
            .retain(|open| now.duration_since(open.last) <= MAX_PAUSE);
    }

    fn open(&mut self, open: OpenBlock) {
        self.blocks.retain(|other| other.block != open.block);
        self.blocks.push(open);
    }
}

/// A job as a line names it.
struct Job {
    name: String,
    background: bool,
}

impl Job {
    fn kind(&self, event: JobEvent) -> Kind {
        Kind::Job {
            name: self.name.clone(),
            event,
            background: self.background,
        }
    }
}

/// The pattern that a line matches, and what it captured.
struct Said<'p, 't> {
    index: usize,
    pattern: &'p Pattern,
    captures: Captures<'t>,
}

impl<'p, 't> Said<'p, 't> {
    fn by(preset: &'p Preset, line: &'t str) -> Option<Said<'p, 't>> {
        let (index, pattern, captures) = preset.classify(line)?;
        Some(Said {
            index,
            pattern,
            captures,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.captures.name(name).is_some()
    }

    fn get(&self, name: &str) -> Option<String> {
        let text = self.captures.name(name)?.as_str();
        if self.pattern.json {
            // A record that was cut can end in half an escape: better raw than nothing.
            if let Ok(decoded) = serde_json::from_str::<String>(&format!("\"{text}\"")) {
                return Some(clean(&decoded).into_owned());
            }
        }
        Some(text.to_owned())
    }

    fn job(&self) -> Option<Job> {
        Some(Job {
            name: job_name(&self.get("job")?),
            background: self.has("background"),
        })
    }

    /// The block that can follow the line.
    fn opens(&self, block: usize, slot: Option<usize>, target: Target, at: Timestamp) -> OpenBlock {
        OpenBlock {
            block,
            pattern: self.index,
            slot,
            target,
            cut: false,
            last: at,
            lines: 0,
            ended: false,
        }
    }
}

/// Adds a trace line while there is room, and says where it is.
fn push_trace(trace: &mut Vec<String>, line: &str) -> Option<usize> {
    if trace.len() >= MAX_TRACE {
        return None;
    }
    trace.push(bounded(line.trim(), MAX_TRACE_LINE).to_owned());
    Some(trace.len() - 1)
}

/// The beginning of a message, without what line breaks and wrapping do to it.
fn gist(message: &str) -> String {
    message
        .chars()
        .filter(|char| !char.is_whitespace())
        .take(60)
        .collect()
}

/// Whether two reports tell about one failure: the one's beginning is the other's. A short
/// beginning (`Connection`) proves nothing.
fn alike(one: &str, other: &str) -> bool {
    const TELLING: usize = 16;
    let (short, long) = if one.len() <= other.len() {
        (one, other)
    } else {
        (other, one)
    };
    short == long || (short.len() >= TELLING && long.starts_with(short))
}

/// Whether a text fills its line up to the wrap width. On a wider terminal the width is not
/// known, but the text that fills the box has only the box's own edge behind it.
fn fills(text: &str, padding: usize, wrap: usize) -> bool {
    const EDGE: usize = 2;
    let columns: usize = text.chars().map(columns).sum();
    match columns.cmp(&wrap) {
        Ordering::Equal => true,
        Ordering::Greater => padding <= EDGE,
        // A wide character did not fit into the last column.
        Ordering::Less => columns + 1 == wrap && text.ends_with(is_wide),
    }
}

fn columns(char: char) -> usize {
    if is_wide(char) { 2 } else { 1 }
}

/// The characters that PHP counts as two columns (East Asian wide and full width).
fn is_wide(char: char) -> bool {
    matches!(char,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{303e}' | '\u{3041}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff01}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' | '\u{20000}'..='\u{3fffd}')
}
