use proptest::prelude::*;

use super::*;

fn attempt(text: &[u8]) -> Result<(Vec<Entry>, Notes), LogError> {
    let zone = TimeZone::get("Asia/Tokyo").unwrap();
    let source = Source {
        name: "logs/scheduler.log",
        zone: &zone,
    };
    let mut entries = Vec::new();
    let notes = read(source, text, &mut |entry| entries.push(entry))?;
    Ok((entries, notes))
}

fn entries(text: &str) -> Vec<Entry> {
    attempt(text.as_bytes()).unwrap().0
}

/// `time stream id: message`, one a line; a made-up stream in parentheses.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for Entry { event, named, .. } in entries(text) {
        let stream = if named {
            event.stream.to_string()
        } else {
            format!("({})", event.stream)
        };
        let ingested = match event.ingested {
            Some(ingested) => format!("+{}ms", ingested.duration_since(event.at).as_millis()),
            None => String::new(),
        };
        let id = event.id.unwrap_or_default();
        let (at, message) = (event.at, event.message);
        shown.push_str(&format!("{at}{ingested} {stream} {id}: {message:?}\n"));
    }
    shown
}

const FILTER_LOG_EVENTS: &str = r#"{
    "events": [
        {
            "logStreamName": "app/app/0123",
            "timestamp": 1795491369123,
            "message": "   INFO  No scheduled commands are ready to run.  ",
            "ingestionTime": 1795491370000,
            "eventId": "37"
        },
        {
            "logStreamName": "app/app/0123",
            "timestamp": 1795491369124,
            "message": "",
            "ingestionTime": 1795491370000,
            "eventId": "38"
        }
    ],
    "searchedLogStreams": []
}
"#;

