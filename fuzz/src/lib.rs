//! What must hold of everything that reads what others wrote, whatever they wrote.
//!
//! Each target takes any bytes. The fuzzer calls them with inputs that it makes up, and the
//! integration tests with the inputs that are kept in `fuzz/corpus`.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context as TaskContext, Poll, Waker};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use regex::Regex;
use scheduler_watchdog::aws::events_of_rows;
use scheduler_watchdog::cause::{Cause, Evidence};
use scheduler_watchdog::condition::{Condition, Fact};
use scheduler_watchdog::config::{Config, Language, Scheduler};
use scheduler_watchdog::decide::decide;
use scheduler_watchdog::health::Health;
use scheduler_watchdog::jobs::{import, list};
use scheduler_watchdog::line::{self, Kind, Line, LogEvent, MAX_TEXT, MAX_TRACE, Preset, Pulse};
use scheduler_watchdog::local::log::{LONGEST_MESSAGE, LogError, Source};
use scheduler_watchdog::local::{Builder, LocalWorld, ServiceError, ServiceHistory, log};
use scheduler_watchdog::message::{Context, Message, render, safe};
use scheduler_watchdog::plan::{CureKind, Gate, Handling, Notification, Occasion};
use scheduler_watchdog::replay::{self, Format, Options, Schedule, Watcher};
use scheduler_watchdog::snapshot::{
    Container, Deployment, Fleet, LogWindow, Observed, Probe, ServiceFacts, Snapshot, Task,
};
use scheduler_watchdog::state::{MOST_BYTES, State};
use serde_json::Value;

/// A target: it panics where something does not hold.
pub type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const TARGETS: [(&str, Target); 8] = [
    ("lines", lines),
    ("config", config),
    ("state", state),
    ("rows", rows),
    ("replay", replay),
    ("import", import),
    ("message", message),
    ("health", health),
];

/// The largest state document that is tried. An own document is bounded; another's, which is
/// full of what is never dropped, can be longer when it is written back than it was.
const LARGEST_STATE: usize = 16 * 1024;

/// Passes of one replay.
const PASSES: i32 = 8;

/// The moment of every look.
fn now() -> Timestamp {
    Timestamp::constant(1_795_593_600, 0)
}

static WATCHED: LazyLock<Config> = LazyLock::new(|| {
    let config = r#"
        [[scheduler]]
        name = "myteacher-production"
        log_groups = ["/ecs/myteacher-production"]
        log_stream_prefix = "app/"
        timezone = "Asia/Tokyo"
        [scheduler.ecs]
        cluster = "main"
        service = "app"
        container = "app"
        [[scheduler.job]]
        name = "redis:monitor"
        cron = "*/5 * * * *"
        [[scheduler.job]]
        name = "backup:run"
        cron = "0 3 * * *"
        max_runtime = "10m"
        [[scheduler.silence]]
        cron = "0 2 * * 0"
        duration = "1h"
        [scheduler.remediation]
        action = "force-new-deployment"
        replica_action = "stop-task"
        allow_mutable_image_tag = true
    "#;
    Config::parse(config, "watchdog.toml").expect("a configuration without mistakes")
});

/// Lines that the log delivers one by one, and together, and twice, to every preset.
pub fn lines(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let events = events(&text);
    let again: Vec<LogEvent> = events.iter().rev().chain(&events).cloned().collect();
    let plain = events.iter().all(|event| is_plain(&event.message));
    for (preset, filter) in PRESETS.iter() {
        let lines = line::read(preset, &events);
        assert_lines(&lines);
        let written: usize = (events.iter())
            .map(|event| event.message.split('\n').count())
            .sum();
        assert!(lines.len() <= 5 * written.max(1), "lines were made up");
        assert_eq!(line::read(preset, &again), lines, "order or copies matter");
        if plain {
            let kept: Vec<LogEvent> = (events.iter())
                .filter(|event| filter.is_match(&event.message))
                .cloned()
                .collect();
            let useful = |lines: Vec<Line>| -> Vec<Line> {
                let useful = |line: &Line| line.kind != Kind::Other;
                lines.into_iter().filter(useful).collect()
            };
            let kept = useful(line::read(preset, &kept));
            assert_eq!(kept, useful(lines), "the coarse filter matters");
        }
    }
}

