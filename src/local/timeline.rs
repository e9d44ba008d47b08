//! All events of a set of log files, indexed so that a look at a span of time costs what the
//! span holds, not what the files hold.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use regex::{Regex, RegexBuilder};

use super::log::{self, Entry, LogError, Notes};
use crate::config::Scheduler;
use crate::line::LogEvent;

/// Collects events in any order.
#[derive(Debug, Default)]
pub struct Builder {
    /// What any of the schedulers can use matches one of these; none to keep every line.
    useful: Option<Vec<Regex>>,
    /// Events of sources that keep events apart, and those of plain text.
    kept: [Vec<LogEvent>; 2],
    streams: Vec<Stream>,
    known: HashMap<Arc<str>, usize>,
    span: Option<Span>,
}

/// The first and the last moment of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The time of the first event.
    pub first: Timestamp,
    /// The time of the last event.
    pub last: Timestamp,
    /// When the last event had arrived.
    pub arrived: Timestamp,
}

#[derive(Debug)]
struct Stream {
    name: Arc<str>,
    /// Its source gave it that name.
    named: bool,
    /// When lines of any kind were written and when they arrived, in milliseconds.
    lines: Vec<(i64, i64)>,
}

impl Builder {
    /// Keeps the lines that one of the schedulers can use. Of the others, only their times are
    /// kept: they prove that the logs are alive.
    pub fn new<'s>(schedulers: impl IntoIterator<Item = &'s Scheduler>) -> Self {
        let mut bodies: Vec<&str> = Vec::new();
        let mut all = false;
        for scheduler in schedulers {
            match scheduler.preset.coarse_filter() {
                Some(body) if !bodies.contains(&body) => bodies.push(body),
                Some(_) => {}
                None => all = true,
            }
        }
        let regexes: Result<Vec<Regex>, _> = (bodies.iter())
            .map(|body| RegexBuilder::new(body).case_insensitive(true).build())
            .collect();
        Self {
            // The filter saves memory, nothing else: without one, every line is kept.
            useful: regexes.ok().filter(|regexes| !all && !regexes.is_empty()),
            ..Self::default()
        }
    }

    /// Reads a file; `zone` is that of the times that name none.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn read_file(&mut self, path: &Path, zone: &TimeZone) -> Result<Notes, LogError> {
        let begin = self.kept[0].len();
        let notes = log::read_file(path, zone, &mut |entry| self.add(entry))?;
        // A file that lists the newest event first is turned round, so that the lines of one
        // moment stand in the order in which they were written.
        let file = &mut self.kept[0][begin..];
        let (first, last) = (file.first().map(|e| e.at), file.last().map(|e| e.at));
        if first > last && file.is_sorted_by(|a, b| a.at >= b.at) {
            file.reverse();
        }
        Ok(notes)
    }

    /// Takes an event.
    pub fn add(&mut self, entry: Entry) {
        let Entry {
            mut event,
            named,
            copies,
        } = entry;
        let arrived = event.ingested.unwrap_or(event.at);
        let stream = self.stream(&event.stream, named);
        event.stream = self.streams[stream].name.clone();
        add_line(
            &mut self.streams[stream].lines,
            event.at.as_millisecond(),
            arrived.as_millisecond(),
        );
        let span = self.span.get_or_insert(Span {
            first: event.at,
            last: event.at,
            arrived,
        });
        span.first = span.first.min(event.at);
        span.last = span.last.max(event.at);
        span.arrived = span.arrived.max(arrived).max(event.at);
        let useful = (self.useful.as_ref())
            .is_none_or(|useful| useful.iter().any(|regex| regex.is_match(&event.message)));
        if useful {
            self.kept[usize::from(!copies)].push(event);
        }
    }

    fn stream(&mut self, name: &Arc<str>, named: bool) -> usize {
        if let Some(index) = self.known.get(name) {
            // What a file's name happens to be must not hide lines.
            self.streams[*index].named &= named;
            return *index;
        }
        self.known.insert(name.clone(), self.streams.len());
        self.streams.push(Stream {
            name: name.clone(),
            named,
            lines: Vec::new(),
        });
        self.streams.len() - 1
    }

    /// Sorts and indexes what was collected.
    pub fn build(self) -> Timeline {
        let [mut events, mut text] = self.kept;
        events.sort_by_key(|event| event.at);
        drop_copies(&mut events);
        if events.is_empty() {
            events = text;
        } else {
            events.append(&mut text);
        }
        // Both parts are sorted or nearly so, which a stable sort makes use of.
        events.sort_by_key(|event| event.at);
        let mut streams = self.streams;
        for stream in &mut streams {
            stream.lines.sort_unstable();
            let mut lines = Vec::new();
            for (at, arrived) in stream.lines.drain(..) {
                add_line(&mut lines, at, arrived);
            }
            lines.shrink_to_fit();
            stream.lines = lines;
        }
        Timeline {
            events,
            streams,
            span: self.span,
            hidden: RefCell::default(),
        }
    }
}

