//! JSON as the AWS CLI writes it: whole documents, or one event or document a line.
//!
//! One recursive reader knows all shapes: an object with `events` or `results` holds more of
//! them, an array too; an object with `timestamp` and `message` is an event; an array of
//! `{"field", "value"}` objects is a row of an Insights query.

use std::borrow::Cow;
use std::fmt;
use std::io::{BufRead, Cursor, Read as _};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::time;
use super::{Collect, Entry, Event, LONGEST_JSON_LINE, LogError, Source};

/// Reads everything. `first` is the first line that is not blank.
pub fn read(
    source: Source<'_>,
    first: Vec<u8>,
    lines_before: usize,
    input: impl BufRead,
    collect: &mut Collect<'_>,
) -> Result<(), LogError> {
    if first.len() as u64 == LONGEST_JSON_LINE && first.last() != Some(&b'\n') {
        return documents(source, first, lines_before, input, collect);
    }
    // Kept back until it is known that the line is a whole.
    let mut events: Vec<Entry> = Vec::new();
    let mut keep = |event| events.push(event);
    let mut trial = Collect::new(source, &mut keep);
    let whole = line(&first, &mut trial).is_ok();
    let notes = trial.notes;
    if !whole {
        return documents(source, first, lines_before, input, collect);
    }
    collect.notes = notes;
    events.into_iter().for_each(&mut *collect.sink);
    lines(source, lines_before + 1, input, collect)
}

fn line(line: &[u8], collect: &mut Collect<'_>) -> serde_json::Result<()> {
    let mut json = serde_json::Deserializer::from_slice(line);
    Item { collect }.deserialize(&mut json)?.top()?;
    json.end()
}

fn lines(
    source: Source<'_>,
    mut number: usize,
    mut input: impl BufRead,
    collect: &mut Collect<'_>,
) -> Result<(), LogError> {
    let io = |error| LogError::io(source, error);
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let length = input
            .by_ref()
            .take(LONGEST_JSON_LINE)
            .read_until(b'\n', &mut buffer)
            .map_err(io)?;
        if length == 0 {
            return Ok(());
        }
        number += 1;
        if length as u64 == LONGEST_JSON_LINE && buffer.last() != Some(&b'\n') {
            input.skip_until(b'\n').map_err(io)?;
            collect.notes.left_out += 1;
            continue;
        }
        if buffer.trim_ascii().is_empty() {
            continue;
        }
        line(&buffer, collect)
            .map_err(|error| LogError::format(source, number, without_place(&error)))?;
    }
}

fn documents(
    source: Source<'_>,
    first: Vec<u8>,
    lines_before: usize,
    input: impl BufRead,
    collect: &mut Collect<'_>,
) -> Result<(), LogError> {
    let mut input = Cursor::new(first).chain(input);
    let mut json = serde_json::Deserializer::from_reader(&mut input);
    loop {
        match json.end() {
            Ok(()) => return Ok(()),
            // Something follows, so it is not the end.
            Err(error) if error.is_syntax() => {}
            Err(error) => return Err(failed(source, lines_before, error)),
        }
        let item = Item { collect };
        item.deserialize(&mut json)
            .and_then(Found::top)
            .map_err(|error| failed(source, lines_before, error))?;
    }
}

fn failed(source: Source<'_>, lines_before: usize, error: serde_json::Error) -> LogError {
    if error.is_io() {
        return LogError::io(source, error.into());
    }
    let line = lines_before + error.line().max(1);
    LogError::format(source, line, without_place(&error))
}

/// What the parser says, without the place, which the error gives in its own way.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// What one value turned out to be.
enum Found {
    /// Events, handed on, or a container of them.
    Events,
    /// A field of a row.
    Field(Field, Text),
    /// A field of a row that nobody needs.
    OtherField,
}

