//! What the log has shown, and that its order, repetition and splitting do not matter.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use scheduler_watchdog::cause::{Cause, Evidence};
use scheduler_watchdog::config::StaleAfter;
use scheduler_watchdog::due::Missed;
use scheduler_watchdog::history::{ErrorHistory, Heartbeats, JobHistory, LastRun, Twice, fold};
use scheduler_watchdog::line::{JobEvent, Kind, Line, Pulse};
use scheduler_watchdog::plan::Notification;
use scheduler_watchdog::snapshot::LogWindow;
use scheduler_watchdog::state::{MOST_BYTES, Phase, State, Unreadable};

use crate::stage::{Stage, at, falls_silent, minutes};

const START: &str = "2025-12-01T00:00:00Z";

fn line(stream: &str, second: i64, kind: Kind) -> Line {
    let stream: Arc<str> = stream.into();
    Line::new(
        at(START) + SignedDuration::from_secs(second),
        stream,
        kind,
        "text",
    )
}

fn window(lines: Vec<Line>) -> LogWindow {
    window_until(3600, lines)
}

fn window_until(second: i64, lines: Vec<Line>) -> LogWindow {
    LogWindow {
        from: at(START),
        until: at(START) + SignedDuration::from_secs(second),
        lines,
        ..LogWindow::default()
    }
}

/// Seconds since the start.
fn second_of(time: Timestamp) -> i64 {
    time.duration_since(at(START)).as_secs()
}

const REPORTS: &str = "[[scheduler.job]]\nname = \"reports\"\ncron = \"0 * * * *\"\n";

fn job_line(stream: &str, second: i64, job: &str, event: JobEvent) -> Line {
    let kind = Kind::Job {
        name: job.to_owned(),
        event,
        background: false,
    };
    line(stream, second, kind)
}

const fn ended(took: i64) -> JobEvent {
    JobEvent::Ended {
        took: Some(SignedDuration::from_secs(took)),
    }
}

fn aborted(second: i64) -> Line {
    let kind = Kind::Error {
        aborts: true,
        context: None,
        trace: Vec::new(),
    };
    line("a/a/1", second, kind)
}

fn folded(windows: &[LogWindow]) -> State {
    folded_with("", windows)
}

/// With these jobs configured.
fn folded_with(jobs: &str, windows: &[LogWindow]) -> State {
    let scheduler = Stage::new(jobs).scheduler;
    let mut state = State::default();
    for window in windows {
        fold(&mut state, &scheduler, window, window.until);
    }
    state
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Heartbeat(Pulse::Idle)),
        2 => (0..5i64, 0..2000i64).prop_map(|(job, took)| Kind::Job {
            name: format!("job:{job}"),
            event: JobEvent::Ended { took: Some(SignedDuration::from_secs(took)) },
            background: false,
        }),
        1 => Just(Kind::Error { aborts: true, context: None, trace: Vec::new() }),
        1 => Just(Kind::Error { aborts: false, context: None, trace: Vec::new() }),
        1 => Just(Kind::Boot),
    ]
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    prop::collection::vec((0..2usize, 0..3600i64, kinds()), 0..80).prop_map(|mut lines| {
        // The reader gives each stream in time order.
        lines.sort_by_key(|(_, second, _)| *second);
        lines
            .into_iter()
            .map(|(stream, second, kind)| line(["a/a/1", "a/a/2"][stream], second, kind))
            .collect()
    })
}

proptest! {
    #[test]
    fn the_same_lines_again_change_nothing(lines in lines()) {
        let once = folded(&[window(lines.clone())]);
        prop_assert_eq!(&folded(&[window(lines.clone()), window(lines)]), &once);
    }

    #[test]
    fn a_window_in_two_overlapping_parts_is_the_same_window(lines in lines(), cut in 0..3600i64) {
        let until = at(START) + SignedDuration::from_secs(cut);
        let before = lines.iter().filter(|line| line.at <= until).cloned().collect();
        let first = LogWindow { until, ..window(before) };
        let whole = folded(&[window(lines.clone())]);
        let parts = folded(&[first, window(lines.clone())]);
        prop_assert_eq!(&parts.heartbeats, &whole.heartbeats);
        prop_assert_eq!(&parts.errors, &whole.errors);
    }

}

/// Errors of one moment are kept in one order, whether the window before held one of them or not.
#[test]
fn errors_of_one_moment_have_one_order() {
    let aborts = |stream, second| {
        let kind = Kind::Error {
            aborts: true,
            context: None,
            trace: Vec::new(),
        };
        line(stream, second, kind)
    };
    let early = aborts("a/a/2", 0);
    let both = vec![early.clone(), aborts("a/a/1", 60), aborts("a/a/2", 60)];
    let whole = folded(&[window(both.clone())]);
    let parts = folded(&[window(vec![early]), window(both)]);
    assert_eq!(parts.errors.notes, whole.errors.notes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_document_keeps_its_bound_whatever_the_log_holds(
        names in prop::collection::vec("\\PC{0,300}", 0..400),
        messages in prop::collection::vec("\\PC{0,900}", 0..50),
    ) {
        let mut lines = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let event = JobEvent::Ended { took: Some(minutes(5)) };
            let kind = Kind::Job { name: name.clone(), event, background: false };
            lines.push(line(&format!("s/{name}"), i64::try_from(index).unwrap(), kind));
        }
        for message in &messages {
            let kind = Kind::Error { aborts: true, context: Some(message.clone()), trace: vec![message.clone(); 20] };
            let mut error = line("s/1", 1, kind);
            error.text.clone_from(message);
            lines.push(error);
        }
        let text = folded(&[window(lines)]).to_json();
        prop_assert!(text.len() <= MOST_BYTES, "{}", text.len());
        State::from_json(&text).unwrap();
    }
}

