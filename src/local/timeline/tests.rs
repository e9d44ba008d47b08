use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_491_000 + second).unwrap()
}

fn entry(second: i64, stream: &str, message: &str) -> Entry {
    Entry {
        event: LogEvent {
            at: at(second),
            ingested: None,
            stream: stream.into(),
            id: None,
            message: message.to_owned(),
        },
        named: true,
        copies: true,
    }
}

fn timeline(entries: impl IntoIterator<Item = Entry>) -> Timeline {
    let mut builder = Builder::new([]);
    entries.into_iter().for_each(|entry| builder.add(entry));
    builder.build()
}

fn seen(timeline: &Timeline, prefix: &str, span: (i64, i64), now: i64, most: usize) -> String {
    let span = (at(span.0), at(span.1));
    let (window, truncated) = timeline.window(prefix, span, at(now), most);
    let messages: Vec<&str> = (window.events().iter())
        .map(|e| e.message.as_str())
        .collect();
    format!(
        "{}{}",
        messages.join(" "),
        if truncated { " …" } else { "" }
    )
}

#[test]
fn a_window_holds_both_its_ends() {
    let timeline = timeline((0..5).map(|second| entry(second, "s", &second.to_string())));
    assert_eq!(seen(&timeline, "", (1, 3), 9, 99), "1 2 3");
    assert_eq!(seen(&timeline, "", (1, 3), 9, 2), "2 3 …");
    assert_eq!(seen(&timeline, "", (5, 9), 9, 2), "");
    assert_eq!(seen(&timeline, "", (3, 1), 9, 2), "");
}

#[test]
fn an_event_exists_once_it_has_arrived() {
    let mut late = entry(1, "s", "late");
    late.event.ingested = Some(at(7));
    let timeline = timeline([entry(0, "s", "early"), late, entry(2, "s", "next")]);
    assert_eq!(seen(&timeline, "", (0, 9), 6, 9), "early next");
    assert_eq!(seen(&timeline, "", (0, 9), 6, 1), "next …");
    assert_eq!(seen(&timeline, "", (0, 9), 7, 9), "early late next");
    let newest = |until, now| timeline.newest("", (at(0), at(until)), at(now))["s"];
    assert_eq!(newest(1, 6), at(0));
    assert_eq!(newest(1, 7), at(1));
    assert_eq!(
        timeline.span(),
        Some(Span {
            first: at(0),
            last: at(2),
            arrived: at(7)
        })
    );
}

#[test]
fn a_prefix_hides_other_streams_but_never_a_plain_file() {
    let mut plain = entry(2, "scheduler", "plain");
    plain.named = false;
    let timeline = timeline([entry(0, "app/1", "app"), entry(1, "web/1", "web"), plain]);
    assert_eq!(seen(&timeline, "app/", (0, 9), 9, 9), "app plain");
    assert_eq!(seen(&timeline, "", (0, 9), 9, 9), "app web plain");
    let newest = timeline.newest("app/", (at(0), at(9)), at(9));
    assert_eq!(newest.keys().collect::<Vec<_>>(), ["app/1", "scheduler"]);
}

#[test]
fn copies_are_dropped_where_the_source_keeps_events_apart() {
    let with_id = |id: &str, message: &str| {
        let mut entry = entry(0, "s", message);
        entry.event.id = Some(id.to_owned());
        entry
    };
    let plain = || {
        let mut entry = entry(0, "s", "plain");
        entry.copies = false;
        entry
    };
    let timeline = timeline([
        with_id("1", "a"),
        with_id("1", "a"),
        with_id("2", "a"),
        entry(0, "s", "b"),
        entry(0, "t", "b"),
        entry(0, "s", "b"),
        plain(),
        plain(),
    ]);
    assert_eq!(seen(&timeline, "", (0, 9), 9, 99), "a a b b plain plain");
}

#[test]
fn of_a_second_only_the_last_line_is_remembered() {
    let mut lines = Vec::new();
    for at in [1000, 1500, 1400, 2000, 1700] {
        add_line(&mut lines, at, at);
    }
    assert_eq!(lines, [(1500, 1500), (2000, 2000), (1700, 1700)]);
    let timeline = timeline((0..3).map(|_| entry(0, "s", "x")));
    assert_eq!(timeline.streams[0].lines.len(), 1);
}

#[test]
fn a_file_that_lists_the_newest_first_is_turned_round() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("results.json");
    let event =
        |at: i64, message: &str| format!("{{\"timestamp\":{at},\"message\":\"{message}\"}}\n");
    let text = [event(2, "d"), event(1, "c"), event(1, "b"), event(0, "a")].concat();
    std::fs::write(&path, text).unwrap();
    let mut builder = Builder::new([]);
    builder.read_file(&path, &TimeZone::UTC).unwrap();
    let messages: Vec<String> = (builder.build().events.into_iter())
        .map(|event| event.message)
        .collect();
    assert_eq!(messages, ["a", "b", "c", "d"]);
}
