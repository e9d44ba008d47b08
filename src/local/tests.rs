use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;

/// Files never keep one waiting.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("pending"),
    }
}

fn config() -> Config {
    let text = "[[scheduler]]\nname = \"web\"\nlog_groups = [\"/ecs/web\"]\n\
                log_stream_prefix = \"app/\"\ntimezone = \"Asia/Tokyo\"\n\
                [scheduler.ecs]\ncluster = \"main\"\nservice = \"web\"\n";
    Config::parse(text, "watchdog.toml").unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn world(directory: &Path, log: &str, service: Option<&str>) -> LocalWorld {
    let logs = vec![directory.join("scheduler.log")];
    std::fs::write(&logs[0], log).unwrap();
    let service = service.map(|text| {
        let path = directory.join("ecs.jsonl");
        std::fs::write(&path, text).unwrap();
        path
    });
    let files = Files {
        logs,
        service,
        state: None,
    };
    LocalWorld::read(&config(), &files, &mut |_| {}).unwrap()
}

#[test]
fn a_plain_file_is_seen_whatever_the_prefix_and_in_the_schedulers_zone() {
    let directory = tempfile::tempdir().unwrap();
    let log = "[2026-11-24 12:00:00] production.ERROR: x\n";
    let world = world(directory.path(), log, None);
    let now = time("2026-11-24T03:05:00Z");
    world.set_now(now);
    assert_eq!(world.now(), now);
    let scheduler = &config().schedulers[0];
    let from = time("2026-11-24T02:00:00Z");
    let probe = now_or_never(world.probe(scheduler, from, now));
    let newest = probe.known().unwrap().newest_line();
    assert_eq!(newest, Some(time("2026-11-24T03:00:00Z")));
    let window = now_or_never(world.log(scheduler, from, now));
    let window = window.known().unwrap();
    assert_eq!(
        (window.from, window.until, window.truncated),
        (from, now, false)
    );
    assert_eq!(window.lag, None);
}

#[test]
fn ecs_is_unknown_without_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let scheduler = &config().schedulers[0];
    let ecs = scheduler.ecs.as_ref().unwrap();
    let blind = world(directory.path(), "", None);
    assert_eq!(now_or_never(blind.service(ecs)), None);

    let line =
        "{\"at\": \"2026-11-24T03:00:00Z\", \"service\": {\"desiredCount\": 2}, \"tasks\": []}\n";
    let seeing = world(directory.path(), "", Some(line));
    seeing.set_now(time("2026-11-24T03:00:00Z"));
    let facts = now_or_never(seeing.service(ecs));
    let Some(Observed::Known(facts)) = facts else {
        panic!("unknown");
    };
    assert_eq!(facts.desired, 2);
    seeing.set_now(time("2026-11-24T02:59:59Z"));
    assert_eq!(now_or_never(seeing.service(ecs)), None);
}

#[test]
fn the_lag_is_what_99_of_100_events_take_at_most() {
    let event = |seconds: i64| LogEvent {
        at: Timestamp::UNIX_EPOCH,
        ingested: Timestamp::from_second(seconds).ok(),
        stream: "s".into(),
        id: None,
        message: String::new(),
    };
    let events: Vec<LogEvent> = (1..=200).rev().map(event).collect();
    assert_eq!(lag(&events), Some(SignedDuration::from_secs(198)));
    assert_eq!(lag(&events[..1]), Some(SignedDuration::from_secs(200)));
    assert_eq!(lag(&[]), None);
}

#[test]
fn all_lines_are_read_once_a_day_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = String::new();
    let from = time("2026-11-23T03:00:00Z");
    for hour in 0..60 {
        let at = from + SignedDuration::from_hours(hour);
        let at = at.strftime("%Y-%m-%dT%H:%M:%S.000000+00:00");
        log.push_str(&format!(
            "{at} app/app/1    INFO  No scheduled commands are ready to run.  \n\
             {at} app/app/1 10.0.0.7 \"GET / HTTP/1.1\" 200\n"
        ));
    }
    let world = world(directory.path(), &log, None);
    let (mut heard, mut until) = (Vec::new(), Vec::new());
    let end = from + SignedDuration::from_hours(58);
    world.lines(&config().schedulers[0], from, end, &mut |lines, reached| {
        heard.extend(lines.iter().map(|line| line.at));
        until.push(reached.duration_since(from).as_hours());
    });
    let expected: Vec<Timestamp> = (0..=58)
        .map(|hour| from + SignedDuration::from_hours(hour))
        .collect();
    assert_eq!(heard, expected);
    assert_eq!(until, [24, 48, 58]);
}

#[test]
fn deployments_are_told_as_they_were_seen_last() {
    let look = |at: &str, deployments: &str| {
        format!("{{\"at\": \"{at}\", \"service\": {{\"deployments\": [{deployments}]}}}}\n")
    };
    let deployment = |number: u32, rollout: &str| {
        format!(
            "{{\"id\": \"ecs-svc/{number}\", \"status\": \"PRIMARY\", \"rolloutState\": \
             \"{rollout}\", \"createdAt\": \"2026-11-24T0{number}:00:00Z\"}}"
        )
    };
    let (first, second) = (deployment(1, "COMPLETED"), deployment(2, "IN_PROGRESS"));
    let service = look("2026-11-24T03:00:00Z", &deployment(2, "COMPLETED"))
        + &look("2026-11-24T02:00:00Z", &format!("{second}, {first}"));
    let directory = tempfile::tempdir().unwrap();
    let world = world(directory.path(), "", Some(&service));
    let ecs = config().schedulers.remove(0).ecs.unwrap();
    let told: Vec<String> = (world.deployments(&ecs).into_iter())
        .map(|deployment| format!("{} {}", deployment.id, deployment.rollout))
        .collect();
    assert_eq!(told, ["ecs-svc/1 COMPLETED", "ecs-svc/2 COMPLETED"]);
}