/// Every preset that knows lines, and its coarse filter.
static PRESETS: LazyLock<Vec<(Preset, Regex)>> = LazyLock::new(|| {
    (Preset::names().iter())
        .filter_map(|name| Preset::named(name))
        .filter_map(|preset| {
            let body = preset.coarse_filter()?;
            let filter = Regex::new(&format!("(?i)({body})")).expect("a valid filter");
            Some((preset, filter))
        })
        .collect()
});

/// One event a line. A line that begins with a tab comes on another stream, and one with a
/// vertical tab belongs to the event before it; a blank line is a pause.
fn events(text: &str) -> Vec<LogEvent> {
    let mut events: Vec<LogEvent> = Vec::new();
    let mut at = now();
    for (index, line) in text.split('\n').enumerate() {
        if let (Some(more), Some(event)) = (line.strip_prefix('\x0b'), events.last_mut()) {
            event.message.push('\n');
            event.message.push_str(more);
            continue;
        }
        let pause = if line.trim().is_empty() { 900 } else { 50 };
        at += SignedDuration::from_millis(pause);
        let (stream, message) = match line.strip_prefix('\t') {
            Some(message) => ("app/app/2", message),
            None => ("app/app/1", line),
        };
        events.push(LogEvent {
            at,
            ingested: None,
            stream: stream.into(),
            id: Some(index.to_string()),
            message: message.to_owned(),
        });
    }
    events
}

