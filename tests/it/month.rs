//! Months of a scheduler that really follows the wall clock, replayed: what people would have
//! been told.

use std::ops::Range;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::cli::Desk;

const STREAM: &str = "app/app/0a1b2c3d4e5f60718293a4b5c6d7e8f9";

/// A job as the application has it: due by the wall clock, minute by minute.
pub struct Job {
    pub name: &'static str,
    is_due: fn(DateTime) -> bool,
    background: bool,
    /// Times in which it is held back without a word.
    pub held: Vec<Range<Timestamp>>,
    /// Times in which its runs fail.
    pub fails: Vec<Range<Timestamp>>,
}

impl Job {
    pub fn new(name: &'static str, is_due: fn(DateTime) -> bool) -> Self {
        Self {
            name,
            is_due,
            background: false,
            held: Vec::new(),
            fails: Vec::new(),
        }
    }
}

/// A loop that runs the scheduler, in a container that also answers requests.
pub struct Loop {
    zone: TimeZone,
    jobs: Vec<Job>,
    /// Times in which the loop is dead.
    pub dead: Vec<Range<Timestamp>>,
    /// From one run to the next.
    pace: SignedDuration,
}

fn within(spans: &[Range<Timestamp>], at: Timestamp) -> bool {
    spans.iter().any(|span| span.contains(&at))
}

impl Loop {
    pub fn new(zone: &str, jobs: Vec<Job>) -> Self {
        Self {
            zone: TimeZone::get(zone).unwrap(),
            jobs,
            dead: Vec::new(),
            pace: SignedDuration::from_mins(1),
        }
    }

    /// What Laravel 12 prints in a span, as the AWS CLI gives it, one event a line.
    pub fn log(&self, from: Timestamp, until: Timestamp) -> String {
        let mut log = String::new();
        let mut add = |at: Timestamp, message: &str| {
            let event = json!({
                "logStreamName": STREAM,
                "timestamp": at.as_millisecond(),
                "ingestionTime": at.as_millisecond() + 900,
                "message": message,
            });
            log.push_str(&format!("{event}\n"));
        };
        let mut at = from + SignedDuration::from_secs(2);
        let mut requests = from;
        while at < until {
            if !within(&self.dead, at) {
                self.run(at, &mut add);
            }
            at += self.pace;
            while requests < at {
                add(
                    requests + SignedDuration::from_secs(31),
                    "10.0.0.7 \"GET / HTTP/1.1\" 200",
                );
                requests += SignedDuration::from_mins(2);
            }
        }
        log
    }

    /// One `schedule:run`.
    fn run(&self, at: Timestamp, add: &mut impl FnMut(Timestamp, &str)) {
        let wall = self.zone.to_datetime(at);
        let minute = wall.with().second(0).subsec_nanosecond(0).build().unwrap();
        let mut now = at;
        for job in &self.jobs {
            if !(job.is_due)(minute) || within(&job.held, at) {
                continue;
            }
            let took = if job.background { 3 } else { 120 };
            now += SignedDuration::from_millis(took);
            if within(&job.fails, at) {
                add(
                    now - SignedDuration::from_millis(1),
                    &format!(
                        "[{}] production.ERROR: Scheduled command ['/usr/local/bin/php' 'artisan' {}] failed with exit code [1]. ",
                        wall.strftime("%Y-%m-%d %H:%M:%S"),
                        job.name
                    ),
                );
            }
            let background = if job.background { " in background" } else { "" };
            add(
                now,
                &format!(
                    "  {} Running ['artisan' {}]{background} ............ {took}ms DONE",
                    wall.strftime("%Y-%m-%d %H:%M:%S"),
                    job.name
                ),
            );
        }
        if now == at {
            add(at, "   INFO  No scheduled commands are ready to run.  ");
        }
    }
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn span(from: &str, until: &str) -> Range<Timestamp> {
    at(from)..at(until)
}

/// What ECS says all the time: one task, one deployment that has come to its end.
pub fn steady_service(since: &str) -> String {
    let at = since;
    let started = "2025-11-20T00:00:00Z";
    let service = json!({
        "status": "ACTIVE",
        "desiredCount": 1,
        "runningCount": 1,
        "deploymentController": {"type": "ECS"},
        "deployments": [{
            "id": "ecs-svc/1", "status": "PRIMARY", "rolloutState": "COMPLETED",
            "createdAt": started, "failedTasks": 0,
        }],
        "events": [],
    });
    let task = json!({
        "taskArn": format!("arn:aws:ecs:ap-northeast-1:123456789012:task/c/{}", &STREAM[8..]),
        "startedBy": "ecs-svc/1",
        "lastStatus": "RUNNING",
        "startedAt": started,
        "containers": [{"name": "app", "image": "app:latest"}],
    });
    format!(
        "{}\n",
        json!({"at": at, "service": service, "tasks": [task]})
    )
}

fn replay(desk: &Desk, until: &str, more: &[&str]) -> Vec<Value> {
    let mut arguments = vec![
        "replay",
        "--config",
        "watchdog.toml",
        "--logs",
        "log.jsonl",
        "--service",
        "service.jsonl",
        "--until",
        until,
        "--format",
        "json",
    ];
    arguments.extend(more);
    (desk.watchdog(&arguments).ok().lines())
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|object| object["type"] == "notification")
        .collect()
}

fn five_minutes(at: DateTime) -> bool {
    at.minute() % 5 == 0
}