#[test]
fn filter_log_events() {
    insta::assert_snapshot!(shown(FILTER_LOG_EVENTS), @r#"
    2026-11-24T03:36:09.123Z+877ms app/app/0123 37: "   INFO  No scheduled commands are ready to run.  "
    2026-11-24T03:36:09.124Z+876ms app/app/0123 38: ""
    "#);
    // In one line, with pages after each other, and with a mark of UTF-8 before it.
    let one_line = FILTER_LOG_EVENTS.replace('\n', "");
    assert_eq!(entries(&one_line), entries(FILTER_LOG_EVENTS));
    let twice = format!("\u{feff}{FILTER_LOG_EVENTS}{FILTER_LOG_EVENTS}");
    assert_eq!(entries(&twice).len(), 4);
    assert_eq!(entries(&format!("\n{one_line}\n{one_line}")).len(), 4);
}

#[test]
fn events_line_by_line() {
    let text = r#"{"timestamp":1795491369123,"message":"one","logStreamName":"a"}

{"message":"two","timestamp":"2026-11-24T03:36:09+00:00","ingestionTime":null,"logStreamName":null}
{"@timestamp":"2026-11-24 03:36:10.000","@message":"three","extra":{"deep":[1,2]}}
"#;
    insta::assert_snapshot!(shown(text), @r#"
    2026-11-24T03:36:09.123Z a : "one"
    2026-11-24T03:36:09Z (scheduler) : "two"
    2026-11-24T03:36:10Z (scheduler) : "three"
    "#);
    // `jq '.events[]'` without `-c`, and an array.
    let spread = "{\n \"timestamp\": 1,\n \"message\": \"x\"\n}\n{\n \"timestamp\": 2, \"message\": \"y\"\n}\n";
    assert_eq!(entries(spread).len(), 2);
    let array =
        "[\n {\"timestamp\": 1, \"message\": \"x\"},\n {\"timestamp\": 2, \"message\": \"y\"}\n]";
    assert_eq!(entries(array).len(), 2);
}

#[test]
fn get_query_results() {
    let text = r#"{
        "results": [
            [
                {"field": "@timestamp", "value": "2026-11-24 03:36:09.123"},
                {"field": "@ingestionTime", "value": "2026-11-24 03:36:10.000"},
                {"field": "@logStream", "value": "app/app/0123"},
                {"field": "@message", "value": "  x"},
                {"field": "jobs", "value": "3"},
                {"field": "@ptr", "value": "Cl4K"}
            ]
        ],
        "statistics": {"recordsMatched": 1.0, "recordsScanned": 1.0, "bytesScanned": 10.0},
        "status": "Complete"
    }"#;
    insta::assert_snapshot!(shown(text), @r#"2026-11-24T03:36:09.123Z+877ms app/app/0123 Cl4K: "  x""#);
    let (_, notes) = attempt(text.replace("Complete", "Running").as_bytes()).unwrap();
    assert!(notes.partial.is_some());
    assert!(entries(r#"{"results": [], "status": "Complete"}"#).is_empty());
}

#[test]
fn a_page_of_several_says_so() {
    let text = r#"{"events": [], "nextToken": "x"}"#;
    let (_, notes) = attempt(text.as_bytes()).unwrap();
    insta::assert_snapshot!(notes.sentences("a.json").join("\n"), @"a.json: not everything is in it: more pages follow (it has a nextToken)");
}

#[test]
fn aws_logs_tail() {
    insta::assert_snapshot!(shown(
        "2026-11-24T03:36:09.123000+00:00 app/app/0123   2026-11-24 12:35:13 Running ['artisan' x] 1s DONE
  ⇂ 'artisan' x  
2026-11-24T03:37:09.123000+00:00 app/app/4567 [2026-11-24 12:37:00] production.ERROR: y
"
    ), @r#"
    2026-11-24T03:36:09.123Z app/app/0123 : "  2026-11-24 12:35:13 Running ['artisan' x] 1s DONE"
    2026-11-24T03:36:09.123Z app/app/0123 : "  ⇂ 'artisan' x  "
    2026-11-24T03:37:09.123Z app/app/4567 : "[2026-11-24 12:37:00] production.ERROR: y"
    "#);
    insta::assert_snapshot!(shown(
        "2026-11-24T03:36:09   INFO  No scheduled commands are ready to run.  \r\n"
    ), @r#"2026-11-24T03:36:09Z (scheduler) : "  INFO  No scheduled commands are ready to run.  ""#);
}

#[test]
fn text_with_the_schedulers_own_times() {
    insta::assert_snapshot!(shown(
        "Starting Laravel Scheduler in background...

  2026-11-24 12:35:13 Running ['artisan' x] 1s DONE
   INFO  No scheduled commands are ready to run.  
[2026-11-24T03:37:54+00:00] Running scheduled command: y
"
    ), @r#"
    2026-11-24T03:35:13Z (scheduler) : "Starting Laravel Scheduler in background..."
    2026-11-24T03:35:13Z (scheduler) : ""
    2026-11-24T03:35:13Z (scheduler) : "  2026-11-24 12:35:13 Running ['artisan' x] 1s DONE"
    2026-11-24T03:35:13Z (scheduler) : "   INFO  No scheduled commands are ready to run.  "
    2026-11-24T03:37:54Z (scheduler) : "[2026-11-24T03:37:54+00:00] Running scheduled command: y"
    "#);
}

/// Once a line shows that the collector prints whole seconds, it does so before each line.
#[test]
fn text_with_whole_seconds_of_the_collector() {
    insta::assert_snapshot!(shown(
        "2026-11-24 12:35:12    INFO  No scheduled commands are ready to run.
2026-11-24 12:35:13 sh: 1: cannot create x
2026-11-24 12:35:14 2026-11-24 12:35:13 Running ['artisan' x] 1s DONE
"
    ), @r#"
    2026-11-24T03:35:12Z (scheduler) : "   INFO  No scheduled commands are ready to run."
    2026-11-24T03:35:13Z (scheduler) : "sh: 1: cannot create x"
    2026-11-24T03:35:14Z (scheduler) : "2026-11-24 12:35:13 Running ['artisan' x] 1s DONE"
    "#);
}

#[test]
fn what_cannot_be_understood_is_named() {
    let error = |text: &[u8]| attempt(text).unwrap_err().to_string();
    insta::assert_snapshot!(error(b"\n   INFO  No scheduled commands\n"), @"logs/scheduler.log:2: none of the lines up to 2 carries a time; expected JSON of `aws logs filter-log-events` or `aws logs get-query-results`, one such event a line, or text whose lines begin with a time");
    for (text, place) in [
        (
            &b"{\"events\": [\n{\"timestamp\": 1}]}"[..],
            ":2: an event without a message;",
        ),
        (
            b"{\"timestamp\":1,\"message\":\"x\"}\n{\"timest",
            ":2: EOF while parsing",
        ),
        (
            b"{\"timestamp\":1,\"message\":\"x\"}\n\n{\"timestamp\":\"noon\",\"message\":\"x\"}",
            ":3: `noon` is no time;",
        ),
        (
            b"{\"message\":\"x\"}\n",
            ":1: an event without a timestamp;",
        ),
        (
            b"{\"services\": []}\n",
            ":1: an object without `events`, `results`, or",
        ),
        (b"{\n\"events\": [", ":2: EOF while parsing"),
        (
            b"{\"field\":\"@message\",\"value\":\"x\"}",
            ":1: a query result's field outside a row;",
        ),
        (b"\x1f\x8b\x08\x00", ":1: it is compressed with gzip;"),
        (b"\xff\xfe{\x00", ":1: it is encoded in UTF-16, not UTF-8;"),
    ] {
        let error = error(text);
        assert!(error.contains(place), "{place} {error}");
    }
    let error = read_file(Path::new("no/such.log"), &TimeZone::UTC, &mut |_| {}).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("no/such.log: cannot be read: ")
    );
    assert!(attempt(&b"x\n".repeat(MOST_UNTIMED * 2)).is_err());
}

#[test]
fn an_empty_log_holds_nothing() {
    for text in ["", "\n\n", "{\"events\": []}", "[]"] {
        assert!(entries(text).is_empty(), "{text:?}");
    }
}

#[test]
fn long_and_broken_messages_are_survived() {
    let long = "x".repeat(1 << 20);
    for text in [
        format!("2026-11-24T03:36:09Z {long}\n2026-11-24T03:36:10Z after\n"),
        format!(
            "{{\"timestamp\":1,\"message\":\"{long}\"}}\n{{\"timestamp\":2,\"message\":\"after\"}}\n"
        ),
        format!(
            "{{\"events\":[\n{{\"timestamp\":1,\"message\":\"{long}\"}},{{\"timestamp\":2,\"message\":\"after\"}}]}}"
        ),
    ] {
        let (entries, notes) = attempt(text.as_bytes()).unwrap();
        let lengths: Vec<usize> = entries.iter().map(|e| e.event.message.len()).collect();
        assert_eq!(lengths, [LONGEST_MESSAGE, 5]);
        assert_eq!(notes.cut, 1);
    }
    let too_long = "\\u0000".repeat(1 << 21);
    let text = format!(
        "{{\"timestamp\":1,\"message\":\"x\"}}\n{{\"timestamp\":2,\"message\":\"{too_long}\"}}\n{{\"timestamp\":3,\"message\":\"x\"}}\n"
    );
    let (found, notes) = attempt(text.as_bytes()).unwrap();
    assert_eq!((found.len(), notes.left_out), (2, 1));

    let broken = b"{\"timestamp\":1,\"message\":\"a\xffb\x07\\ud800\"}";
    let (found, _) = attempt(broken).unwrap();
    assert_eq!(
        found[0].event.message,
        "a\u{fffd}b\u{7}\u{fffd}\u{fffd}\u{fffd}"
    );
    let (found, _) = attempt(b"2026-11-24T03:36:09Z a\xffb\0\n").unwrap();
    assert_eq!(found[0].event.message, "a\u{fffd}b\0");
}

fn json_text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("{\"events\":[".to_owned()),
        Just("{\"timestamp\":1,\"message\":\"x\"}".to_owned()),
        Just("[{\"field\":\"@timestamp\",\"value\":\"2026-11-24 03:36:09.123\"}".to_owned()),
        Just("\n".to_owned()),
        "[\\]\\[{},:\"0-9a-z ]{0,8}",
    ];
    prop::collection::vec(word, 0..12).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = attempt(&bytes);
    }

    #[test]
    fn any_text_after_a_time_is_survived(text in "(.|\n){0,200}") {
        let whole = format!("2026-11-24T03:36:09Z first\n{text}");
        let (entries, _) = attempt(whole.as_bytes()).unwrap();
        prop_assert_eq!(entries.len(), whole.lines().count());
    }

    #[test]
    fn json_like_text_is_survived(text in json_text()) {
        let _ = attempt(text.as_bytes());
    }

    #[test]
    fn events_come_through_unchanged(
        messages in prop::collection::vec(".{0,40}", 1..8),
        pretty in any::<bool>(),
    ) {
        let events: Vec<serde_json::Value> = messages
            .iter()
            .enumerate()
            .map(|(index, message)| serde_json::json!({
                "timestamp": 1_795_491_369_000_u64 + index as u64,
                "logStreamName": "s",
                "message": message,
            }))
            .collect();
        let text = if pretty {
            format!("{:#}", serde_json::json!({ "events": events }))
        } else {
            events.iter().map(|event| format!("{event}\n")).collect()
        };
        let read: Vec<String> = entries(&text).into_iter().map(|e| e.event.message).collect();
        prop_assert_eq!(read, messages);
    }
}