/// Whether a raw line says what it says once it was cleaned: the coarse filter does not see
/// through escapes within words, nor through those of JSON.
fn is_plain(message: &str) -> bool {
    let json = message.trim_start().starts_with('{') && message.contains('\\');
    !json && message.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn assert_lines(lines: &[Line]) {
    assert!(lines.is_sorted_by_key(|line| line.at));
    for line in lines {
        assert!(line.text.len() <= MAX_TEXT);
        assert_visible(&line.text);
        match &line.kind {
            Kind::Job { name, .. } => {
                assert!(name.len() <= 200);
                assert_visible(name);
            }
            Kind::Error { context, trace, .. } => {
                assert!(trace.len() <= MAX_TRACE);
                for text in context.iter().chain(trace) {
                    assert!(text.len() <= MAX_TEXT);
                    assert_visible(text);
                }
            }
            _ => {}
        }
    }
}

/// No character that a reader cannot see, or that changes how others are shown.
fn assert_visible(text: &str) {
    let odd = |char: &char| {
        char.is_control()
            || ('\u{202a}'..='\u{202e}').contains(char)
            || ('\u{2066}'..='\u{2069}').contains(char)
    };
    let found = text.chars().find(odd);
    assert_eq!(found, None, "in {text:?}");
}

/// A configuration is refused with the places of its mistakes, or can be used.
pub fn config(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let config = match Config::parse(&text, "watchdog.toml") {
        Ok(config) => config,
        Err(mistakes) => {
            assert!(!mistakes.0.is_empty(), "refused without a mistake");
            for mistake in &mistakes.0 {
                assert!(
                    !mistake.message.trim().is_empty(),
                    "a mistake without words"
                );
                let place = mistake.place.strip_prefix("watchdog.toml:");
                let (line, column) = place
                    .and_then(|place| place.split_once(':'))
                    .expect("a place");
                let line: usize = line.parse().expect("a line");
                let column: usize = column.parse().expect("a column");
                // A mistake at the very end stands behind the last line.
                let lines: Vec<&str> = text.split('\n').collect();
                assert!((1..=lines.len()).contains(&line), "{mistake}");
                let length = lines[line - 1].chars().count();
                assert!((1..=length + 1).contains(&column), "{mistake}");
            }
            return;
        }
    };
    assert!(!config.schedulers.is_empty(), "nothing is watched");
    for (index, scheduler) in config.schedulers.iter().enumerate() {
        let same = |other: &Scheduler| other.name == scheduler.name;
        assert!(!config.schedulers[..index].iter().any(same), "a name twice");
        assert_eq!(
            config
                .select(std::slice::from_ref(&scheduler.name))
                .map(|found| found.len()),
            Ok(1)
        );
        for job in &scheduler.jobs {
            let week = now() + SignedDuration::from_hours(24 * 7);
            let runs: Vec<Timestamp> = job.runs(now(), week).take(100).collect();
            assert!(runs.is_sorted() && runs.iter().all(|at| *at > now() && *at <= week));
        }
        for silence in &scheduler.silences {
            if let Some((begin, end)) = silence.next(now()) {
                assert!(begin < end && end > now());
            }
        }
        let state = looks(scheduler, State::default(), &[idle(now())], now());
        let _ = list::text(scheduler, &state, now());
    }
}

/// A state document is refused, or it can be used, and is what it was when it is written back.
pub fn state(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if text.len() > LARGEST_STATE {
        return;
    }
    let Ok(state) = State::from_json(&text) else {
        return;
    };
    let written = state.to_json();
    assert!(written.len() <= MOST_BYTES, "{} bytes", written.len());
    let again = State::from_json(&written).expect("an own document can be read");
    // Compared as it is written: where another version kept a moment, this one keeps its second.
    assert_eq!(again.to_json(), written);
    let scheduler = &WATCHED.schedulers[0];
    let minute = SignedDuration::from_mins(1);
    looks(scheduler, state.clone(), &[], now());
    looks(
        scheduler,
        state.clone(),
        &[idle(now() - minute), idle(now())],
        now(),
    );
    let failed = Kind::Error {
        aborts: true,
        context: None,
        trace: Vec::new(),
    };
    looks(
        scheduler,
        state,
        &[error(now() - minute, failed, "Connection refused")],
        now(),
    );
}

fn idle(at: Timestamp) -> Line {
    let idle = Kind::Heartbeat(Pulse::Idle);
    Line::new(
        at,
        "app/app/1".into(),
        idle,
        "No scheduled commands are ready to run.",
    )
}

fn error(at: Timestamp, kind: Kind, text: &str) -> Line {
    Line::new(at, "app/app/1".into(), kind, text)
}

/// Rows of a query become events, lines, and a pass over them.
pub fn rows(input: &[u8]) {
    let Ok(answer) = serde_json::from_slice::<Value>(input) else {
        return;
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let rows: Vec<Vec<(String, String)>> = list(&answer["results"])
        .iter()
        .map(|row| {
            (list(row).iter())
                .filter_map(|field| Some((text(&field["field"])?, text(&field["value"])?)))
                .collect()
        })
        .collect();
    let count = rows.len();
    let scheduler = &WATCHED.schedulers[0];
    let prefix = &scheduler.log_stream_prefix;
    let (events, unreadable) = events_of_rows(prefix, rows);
    assert!(events.len() + unreadable <= count);
    assert!(events.is_sorted_by_key(|event| event.at));
    assert!(events.iter().all(|event| event.stream.starts_with(prefix)));
    let lines = line::read(&scheduler.preset, &events);
    assert_lines(&lines);
    let state = looks(scheduler, State::default(), &lines, now());
    looks(
        scheduler,
        state,
        &lines,
        now() + SignedDuration::from_mins(5),
    );
}

/// Looks at a scheduler that runs and at one of which only the log is known; returns what is
/// remembered of the first.
fn looks(scheduler: &Scheduler, state: State, lines: &[Line], at: Timestamp) -> State {
    let from = (state.checked_until).map_or(at, |until| until.min(at));
    let window = LogWindow {
        from: from
            .checked_sub(SignedDuration::from_mins(10))
            .unwrap_or(from),
        until: at,
        lines: lines.to_vec(),
        ..LogWindow::default()
    };
    let mut snapshot = Snapshot {
        log: Observed::Known(window),
        probe: None,
        service: None,
        health: None,
        fleet: Fleet {
            watched: 1,
            firing: 0,
        },
    };
    look(scheduler, &snapshot, &state, at);
    let newest = BTreeMap::from([("app/app/1".to_owned(), at)]);
    snapshot.probe = Some(Observed::Known(Probe { newest }));
    snapshot.service = Some(Observed::Known(service(at)));
    look(scheduler, &snapshot, &state, at)
}

/// A service with one task that runs since yesterday.
fn service(at: Timestamp) -> ServiceFacts {
    let yesterday = at - SignedDuration::from_hours(24);
    ServiceFacts {
        status: "ACTIVE".to_owned(),
        controller: "ECS".to_owned(),
        desired: 1,
        deployments: vec![Deployment {
            id: "ecs-svc/1".to_owned(),
            status: "PRIMARY".to_owned(),
            rollout: "COMPLETED".to_owned(),
            created_at: yesterday,
            failed_tasks: 0,
        }],
        tasks: vec![Task {
            id: "1".to_owned(),
            started_by: "ecs-svc/1".to_owned(),
            last_status: "RUNNING".to_owned(),
            started_at: Some(yesterday),
            stopped_at: None,
            stop_code: String::new(),
            stopped_reason: String::new(),
            health: "UNKNOWN".to_owned(),
            containers: vec![Container {
                name: "app".to_owned(),
                image: "app:latest".to_owned(),
                ..Container::default()
            }],
        }],
        ..ServiceFacts::default()
    }
}

/// Decides, tries every message that is to be sent, and decides again.
fn look(scheduler: &Scheduler, snapshot: &Snapshot, state: &State, at: Timestamp) -> State {
    let (_, next) = decide(scheduler, snapshot, state, at);
    let written = next.to_json();
    assert!(written.len() <= MOST_BYTES, "{} bytes", written.len());
    let again = State::from_json(&written).expect("an own document can be read");
    for notification in &next.outbox {
        assert_rendered(notification, Some(scheduler), Language::Ja);
    }
    let (plan, _) = decide(scheduler, snapshot, &again, at);
    assert!(plan.is_empty(), "decided twice: {plan}");
    again
}

/// A log file, and a file of what ECS said, are refused with the line, or can be replayed.
pub fn replay(input: &[u8]) {
    let said = match ServiceHistory::read(input, "ecs.jsonl") {
        Ok(said) => Some(said),
        Err(ServiceError::Format { line, .. }) => {
            assert_place(input, line);
            None
        }
        Err(error) => panic!("{error}"),
    };
    let source = Source {
        name: "scheduler.log",
        zone: &WATCHED.schedulers[0].timezone,
    };
    let mut builder = Builder::new(&WATCHED.schedulers);
    let read = log::read(source, input, &mut |entry| {
        assert!(entry.event.message.len() <= 3 * LONGEST_MESSAGE);
        builder.add(entry);
    });
    match read {
        Ok(_) => {}
        Err(LogError::Format { line, .. }) => return assert_place(input, line),
        Err(error) => panic!("{error}"),
    }
    let world = LocalWorld::new(builder.build(), said);
    let Some(span) = world.span() else { return };
    let length = span.arrived.max(span.first).duration_since(span.first);
    let format = [Format::Json, Format::Text, Format::Html][input.len() % 3];
    let options = Options {
        from: None,
        until: None,
        every: (length / PASSES).max(SignedDuration::from_mins(1)),
        format,
        all: true,
    };
    let Ok(schedule) = Schedule::new(&world, &options) else {
        return;
    };
    let mut out = Vec::new();
    let mut watcher = Nobody;
    let run = replay::run(
        &WATCHED,
        &world,
        &schedule,
        &options,
        &mut out,
        &mut watcher,
    );
    let summary = now_or_never(run).expect("memory can be written to");
    assert_eq!(summary.passes, schedule.passes());
    let out = String::from_utf8(out).expect("text");
    match format {
        Format::Json => {
            for line in out.lines() {
                let line: Value = serde_json::from_str(line).expect("an object a line");
                assert!(line["type"].is_string());
            }
        }
        Format::Text => {
            out.lines().for_each(assert_visible);
            assert!(!out.contains("(could not be judged);"), "a pass broke off");
        }
        Format::Html => {
            assert!(out.trim_end().ends_with("</html>"));
            for element in [
                "<script",
                "<img",
                "<iframe",
                "<link",
                "<a href=\"javascript",
            ] {
                assert!(!out.to_ascii_lowercase().contains(element), "{element}");
            }
        }
    }
}

/// A mistake's line is one of the file, or follows its last.
fn assert_place(input: &[u8], line: usize) {
    let lines = input.iter().filter(|byte| **byte == b'\n').count() + 1;
    assert!((1..=lines).contains(&line), "line {line} of {lines}");
}

struct Nobody;

impl Watcher for Nobody {
    fn progress(&mut self, _passes: u64) {}
    fn note(&mut self, _note: String) {}
}

/// Files never keep one waiting.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a file kept one waiting"),
    }
}

