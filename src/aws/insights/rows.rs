//! Rows of a query's result → events.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_cloudwatchlogs::types::ResultField;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::line::LogEvent;

/// The longest message that is kept, in bytes. AWS takes events up to 1 MiB; the reader needs
/// the beginning.
const MOST_MESSAGE: usize = 64 * 1024;

/// The most bytes of messages that are kept of one query, so that a flood of long lines does
/// not use up the function's memory.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// The events of one query.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Newest first as they come, oldest first once put in order.
    pub events: Vec<LogEvent>,
    /// Rows that came, kept or not.
    pub seen: usize,
    /// Rows without a readable time or without a stream.
    pub unreadable: usize,
    prefixes: Vec<String>,
    bytes: usize,
    streams: BTreeMap<String, Arc<str>>,
}

impl Rows {
    /// No rows yet; only those of streams with one of the prefixes will be kept.
    pub fn new(prefixes: &[&str]) -> Self {
        Self {
            prefixes: prefixes.iter().map(|&prefix| prefix.to_owned()).collect(),
            ..Self::default()
        }
    }

    /// Takes a page of rows, newest first. False if not all of them fit; the rest is older.
    pub fn take(&mut self, rows: Vec<Vec<ResultField>>) -> bool {
        for row in rows {
            if self.bytes >= MOST_BYTES {
                return false;
            }
            self.seen += 1;
            match self.event(row) {
                Some(event) if self.prefixes.iter().any(|p| event.stream.starts_with(p)) => {
                    self.bytes += event.message.len();
                    self.events.push(event);
                }
                Some(_) => {}
                None => self.unreadable += 1,
            }
        }
        true
    }

    /// Puts the events in ascending order. Those of the same time stay in the order in which
    /// they came: a descending sort does not turn around what is equal, as far as can be seen.
    pub fn put_in_order(&mut self) {
        self.events.sort_by_key(|event| event.at);
    }

    fn event(&mut self, row: Vec<ResultField>) -> Option<LogEvent> {
        let mut at = None;
        let mut ingested = None;
        let mut stream = None;
        let mut id = None;
        let mut message = None;
        for ResultField { field, value, .. } in row {
            let Some(value) = value else { continue };
            match field.as_deref() {
                Some("@timestamp") => at = instant(&value),
                Some("@ingestionTime") => ingested = instant(&value),
                Some("@logStream") => stream = Some(value),
                Some("@ptr") => id = (!value.is_empty()).then_some(value),
                Some("@message") => message = Some(value),
                _ => {}
            }
        }
        // A probe does not ask for messages, and an event without one says nothing.
        let mut message = message.unwrap_or_default();
        if message.len() > MOST_MESSAGE {
            message.truncate(message.floor_char_boundary(MOST_MESSAGE));
            // The rest is let go of at once, not when the window is.
            message.shrink_to_fit();
        }
        Some(LogEvent {
            at: at?,
            ingested,
            stream: self.stream(stream?),
            id,
            message,
        })
    }

    /// Thousands of events share a few streams.
    fn stream(&mut self, name: String) -> Arc<str> {
        if let Some(stream) = self.streams.get(&name) {
            return stream.clone();
        }
        let stream: Arc<str> = name.as_str().into();
        self.streams.insert(name, stream.clone());
        stream
    }
}

