//! Real scheduler output, read.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp, ToSpan as _};
use proptest::prelude::*;
use regex::Regex;
use scheduler_watchdog::line::{
    JobEvent, Kind, Line, LogEvent, MAX_TEXT, MAX_TRACE, Preset, Pulse, read,
};

fn laravel() -> Preset {
    Preset::named("laravel").unwrap()
}

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + milliseconds.milliseconds()
}

fn event(milliseconds: i64, message: impl Into<String>) -> LogEvent {
    LogEvent {
        at: at(milliseconds),
        ingested: None,
        stream: "app/app/1".into(),
        id: None,
        message: message.into(),
    }
}

/// One event for each line of a text, all written within one second.
fn events(text: &str) -> Vec<LogEvent> {
    text.split_terminator('\n')
        .enumerate()
        .map(|(index, line)| event(index as i64, line))
        .collect()
}

/// One line for each line that means something.
fn render(lines: &[Line]) -> String {
    let mut out = String::new();
    for line in lines.iter().filter(|line| line.kind != Kind::Other) {
        let beats = if line.is_heartbeat() { "*" } else { " " };
        let took = |took: &Option<SignedDuration>| match took {
            Some(took) => format!("{took:#}"),
            None => "?".to_owned(),
        };
        let _ = match &line.kind {
            Kind::Heartbeat(Pulse::Idle) => writeln!(out, "{beats} idle"),
            Kind::Heartbeat(Pulse::Banner) => writeln!(out, "{beats} banner   {}", line.text),
            Kind::Boot => writeln!(out, "{beats} boot     {}", line.text),
            Kind::Held => writeln!(out, "{beats} held     {}", line.text),
            Kind::Released => writeln!(out, "{beats} released {}", line.text),
            Kind::Job {
                name,
                event,
                background,
            } => {
                let event = match event {
                    JobEvent::Started => "started ".to_owned(),
                    JobEvent::CutOff => "cut off ".to_owned(),
                    JobEvent::Skipped => "skipped ".to_owned(),
                    JobEvent::Ended { took: time } => format!("ended    {:>12}", took(time)),
                    JobEvent::Succeeded { took: time } => format!("success  {:>12}", took(time)),
                    JobEvent::Failed {
                        took: time,
                        exit_code,
                    } => match exit_code {
                        Some(code) => format!("failed   {:>12}", format!("exit {code}")),
                        None => format!("failed   {:>12}", took(time)),
                    },
                };
                let background = if *background { " &" } else { "" };
                writeln!(out, "{beats} {event} {name}{background}")
            }
            Kind::Error {
                aborts,
                context,
                trace,
            } => {
                let what = if *aborts { "abort   " } else { "error   " };
                let context = context.as_deref().unwrap_or("-");
                let _ = writeln!(out, "{beats} {what} {context}: {}", line.text);
                for line in trace {
                    let line: String = line.chars().take(150).collect();
                    let _ = writeln!(out, "             | {line}");
                }
                Ok(())
            }
            Kind::Other => Ok(()),
        };
    }
    out
}

fn sample_files() -> Vec<PathBuf> {
    fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples")),
        &mut files,
    );
    files.retain(|file| preset_name(file).is_some());
    files.sort();
    assert!(files.len() > 80);
    files
}

/// The preset by which a sample is read.
fn preset_name(file: &Path) -> Option<&'static str> {
    const OTHERS: [(&str, &str); 9] = [
        ("apscheduler", "apscheduler"),
        ("busybox_crond", "cron"),
        ("celery_beat", "celery-beat"),
        ("celery_worker", "celery-worker"),
        ("cronie", "cron"),
        ("debian_cron", "cron"),
        ("node_", "node-cron"),
        ("supercronic", "supercronic"),
        ("supervisord", "supervisord"),
    ];
    let text = file.to_string_lossy();
    if text.contains("/laravel-") || text.contains("/errors-startup-permissions/") {
        return Some("laravel");
    }
    let (_, name) = text.split_once("/other-schedulers/")?;
    let found = OTHERS.iter().find(|(prefix, _)| name.starts_with(prefix));
    Some(
        found
            .unwrap_or_else(|| panic!("which preset reads {name}?"))
            .1,
    )
}