/// A schedule list is refused, or its tables can be pasted.
pub fn import(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(list) = import::read(&text) else {
        return;
    };
    for job in &list.jobs {
        assert_visible(&job.name);
    }
    let tables = import::tables(&list, None);
    let head = "[[scheduler]]\nname = \"a\"\nlog_groups = [\"/a\"]\nenvironment = \"production\"\n";
    match Config::parse(&format!("{head}{tables}"), "watchdog.toml") {
        Ok(config) => {
            assert!(config.schedulers[0].jobs.len() <= list.jobs.len());
            let _ = import::drift(&config.schedulers[0], &list, now());
        }
        Err(mistakes) => {
            // What a list may well hold, and a configuration may not.
            let known = [
                "zone",
                "at most",
                "every",
                "environment",
                "empty",
                "150 jobs",
            ];
            for mistake in &mistakes.0 {
                let is_known = known.iter().any(|word| mistake.message.contains(word));
                assert!(is_known, "{mistake} in\n{tables}");
            }
        }
    }
}

/// Messages with any text in every place that others write.
pub fn message(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    assert_safe(&text);
    let mut texts = text.split('\n');
    // The first line chooses, byte by byte; the others are what the message is about.
    let mut choices = texts.next().unwrap_or_default().bytes();
    let mut choose = |of: usize| usize::from(choices.next().unwrap_or_default()) % of;
    let condition = Condition::ALL[choose(Condition::ALL.len())];
    let occasion = Occasion::ALL[choose(Occasion::ALL.len())];
    let cure = [
        CureKind::ForceNewDeployment,
        CureKind::StopTask,
        CureKind::RunTask,
    ][choose(3)];
    let texts: Vec<String> = texts.map(str::to_owned).collect();
    let pick = |index: usize| texts.get(index).cloned().unwrap_or_default();
    let at = now();
    let handling = match choose(9) {
        0 => Handling::Watching,
        1 => Handling::Restarting { cure, attempt: 2 },
        2 => Handling::Withheld {
            cure,
            blocked_by: Gate::ALL.to_vec(),
        },
        3 => Handling::Proving { cure, at },
        4 => Handling::Cured {
            cure,
            at,
            seconds: 252,
        },
        5 => Handling::CureFailed {
            cure,
            at,
            error: Some(pick(2)),
        },
        6 => Handling::CameBack,
        7 => Handling::ScaledToZero,
        _ => Handling::NotDueAnyMore,
    };
    let known = [
        "redis-unreachable",
        "permission-denied",
        "stuck-mutex",
        "image-pull",
    ];
    let notification = Notification {
        id: format!("{}/{at}", pick(0)),
        incident: pick(0),
        at,
        scheduler: pick(0),
        occasion,
        condition,
        subject: texts.get(1).cloned(),
        severity: condition.severity(),
        since: at - SignedDuration::from_mins(9),
        again_since: (choose(2) == 1).then_some(at),
        until: (choose(2) == 1).then_some(at),
        causes: vec![
            Cause {
                id: known[choose(known.len())].to_owned(),
                evidence: texts
                    .iter()
                    .skip(2)
                    .map(|text| Evidence::from(text.clone()))
                    .collect(),
            },
            Cause::new(&pick(3), pick(4)),
        ],
        proof: vec![
            Fact::Stopped {
                reasons: texts.clone(),
            },
            Fact::EcsUnknown {
                why: pick(2),
                obstacle: None,
            },
            Fact::Mistakes {
                list: texts.clone(),
            },
            Fact::MayBeRunning {
                jobs: texts.clone(),
            },
            Fact::MissedRuns {
                job: pick(1),
                count: 2,
                first: at,
                last: at,
            },
            Fact::Tasks {
                running: 1,
                desired: 1,
                newest: Some(pick(3)),
            },
            Fact::HealthUnknown { why: pick(4) },
        ],
        handling,
    };
    let scheduler = (choose(4) != 1).then_some(&WATCHED.schedulers[0]);
    let language = [Language::En, Language::Ja][choose(2)];
    assert_rendered(&notification, scheduler, language);
}