fn beats(gap_seconds: i64, lines_in_a_beat: i64) -> Heartbeats {
    let lines = (0..3600 / gap_seconds)
        .flat_map(|beat| (0..lines_in_a_beat).map(move |line| beat * gap_seconds + line))
        .map(|second| line("a/a/1", second, Kind::Heartbeat(Pulse::Banner)))
        .collect();
    folded(&[window(lines)]).heartbeats
}

#[test]
fn the_allowed_silence_is_learned_from_the_gaps() {
    let auto = |heartbeats: Heartbeats| heartbeats.stale_after(StaleAfter::Auto).as_mins();
    assert_eq!(auto(beats(60, 1)), 5, "every minute: the least");
    assert_eq!(auto(beats(62, 20)), 5, "the lines of one run are one beat");
    assert_eq!(
        auto(beats(300, 5)),
        10,
        "a job every five minutes is all there is to hear"
    );
    assert_eq!(auto(beats(900, 1)), 30, "few gaps, but all of them long");
    assert_eq!(auto(Heartbeats::default()), 10);
    let fixed = StaleAfter::Fixed(minutes(7));
    assert_eq!(beats(60, 1).stale_after(fixed), minutes(7));
}

#[test]
fn the_allowed_silence_is_twice_the_usual_gap_between_bounds() {
    // A gap in half minutes, how many there were of it, and the allowed silence in seconds.
    for (gap, count, expected) in [
        (2, 10, 300),
        (5, 10, 300),
        (6, 10, 360),
        (60, 10, 3600),
        (100, 10, 3600),
        // A rhythm of an hour drifts, and its lines come late: ten minutes more than the gap.
        (101, 10, 3630),
        (120, 10, 4200),
        // Nothing is usual yet.
        (2, 9, 600),
        (11, 9, 660),
        (120, 9, 3600),
    ] {
        let beats = Heartbeats {
            gaps: BTreeMap::from([(0, BTreeMap::from([(gap, count)]))]).into(),
            ..Heartbeats::default()
        };
        let allowed = beats.stale_after(StaleAfter::Auto).as_secs();
        assert_eq!(allowed, expected, "{count} gaps of {gap} half minutes");
    }
}

#[test]
fn lines_half_a_minute_apart_are_two_beats() {
    for (seconds, half_minutes) in [(29, 2), (30, 1), (31, 2)] {
        let gaps = beats(seconds, 1).gaps.by_length();
        let found: Vec<u32> = gaps.iter().map(|(gap, _)| *gap).collect();
        assert_eq!(found, [half_minutes], "{seconds} s");
    }
}

/// A service of more tasks than that is judged by the newest.
/// Streams that have not given a heartbeat yet: sixteen, for two hours, until they give one.
#[test]
fn who_was_started_and_not_heard_is_remembered_for_a_while() {
    let boots = (0..20).map(|n| line(&format!("a/a/{n:02}"), n, Kind::Boot));
    let mut state = folded(&[window_until(60, boots.collect())]);
    let unheard = |state: &State| -> Vec<(String, i64)> {
        let known = state.heartbeats.unheard.iter();
        known
            .map(|(stream, at)| (stream.clone(), second_of(*at)))
            .collect()
    };
    let expected: Vec<_> = (0..16).map(|n| (format!("a/a/{n:02}"), n)).collect();
    assert_eq!(unheard(&state), expected);
    let scheduler = Stage::new("").scheduler;
    let beat = line("a/a/07", 90, Kind::Heartbeat(Pulse::Idle));
    // The same lines again, and one that is heard.
    let again = window_until(120, vec![line("a/a/07", 7, Kind::Boot), beat]);
    fold(&mut state, &scheduler, &again, again.until);
    fold(&mut state, &scheduler, &again, again.until);
    assert_eq!(state.heartbeats.unheard.len(), 15);
    assert!(!state.heartbeats.unheard.contains_key("a/a/07"));
    for (second, left) in [(7_200, 14), (7_214, 1), (7_215, 0)] {
        let empty = window_until(second, vec![]);
        fold(&mut state, &scheduler, &empty, empty.until);
        assert_eq!(state.heartbeats.unheard.len(), left, "{second}");
    }
}

#[test]
fn sixty_four_streams_are_remembered() {
    let lines = (0..65)
        .map(|n| {
            line(
                &format!("a/a/{n:02}"),
                100 - n,
                Kind::Heartbeat(Pulse::Idle),
            )
        })
        .collect();
    let known = folded(&[window(lines)]).heartbeats.streams;
    assert_eq!(known.len(), 64);
    assert!(
        !known.contains_key("a/a/64"),
        "the one that was quiet for longest"
    );
}

#[test]
fn errors_are_counted_by_the_minutes_of_a_window() {
    let history = ErrorHistory {
        minutes: (0..10)
            .map(|minute| (minute, 1))
            .chain([(20, 7), (30, 5)])
            .collect(),
        ..ErrorHistory::default()
    };
    let minute = |n: i64| Timestamp::from_second(n * 60).unwrap();
    for (window, at, expected) in [
        (1, 7, 1),
        (5, 7, 5),
        (5, 12, 2),
        (5, 14, 0),
        (5, 20, 7),
        (11, 30, 12),
    ] {
        assert_eq!(
            history.within(minutes(window), minute(at)),
            expected,
            "{window} {at}"
        );
    }
    assert_eq!(history.within(SignedDuration::from_secs(30), minute(20)), 7);
    // The last window with the most, and when it began.
    let most =
        |after: i64, until: i64| history.most_within(minutes(5), minute(after), minute(until));
    assert_eq!(most(0, 35), (7, minute(20)));
    assert_eq!(most(24, 35), (7, minute(20)));
    assert_eq!(most(25, 35), (5, minute(30)));
    assert_eq!(most(40, 41), (0, minute(37)));
    // No further back than an hour and a quarter.
    assert_eq!(most(0, 100), (5, minute(30)));
}

