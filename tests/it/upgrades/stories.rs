//! What the state documents tell of, as texts that every version of the program reads: its
//! configuration, its log, and what ECS said. Nothing here knows today's types.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// The minute from which all others are counted.
const BEGINNING: &str = "2026-11-24T00:00:00Z";

/// The minute of the first pass.
pub const FIRST_PASS: i64 = 30;

/// The newest minute that a log tells of: the trouble goes on after the document was written.
const LOG_ENDS: i64 = 300;

const TASK: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
const SECOND_TASK: &str = "1b2c3d4e5f60718293a4b5c6d7e8f90a";

/// A trouble and how far the watchdog has come with it.
pub struct Story {
    /// Also the scheduler's name.
    pub name: &'static str,
    /// The version of the program from which on its configuration is understood.
    pub since: Version,
    /// What is added to the configuration.
    config: &'static str,
    /// The lines of a minute.
    minute: fn(&mut Log, i64),
    /// What ECS says from a minute on.
    service: fn() -> Vec<(i64, Value, Value)>,
    /// The minute of the last pass, whose document is kept.
    pub last_pass: i64,
    /// Messages are not delivered from this minute on.
    pub undelivered_from: i64,
    /// The log cannot be read from this minute on.
    pub blind_from: i64,
    /// The last pass dies between its claim and what it claimed.
    pub dies: bool,
    /// A person silences it in this minute, for three hours.
    pub silenced_at: Option<i64>,
}

/// What a version can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// The loop and its service.
    Loop,
    /// Jobs and silences as well.
    Jobs,
    /// Scheduled tasks as well.
    Tasks,
}

/// A minute that never comes.
const NEVER: i64 = i64::MAX;

const RESTART: &str = "action = \"force-new-deployment\"\nreplica_action = \"stop-task\"\n";

const PLAIN: Story = Story {
    name: "",
    since: Version::Loop,
    config: "",
    minute: |_, _| (),
    service: steady,
    last_pass: 0,
    undelivered_from: NEVER,
    blind_from: NEVER,
    dies: false,
    silenced_at: None,
};