fn assert_safe(text: &str) {
    let evidence = safe::evidence(text);
    assert!(evidence.len() <= safe::MAX_EVIDENCE);
    assert_visible(&evidence);
    assert_visible(&safe::name(text));
    let line = safe::line(text);
    assert_visible(&line);
    assert_eq!(safe::line(&line), line);
    assert!(
        safe::ascii(text)
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte))
    );
    assert_dead(&safe::defuse(text));
    let code = safe::code(text);
    let inner = code
        .strip_prefix('`')
        .and_then(|code| code.strip_suffix('`'));
    assert!(!inner.expect("code").contains('`'));
    assert_eq!(word(&safe::shell(text)), safe::name(text));
    assert!(safe::cut(text, 99).len() <= 99.max("…".len()));
}

/// The one word that a shell reads: bare, in single quotes, or in double quotes in which nothing
/// has a meaning.
fn word(quoted: &str) -> String {
    let mut word = String::new();
    let mut rest = quoted;
    while let Some(char) = rest.chars().next() {
        let after = &rest[char.len_utf8()..];
        rest = match char {
            '\'' => {
                let (text, after) = after.split_once('\'').expect("a quote's end");
                word.push_str(text);
                after
            }
            '"' => {
                let (text, after) = after.split_once('"').expect("a quote's end");
                assert!(!text.contains(['$', '`', '\\', '!']), "{quoted}");
                word.push_str(text);
                after
            }
            '\\' => {
                let escaped = after.chars().next().expect("an escaped character");
                word.push(escaped);
                &after[escaped.len_utf8()..]
            }
            bare => {
                let calm = bare.is_ascii_alphanumeric() || "_./:@%+=,-".contains(bare);
                assert!(calm, "{bare:?} is bare in {quoted}");
                word.push(bare);
                after
            }
        };
    }
    word
}