#[test]
fn the_usual_number_of_errors_is_known_after_six_hours() {
    let hours = SignedDuration::from_hours;
    let history = |slots: std::ops::Range<i64>| ErrorHistory {
        since: Some(Timestamp::UNIX_EPOCH),
        slots: slots.map(|slot| (slot, 10)).collect(),
        ..ErrorHistory::default()
    };
    let usual = |slots, window: i64, known: SignedDuration| {
        history(slots).usual(minutes(window), Timestamp::UNIX_EPOCH + known)
    };
    assert_eq!(
        usual(0..72, 5, hours(6) - SignedDuration::from_secs(1)),
        None
    );
    assert_eq!(usual(0..72, 5, hours(6)), Some(10.0));
    assert_eq!(usual(0..72, 10, hours(6)), Some(20.0));
    // Slots without errors count, too: of 72 the 37th.
    assert_eq!(usual(0..36, 5, hours(6)), Some(10.0));
    assert_eq!(usual(0..35, 5, hours(6)), Some(0.0));
}

/// A pause is longer than three minutes, and one that follows another at once is the same.
#[test]
fn a_pause_is_remembered_with_its_beginning_and_its_end() {
    for (beats, expected) in [
        (&[0, 180][..], None),
        (&[0, 181], Some((0, 181))),
        (&[0, 600, 1200], Some((0, 1200))),
        (&[0, 600, 780, 1380], Some((0, 1380))),
        (&[0, 600, 700, 781, 1381], Some((781, 1381))),
    ] {
        let lines = (beats.iter())
            .map(|second| line("a/a/1", *second, Kind::Heartbeat(Pulse::Idle)))
            .collect();
        let heard = folded(&[window(lines)]).heartbeats;
        let seconds = |at: Timestamp| at.duration_since(START.parse().unwrap()).as_secs();
        let paused = (heard.paused_at.zip(heard.resumed_at))
            .map(|(from, until)| (seconds(from), seconds(until)));
        assert_eq!(paused, expected, "{beats:?}");
    }
}

/// The same words of a stream are one note, with the newest time; other words, and those of
/// another stream, are others.
#[test]
fn an_error_that_repeats_itself_is_noted_once() {
    let error = |stream: &str, second: i64, text: &str| Line {
        text: text.to_owned(),
        ..line(
            stream,
            second,
            Kind::Error {
                aborts: false,
                context: None,
                trace: Vec::new(),
            },
        )
    };
    let first = [
        ("a", 10, "one"),
        ("a", 20, "one"),
        ("a", 15, "one"),
        ("a", 30, "two"),
        ("b", 40, "one"),
        ("b", 45, "one"),
    ];
    let second = [("a", 50, "one"), ("a", 60, "three"), ("a", 5, "two")];
    let windows = [&first[..], &second].map(|errors| {
        window(
            (errors.iter())
                .map(|(stream, second, text)| error(stream, *second, text))
                .collect(),
        )
    });
    let notes: Vec<_> = (folded(&windows).errors.notes.iter())
        .map(|note| {
            let second = note.at.duration_since(at(START)).as_secs();
            (note.stream.clone(), second, note.text.clone())
        })
        .collect();
    let expected = [
        ("a", 30, "two"),
        ("b", 45, "one"),
        ("a", 50, "one"),
        ("a", 60, "three"),
    ]
    .map(|(stream, second, text)| (stream.to_owned(), second, text.to_owned()));
    assert_eq!(notes, expected);
}