fn preset_of(file: &Path) -> Preset {
    Preset::named(preset_name(file).unwrap()).unwrap()
}

fn filter_of(preset: &Preset) -> Regex {
    Regex::new(&format!("(?i)({})", preset.coarse_filter().unwrap())).unwrap()
}

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/samples")
        .join(name);
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

#[test]
fn samples_are_read() {
    // One snapshot for each directory: they are read together, by version.
    let mut directories = std::collections::BTreeMap::<String, String>::new();
    for file in sample_files() {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        let directory = file
            .parent()
            .unwrap()
            .file_name()
            .unwrap()
            .to_string_lossy();
        let all = directories.entry(directory.into_owned()).or_default();
        let name = file.file_name().unwrap().to_string_lossy();
        let _ = writeln!(
            all,
            "=== {name}\n{}",
            render(&read(&preset_of(&file), &events(&text)))
        );
    }
    for (directory, rendered) in directories {
        insta::assert_snapshot!(format!("samples_{directory}"), rendered);
    }
}

/// What the reader makes of the lines must not depend on lines that the log service
/// may leave out.
#[test]
fn the_coarse_filter_changes_nothing_in_the_samples() {
    for file in sample_files() {
        let preset = preset_of(&file);
        let filter = filter_of(&preset);
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        let all = events(&text);
        let kept: Vec<_> = all
            .iter()
            .filter(|event| filter.is_match(&event.message))
            .cloned()
            .collect();
        let meaning = |events: &[LogEvent]| {
            let mut lines = read(&preset, events);
            lines.retain(|line| line.kind != Kind::Other);
            lines
        };
        assert_eq!(meaning(&all), meaning(&kept), "{}", file.display());
        // Nor on whether it delivers lines one by one or together.
        assert_eq!(
            render(&read(&preset, &all)),
            render(&read(&preset, &[event(0, text)])),
            "{}",
            file.display()
        );
    }
}

/// A log router's envelope changes nothing in what is read, nor in what the log service keeps.
#[test]
fn an_envelope_changes_nothing_in_the_samples() {
    for file in sample_files() {
        let preset = preset_of(&file);
        let filter = filter_of(&preset);
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        let plain = events(&text);
        let wrapped = |event: &LogEvent| LogEvent {
            message: serde_json::json!({
                "source": "stdout",
                "log": event.message,
                "container_id": "0a1b2c3d",
                "container_name": "app",
            })
            .to_string(),
            ..event.clone()
        };
        let kept: Vec<LogEvent> = (plain.iter().map(wrapped))
            .filter(|event| filter.is_match(&event.message))
            .collect();
        assert_eq!(
            render(&read(&preset, &plain)),
            render(&read(&preset, &kept)),
            "{}",
            file.display()
        );
    }
}

/// The same exception is a record on stderr and a box on stdout, in any order.
#[test]
fn one_failure_is_one_error() {
    for case in [
        "07_fatal_memory_exhausted_in_closure",
        "10_redis_phpredis_refused__onOneServer_cache_redis",
        "10_redis_phpredis_close__onOneServer_cache_redis",
        "10_redis_predis_wrongpass__onOneServer_cache_redis",
        "13_cache_database_mysql_badpassword",
        "13_cache_database_mysql_nohost",
        "13_cache_database_mysql_refused",
        "13_cache_database_pgsql_missing_table",
        "13_cache_database_pgsql_refused",
    ] {
        let stdout = sample(&format!("laravel-12.67.0/{case}.stdout"));
        let stderr = sample(&format!("laravel-12.67.0/{case}.stderr"));
        let interleaved: String = {
            let (mut out, mut err) = (stdout.split_inclusive('\n'), stderr.split_inclusive('\n'));
            let mut all = String::new();
            loop {
                match (out.next(), err.next()) {
                    (None, None) => break all,
                    (one, other) => all.extend([one.unwrap_or(""), other.unwrap_or("")]),
                }
            }
        };
        for text in [
            format!("{stdout}{stderr}"),
            format!("{stderr}{stdout}"),
            interleaved,
        ] {
            let lines = read(&laravel(), &events(&text));
            let errors: Vec<_> = lines
                .iter()
                .filter(|line| matches!(line.kind, Kind::Error { .. }))
                .collect();
            assert_eq!(errors.len(), 1, "{case}\n{text}\n{}", render(&lines));
            assert!(
                matches!(errors[0].kind, Kind::Error { aborts: true, .. }),
                "{case}"
            );
        }
    }
}