fn assert_rendered(notification: &Notification, scheduler: Option<&Scheduler>, language: Language) {
    let context = Context {
        scheduler,
        language,
        hide_emails: language == Language::En,
        region: "ap-northeast-1",
    };
    assert_message(&render(notification, &context));
}

fn assert_message(message: &Message) {
    let subject = &message.subject;
    assert!((1..=99).contains(&subject.len()), "{subject:?}");
    assert!(
        subject.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
        "{subject:?}"
    );
    assert!(
        message.text.len() <= 16 * 1024,
        "{} bytes",
        message.text.len()
    );
    message.text.lines().for_each(assert_visible);

    let content = &message.chat["content"];
    let length = |value: &Value| value.as_str().map(|text| text.chars().count());
    assert!((length(&content["title"])).is_some_and(|length| (1..=250).contains(&length)));
    assert!((length(&content["description"])).is_some_and(|length| (1..=8000).contains(&length)));
    each_text(&message.chat, &mut |text| {
        text.lines().for_each(assert_visible);
        assert_dead(text);
    });
    for part in ["subject", "causes", "evidence", "facts", "handling"] {
        each_text(&message.machine[part], &mut assert_visible);
    }
    let whole =
        message.text.len() + message.chat.to_string().len() + 4 * message.machine.to_string().len();
    // SNS's own bound.
    assert!(whole <= 256 * 1024, "{whole} bytes");
}

/// Nothing in it can notify anybody, or lead anywhere but into the console.
fn assert_dead(text: &str) {
    let mut rest = text;
    while let Some(start) = rest.find(['<', '>', '&']) {
        let (special, after) = rest[start..].split_at(1);
        rest = after;
        match special {
            "&" => {
                let entity = ["amp;", "lt;", "gt;"]
                    .iter()
                    .any(|name| after.starts_with(name));
                assert!(entity, "a bare & in {text}");
            }
            "<" => {
                let console = "https://ap-northeast-1.console.aws.amazon.com/";
                assert!(after.starts_with(console), "{text}");
                let (link, after) = after.split_once('>').expect("a link's end");
                assert!(!link.contains(['<', '\n']), "{text}");
                rest = after;
            }
            _ => panic!("a bare > in {text}"),
        }
    }
}

fn each_text(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(list) => list.iter().for_each(|value| each_text(value, visit)),
        Value::Object(map) => map.values().for_each(|value| each_text(value, visit)),
        _ => {}
    }
}

/// An answer of a health endpoint.
pub fn health(input: &[u8]) {
    for status in [200, 503] {
        match Health::read("https://app.example/health", status, input, &TimeZone::UTC) {
            Ok(health) => assert!(status == 200 || !health.healthy),
            Err(error) => assert_visible(&error.to_string()),
        }
    }
}