/// Remembers a line's times. Of one second, only the last line is remembered.
fn add_line(lines: &mut Vec<(i64, i64)>, at: i64, arrived: i64) {
    match lines.last_mut() {
        Some(last) if last.0.div_euclid(1000) == at.div_euclid(1000) => {
            *last = (*last).max((at, arrived));
        }
        _ => lines.push((at, arrived)),
    }
}

/// Drops copies from sorted events: the same id in a stream, or, without ids, the same time
/// and message.
fn drop_copies(events: &mut Vec<LogEvent>) {
    let mut copies = Vec::new();
    let mut start = 0;
    for moment in events.chunk_by(|a, b| a.at == b.at) {
        if moment.len() > 1 {
            let mut seen = HashSet::new();
            for (index, event) in moment.iter().enumerate() {
                let key = match &event.id {
                    Some(id) => (true, &*event.stream, id.as_str()),
                    None => (false, &*event.stream, event.message.as_str()),
                };
                if !seen.insert(key) {
                    copies.push(start + index);
                }
            }
        }
        start += moment.len();
    }
    let mut copies = copies.into_iter().peekable();
    let mut index = 0;
    events.retain(|_| {
        let copy = copies.next_if_eq(&index).is_some();
        index += 1;
        !copy
    });
}

/// Events in the order of time, and every stream's lines.
#[derive(Debug)]
pub struct Timeline {
    events: Vec<LogEvent>,
    streams: Vec<Stream>,
    span: Option<Span>,
    /// By prefix, the streams that it hides.
    hidden: RefCell<HashMap<String, Hidden>>,
}

/// Streams that are not looked at.
type Hidden = Rc<HashSet<Arc<str>>>;

/// What a window shows: borrowed where that is possible.
pub(super) enum Window<'t> {
    /// Everything in it can be seen.
    All(&'t [LogEvent]),
    /// Parts of it are hidden.
    Some(Vec<LogEvent>),
}

impl Window<'_> {
    pub fn events(&self) -> &[LogEvent] {
        match self {
            Self::All(events) => events,
            Self::Some(events) => events,
        }
    }
}

impl Timeline {
    /// From the first event to the last; none if there is no event.
    pub fn span(&self) -> Option<Span> {
        self.span
    }

    /// The newest useful events of a span that had arrived at `now`, at most `most`, and
    /// whether there are more.
    pub(super) fn window(
        &self,
        prefix: &str,
        (from, until): (Timestamp, Timestamp),
        now: Timestamp,
        most: usize,
    ) -> (Window<'_>, bool) {
        let start = self.events.partition_point(|event| event.at < from);
        let end = self.events.partition_point(|event| event.at <= until);
        let all = self.events.get(start..end).unwrap_or_default();
        let hidden = self.hidden(prefix);
        let visible = |event: &&LogEvent| {
            event.ingested.unwrap_or(event.at) <= now
                && (hidden.is_empty() || !hidden.contains(&event.stream))
        };
        if all.iter().all(|event| visible(&event)) {
            let cut = all.len().saturating_sub(most);
            return (Window::All(&all[cut..]), cut > 0);
        }
        let mut newest = all.iter().rev().filter(visible);
        let mut chosen: Vec<LogEvent> = newest.by_ref().take(most).cloned().collect();
        chosen.reverse();
        (Window::Some(chosen), newest.next().is_some())
    }

    /// The newest line of any kind of each stream in a span that had arrived at `now`, to the
    /// second.
    pub(super) fn newest(
        &self,
        prefix: &str,
        (from, until): (Timestamp, Timestamp),
        now: Timestamp,
    ) -> BTreeMap<String, Timestamp> {
        let hidden = self.hidden(prefix);
        let (from, until) = (from.as_millisecond(), until.as_millisecond());
        let now = now.as_millisecond();
        let mut newest = BTreeMap::new();
        for stream in &self.streams {
            let end = stream.lines.partition_point(|(at, _)| *at <= until);
            let found = (stream.lines[..end].iter().rev())
                .take_while(|(at, _)| *at >= from)
                .find(|(_, arrived)| *arrived <= now)
                .and_then(|(at, _)| Timestamp::from_millisecond(*at).ok());
            if let Some(at) = found
                && !hidden.contains(&stream.name)
            {
                newest.insert(stream.name.to_string(), at);
            }
        }
        newest
    }

    /// The streams that a prefix hides. Streams whose source names none are never hidden.
    fn hidden(&self, prefix: &str) -> Hidden {
        if let Some(known) = self.hidden.borrow().get(prefix) {
            return known.clone();
        }
        let hidden: Hidden = Rc::new(
            (self.streams.iter())
                .filter(|stream| stream.named && !stream.name.starts_with(prefix))
                .map(|stream| stream.name.clone())
                .collect(),
        );
        (self.hidden.borrow_mut()).insert(prefix.to_owned(), hidden.clone());
        hidden
    }
}

#[cfg(test)]
mod tests;
