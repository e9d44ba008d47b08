//! Past logs through the command line: the contract that scripts rely on.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::cli::{CONFIG, Desk};

const WEEK: u32 = 7 * 24 * 60;

/// Three outages and a storm of errors, in minutes of the week.
const OUTAGES: [std::ops::Range<u32>; 3] = [1000..1090, 4000..4030, 8000..8300];
const STORM: std::ops::Range<u32> = 6000..6005;

fn start() -> Timestamp {
    "2026-11-24T00:00:00Z".parse().unwrap()
}

fn minute(number: u32) -> Timestamp {
    start() + SignedDuration::from_mins(i64::from(number))
}

/// The events of a span of the week as the AWS CLI gives them.
fn events(span: std::ops::Range<u32>) -> Vec<Value> {
    let mut events = Vec::new();
    let mut add = |at: Timestamp, message: &str| {
        events.push(json!({
            "logStreamName": "app/app/0123456789abcdef",
            "timestamp": at.as_millisecond(),
            "message": message,
            "ingestionTime": at.as_millisecond() + 800,
            "eventId": format!("{}{}", at.as_millisecond(), message.len()),
        }));
    };
    for number in span {
        let at = minute(number);
        if !OUTAGES.iter().any(|outage| outage.contains(&number)) {
            let beat = at + SignedDuration::from_secs(2);
            add(beat, "   INFO  No scheduled commands are ready to run.  ");
        }
        // The web server goes on through it all.
        add(
            at + SignedDuration::from_secs(7),
            "10.0.0.7 \"GET / HTTP/1.1\" 200",
        );
        if STORM.contains(&number) {
            for error in 0..12 {
                let at = at + SignedDuration::from_secs(20 + error);
                let message = format!("production.ERROR: mail {error} was not sent");
                add(at, &format!("[2026-11-28 04:00:20] {message}"));
            }
        }
    }
    events
}

fn lines(events: &[Value]) -> String {
    events.iter().fold(String::new(), |mut text, event| {
        let _ = writeln!(text, "{event}");
        text
    })
}

fn objects(stdout: &str) -> Vec<Value> {
    (stdout.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn of_type<'v>(objects: &'v [Value], kind: &str) -> Vec<&'v Value> {
    objects.iter().filter(|o| o["type"] == kind).collect()
}

fn time(object: &Value) -> Timestamp {
    object["at"].as_str().unwrap().parse().unwrap()
}