/// All of them.
pub const STORIES: [Story; 12] = [
    Story {
        name: "restart-claimed",
        config: RESTART,
        minute: |log, minute| {
            log.request(minute);
            if minute < 40 {
                log.idle(minute);
            }
        },
        last_pass: 50,
        undelivered_from: 45,
        dies: true,
        ..PLAIN
    },
    Story {
        name: "locked-out",
        config: RESTART,
        minute: |log, minute| {
            log.request(minute);
            if minute < 40 {
                log.idle(minute);
            }
        },
        last_pass: 100,
        undelivered_from: 95,
        ..PLAIN
    },
    Story {
        name: "failing",
        minute: |log, minute| {
            if minute < 40 {
                log.idle(minute);
            } else {
                let error = "In PhpRedisConnector.php line 185:\n                      \n  \
                             Connection refused  \n                      ";
                log.say(minute, 4, error);
            }
        },
        last_pass: 60,
        ..PLAIN
    },
    Story {
        name: "down",
        minute: |log, minute| {
            if minute < 40 {
                log.idle(minute);
            }
        },
        service: || {
            let stopped = json!([{
                "taskArn": arn(TASK), "startedBy": "ecs-svc/1", "lastStatus": "STOPPED",
                "startedAt": time(-600), "stoppedAt": time(40),
                "stopCode": "EssentialContainerExited",
                "stoppedReason": "Essential container in task exited",
                "containers": [{
                    "name": "app", "image": IMAGE, "exitCode": 137,
                    "reason": "OutOfMemoryError: Container killed due to memory usage",
                }],
            }]);
            let mut looks = steady();
            looks.push((40, service("COMPLETED", -600), stopped));
            looks
        },
        last_pass: 60,
        undelivered_from: 50,
        ..PLAIN
    },
    Story {
        name: "replica-and-errors",
        config: RESTART,
        minute: |log, minute| {
            log.request(minute);
            log.idle(minute);
            log.request_in(SECOND_TASK, minute);
            if minute < 40 {
                log.idle_in(SECOND_TASK, minute);
            }
            if minute >= 52 {
                for error in 0..12 {
                    let text = format!("production.ERROR: mail {error} was not sent");
                    log.say(minute, 20 + error, &format!("[2026-11-24 00:00:00] {text}"));
                }
            }
        },
        service: || {
            let mut service = service("COMPLETED", -600);
            service["desiredCount"] = 2.into();
            vec![(-600, service, json!([running(TASK), running(SECOND_TASK)]))]
        },
        last_pass: 60,
        ..PLAIN
    },
    Story {
        name: "flapping",
        minute: |log, minute| {
            log.request(minute);
            // Fourteen minutes of silence in every half hour, later none.
            if !(40..160).contains(&minute) || minute % 30 < 16 {
                log.idle(minute);
            }
        },
        last_pass: 175,
        ..PLAIN
    },
    Story {
        name: "blind",
        minute: |log, minute| log.idle(minute),
        last_pass: 60,
        undelivered_from: 55,
        blind_from: 40,
        ..PLAIN
    },
    Story {
        name: "deploying",
        minute: |log, minute| {
            if minute < 40 {
                log.idle(minute);
            }
            log.request(minute);
        },
        service: || {
            let mut looks = steady();
            let mut service = service("IN_PROGRESS", 38);
            service["deployments"][0]["id"] = "ecs-svc/2".into();
            looks.push((38, service, json!([running(TASK)])));
            looks
        },
        last_pass: 80,
        undelivered_from: 80,
        ..PLAIN
    },
    Story {
        name: "long-job",
        // Versions that know no job by configuration remember long ones all the same.
        minute: |log, minute| {
            log.request(minute);
            match minute % 10 {
                0 => {}
                3 => log.say(
                    minute,
                    5,
                    "  2026-11-24 00:00:00 Running ['artisan' export:all] ........ 3m 4s DONE",
                ),
                _ if minute % 10 > 3 => log.idle(minute),
                _ => {}
            }
        },
        last_pass: 70,
        ..PLAIN
    },
    Story {
        name: "jobs",
        since: Version::Jobs,
        config: "
            [[scheduler.job]]
            name = \"redis:monitor\"
            cron = \"*/5 * * * *\"
            [[scheduler.job]]
            name = \"mail:send\"
            cron = \"*/5 * * * *\"
            [[scheduler.job]]
            name = \"sync:prices\"
            cron = \"*/5 * * * *\"
            failure_tolerance = 2
            [[scheduler.job]]
            name = \"export:all\"
            cron = \"*/30 * * * *\"
            max_runtime = \"1m\"
            [[scheduler.job]]
            name = \"report:monthly\"
            cron = \"0 9 1 * *\"
            timezone = \"Asia/Tokyo\"
            active = [{ from = \"2026-01-01\", until = \"2027-12-31\", between = \"08:00-18:00\" }]
        ",
        minute: |log, minute| {
            log.request(minute);
            if minute % 5 == 0 {
                log.job(minute, 3, "redis:monitor", "120.00ms DONE");
                if minute < 40 {
                    log.job(minute, 4, "mail:send", "80.00ms DONE");
                }
                let outcome = if minute < 40 { "DONE" } else { "FAIL" };
                log.job(minute, 5, "sync:prices", &format!("90.00ms {outcome}"));
                if minute >= 40 {
                    // Another task runs the same jobs: onOneServer does not hold.
                    log.stream = SECOND_TASK;
                    log.job(minute, 6, "redis:monitor", "110.00ms DONE");
                    log.stream = TASK;
                }
            } else if minute % 30 == 3 {
                log.job(minute, 30, "export:all", "3m 20s DONE");
            } else {
                log.idle(minute);
            }
        },
        last_pass: 65,
        undelivered_from: 65,
        ..PLAIN
    },
    Story {
        name: "silenced",
        since: Version::Jobs,
        minute: |log, minute| {
            log.request(minute);
            if minute < 40 {
                log.idle(minute);
            }
        },
        last_pass: 60,
        silenced_at: Some(40),
        ..PLAIN
    },
    Story {
        name: "scheduled-tasks",
        since: Version::Tasks,
        config: "action = \"run-task\"\n",
        minute: |log, minute| {
            if minute < 40 {
                log.stream = TASKS[usize::try_from(minute).unwrap_or(0) % TASKS.len()];
                log.idle(minute);
                log.stream = TASK;
            }
        },
        service: || {
            let stopped: Vec<Value> = (0..TASKS.len())
                .map(|index| {
                    let minute = 40 + i64::try_from(index).unwrap_or(0) - 5;
                    json!({
                        "taskArn": arn(TASKS[index]), "startedBy": "chronos-schedule/every-minute",
                        "lastStatus": "STOPPED", "startedAt": time(minute),
                        "stoppedAt": time(minute + 1), "stopCode": "EssentialContainerExited",
                        "containers": [{"name": "app", "image": IMAGE, "exitCode": 0}],
                    })
                })
                .collect();
            // ECS forgets stopped tasks after an hour at most.
            vec![
                (-600, Value::Null, stopped.into()),
                (45, Value::Null, json!([])),
            ]
        },
        last_pass: 60,
        undelivered_from: 60,
        ..PLAIN
    },
];

/// Tasks of one run each.
const TASKS: [&str; 5] = [
    "a0000000000000000000000000000000",
    "b0000000000000000000000000000000",
    "c0000000000000000000000000000000",
    "d0000000000000000000000000000000",
    "e0000000000000000000000000000000",
];

const IMAGE: &str =
    "registry.example/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

impl Story {
    /// The configuration of the one scheduler.
    pub fn config(&self) -> String {
        let target = match self.since {
            Version::Tasks => "task_definition = \"scheduler\"",
            Version::Loop | Version::Jobs => "service = \"app\"",
        };
        let more = match self.config {
            "" => String::new(),
            jobs if jobs.contains("[[") => jobs.to_owned(),
            remediation => format!("[scheduler.remediation]\n{remediation}"),
        };
        format!(
            "[[scheduler]]\nname = \"{}\"\nlog_groups = [\"/ecs/app\"]\nstale_after = \"5m\"\n\
             [scheduler.ecs]\ncluster = \"main\"\n{target}\ncontainer = \"app\"\n{more}",
            self.name
        )
    }

    /// The log as the AWS CLI gives it, one event a line.
    pub fn log(&self) -> String {
        let mut log = Log {
            stream: TASK,
            text: String::new(),
        };
        for minute in 0..LOG_ENDS {
            (self.minute)(&mut log, minute);
        }
        log.text
    }

    /// What ECS said, one look a line.
    pub fn service(&self) -> String {
        let mut text = String::new();
        for (minute, service, tasks) in (self.service)() {
            let mut look = json!({"at": time(minute), "tasks": tasks});
            if !service.is_null() {
                look["service"] = service;
            }
            let _ = writeln!(text, "{look}");
        }
        text
    }
}

/// The time of a minute.
pub fn time(minute: i64) -> Timestamp {
    let beginning: Timestamp = BEGINNING.parse().unwrap();
    beginning + SignedDuration::from_mins(minute)
}

/// A log that is being written.
pub struct Log {
    stream: &'static str,
    text: String,
}

impl Log {
    fn say(&mut self, minute: i64, second: i64, message: &str) {
        let at = (time(minute) + SignedDuration::from_secs(second)).as_millisecond();
        let event = json!({
            "logStreamName": format!("app/app/{}", self.stream),
            "timestamp": at,
            "ingestionTime": at + 900,
            "message": message,
        });
        let _ = writeln!(self.text, "{event}");
    }

    fn idle(&mut self, minute: i64) {
        self.say(
            minute,
            2,
            "   INFO  No scheduled commands are ready to run.  ",
        );
    }

    fn request(&mut self, minute: i64) {
        self.say(minute, 40, "10.0.0.7 \"GET / HTTP/1.1\" 200");
    }

    fn job(&mut self, minute: i64, second: i64, name: &str, outcome: &str) {
        let time = time(minute).strftime("%Y-%m-%d %H:%M:%S");
        let line = format!("  {time} Running ['artisan' {name}] ............ {outcome}");
        self.say(minute, second, &line);
    }

    fn idle_in(&mut self, task: &'static str, minute: i64) {
        let before = std::mem::replace(&mut self.stream, task);
        self.idle(minute);
        self.stream = before;
    }

    fn request_in(&mut self, task: &'static str, minute: i64) {
        let before = std::mem::replace(&mut self.stream, task);
        self.request(minute);
        self.stream = before;
    }
}

fn arn(task: &str) -> String {
    format!("arn:aws:ecs:ap-northeast-1:123456789012:task/main/{task}")
}

fn service(rollout: &str, since: i64) -> Value {
    json!({
        "status": "ACTIVE", "desiredCount": 1, "deploymentController": {"type": "ECS"},
        "deployments": [{
            "id": "ecs-svc/1", "status": "PRIMARY", "rolloutState": rollout,
            "createdAt": time(since), "failedTasks": 0,
        }],
        "events": [],
    })
}

fn running(task: &str) -> Value {
    json!({
        "taskArn": arn(task), "startedBy": "ecs-svc/1", "lastStatus": "RUNNING",
        "startedAt": time(-600), "healthStatus": "HEALTHY",
        "containers": [{"name": "app", "image": IMAGE}],
    })
}

/// One task and one deployment that has come to its end, all the time.
fn steady() -> Vec<(i64, Value, Value)> {
    vec![(-600, service("COMPLETED", -600), json!([running(TASK)]))]
}
