//! Log files → [`LogEvent`]s: what the AWS CLI writes, and plain text.
//!
//! The format is told by the content. Files are streamed: memory holds one line at a time
//! (or one event, of a JSON document that spans lines), however long the file is.

mod json;
mod text;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::time;
use crate::encoding;
use crate::line::LogEvent;

/// How much of a message is kept, in bytes. The line reader looks at 16 KiB of a line.
pub const LONGEST_MESSAGE: usize = 64 * 1024;

/// The longest line of JSON that is read, in bytes: an event of CloudWatch's maximum, 1 MiB,
/// with every character escaped, and some room.
const LONGEST_JSON_LINE: u64 = 8 * 1024 * 1024;

/// Lines before the first one with a time that are kept for it.
const MOST_UNTIMED: usize = 10_000;

/// Where a log comes from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its name in messages.
    pub name: &'a str,
    /// The zone of times that name none but were printed by the scheduler itself.
    pub zone: &'a TimeZone,
}

/// An event, and what its source cannot say by the event alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The event.
    pub event: LogEvent,
    /// The source named the stream; otherwise its name is made up from the file's.
    pub named: bool,
    /// The source keeps events apart, so that the same one again is a copy. In plain text,
    /// the same line again is another line.
    pub copies: bool,
}

/// A log that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It cannot be opened or read.
    #[error("{file}: cannot be read: {error}")]
    Io {
        /// The file.
        file: String,
        /// Why.
        error: io::Error,
    },
    /// Its content is none of the known formats.
    #[error("{file}:{line}: {problem}; expected {expected}")]
    Format {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
        /// What would be right.
        expected: &'static str,
    },
}

const EXPECTED: &str = "JSON of `aws logs filter-log-events` or `aws logs get-query-results`, \
                        one such event a line, or text whose lines begin with a time";

impl LogError {
    fn format(source: Source<'_>, line: usize, problem: impl Into<String>) -> Self {
        Self::Format {
            file: source.name.to_owned(),
            line,
            problem: problem.into(),
            expected: EXPECTED,
        }
    }

    fn io(source: Source<'_>, error: io::Error) -> Self {
        Self::Io {
            file: source.name.to_owned(),
            error,
        }
    }
}

/// What a reader of a file has to be told, though it does not stop the reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Messages of which only the first [`LONGEST_MESSAGE`] bytes were kept.
    pub cut: u64,
    /// Lines of JSON that were left out because they are longer than 8 MiB.
    pub left_out: u64,
    /// The file itself says that it does not hold everything.
    pub partial: Option<String>,
}

impl Notes {
    /// The notes as sentences.
    pub fn sentences(&self, file: &str) -> Vec<String> {
        let mut sentences = Vec::new();
        if self.cut > 0 {
            sentences.push(format!(
                "{file}: {} long messages were cut to {} KiB",
                self.cut,
                LONGEST_MESSAGE / 1024
            ));
        }
        if self.left_out > 0 {
            sentences.push(format!(
                "{file}: {} lines longer than {} MiB were left out",
                self.left_out,
                LONGEST_JSON_LINE / 1024 / 1024
            ));
        }
        if let Some(why) = &self.partial {
            sentences.push(format!("{file}: not everything is in it: {why}"));
        }
        sentences
    }
}

/// Reads a file, or standard input for `-`, and hands every event to `sink` in the order of
/// the file.
///
/// # Errors
/// It cannot be opened or read, or its content cannot be understood.
pub fn read_file(
    path: &Path,
    zone: &TimeZone,
    sink: &mut dyn FnMut(Entry),
) -> Result<Notes, LogError> {
    let name = path.display().to_string();
    if name == "-" {
        let source = Source {
            name: "standard input",
            zone,
        };
        return read(source, BufReader::new(io::stdin()), sink);
    }
    let source = Source { name: &name, zone };
    let file = File::open(path).map_err(|error| LogError::io(source, error))?;
    read(source, BufReader::with_capacity(1 << 18, file), sink)
}