/// When each incident was opened and resolved, in minutes of the week.
fn incidents(objects: &[Value]) -> Vec<(String, i64, i64)> {
    let mut open: BTreeMap<String, i64> = BTreeMap::new();
    let mut incidents = Vec::new();
    for message in of_type(objects, "notification") {
        let condition = message["condition"].as_str().unwrap().to_owned();
        let at = time(message).duration_since(start()).as_mins();
        match message["reason"].as_str().unwrap() {
            "opened" => assert_eq!(open.insert(condition, at), None, "opened twice"),
            "resolved" => {
                let opened = open.remove(&condition).expect("resolved, but never opened");
                incidents.push((condition, opened, at));
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    incidents
}

#[test]
fn a_week_with_three_outages_and_a_storm_makes_four_incidents() {
    let desk = Desk::new();
    let document = json!({ "events": events(0..WEEK), "searchedLogStreams": [] });
    desk.file("watchdog.toml", CONFIG)
        .file("week.json", &format!("{document:#}"));
    for every in ["5m", "1m"] {
        let arguments = [
            "replay",
            "--config",
            "watchdog.toml",
            "--logs",
            "week.json",
            "--every",
            every,
            "--format",
            "json",
        ];
        let objects = objects(&desk.watchdog(&arguments).ok());
        let times: Vec<Timestamp> = objects.iter().map(time).collect();
        assert!(times.is_sorted());

        let incidents = incidents(&objects);
        let conditions: Vec<&str> = incidents.iter().map(|(c, ..)| c.as_str()).collect();
        let silent = "scheduler-silent";
        assert_eq!(
            conditions,
            [silent, silent, "error-spike", silent],
            "{every}"
        );
        let ranges = [
            OUTAGES[0].clone(),
            OUTAGES[1].clone(),
            STORM,
            OUTAGES[2].clone(),
        ];
        for ((condition, opened, resolved), range) in incidents.iter().zip(ranges) {
            let (start, end) = (i64::from(range.start), i64::from(range.end));
            // Noticed within stale_after, two passes and the overlap; over soon after the end.
            let late = opened - start;
            assert!(
                (0..=17).contains(&late),
                "{condition} noticed after {late} min"
            );
            let late = resolved - end;
            assert!(
                (0..=30).contains(&late),
                "{condition} over after {late} min"
            );
        }
    }
}

#[test]
fn all_formats_of_a_log_say_the_same() {
    let desk = Desk::new();
    let events = events(900..1200);
    let rows: Vec<Value> = (events.iter().rev())
        .map(|event| {
            let text = |key: &str| {
                let at = Timestamp::from_millisecond(event[key].as_i64().unwrap()).unwrap();
                at.strftime("%Y-%m-%d %H:%M:%S.%3f").to_string()
            };
            json!([
                {"field": "@timestamp", "value": text("timestamp")},
                {"field": "@ingestionTime", "value": text("ingestionTime")},
                {"field": "@logStream", "value": event["logStreamName"]},
                {"field": "@message", "value": event["message"]},
                {"field": "@ptr", "value": event["eventId"]},
            ])
        })
        .collect();
    let tail = events.iter().fold(String::new(), |mut text, event| {
        let at = Timestamp::from_millisecond(event["timestamp"].as_i64().unwrap()).unwrap();
        let at = at.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00");
        let (stream, message) = (&event["logStreamName"], &event["message"]);
        let (stream, message) = (stream.as_str().unwrap(), message.as_str().unwrap());
        let _ = writeln!(text, "{at} {stream} {message}");
        text
    });
    desk.file("watchdog.toml", CONFIG)
        .file(
            "document.json",
            &format!("{:#}", json!({ "events": events })),
        )
        .file("lines.jsonl", &lines(&events))
        .file(
            "query.json",
            &json!({"results": rows, "status": "Complete"}).to_string(),
        )
        .file("tail.log", &tail)
        // Overlapping exports hold some events twice.
        .file("first.jsonl", &lines(&events[..400]))
        .file("second.jsonl", &lines(&events[200..]));
    let replay = |logs: &[&str]| {
        let mut arguments = vec![
            "replay",
            "--until",
            "2026-11-24T20:00:00Z",
            "--format",
            "json",
            "--all",
            "--logs",
        ];
        arguments.extend(logs);
        desk.watchdog(&arguments).ok()
    };
    let expected = replay(&["document.json"]);
    assert!(expected.contains("\"opened\""));
    for logs in [
        &["lines.jsonl"][..],
        &["query.json"],
        &["tail.log"],
        &["second.jsonl", "first.jsonl"],
    ] {
        assert_eq!(replay(logs), expected, "{logs:?}");
    }
}

#[test]
fn an_outage_at_the_end_is_one_only_if_time_went_on() {
    let desk = Desk::new();
    desk.file("watchdog.toml", CONFIG)
        .file("log.jsonl", &lines(&events(900..1000)));
    let replay = |until: &[&str]| {
        let mut arguments = vec!["replay", "--logs", "log.jsonl", "--format", "json"];
        arguments.extend(until);
        let objects = objects(&desk.watchdog(&arguments).ok());
        of_type(&objects, "notification").len()
    };
    assert_eq!(replay(&[]), 0);
    assert_eq!(replay(&["--until", "2026-11-24T17:30:00Z"]), 1);
}

#[test]
fn an_event_exists_once_it_has_arrived() {
    let desk = Desk::new();
    let mut late = events(0..60);
    for event in &mut late {
        event["ingestionTime"] = json!(event["timestamp"].as_i64().unwrap() + 240_000);
    }
    desk.file("watchdog.toml", CONFIG)
        .file("log.jsonl", &lines(&late));
    let arguments = [
        "replay",
        "--logs",
        "log.jsonl",
        "--format",
        "json",
        "--all",
        "--until",
        "2026-11-24T01:01:00Z",
    ];
    let objects = objects(&desk.watchdog(&arguments).ok());
    let silent: Vec<i64> = (of_type(&objects, "check").into_iter())
        .filter_map(|check| check["silent_seconds"].as_i64())
        .collect();
    assert!(
        silent.iter().all(|seconds| (238..=302).contains(seconds)),
        "{silent:?}"
    );
}

#[test]
fn every_pass_is_told_on_request() {
    let desk = Desk::new();
    desk.file("watchdog.toml", CONFIG)
        .file("log.jsonl", &lines(&events(0..11)));
    let arguments = ["replay", "--logs", "log.jsonl", "--format", "json", "--all"];
    insta::assert_snapshot!(desk.watchdog(&arguments).ok());
    let quiet = ["replay", "--logs", "log.jsonl", "--format", "json"];
    assert_eq!(desk.watchdog(&quiet).ok(), "");
}

#[test]
fn restarts_are_told_when_the_decision_changes() {
    let desk = Desk::new();
    let config = format!(
        "{CONFIG}\n[scheduler.ecs]\ncluster = \"main\"\nservice = \"web\"\n\n\
         [scheduler.remediation]\naction = \"force-new-deployment\"\nallow_mutable_image_tag = true\n"
    );
    let task = json!({
        "taskArn": "arn:aws:ecs:eu-west-1:123456789012:task/main/0123456789abcdef",
        "startedBy": "ecs-svc/1",
        "lastStatus": "RUNNING",
        "startedAt": "2026-11-20T00:00:00Z",
        "containers": [{"name": "app", "image": "web:latest"}],
    });
    let service = json!({
        "serviceName": "web",
        "status": "ACTIVE",
        "desiredCount": 1,
        "runningCount": 1,
        "deployments": [{
            "id": "ecs-svc/1",
            "status": "PRIMARY",
            "rolloutState": "COMPLETED",
            "createdAt": 1_795_132_800.0,
        }],
    });
    let look = json!({"at": "2026-11-24T00:00:00Z", "service": service, "tasks": [task]});
    desk.file("watchdog.toml", &config)
        .file("ecs.jsonl", &format!("{look}\n"))
        .file("log.jsonl", &lines(&events(900..1090)));
    let replay = |more: &[&str]| {
        let mut arguments = vec!["replay", "--logs", "log.jsonl", "--format", "json"];
        arguments.extend(more);
        objects(&desk.watchdog(&arguments).ok())
    };
    let seeing = replay(&["--service", "ecs.jsonl"]);
    let decisions = of_type(&seeing, "remediation");
    assert!(
        decisions.iter().any(|d| d["allowed"] == true),
        "{decisions:?}"
    );
    for decision in &decisions {
        assert_eq!(decision["action"], "force-new-deployment");
        let blocked = decision["blocked_by"].as_array().unwrap();
        assert_eq!(decision["allowed"], json!(blocked.is_empty()));
    }
    let parts = |d: &&Value| (d["attempt"].clone(), d["blocked_by"].clone());
    assert!(
        decisions
            .windows(2)
            .all(|pair| parts(&pair[0]) != parts(&pair[1]))
    );

    let blind = replay(&[]);
    let decisions = of_type(&blind, "remediation");
    assert!(!decisions.is_empty());
    for decision in decisions {
        let gates = decision["blocked_by"].as_array().unwrap();
        assert!(gates.contains(&json!("ecs-unknown")), "{decision}");
    }
}

#[test]
fn people_get_a_timeline() {
    let desk = Desk::new();
    desk.file("watchdog.toml", CONFIG)
        .file("log.jsonl", &lines(&events(900..1200)));
    insta::assert_snapshot!(desk.watchdog(&["replay", "--logs", "log.jsonl"]).ok());
}

#[test]
fn bytes_of_all_kinds_are_survived() {
    let desk = Desk::new();
    let mut log = events(0..30);
    log.push(json!({"timestamp": minute(12).as_millisecond(), "message": "x".repeat(1 << 20)}));
    log.push(json!({"timestamp": minute(13).as_millisecond(), "message": "\u{1b}[31m\u{0}\u{7}\r<!channel>\u{202e}"}));
    let mut text = lines(&log);
    // Many lines of one moment: bounded work, no crash.
    for number in 0..12_000 {
        let at = minute(20).as_millisecond();
        let message = format!("[2026-11-24 00:20:00] production.ERROR: no {number}");
        let _ = writeln!(text, "{}", json!({"timestamp": at, "message": message}));
    }
    desk.file("watchdog.toml", CONFIG).file("log.jsonl", &text);
    let run = desk.watchdog(&["replay", "--logs", "log.jsonl"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(
        run.stderr,
        "log.jsonl: 1 long messages were cut to 64 KiB\n"
    );
    let rude = |char: char| char.is_control() && char != '\n';
    assert!(!run.stdout.contains(rude), "{:?}", run.stdout);
}