#[test]
fn the_same_error_again_is_another_one() {
    let record = "[2026-11-24 03:39:09] production.ERROR: Connection refused by the broker";
    let lines = read(
        &laravel(),
        &[event(0, record), event(1, record), event(2, record)],
    );
    assert_eq!(lines.len(), 3);
}

/// A box's first line may hold less of a long text than a record does. A word or two prove nothing.
#[test]
fn reports_of_which_one_begins_like_the_other_are_one_error_if_that_tells_enough() {
    let long = "接続が拒否されました".repeat(4);
    let (first, second): (String, String) = (
        long.chars().take(37).collect(),
        long.chars().skip(37).collect(),
    );
    let record = "[2026-11-24 03:39:09] production.ERROR:";
    for (text, expected) in [
        (
            format!("{record} {long}\nIn A.php line 1:\n  {first}   \n  {second}  \n"),
            1,
        ),
        (
            format!("In A.php line 1:\n  {first}   \n  {second}  \n{record} {long}\n"),
            1,
        ),
        (
            format!("{record} Connection refused\nIn A.php line 1:\n  Connection  \n"),
            2,
        ),
        (format!("{record} boom\nIn A.php line 1:\n  boom  \n"), 1),
    ] {
        let lines = read(&laravel(), &events(&text));
        assert_eq!(lines.len(), expected, "{text}\n{}", render(&lines));
    }
}

#[test]
fn what_the_shell_says_and_the_application_repeats_is_one_error() {
    let text = "sh: 1: php8.3: not found\n\
                [2026-11-24 03:39:09] production.ERROR: sh: 1: php8.3: not found\n";
    let lines = read(&laravel(), &events(text));
    assert_eq!(lines.len(), 1, "{}", render(&lines));
}