impl Found {
    /// At the top, a field stands alone.
    fn top<E: de::Error>(self) -> Result<(), E> {
        match self {
            Self::Events => Ok(()),
            Self::Field(..) | Self::OtherField => {
                Err(de::Error::custom("a query result's field outside a row"))
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Timestamp,
    Ingested,
    Stream,
    Message,
    Id,
}

impl Field {
    /// A field of a row of a query; `None` for one that nobody needs.
    fn of_query(name: &str) -> Option<Self> {
        match name {
            "@timestamp" => Some(Self::Timestamp),
            "@ingestionTime" => Some(Self::Ingested),
            "@logStream" => Some(Self::Stream),
            "@message" => Some(Self::Message),
            "@ptr" => Some(Self::Id),
            _ => None,
        }
    }

    /// A key of an event.
    fn of_event(name: &str) -> Option<Self> {
        match name {
            "timestamp" => Some(Self::Timestamp),
            "ingestionTime" => Some(Self::Ingested),
            "logStreamName" => Some(Self::Stream),
            "message" => Some(Self::Message),
            "eventId" => Some(Self::Id),
            _ => Self::of_query(name),
        }
    }
}

/// The parts of an event as they come.
#[derive(Default)]
struct Parts {
    at: Option<Timestamp>,
    ingested: Option<Timestamp>,
    stream: Option<Text>,
    id: Option<Text>,
    message: Option<Text>,
    any: bool,
}

impl Parts {
    fn take<E: de::Error>(&mut self, field: Field, text: Text) -> Result<(), E> {
        self.any = true;
        match field {
            Field::Timestamp => self.at = text.time()?,
            Field::Ingested => self.ingested = text.time()?,
            Field::Stream => self.stream = Some(text),
            Field::Message => self.message = Some(text),
            Field::Id => self.id = Some(text),
        }
        Ok(())
    }

    fn hand_on<E: de::Error>(self, collect: &mut Collect<'_>) -> Result<(), E> {
        let Some(at) = self.at else {
            return Err(de::Error::custom("an event without a timestamp"));
        };
        let Some(message) = self.message else {
            return Err(de::Error::custom("an event without a message"));
        };
        let stream = self.stream.filter(|name| !name.0.is_empty());
        let stream = stream.map(|name| collect.name(&name.0));
        let event = Event {
            at,
            ingested: self.ingested,
            stream,
            id: (self.id)
                .filter(|id| !id.0.is_empty())
                .map(|id| String::from_utf8_lossy(&id.0).into_owned()),
            message: &message.0,
        };
        collect.push(event, true);
        Ok(())
    }
}

struct Item<'c, 'a> {
    collect: &'c mut Collect<'a>,
}

impl<'de> DeserializeSeed<'de> for Item<'_, '_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_, '_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `events`, `results`, or `timestamp` and `message`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Found, A::Error> {
        let mut row = Parts::default();
        let mut is_row = false;
        while let Some(found) = seq.next_element_seed(Item {
            collect: &mut *self.collect,
        })? {
            match found {
                Found::Events => {}
                Found::Field(field, text) => {
                    is_row = true;
                    row.take(field, text)?;
                }
                Found::OtherField => is_row = true,
            }
        }
        if is_row {
            row.hand_on(self.collect)?;
        }
        Ok(Found::Events)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut event = Parts::default();
        let mut known = false;
        let mut field: Option<String> = None;
        let mut value = None;
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "events" | "results" => {
                    known = true;
                    let item = Item {
                        collect: &mut *self.collect,
                    };
                    map.next_value_seed(item)?.top()?;
                }
                "status" => {
                    let Loose(status) = map.next_value()?;
                    if status == b"Running" || status == b"Scheduled" {
                        self.collect.notes.partial = Some("the query had not completed".to_owned());
                    }
                }
                "nextToken" => {
                    let Loose(token) = map.next_value()?;
                    if !token.is_empty() {
                        self.collect.notes.partial =
                            Some("more pages follow (it has a nextToken)".to_owned());
                    }
                }
                "field" => {
                    let Text(name) = map.next_value()?;
                    field = Some(String::from_utf8_lossy(&name).into_owned());
                }
                "value" => value = Some(map.next_value()?),
                key => match Field::of_event(key) {
                    Some(field) => event.take(field, self::value(field, &mut map)?)?,
                    None => {
                        map.next_value::<IgnoredAny>()?;
                    }
                },
            }
        }
        if event.any {
            event.hand_on(self.collect)?;
            return Ok(Found::Events);
        }
        if let Some(name) = field {
            return Ok(match (Field::of_query(&name), value) {
                (Some(field), Some(value)) => Found::Field(field, value),
                _ => Found::OtherField,
            });
        }
        if known {
            return Ok(Found::Events);
        }
        Err(de::Error::custom(
            "an object without `events`, `results`, or `timestamp` and `message`",
        ))
    }
}

/// A key; borrowed where the parser can.
struct Key<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }

        deserializer.deserialize_str(KeyVisitor)
    }
}

/// A text, read as bytes, so that broken UTF-8, lone surrogates and control characters in a
/// log line do not make the whole file unreadable.
#[derive(Debug, PartialEq)]
struct Text(Vec<u8>);

impl Text {
    /// The time that it is: milliseconds since the epoch, or a text that AWS prints.
    fn time<E: de::Error>(&self) -> Result<Option<Timestamp>, E> {
        let text = String::from_utf8_lossy(&self.0);
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let number: Option<Timestamp> = (text.parse().ok())
            .and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok());
        match number.or_else(|| time::parse(text, &TimeZone::UTC)) {
            Some(at) => Ok(Some(at)),
            None => {
                let shown: String = text.chars().take(40).collect();
                Err(de::Error::custom(format!("`{shown}` is no time")))
            }
        }
    }
}

impl<'de> serde::Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(TextVisitor).map(Text)
    }
}

/// A text, a number or null, as text: for what is short and well-formed.
struct Loose(Vec<u8>);

impl<'de> serde::Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor).map(Loose)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number")
    }

    fn visit_bytes<E>(self, text: &[u8]) -> Result<Vec<u8>, E> {
        Ok(text.to_vec())
    }

    fn visit_str<E>(self, text: &str) -> Result<Vec<u8>, E> {
        Ok(text.as_bytes().to_vec())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Vec<u8>, E> {
        Ok(number.to_string().into_bytes())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Vec<u8>, E> {
        Ok(number.to_string().into_bytes())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Vec<u8>, E> {
        Ok(format!("{number:.0}").into_bytes())
    }

    fn visit_unit<E>(self) -> Result<Vec<u8>, E> {
        Ok(Vec::new())
    }
}

/// A value of an event.
fn value<'de, A: MapAccess<'de>>(field: Field, map: &mut A) -> Result<Text, A::Error> {
    Ok(match field {
        Field::Timestamp | Field::Ingested => Text(map.next_value::<Loose>()?.0),
        Field::Stream | Field::Message | Field::Id => {
            let text: Option<Text> = map.next_value()?;
            text.unwrap_or(Text(Vec::new()))
        }
    })
}