/// There are many jobs, and the document has its bound.
#[test]
fn what_is_not_known_of_a_job_takes_up_no_room() {
    let text = serde_json::to_string(&JobHistory::default()).unwrap();
    assert_eq!(text, r#"{"starts":[]}"#);
}

/// Up to Laravel 9.20 a job's line tells of its start, and the next one comes after its end and
/// the loop's pause. From a minute on the job is remembered although nobody configured it.
#[test]
fn how_long_a_run_took_is_learned_from_the_next_line() {
    for (next, expected) in [(120, None), (121, Some(60)), (661, Some(600))] {
        let started = Kind::Job {
            name: "reports".to_owned(),
            event: JobEvent::Started,
            background: false,
        };
        let state = folded(&[window(vec![
            line("a/a/1", 0, started),
            line("a/a/1", next, Kind::Heartbeat(Pulse::Idle)),
        ])]);
        let longest = (state.jobs.get("reports")).and_then(|job| job.longest_seconds);
        assert_eq!(longest, expected, "{next} s");
    }
}

/// What a line says is no guess: it is learned at once, however odd it is.
#[test]
fn how_long_a_run_took_is_learned_from_its_own_line() {
    let lines = [(0, 1), (60, 1), (120, 600)]
        .map(|(second, took)| job_line("a/a/1", second + took, "reports", ended(took)));
    let state = folded_with(REPORTS, &[window(lines.to_vec())]);
    assert_eq!(state.jobs["reports"].longest_seconds, Some(600));
    assert_eq!(state.jobs["reports"].may_take(at(START)), None);
}

/// A job that nobody configured was due a whole number of its periods after its last start, or of
/// days; of one start alone, of hours.
#[test]
fn when_a_job_was_due_is_told_by_its_starts() {
    const DAY: i64 = 86_400;
    for (starts, from, until, expected) in [
        (&[][..], 0, DAY, false),
        (&[0, 700], 1400, 1400, true),
        (&[0, 700], 1401, 1401, false),
        (&[0, 700], 1400, 1500, true),
        (&[0, 700], 2000, 2100, true),
        (&[0, 700], 1300, 1399, false),
        (&[0, 700], 700, 700, false),
        // Its own last start is not what it was due for.
        (&[0, 700], 600, 1399, false),
        (&[0, 700], 700 + DAY, 700 + DAY, true),
        (&[700, 700], 1400, 1400, false),
        (&[700, 700], 700 + DAY, 700 + DAY, true),
        (&[0], 3600, 3600, true),
        (&[0], 3601, 7199, false),
        (&[0], 3601, 7200, true),
    ] {
        let time = |second: i64| at(START) + SignedDuration::from_secs(second);
        let history = JobHistory {
            starts: starts.iter().map(|start| time(*start)).collect(),
            ..JobHistory::default()
        };
        let was_due = history.was_due(time(from), time(until));
        assert_eq!(was_due, expected, "{starts:?} {from} {until}");
    }
}

/// The row of due times that ran twice goes on until one is known to have run once: a second run
/// may begin within a quarter of an hour.
#[test]
fn a_row_of_duplicates_ends_with_a_due_time_that_ran_once() {
    let time = |minute: i64| at(START) + minutes(minute);
    for (first, now, goes_on) in [
        (0, 60, true),
        (10, 24, true),
        (10, 25, false),
        (10, 60, false),
    ] {
        let history = JobHistory {
            twice: Some(Twice {
                since: time(0),
                at: time(0),
                count: 1,
                on: [1, 2],
            }),
            last_run: Some(LastRun {
                start: time(first),
                end: time(first),
                first: time(first),
                on: 1,
                seconds: None,
                only_report: false,
            }),
            ..JobHistory::default()
        };
        let row = history.runs_twice(time(now));
        assert_eq!(row.is_some(), goes_on, "{first} {now}");
    }
}

/// Two lines may tell of one start, with slightly different times.
#[test]
fn starts_half_a_minute_apart_are_two() {
    for (second, expected) in [(29, 1), (30, 2)] {
        let kind = Kind::Job {
            name: "reports".to_owned(),
            event: JobEvent::Ended {
                took: Some(SignedDuration::ZERO),
            },
            background: false,
        };
        let lines = vec![line("a/a/1", 0, kind.clone()), line("a/a/1", second, kind)];
        let mut stage = Stage::new("[[scheduler.job]]\nname = \"reports\"\ncron = \"0 * * * *\"\n");
        stage.state = State::default();
        let window = window(lines);
        fold(&mut stage.state, &stage.scheduler, &window, window.until);
        assert_eq!(
            stage.state.jobs["reports"].starts.len(),
            expected,
            "{second} s"
        );
    }
}

/// Of the jobs that nobody configured, those that were seen last are remembered.
#[test]
fn the_jobs_that_were_seen_longest_ago_are_forgotten() {
    let name = |n: i64| format!("job:{:03}", 200 - n);
    let lines = (0..160)
        .map(|n| {
            let event = JobEvent::Ended {
                took: Some(minutes(1)),
            };
            let kind = Kind::Job {
                name: name(n),
                event,
                background: false,
            };
            line("a/a/1", n, kind)
        })
        .collect();
    let window = window(lines);
    let mut state = State::default();
    let first = format!(
        "[[scheduler.job]]\nname = \"{}\"\ncron = \"0 * * * *\"\n",
        name(0)
    );
    fold(
        &mut state,
        &Stage::new(&first).scheduler,
        &window,
        window.until,
    );
    let known: Vec<bool> = (0..160)
        .map(|n| state.jobs.contains_key(&name(n)))
        .collect();
    assert!(known[0]);
    assert_eq!(known[1..11], [false; 10]);
    assert_eq!(known[11..], [true; 149]);
}

/// A document that is a little too long, of errors, streams and the jobs that are configured.
fn too_long(streams: i64) -> State {
    let mut state = State::default();
    state.errors.slots = (0..288).map(|slot| (slot, 1)).collect();
    let lines = (0..streams)
        .map(|n| line(&format!("a/a/{n}"), n, Kind::Heartbeat(Pulse::Idle)))
        .collect();
    state.heartbeats = folded(&[window(lines)]).heartbeats;
    let length = |state: &State| serde_json::to_string(state).unwrap().len();
    while length(&state) <= MOST_BYTES {
        let history = JobHistory {
            plan: Some(1),
            starts: vec![at(START), at(START) + minutes(1)],
            ..JobHistory::default()
        };
        state
            .jobs
            .insert(format!("job:{}", state.jobs.len()), history);
    }
    state
}

/// Old errors before anything of the jobs that are configured, and before the last four streams.
#[test]
fn a_document_that_is_too_long_loses_what_is_missed_least() {
    let state = too_long(4);
    let text = state.to_json();
    assert!(text.len() <= MOST_BYTES);
    let read = State::from_json(&text).unwrap();
    assert_eq!(read.jobs, state.jobs);
    assert_eq!(read.heartbeats, state.heartbeats);
    let kept = state
        .errors
        .slots
        .iter()
        .rev()
        .take(read.errors.slots.len());
    assert!(read.errors.slots.len() > 250);
    assert!(kept.rev().eq(&read.errors.slots), "the newest");
}

/// What nobody configured goes first, and in the end what was configured, before the bound is broken.
#[test]
fn jobs_of_a_document_that_is_too_long_go_first_or_last() {
    let name = |n: usize| format!("{n}:{}", "x".repeat(100));
    let with = |jobs: usize, plan: Option<u32>| {
        let mut state = State::default();
        state.errors.slots = (0..288).map(|slot| (slot, 1)).collect();
        let history = JobHistory {
            plan,
            ..JobHistory::default()
        };
        (state.jobs).extend((0..jobs).map(|n| (name(n), history.clone())));
        state
    };
    let configured = JobHistory {
        plan: Some(1),
        starts: vec![at(START)],
        ..JobHistory::default()
    };
    let mut state = with(1_000, None);
    state
        .jobs
        .insert("configured".to_owned(), configured.clone());
    let text = state.to_json();
    assert!(text.len() <= MOST_BYTES, "{}", text.len());
    let read = State::from_json(&text).unwrap();
    assert_eq!(read.jobs["configured"], configured);
    assert_eq!(read.errors, state.errors);
    assert!((400..600).contains(&read.jobs.len()), "{}", read.jobs.len());

    let text = with(1_000, Some(1)).to_json();
    assert!(text.len() <= MOST_BYTES, "{}", text.len());
    let kept = State::from_json(&text).unwrap().jobs.len();
    assert!((400..600).contains(&kept), "{kept}");
}

#[test]
fn streams_beyond_four_go_before_errors_the_oldest_first() {
    let state = too_long(8);
    let read = State::from_json(&state.to_json()).unwrap();
    assert_eq!((&read.jobs, &read.errors), (&state.jobs, &state.errors));
    let kept = read.heartbeats.streams.len();
    assert!((4..8).contains(&kept), "{kept}");
    let newest = state.heartbeats.streams.iter().skip(8 - kept);
    assert!(newest.eq(&read.heartbeats.streams));
}

#[test]
fn incidents_that_are_over_and_fields_of_another_version_go_before_a_message() {
    let mut stage = falls_silent("");
    stage.wait(5).look();
    let firing = stage.state.incidents[0].clone();
    let mut over = firing.clone();
    over.phase = Phase::Resolved;
    over.causes = vec![Cause::new("redis-auth", "x".repeat(MOST_BYTES).as_str())];
    stage.state.incidents.insert(0, over);
    let read = State::from_json(&stage.state.to_json()).unwrap();
    assert_eq!(read.incidents, [firing]);
    assert_eq!(read.outbox, stage.state.outbox);
    let mut document: serde_json::Value = serde_json::from_str(&read.to_json()).unwrap();
    for place in ["", "/heartbeats", "/errors", "/incidents/0"] {
        document.pointer_mut(place).unwrap()["of_another_version"] = "x".repeat(MOST_BYTES).into();
    }
    let again = State::from_json(&document.to_string()).unwrap();
    assert_eq!(State::from_json(&again.to_json()).unwrap(), read);
}

/// A message is never dropped, only shortened, the oldest first: of each cause one line of evidence
/// stays, then of all causes the root.
#[test]
fn messages_that_are_too_long_keep_the_root_of_their_proof() {
    let mut stage = falls_silent("");
    stage.wait(5).look();
    let line = |n: usize| Evidence::Line(format!("{n} {}", "x".repeat(1000)));
    let cause = |lines: usize| Cause {
        evidence: (0..lines).map(line).collect(),
        ..Cause::new("redis-auth", "")
    };
    let message = stage.state.outbox[0].clone();
    assert!(message.proof.len() > 3);
    let mut read = |causes: &[Vec<Cause>]| {
        let with = |causes: &Vec<Cause>| Notification {
            causes: causes.clone(),
            ..message.clone()
        };
        stage.state.outbox = causes.iter().map(with).collect();
        let text = stage.state.to_json();
        let read = State::from_json(&text).unwrap().outbox;
        let causes: Vec<_> = read.iter().map(|message| message.causes.clone()).collect();
        let facts: Vec<_> = read.iter().map(|message| message.proof.clone()).collect();
        (text.len() <= MOST_BYTES, causes, facts)
    };
    let whole = || message.proof.clone();
    let cut = || message.proof[..3].to_vec();
    let (fits, causes, facts) = read(&[
        vec![cause(40), cause(1)],
        vec![cause(20)],
        vec![cause(20), cause(2)],
    ]);
    assert!(fits);
    assert_eq!(
        causes,
        [
            vec![cause(1), cause(1)],
            vec![cause(20)],
            vec![cause(20), cause(2)]
        ]
    );
    assert_eq!(facts, [whole(), whole(), whole()]);
    let (fits, causes, facts) = read(&[vec![cause(2)], vec![cause(1); 70], vec![cause(1); 3]]);
    assert!(fits);
    assert_eq!(causes, [vec![cause(1)], vec![cause(1)], vec![cause(1); 3]]);
    assert_eq!(facts, [cut(), cut(), whole()]);
    // There is nothing left to be shortened.
    let (fits, causes, facts) = read(&vec![vec![cause(1)]; 100]);
    assert!(!fits);
    assert_eq!(causes, vec![vec![cause(1)]; 100]);
    assert_eq!(facts, vec![cut(); 100]);
}

/// Whether too many causes or too many facts are what fills the room.
#[test]
fn what_fits_is_not_shortened_further() {
    let mut stage = falls_silent("");
    stage.wait(5).look();
    let cause = || Cause::new("redis-auth", "x".repeat(1000).as_str());
    let whole = Notification {
        causes: vec![cause(); 3],
        ..stage.state.outbox[0].clone()
    };
    let fact = || whole.proof[0].clone();
    for (causes, facts) in [(100, 3), (1, 2_000)] {
        let long = Notification {
            causes: vec![cause(); causes],
            proof: vec![fact(); facts],
            ..whole.clone()
        };
        stage.state.outbox = vec![long, whole.clone()];
        let text = stage.state.to_json();
        assert!(text.len() <= MOST_BYTES, "{}", text.len());
        let read = State::from_json(&text).unwrap().outbox;
        assert_eq!((read[0].causes.len(), read[0].proof.len()), (1, 3));
        assert_eq!(read[1], whole);
    }
}

#[test]
fn documents_are_read_back_as_they_were_written() {
    let mut stage = Stage::new("");
    stage.beats(crate::stage::TASK, 30);
    stage.other_lines();
    stage.passes(12);
    let text = stage.state.to_json();
    assert_eq!(State::from_json(&text).unwrap(), stage.state);
}

#[test]
fn fields_of_another_version_are_kept() {
    let mut stage = falls_silent(REPORTS);
    stage.passes(2);
    let mut document: serde_json::Value = serde_json::from_str(&stage.state.to_json()).unwrap();
    let later = serde_json::json!({"kept": [1, 2, 3]});
    let places = [
        "",
        "/heartbeats",
        "/errors",
        "/jobs/reports",
        "/incidents/0",
        "/restarts/attempts/0",
    ];
    for place in places {
        document.pointer_mut(place).unwrap()["added_later"] = later.clone();
    }
    stage.state = State::from_json(&document.to_string()).unwrap();
    stage.wait(5).look();
    let written: serde_json::Value = serde_json::from_str(&stage.state.to_json()).unwrap();
    for place in places {
        assert_eq!(
            written.pointer(place).unwrap()["added_later"],
            later,
            "{place}"
        );
    }
}

#[test]
fn a_document_that_cannot_be_used_is_refused_in_clear_words() {
    let newer = State::from_json(r#"{"schema":99,"heartbeats":"another shape"}"#).unwrap_err();
    assert!(matches!(newer, Unreadable::Newer { found: 99 }));
    for broken in ["", "{}", "[1]", r#"{"schema":1,"incidents":7}"#, "\u{fffd}"] {
        let error = State::from_json(broken).unwrap_err();
        assert!(
            matches!(error, Unreadable::Broken { .. }),
            "{broken}: {error}"
        );
    }
    insta::assert_snapshot!(newer);
}

#[test]
fn the_overlap_grows_with_the_measured_delay() {
    let mut state = State::default();
    assert_eq!(state.overlap(), minutes(2));
    state.lags_ms = vec![1_000, 150_000, 2_000];
    assert_eq!(state.overlap(), minutes(5));
    state.lags_ms = vec![i64::MAX];
    assert_eq!(state.overlap(), minutes(10));
}

/// The next window goes back as far as lines may still come, and as far as was not judged yet.
#[test]
fn the_next_window_overlaps_and_begins_where_runs_are_not_settled() {
    let mut state = State::default();
    assert_eq!(state.unread_from(), None);
    state.checked_until = Some(at(START));
    assert_eq!(state.unread_from(), Some(at(START) - minutes(2)));
    state.heartbeats.settled_until = Some(at(START) - minutes(3));
    assert_eq!(state.unread_from(), Some(at(START) - minutes(3)));
    state.lags_ms = vec![150_000];
    assert_eq!(state.unread_from(), Some(at(START) - minutes(5)));
}

#[test]
fn secrets_in_errors_do_not_reach_the_document() {
    let secrets = ["AKIAIOSFODNN7EXAMPLE", "hunter2hunter2", "s3cr3t-p4ss"];
    let texts = [
        format!("denied for key {}", secrets[0]),
        format!("redis://default:{}@cache:6379 refused", secrets[1]),
        format!("login failed, password={}", secrets[2]),
    ];
    let lines = (texts.iter().enumerate())
        .map(|(second, text)| {
            let trace = vec![text.clone()];
            let kind = Kind::Error {
                aborts: true,
                context: None,
                trace,
            };
            let mut error = line("a/a/1", i64::try_from(second).unwrap(), kind);
            error.text.clone_from(text);
            error
        })
        .collect();
    let document = folded(&[window(lines)]).to_json();
    for secret in secrets {
        assert!(!document.contains(secret), "{secret} in {document}");
    }
}

/// As the first version of the document has them.
#[test]
fn times_of_jobs_that_were_written_as_text_are_read_and_kept() {
    let job = r#"{"starts":["2026-11-24T03:45:00Z"],"ended_at":"2026-11-24T03:45:02Z","failed_at":"2026-11-23T00:00:07Z","longest_seconds":2}"#;
    let text = format!(r#"{{"schema":1,"jobs":{{"redis:monitor":{job}}}}}"#);
    let state = State::from_json(&text).unwrap();
    let history = &state.jobs["redis:monitor"];
    assert_eq!(history.starts, [at("2026-11-24T03:45:00Z")]);
    assert_eq!(history.ended_at, Some(at("2026-11-24T03:45:02Z")));
    assert_eq!(history.failed_at, Some(at("2026-11-23T00:00:07Z")));
    let again = State::from_json(&state.to_json()).unwrap();
    assert_eq!(again.jobs["redis:monitor"], *history);
}

/// The same where the two lines lie in different windows.
#[test]
fn how_long_a_run_took_is_learned_from_a_line_in_the_next_window() {
    for (next, expected) in [(120, None), (121, Some(60)), (661, Some(600))] {
        let started = job_line("a/a/1", 0, "reports", JobEvent::Started);
        let idle = line("a/a/1", next, Kind::Heartbeat(Pulse::Idle));
        let windows = [window_until(120, vec![started]), window(vec![idle])];
        let state = folded_with(REPORTS, &windows);
        let longest = state.jobs["reports"].longest_seconds;
        assert_eq!(longest, expected, "{next} s");
    }
}

/// Nor does the loop wait for a job in the background, or for one whose line tells of its end.
#[test]
fn a_pause_after_a_job_that_nobody_waits_for_is_not_its_runtime() {
    for (event, background, expected) in [
        (JobEvent::Started, false, 600),
        (JobEvent::Started, true, 0),
        (ended(7), false, 7),
        (ended(7), true, 0),
    ] {
        let job = Kind::Job {
            name: "reports".to_owned(),
            event: event.clone(),
            background,
        };
        let lines = vec![
            line("a/a/1", 60, job),
            line("a/a/1", 60 + 661, Kind::Heartbeat(Pulse::Idle)),
        ];
        let state = folded_with(REPORTS, &[window(lines)]);
        let longest = state.jobs["reports"].longest_seconds;
        assert_eq!(longest, Some(expected), "{event:?} {background}");
    }
}

/// The jobs of one turn follow each other at once; after a start, the pause may be the job's own
/// runtime, if it is longer than any that the loop makes.
#[test]
fn a_turn_of_the_loop_is_told_by_its_pauses() {
    for (first, event, second, began) in [
        (ended(0), ended(0), 4, 0),
        (ended(0), ended(0), 5, 5),
        (ended(0), ended(60), 64, 0),
        (ended(0), ended(60), 65, 5),
        (ended(0), ended(0), 60, 60),
        (ended(0), ended(0), 121, 121),
        (JobEvent::Started, JobEvent::Started, 4, 0),
        (JobEvent::Started, JobEvent::Started, 60, 60),
        (JobEvent::Started, JobEvent::Started, 120, 120),
        (JobEvent::Started, JobEvent::Started, 121, 0),
    ] {
        let lines = vec![
            job_line("a/a/1", 0, "first", first.clone()),
            job_line("a/a/1", second, "second", event),
        ];
        let turn = folded(&[window(lines)]).heartbeats.streams["a/a/1"]
            .turn
            .clone()
            .unwrap();
        let times = (second_of(turn.began), second_of(turn.ended));
        assert_eq!(times, (began, second), "{first:?} {second} s");
    }
}

/// After a job's line the run may still abort; that the job runs again says that it did not.
#[test]
fn a_run_ended_well_if_its_job_runs_again() {
    for (runs, expected) in [
        (&[("a", 0), ("b", 10)][..], None),
        (&[("a", 0), ("b", 10), ("a", 300)], Some(0)),
        (&[("a", 0), ("b", 10), ("a", 300), ("b", 310)], Some(10)),
        // It repeats within the minute.
        (&[("a", 0), ("a", 44)], None),
        (&[("a", 0), ("a", 45)], Some(0)),
    ] {
        let lines = (runs.iter())
            .map(|(job, second)| job_line("a/a/1", *second, job, ended(0)))
            .collect();
        let clean = folded(&[window(lines)]).heartbeats.last_clean;
        assert_eq!(clean.map(second_of), expected, "{runs:?}");
    }
    // What the application says of it is no run of the loop.
    let mut record = job_line("a/a/1", 300, "a", ended(0));
    record.heartbeat = false;
    let lines = vec![job_line("a/a/1", 0, "a", ended(0)), record];
    assert_eq!(folded(&[window(lines)]).heartbeats.last_clean, None);
}

#[test]
fn of_a_stream_sixty_four_jobs_are_watched_for_their_next_run() {
    let lines = (0..66)
        .map(|n| job_line("a/a/1", n, &format!("job:{n}"), ended(0)))
        .collect();
    let streams = folded(&[window(lines)]).heartbeats.streams;
    let ran: Vec<i64> = (streams["a/a/1"].ran.values())
        .map(|at| second_of(*at))
        .collect();
    assert_eq!(ran.len(), 64);
    assert!(ran.iter().all(|second| *second >= 2), "the newest");
}

/// Runs abort in a row until one ends well, or until none aborts for longer than a few turns take.
#[test]
fn a_row_of_aborts_begins_with_the_first_that_belongs_to_it() {
    let idle = |second| line("a/a/1", second, Kind::Heartbeat(Pulse::Idle));
    for (then, expected) in [
        (vec![aborted(0)], Some(0)),
        (vec![aborted(0), aborted(300)], Some(0)),
        (vec![aborted(0), aborted(301)], Some(301)),
        (vec![aborted(0), idle(60)], None),
        (vec![aborted(0), idle(60), aborted(120)], Some(120)),
        (vec![aborted(0), idle(0), aborted(120)], Some(120)),
        // Of the same moment, the one that ended well may have come after it.
        (vec![aborted(0), idle(60), aborted(60)], None),
    ] {
        let windows = [window_until(30, vec![aborted(0)]), window(then.clone())];
        let since = folded(&windows).heartbeats.aborting_since;
        assert_eq!(since.map(second_of), expected, "{then:?}");
    }
}

/// Minutes for as long as a window may be, the rest for a day.
#[test]
fn what_is_counted_is_forgotten_in_time() {
    let lines = vec![
        aborted(0),
        line("a/a/1", 0, Kind::Heartbeat(Pulse::Banner)),
        line("a/a/1", 60, Kind::Heartbeat(Pulse::Banner)),
    ];
    for (later, expected) in [
        (75 * 60 - 1, [1, 1, 1, 1, 1]),
        (75 * 60, [0, 1, 1, 1, 1]),
        (24 * 3600 - 1, [0, 1, 1, 1, 1]),
        (24 * 3600, [0, 0, 0, 0, 1]),
        (24 * 3600 + 59, [0, 0, 0, 0, 1]),
        (24 * 3600 + 60, [0, 0, 0, 0, 0]),
    ] {
        let windows = [
            window_until(120, lines.clone()),
            window_until(later, Vec::new()),
        ];
        let State {
            errors, heartbeats, ..
        } = folded(&windows);
        let known = [
            errors.minutes.len(),
            errors.slots.len(),
            errors.notes.len(),
            heartbeats.gaps.by_length().len(),
            heartbeats.streams.len(),
        ];
        assert_eq!(known, expected, "{later} s");
    }
}

/// Whichever stream it is in.
#[test]
fn jobs_are_held_back_since_the_newest_line_that_says_so() {
    for seconds in [[60, 0], [0, 60]] {
        let lines = (["a/a/1", "a/a/2"].iter().zip(seconds))
            .map(|(stream, second)| line(stream, second, Kind::Held))
            .collect();
        let heartbeats = folded(&[window(lines)]).heartbeats;
        let held = heartbeats.held().unwrap();
        assert_eq!(second_of(held.at), 60, "{seconds:?}");
    }
}

/// A line counts once none before it can come any more, two minutes later, and the next look, which
/// sees it again, leaves it alone.
#[test]
fn a_line_that_has_just_settled_counts_once() {
    let event = JobEvent::Failed {
        took: Some(SignedDuration::ZERO),
        exit_code: Some(1),
    };
    let lines = vec![job_line("a/a/1", 60, "reports", event)];
    for (second, counts) in [(179, false), (180, true)] {
        let first = window_until(second, lines.clone());
        let state = folded_with(REPORTS, std::slice::from_ref(&first));
        let turn = &state.heartbeats.streams["a/a/1"].turn;
        assert_eq!(turn.is_some(), counts, "{second} s");
        assert_eq!(state.jobs["reports"].failures.count, u32::from(counts));
        let state = folded_with(REPORTS, &[first, window(lines.clone())]);
        assert!(state.heartbeats.streams["a/a/1"].turn.is_some());
        assert_eq!(state.jobs["reports"].failures.count, 1, "{second} s");
    }
}

/// A run that began with it or later has shown that the job runs.
#[test]
fn a_run_that_was_cut_off_is_forgotten_with_one_that_ended() {
    for (event, forgotten) in [
        (ended(0), true),
        (ended(90), true),
        (ended(91), false),
        (JobEvent::Started, false),
    ] {
        let cut = job_line("a/a/1", 60, "reports", JobEvent::CutOff);
        let next = job_line("a/a/1", 150, "reports", event.clone());
        let windows = [
            window_until(200, vec![cut.clone()]),
            window(vec![cut, next]),
        ];
        let state = folded_with(REPORTS, &windows);
        assert_eq!(state.jobs["reports"].cut.is_none(), forgotten, "{event:?}");
    }
}

/// It is seen at once, though it counts only later. It may begin five seconds early.
#[test]
fn a_run_is_missing_until_one_is_seen() {
    for (starts, missing) in [
        (&[][..], true),
        (&[0], true),
        (&[54], true),
        (&[55], false),
        (&[62], false),
        (&[0, 62], false),
    ] {
        let time = |second: i64| at(START) + SignedDuration::from_secs(second);
        let history = JobHistory {
            starts: starts.iter().map(|start| time(*start)).collect(),
            missed: Missed {
                count: 1,
                first: Some(time(60)),
                last: Some(time(60)),
                back: None,
            },
            ..JobHistory::default()
        };
        assert_eq!(history.missing().is_some(), missing, "{starts:?}");
    }
}

/// A line of a loop that was started in between tells of no end.
#[test]
fn how_long_a_run_took_is_not_learned_from_a_new_start_of_the_loop() {
    for (boot, expected) in [(-1, Some(600)), (0, None), (300, None)] {
        let booted = line("a/a/1", boot, Kind::Boot);
        let started = job_line("a/a/1", 0, "reports", JobEvent::Started);
        let idle = line("a/a/1", 661, Kind::Heartbeat(Pulse::Idle));
        let windows = [window_until(120, vec![started]), window(vec![booted, idle])];
        let state = folded_with(REPORTS, &windows);
        assert_eq!(state.jobs["reports"].longest_seconds, expected, "{boot} s");
    }
}

/// One in twenty may be longer.
#[test]
fn the_usual_gap_is_the_one_that_nineteen_in_twenty_keep() {
    for (long, expected) in [(0, 1), (1, 1), (2, 30)] {
        let beats = Heartbeats {
            gaps: BTreeMap::from([(0, BTreeMap::from([(2, 20 - long), (60, long)]))]).into(),
            ..Heartbeats::default()
        };
        assert_eq!(beats.usual_gap(), Some(minutes(expected)), "{long} of 20");
    }
}

/// Its own line says so, and then a record.
#[test]
fn a_failure_that_is_told_twice_is_as_old_as_its_line() {
    let event = JobEvent::Failed {
        took: Some(SignedDuration::ZERO),
        exit_code: Some(1),
    };
    let mut record = job_line("a/a/1", 62, "reports", event.clone());
    record.heartbeat = false;
    let lines = vec![job_line("a/a/1", 60, "reports", event), record];
    let state = folded_with(REPORTS, &[window(lines)]);
    let failures = &state.jobs["reports"].failures;
    assert_eq!(failures.count, 1);
    assert_eq!(failures.since.map(second_of), Some(60));
}