/// Where stdout and stderr are one, the logger's record can stand in the middle of a box.
#[test]
fn a_record_inside_a_box_does_not_end_it() {
    let events = [
        event(0, "In A.php line 1:"),
        event(
            1,
            "[2026-11-24 03:39:09] production.ERROR: lost {\"exception\":\"[object] (E(code: 0): lost at /b.php:1)",
        ),
        event(2, "  boom  "),
    ];
    insta::assert_snapshot!(render(&read(&laravel(), &events)), @r#"
      abort    A.php: boom
      error    b.php: lost
                 | {"exception":"[object] (E(code: 0): lost at /b.php:1)
    "#);
}

#[test]
fn a_trace_ends_with_the_brace_that_closes_its_record() {
    let text = "[2026-11-24 03:39:09] production.ERROR: boom {\"exception\":\"[object] (E(code: 0): boom at /a.php:1)\n\
                [stacktrace]\n#0 /a.php(9): a()\n\"}\n#1 printed by something else\n";
    insta::assert_snapshot!(named("laravel", text), @r#"
      error    a.php: boom
                 | {"exception":"[object] (E(code: 0): boom at /a.php:1)
                 | #0 /a.php(9): a()
    "#);
}

#[test]
fn a_task_line_that_was_cut_is_put_together() {
    let lines = read(
        &laravel(),
        &events(&sample(
            "laravel-11.56.0/25_LOG_stderr_merged_2to1_SPLICED_LINES.txt",
        )),
    );
    let jobs: Vec<_> = lines
        .iter()
        .filter_map(|line| match &line.kind {
            Kind::Job { name, event, .. } => Some((name.as_str(), event.clone())),
            _ => None,
        })
        .collect();
    let took = Some(SignedDuration::from_micros(8910));
    assert_eq!(
        jobs.last(),
        Some(&(
            "sync-prices",
            JobEvent::Failed {
                took,
                exit_code: None
            }
        ))
    );
    assert_eq!(jobs.len(), 4);
}

#[test]
fn what_a_job_prints_into_its_own_line_is_no_line_of_its_own() {
    let lines = read(
        &laravel(),
        &events("  2026-11-24 03:41:16 Running [a] printed\n"),
    );
    assert_eq!(lines.len(), 1, "{lines:?}");
}

/// Where stdout and stderr are one, what the application says of a job stands in the middle of
/// the task's own line.
#[test]
fn what_the_application_says_does_not_end_the_task_line() {
    let text = "  2026-11-24 03:41:16 Running ['artisan' a] [scheduler] failed '/usr/bin/php' 'artisan' a: exit code 1\n\
                ................. 130.13ms DONE\n";
    insta::assert_snapshot!(named("laravel", text), @"
      failed         exit 1 a
    * ended     130ms 130µs a
    ");
}

#[test]
fn other_streams_do_not_mix() {
    let mut events = events(
        "  2026-11-24 03:41:16 Running [a] x\nIn A.php line 1:\n................. 0.13ms DONE\n  boom  ",
    );
    events[1].stream = "app/app/2".into();
    events[3].stream = "app/app/2".into();
    insta::assert_snapshot!(render(&read(&laravel(), &events)), @"
      abort    A.php: boom
    * ended           130µs a
    ");
}

#[test]
fn order_and_repetition_do_not_matter() {
    let text = sample("laravel-12.67.0/13_cache_database_mysql_nohost.stdout");
    let mut ordered = events(&text);
    for (index, event) in ordered.iter_mut().enumerate() {
        event.id = Some(index.to_string());
    }
    let expected = read(&laravel(), &ordered);
    let mut twice = [ordered.clone(), ordered.clone()].concat();
    twice.reverse();
    twice.rotate_left(ordered.len() / 3);
    assert_eq!(read(&laravel(), &twice), expected);
    // Newest first, and all within one millisecond.
    ordered.iter_mut().for_each(|event| event.at = at(0));
    ordered.push(event(-1, ""));
    ordered[..].reverse();
    ordered.rotate_left(1);
    let lines = read(&laravel(), &ordered);
    assert_eq!(render(&lines), render(&expected));
}

#[test]
fn a_pause_ends_a_box() {
    let events = [
        event(0, "In A.php line 1:"),
        event(0, "  boom  "),
        event(5_001, "  not of the box  "),
        event(70_000, "In A.php line 1:"),
        event(70_000, "  boom  "),
    ];
    insta::assert_snapshot!(render(&read(&laravel(), &events)), @"
      abort    A.php: boom
      abort    A.php: boom
    ");
}

#[test]
fn a_box_is_unwrapped_at_any_width() {
    let long = "x".repeat(100);
    let wide = "接続が拒否されました".repeat(4);
    let (first, second): (String, String) = (
        wide.chars().take(37).collect(),
        wide.chars().skip(37).collect(),
    );
    for (text, expected) in [
        (
            format!("In A.php line 1:\n  {long}  \n  {:100}  \n", "y"),
            format!("{long}y"),
        ),
        (
            format!(
                "In A.php line 1:\n  {:100}  \n  {:100}  \n",
                &long[..80],
                "y"
            ),
            format!("{} y", &long[..80]),
        ),
        (
            format!("In A.php line 1:\n  {first}   \n  {second}  \n"),
            wide.clone(),
        ),
        (
            "In A.php line 1:\n  one  \n  two  ".to_owned(),
            "one two".to_owned(),
        ),
        (
            "In A.php line 1:\n".to_owned(),
            "In A.php line 1:".to_owned(),
        ),
    ] {
        assert_eq!(read(&laravel(), &events(&text))[0].text, expected);
    }
}

#[test]
fn a_hostile_log_stays_within_bounds() {
    let mut text = "In A.php line 1:\n".to_owned();
    for _ in 0..2000 {
        text += &format!("  {}  \n#1 /srv/a.php(1): a()\n", "x".repeat(75));
    }
    text += &"[2026-11-24 03:39:09] production.ERROR: x\n#1 a\n[stacktrace]\n".repeat(1000);
    text += &"  2026-11-24 03:41:16 Running [a] 2026-11-24 03:41:16 Running [b] ".repeat(1000);
    text += &"\u{202e}\x1b]0;".repeat(300_000);
    for line in read(&laravel(), &events(&text)) {
        assert!(line.text.len() <= MAX_TEXT);
        if let Kind::Error { trace, .. } = line.kind {
            assert!(trace.len() <= MAX_TRACE);
        }
    }
}

/// Pieces of which hostile and merely unlucky logs are made.
fn piece() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "  2026-11-24 03:41:16 Running [a] ",
        "  2026-11-24 03:41:16 Running ['artisan' b] in background ",
        "........ 12ms DONE",
        " FAIL",
        "In A.php line 1:",
        "  boom  ",
        "      ",
        "   RuntimeException ",
        "[2026-11-24 03:39:09] production.ERROR: boom {\"exception\":\"",
        "[2026-11-24 03:39:09] production.WARNING: boom {\"exception\":\"",
        "[stacktrace]",
        "#0 a",
        "\"} ",
        "PHP Fatal error:  boom in /a.php on line 1",
        "Fatal error: boom in /a.php on line 1",
        "Killed",
        "   INFO  No scheduled commands are ready to run.  ",
        "{\"message\":\"\\u001b[31mboom\",\"level_name\":\"ERROR\"}",
        "\x1b[90m.\x1b[39m",
        "\r",
        "\n",
        "\n",
        "\n",
        "\n",
    ];
    static OTHERS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let files = sample_files().into_iter();
        let lines: BTreeSet<String> = files
            .filter(|file| preset_name(file) != Some("laravel"))
            .flat_map(|file| {
                let text = std::fs::read_to_string(file).unwrap();
                text.lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        lines.into_iter().collect()
    });
    prop_oneof![
        4 => prop::sample::select(KNOWN).prop_map(str::to_owned),
        4 => prop::sample::select(OTHERS.as_slice()),
        1 => "(?s).{0,5}",
        1 => prop::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    ]
}

proptest! {
    #[test]
    fn anything_can_be_read(
        messages in prop::collection::vec(prop::collection::vec(piece(), 0..9), 0..9),
        times in prop::collection::vec(0..7000i64, 9),
        name in prop::sample::select(Preset::names()),
    ) {
        let events: Vec<_> = messages.iter().zip(times).map(|(pieces, at)| event(at, pieces.concat())).collect();
        let preset = Preset::named(name).unwrap();
        let lines = read(&preset, &events);
        prop_assert!(lines.is_sorted_by_key(|line| line.at));
        for line in &lines {
            let trace = match &line.kind {
                Kind::Error { trace, .. } => trace.as_slice(),
                _ => &[],
            };
            for text in trace.iter().chain([&line.text]) {
                prop_assert!(text.len() <= MAX_TEXT);
                prop_assert!(!text.chars().any(|char| char.is_control() || char == '\u{202e}'), "{text:?}");
            }
            prop_assert!(trace.len() <= MAX_TRACE);
        }
        let written = events.iter().map(|event| event.message.split('\n').count()).sum::<usize>();
        prop_assert!(lines.len() <= written + events.len() * 4);
    }

    /// The same for logs whose lines come one by one, which is what the filter sees.
    #[test]
    fn the_coarse_filter_changes_nothing(
        lines in prop::collection::vec(prop::collection::vec(piece(), 0..3), 0..12),
        name in prop::sample::select(Preset::names()),
    ) {
        let preset = Preset::named(name).unwrap();
        let filter = filter_of(&preset);
        let all: Vec<_> = lines
            .iter()
            .flat_map(|pieces| pieces.concat().split('\n').map(str::to_owned).collect::<Vec<_>>())
            // Characters that are invisible, and no colour, are not thought of by the filter.
            .filter(|line| line.replace("\x1b[", "").chars().all(|char| char == '\r' || char == '⇂' || (' '..='~').contains(&char)))
            .map(|line| event(0, line))
            .collect();
        let kept: Vec<_> = all.iter().filter(|event| filter.is_match(&event.message)).cloned().collect();
        prop_assert_eq!(render(&read(&preset, &all)), render(&read(&preset, &kept)));
    }
}

fn named(preset: &str, text: &str) -> String {
    render(&read(&Preset::named(preset).unwrap(), &events(text)))
}

#[test]
fn what_a_job_prints_is_not_taken_for_its_scheduler() {
    let text = r#"time="2026-11-24T13:28:00Z" level=info msg=starting channel=stdout iteration=0 job.command=a job.position=1 job.schedule="* * * * *"
time="2026-11-24T13:28:00Z" level=info msg="time=\"x\" level=error msg=\"error running command: exit status 3\" iteration=0 job.command=b job.position=1" channel=stderr iteration=0 job.command=a job.position=1 job.schedule="* * * * *"
time="2026-11-24T13:28:00Z" level=info msg="job succeeded" channel=stdout iteration=0 job.command=a job.position=1 job.schedule="* * * * *"
{"channel":"stdout","iteration":0,"job.command":"a","job.position":1,"job.schedule":"* * * * *","level":"info","msg":"starting","time":"2026-11-24T13:28:00Z"}
{"channel":"stderr","iteration":0,"job.command":"a","job.position":1,"job.schedule":"* * * * *","level":"info","msg":"{\"level\":\"error\",\"msg\":\"boom\"}","time":"2026-11-24T13:28:00Z"}"#;
    assert_eq!(named("supercronic", text), "");
}

/// The failure's line holds a process number only, and several jobs run at once.
#[test]
fn a_failure_without_a_name_is_an_error_and_nobodys() {
    let text = "CRON[1]: (root) CMD ([7] a)\nCRON[2]: (root) CMD ([8] b)\n\
                CRON[1]: (CRON) error (grandchild #7 failed with exit status 2)\nCRON[1]: (root) END ([7] a)";
    insta::assert_snapshot!(named("cron", text), @r"
    * started  a &
    * started  b &
      error    -: grandchild #7 failed with exit status 2
    * ended               ? a
    ");
}

/// A task's traceback is the task's; a record's is the record's; alone it is an error.
#[test]
fn tracebacks_belong_to_the_line_above() {
    let traceback = "Traceback (most recent call last):\n  File \"/a.py\", line 1, in a\n    b()\n\
                     KeyError: 'x'\n\nDuring handling of the above exception, another exception occurred:\n\n\
                     Traceback (most recent call last):\nValueError: no x\n";
    let text = format!(
        "[2026-11-24 13:31:09,971: ERROR/ForkPoolWorker-2] Task a[1-2] raised unexpected: ValueError('no x')\n{traceback}\
         [2026-11-24 13:31:09,972: INFO/ForkPoolWorker-2] Task a[1-3] succeeded in 1.5s: None\n{traceback}\
         [2026-11-24 13:31:09,973: ERROR/MainProcess] Boom\n{traceback}"
    );
    insta::assert_snapshot!(named("celery-worker", &text), @r"
    * failed              ? a
    * ended        1s 500ms a
      error    -: KeyError: 'x' ValueError: no x
      error    -: Boom
                 | KeyError: 'x'
                 | ValueError: no x
    ");
}

/// A wrong preset shows as a scheduler that was never seen, not as half a scheduler.
#[test]
fn no_preset_finds_heartbeats_in_the_format_of_another() {
    const ONE_HOLDS_THE_OTHER: [&str; 2] = ["laravel", "supervisord"];
    for file in sample_files() {
        let name = preset_name(&file).unwrap();
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        for other in Preset::names() {
            let related = [*other, name].map(|name| ONE_HOLDS_THE_OTHER.contains(&name));
            if *other == name || related == [true, true] {
                continue;
            }
            let lines = read(&Preset::named(other).unwrap(), &events(&text));
            let beats: Vec<_> = lines.iter().filter(|line| line.is_heartbeat()).collect();
            assert!(
                beats.is_empty(),
                "{other} reads {}: {beats:?}",
                file.display()
            );
        }
    }
}

#[test]
fn boxes_apart_are_errors_apart() {
    let text = "\nIn PhpRedisConnector.php line 185:\n\n  Connection refused  \n\n";
    let storm: Vec<LogEvent> = (0..10).map(|n| event(2000 * n, text)).collect();
    let errors = (read(&laravel(), &storm).iter())
        .filter(|line| matches!(line.kind, Kind::Error { aborts: true, .. }))
        .count();
    assert_eq!(errors, 10);
}