/// `2024-05-19 06:10:35.743`, always UTC. Fields that hold a number are epoch milliseconds.
fn instant(text: &str) -> Option<Timestamp> {
    if let Ok(millis) = text.parse() {
        return Timestamp::from_millisecond(millis).ok();
    }
    let civil: DateTime = text.parse().ok()?;
    TimeZone::UTC.to_timestamp(civil).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(name: &str, value: &str) -> ResultField {
        ResultField::builder().field(name).value(value).build()
    }

    fn row(at: &str, stream: &str, message: &str) -> Vec<ResultField> {
        vec![
            field("@timestamp", at),
            field("@logStream", stream),
            field("@message", message),
        ]
    }

    fn read(rows: Vec<Vec<ResultField>>) -> Rows {
        let mut read = Rows::new(&["app/"]);
        assert!(read.take(rows));
        read.put_in_order();
        read
    }

    #[test]
    fn times_are_utc_with_or_without_fractions_or_epoch_milliseconds() {
        let expected: Timestamp = "2024-05-19T06:10:35.743Z".parse().unwrap();
        assert_eq!(instant("2024-05-19 06:10:35.743"), Some(expected));
        assert_eq!(instant("1716099035743"), Some(expected));
        assert_eq!(
            instant("2024-05-19 06:10:35"),
            "2024-05-19T06:10:35Z".parse().ok()
        );
        for garbage in [
            "",
            " ",
            "yesterday",
            "2024-13-01 00:00:00",
            "99999999999999999999",
            "NaN",
        ] {
            assert_eq!(instant(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn a_whole_row_becomes_an_event() {
        let mut fields = row("2024-05-19 06:10:35.743", "app/app/1", "hello");
        fields.push(field("@ingestionTime", "2024-05-19 06:10:37.000"));
        fields.push(field("@ptr", "CmE="));
        fields.push(field("@log", "123456789012:/ecs/app"));
        let rows = read(vec![fields]);
        assert_eq!(
            rows.events,
            [LogEvent {
                at: "2024-05-19T06:10:35.743Z".parse().unwrap(),
                ingested: "2024-05-19T06:10:37Z".parse().ok(),
                stream: "app/app/1".into(),
                id: Some("CmE=".to_owned()),
                message: "hello".to_owned(),
            }]
        );
    }

    #[test]
    fn rows_are_put_in_ascending_order_and_equal_times_stay_as_they_came() {
        let at = |second: u32| format!("2024-05-19 06:10:{second:02}.000");
        let rows = read(vec![
            row(&at(3), "app/1", "e"),
            row(&at(2), "app/1", "c"),
            row(&at(2), "app/1", "d"),
            row(&at(1), "app/1", "a"),
            row(&at(1), "app/1", "b"),
        ]);
        let messages: String = rows.events.iter().map(|e| e.message.as_str()).collect();
        assert_eq!(messages, "abcde");
    }

    #[test]
    fn unreadable_rows_are_counted_and_other_streams_dropped() {
        let rows = read(vec![
            Vec::new(),
            vec![
                field("@timestamp", "2024-05-19 06:10:35.743"),
                field("@message", "no stream"),
            ],
            row("soon", "app/1", "no time"),
            vec![ResultField::builder().field("@timestamp").build()],
            row("2024-05-19 06:10:35.743", "web/1", "another stream"),
            row("2024-05-19 06:10:35.743", "app/1", "kept"),
        ]);
        assert_eq!((rows.seen, rows.unreadable, rows.events.len()), (6, 4, 1));
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let rows = read(vec![row(
            "2024-05-19 06:10:35",
            "app/1",
            &"漢".repeat(MOST_MESSAGE),
        )]);
        let message = &rows.events[0].message;
        assert_eq!(message.len(), MOST_MESSAGE / 3 * 3);
        assert!(message.chars().all(|c| c == '漢'));
    }

    #[test]
    fn a_flood_is_cut_at_its_oldest_rows() {
        let long = "x".repeat(MOST_MESSAGE);
        let page = || {
            (0..300)
                .map(|_| row("2024-05-19 06:10:35", "app/1", &long))
                .collect()
        };
        let mut rows = Rows::new(&[""]);
        assert!(rows.take(page()));
        assert!(!rows.take(page()));
        assert_eq!(rows.events.len(), MOST_BYTES / MOST_MESSAGE);
    }

    proptest! {
        #[test]
        fn no_row_can_do_harm(rows in proptest::collection::vec(
            proptest::collection::vec(
                (
                    prop_oneof![
                        Just("@timestamp"), Just("@ingestionTime"), Just("@logStream"),
                        Just("@message"), Just("@ptr"), Just("other"),
                    ],
                    prop_oneof![
                        any::<Option<String>>(),
                        "[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?".prop_map(Some),
                        "-?[0-9]{1,20}".prop_map(Some),
                    ],
                ),
                0..8,
            ),
            0..20,
        )) {
            let count = rows.len();
            let rows = rows.into_iter().map(|row| {
                row.into_iter()
                    .map(|(name, value)| ResultField::builder().field(name).set_value(value).build())
                    .collect()
            });
            let mut read = Rows::new(&[""]);
            prop_assert!(read.take(rows.collect()));
            read.put_in_order();
            prop_assert_eq!(read.seen, count);
            prop_assert_eq!(read.events.len() + read.unreadable, count);
            prop_assert!(read.events.is_sorted_by_key(|event| event.at));
        }
    }
}