/// The five jobs of `examples/watchdog.toml`, as the application defines them.
pub fn five_jobs() -> Vec<Job> {
    let mut jobs = vec![
        Job::new("redis:monitor", five_minutes),
        Job::new("auth:monitor-dual-auth --alert", |at| {
            five_minutes(at) && (at.year(), at.month()) == (2025, 12) && at.day() <= 14
        }),
        Job::new("notifications:delete-expired", |at| {
            (at.hour(), at.minute()) == (0, 0)
        }),
        Job::new("payment:clean-old-histories", |at| {
            (at.day(), at.hour(), at.minute()) == (1, 1, 0)
        }),
        Job::new("batch:run", |at| at.minute() == 15),
    ];
    (jobs[0].background, jobs[1].background) = (true, true);
    jobs
}

pub fn example_config() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/watchdog.toml");
    std::fs::read_to_string(path).unwrap()
}

/// December as people would have been told of it: the mutex that a killed run left on the 5th,
/// the monthly run that failed, an outage over midnight, and nothing when the job of two weeks
/// ends on the 14th.
#[test]
fn december() {
    let mut jobs = five_jobs();
    jobs[0].held = vec![span(
        "2025-12-05T10:01:00+09:00",
        "2025-12-05T13:01:00+09:00",
    )];
    jobs[3].fails = vec![span(
        "2025-12-01T01:00:00+09:00",
        "2025-12-01T01:01:00+09:00",
    )];
    let mut scheduler = Loop::new("Asia/Tokyo", jobs);
    scheduler.dead = vec![span(
        "2025-12-10T23:50:30+09:00",
        "2025-12-11T00:20:00+09:00",
    )];
    let desk = Desk::new();
    let (from, until) = (
        at("2025-11-30T12:00:00+09:00"),
        at("2026-01-01T01:30:00+09:00"),
    );
    desk.file("watchdog.toml", &example_config())
        .file("service.jsonl", &steady_service("2025-11-30T00:00:00Z"))
        .file("log.jsonl", &scheduler.log(from, until));
    let told = replay(&desk, "2026-01-01T01:30:00+09:00", &[]);
    let brief: Vec<String> = (told.iter())
        .map(|message| {
            let field = |name: &str| message[name].as_str().unwrap_or("-").to_owned();
            let at = self::at(&field("at")).to_zoned_datetime(TimeZone::get("Asia/Tokyo").unwrap());
            format!(
                "{} {} {} {}",
                at.strftime("%m-%d %H:%M"),
                field("reason"),
                field("condition"),
                field("job"),
            )
        })
        .collect();
    insta::assert_snapshot!("december-in-brief", brief.join("\n"));
    let whole: Vec<String> = (told.iter())
        .filter(|message| message["reason"] != "reminder")
        .map(|message| {
            let field = |name: &str| message[name].as_str().unwrap().to_owned();
            format!(
                "at {}\nSubject: {}\n\n{}",
                field("at"),
                field("subject"),
                field("text")
            )
        })
        .collect();
    insta::assert_snapshot!("december-in-full", whole.join("\n\n==========\n\n"));
}

/// Clocks change, and nobody is told of jobs that a change skips or repeats; but a job that is
/// held back in those very days is told.
#[test]
fn clock_changes_are_no_alarm() {
    let config = |zone: &str| {
        let job = |name: &str, cron: &str| {
            format!("[[scheduler.job]]\nname = \"{name}\"\ncron = \"{cron}\"\n")
        };
        format!(
            "[[scheduler]]\nname = \"web\"\nlog_groups = [\"/ecs/web\"]\nstale_after = \"5m\"\n\
             timezone = \"{zone}\"\n{}{}{}{}{}",
            job("often", "*/5 * * * *"),
            job("hourly", "15 * * * *"),
            job("at-half-past-two", "30 2 * * *"),
            job("at-ten-past-two", "10 2 * * *"),
            job("at-midnight", "0 0 * * *"),
        )
    };
    let jobs = || {
        vec![
            Job::new("often", five_minutes),
            Job::new("hourly", |at| at.minute() == 15),
            Job::new("at-half-past-two", |at| (at.hour(), at.minute()) == (2, 30)),
            Job::new("at-ten-past-two", |at| (at.hour(), at.minute()) == (2, 10)),
            Job::new("at-midnight", |at| (at.hour(), at.minute()) == (0, 0)),
        ]
    };
    let days = SignedDuration::from_hours(40);
    for zone in [
        "Asia/Tokyo",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
    ] {
        let timezone = TimeZone::get(zone).unwrap();
        let changes: Vec<Timestamp> = (timezone.following(at("2026-01-01T00:00:00Z")))
            .map(|change| change.timestamp())
            .take_while(|change| *change < at("2027-01-01T00:00:00Z"))
            .collect();
        assert_eq!(changes.len(), if zone == "Asia/Tokyo" { 0 } else { 2 });
        let moments = if changes.is_empty() {
            vec![at("2026-03-29T01:00:00Z")]
        } else {
            changes
        };
        for change in moments {
            for held in [false, true] {
                let mut jobs = jobs();
                if held {
                    jobs[4].held = vec![change - days..change + days];
                }
                let scheduler = Loop::new(zone, jobs);
                let desk = Desk::new();
                let until = (change + days).to_string();
                desk.file("watchdog.toml", &config(zone))
                    .file("service.jsonl", "")
                    .file("log.jsonl", &scheduler.log(change - days, change + days));
                let told = replay(&desk, &until, &[]);
                let told: Vec<(&str, &str)> = (told.iter())
                    .map(|m| {
                        (
                            m["reason"].as_str().unwrap(),
                            m["job"].as_str().unwrap_or("-"),
                        )
                    })
                    .filter(|(reason, _)| *reason != "reminder")
                    .collect();
                let expected: &[(&str, &str)] = match held {
                    true => &[("opened", "at-midnight")],
                    false => &[],
                };
                assert_eq!(told, expected, "{zone} {change}");
            }
        }
    }
}