/// Reads a log and hands every event to `sink` in the order of the source.
///
/// # Errors
/// It cannot be read, or its content cannot be understood.
pub fn read(
    source: Source<'_>,
    mut input: impl BufRead,
    sink: &mut dyn FnMut(Entry),
) -> Result<Notes, LogError> {
    let mut first = Vec::new();
    let mut lines_before = 0;
    // Blank lines before the content say nothing about the format.
    loop {
        first.clear();
        let length = (&mut input)
            .take(LONGEST_JSON_LINE)
            .read_until(b'\n', &mut first)
            .map_err(|error| LogError::io(source, error))?;
        if lines_before == 0 && first.starts_with(b"\xef\xbb\xbf") {
            first.drain(..3);
        }
        if length == 0 || !first.trim_ascii().is_empty() {
            break;
        }
        lines_before += 1;
    }
    if first.starts_with(b"\x1f\x8b") {
        return Err(LogError::format(source, 1, "it is compressed with gzip"));
    }
    if encoding::is_utf_16(&first) {
        return Err(LogError::format(source, 1, encoding::UTF_16));
    }
    let mut collect = Collect::new(source, sink);
    if looks_like_json(&first) {
        json::read(source, first, lines_before, input, &mut collect)?;
    } else {
        let whole = io::Cursor::new(first).chain(input);
        text::read(source, lines_before, whole, &mut collect)?;
    }
    Ok(collect.notes)
}

/// `[2026-11-24 03:39:09] …` is text; an array of JSON goes on with another bracket or brace.
fn looks_like_json(line: &[u8]) -> bool {
    let mut bytes = line.iter().filter(|byte| !byte.is_ascii_whitespace());
    match (bytes.next(), bytes.next()) {
        (Some(b'{'), second) => matches!(second, None | Some(b'"' | b'}')),
        (Some(b'['), second) => matches!(second, None | Some(b'{' | b'[' | b']')),
        _ => false,
    }
}

/// Takes the events of one source.
struct Collect<'a> {
    sink: &'a mut dyn FnMut(Entry),
    notes: Notes,
    /// The stream of lines whose source names none.
    nameless: Arc<str>,
    /// Each name is kept once.
    names: HashMap<Vec<u8>, Arc<str>>,
}

impl<'a> Collect<'a> {
    fn new(source: Source<'_>, sink: &'a mut dyn FnMut(Entry)) -> Self {
        let stem = Path::new(source.name).file_stem();
        let nameless = stem.map_or_else(|| source.name.into(), |stem| stem.to_string_lossy());
        Self {
            sink,
            notes: Notes::default(),
            nameless: Arc::from(nameless),
            names: HashMap::new(),
        }
    }

    fn name(&mut self, name: &[u8]) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let text: Arc<str> = String::from_utf8_lossy(name).into();
        self.names.insert(name.to_vec(), text.clone());
        text
    }

    /// Hands an event on, its time without what is finer than a millisecond. Times that are
    /// no timestamps even then are not; none is left.
    fn push(&mut self, found: Event<'_>, copies: bool) {
        let mut message = found.message;
        if message.len() > LONGEST_MESSAGE {
            self.notes.cut += 1;
            message = &message[..LONGEST_MESSAGE];
        }
        let event = LogEvent {
            at: time::milliseconds(found.at).unwrap_or(found.at),
            ingested: found.ingested,
            stream: found
                .stream
                .clone()
                .unwrap_or_else(|| self.nameless.clone()),
            id: found.id,
            message: String::from_utf8_lossy(message).into_owned(),
        };
        (self.sink)(Entry {
            event,
            named: found.stream.is_some(),
            copies,
        });
    }
}

/// An event as a format gives it.
struct Event<'a> {
    at: Timestamp,
    ingested: Option<Timestamp>,
    stream: Option<Arc<str>>,
    id: Option<String>,
    message: &'a [u8],
}

#[cfg(test)]
mod tests;
