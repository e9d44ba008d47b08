//! Secrets are planted in everything that others write, and looked for in everything that the
//! watchdog writes: its state, messages, reports, metrics and log, what the command line prints,
//! and its errors. What stands around them must arrive, so that nothing is proven by silence.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use regex::Regex;
use scheduler_watchdog::aws::PassContext;
use scheduler_watchdog::check;
use scheduler_watchdog::config::{Config, Endpoint, Environment, Language, Origin, load};
use scheduler_watchdog::http::Http;
use scheduler_watchdog::lambda::{self, Memory};
use scheduler_watchdog::local::{Files, LocalWorld};
use scheduler_watchdog::message::{self, Context, Message};
use scheduler_watchdog::operator;
use scheduler_watchdog::pass::{self, Request};
use scheduler_watchdog::plan::{CureKind, Remediation};
use scheduler_watchdog::replay::{self, Format, Options, Schedule, Watcher};
use scheduler_watchdog::report;
use scheduler_watchdog::silence::OneOff;
use scheduler_watchdog::snapshot::{CallError, Obstacle};
use scheduler_watchdog::state::State;
use scheduler_watchdog::world::World;
use serde_json::json;
use tempfile::TempDir;

use crate::faulty::{Faults, Faulty};
use crate::server::Server;

/// Where others write, and the word that stands before the secret there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    StreamName,
    JobName,
    FailingJob,
    ErrorBox,
    BehindTheError,
    StackFrame,
    ErrorRecord,
    JobThatWasCutOff,
    LineThatHoldsJobs,
    StopReason,
    ContainerReason,
    ServiceEvent,
    SilenceReason,
    SilenceAuthor,
    WindowReason,
    LogAnswer,
    RestartAnswer,
    PublishAnswer,
}

impl Field {
    const ALL: [Self; 18] = [
        Self::StreamName,
        Self::JobName,
        Self::FailingJob,
        Self::ErrorBox,
        Self::BehindTheError,
        Self::StackFrame,
        Self::ErrorRecord,
        Self::JobThatWasCutOff,
        Self::LineThatHoldsJobs,
        Self::StopReason,
        Self::ContainerReason,
        Self::ServiceEvent,
        Self::SilenceReason,
        Self::SilenceAuthor,
        Self::WindowReason,
        Self::LogAnswer,
        Self::RestartAnswer,
        Self::PublishAnswer,
    ];

    /// No part of it looks like a secret, and no output changes it.
    fn word(self) -> String {
        format!("around{:02}", self as usize)
    }

    /// What stands there: the word and a secret of that kind.
    fn with(self, kind: usize) -> String {
        format!("{} {}", self.word(), secret(self as usize, kind))
    }
}

/// A text with a secret in the way that a kind of secret is written. The secret's core, which
/// nothing else holds, stands for `@`.
const KINDS: [&str; 20] = [
    "password=@",
    "DB_PASSWORD: @",
    "{\"api_key\":\"@\",\"n\":1}",
    "'secret' => '@'",
    "redis://default:@@cache:6379",
    "https://@@o1.ingest.example/2",
    "Authorization: Bearer abc.@.def",
    "sent Bearer @abcdef",
    "Set-Cookie: session=@; path=/",
    "key AKIA@00",
    "token eyJhbGciOi@.eyJzdWIiOi.abc",
    "ghp_EXAMPLE@0000",
    "wJalrXUtnFEMI+K7@bPxRfiCYEXAMPLEKEYx1",
    "mysql -u root -p@ app",
    "--password @ --force",
    "https://hooks.slack.com/services/T0/B0/@",
    "(Connection: mysql, SQL: select * from users where pin = @)",
    "Duplicate entry '@' for key 'users_name'",
    "-----BEGIN RSA PRIVATE KEY-----@",
    "pass\u{200b}word=@",
];

fn core(field: usize, kind: usize) -> String {
    format!("ZQ{field:02}{kind:02}XW")
}

fn secret(field: usize, kind: usize) -> String {
    KINDS[kind].replacen('@', &core(field, kind), 1)
}

/// Which secrets a text holds.
fn secrets_in(text: &str) -> BTreeSet<(usize, usize)> {
    static CORE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("ZQ([0-9]{2})([0-9]{2})XW").unwrap());
    (CORE.captures_iter(text))
        .map(|found| (found[1].parse().unwrap(), found[2].parse().unwrap()))
        .collect()
}

/// All that was written, by what wrote it.
#[derive(Default)]
struct Outputs(BTreeMap<&'static str, String>);

impl Outputs {
    fn add(&mut self, what: &'static str, text: impl AsRef<str>) {
        let all = self.0.entry(what).or_default();
        all.push_str(text.as_ref());
        all.push('\n');
    }

    /// The lines that tell a secret.
    fn leaks(&self) -> String {
        let mut leaks = String::new();
        for (what, text) in &self.0 {
            let mut known = BTreeSet::new();
            for line in text.lines() {
                for (field, kind) in secrets_in(line) {
                    if known.insert((field, kind)) {
                        let at = line.find(&core(field, kind)).unwrap();
                        let (from, until) = (at.saturating_sub(60), (at + 30).min(line.len()));
                        let near =
                            &line[line.floor_char_boundary(from)..line.ceil_char_boundary(until)];
                        let field = Field::ALL
                            .get(field)
                            .map_or(String::new(), |f| format!("{f:?}"));
                        let _ = writeln!(leaks, "{what} tells {field} {}: …{near}…", KINDS[kind]);
                    }
                }
            }
        }
        leaks
    }

    fn hold(&self, word: &str) -> bool {
        self.0.values().any(|text| text.contains(word))
    }
}

fn time(minute: i64) -> Timestamp {
    let beginning: Timestamp = "2026-11-24T00:00:00Z".parse().unwrap();
    beginning + SignedDuration::from_mins(minute)
}

const TASK: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
const SECOND_TASK: &str = "1b2c3d4e5f60718293a4b5c6d7e8f90a";

/// When the log cannot be read, and messages are not delivered.
const BLIND: std::ops::Range<i64> = 230..260;
const UNDELIVERED: std::ops::Range<i64> = 40..60;

/// Five hours in which everything goes wrong that makes the watchdog quote others.
struct Day {
    kind: usize,
    log: String,
}

impl Day {
    fn of(kind: usize) -> Self {
        let mut day = Self {
            kind,
            log: String::new(),
        };
        for minute in 0..330 {
            day.minute(minute);
        }
        day
    }

    /// No stream's name holds a colon or an asterisk.
    fn second_stream(&self) -> String {
        let fits = !KINDS[self.kind].contains([':', '*', '/']);
        let name = Field::StreamName.with(if fits { self.kind } else { 0 });
        format!("app/{name}/{SECOND_TASK}")
    }

    fn say_in(&mut self, stream: &str, minute: i64, second: i64, message: &str) {
        let at = (time(minute) + SignedDuration::from_secs(second)).as_millisecond();
        let event = json!({
            "logStreamName": stream, "timestamp": at, "ingestionTime": at + 900, "message": message,
        });
        let _ = writeln!(self.log, "{event}");
    }

    fn say(&mut self, minute: i64, second: i64, message: &str) {
        self.say_in(&format!("app/app/{TASK}"), minute, second, message);
    }

    fn job(&mut self, minute: i64, second: i64, name: &str, outcome: &str) {
        let at = time(minute).strftime("%Y-%m-%d %H:%M:%S");
        let line = format!("  {at} Running ['artisan' {name}] ............ {outcome}");
        self.say(minute, second, &line);
    }

    fn minute(&mut self, minute: i64) {
        let kind = self.kind;
        let with = |field: Field| field.with(kind);
        let idle = "   INFO  No scheduled commands are ready to run.  ";
        let at = time(minute).strftime("%Y-%m-%d %H:%M:%S").to_string();
        let dead = (40..75).contains(&minute) || (145..200).contains(&minute) || minute >= 260;
        let fails = (105..130).contains(&minute);
        let down = (170..200).contains(&minute);
        if !down {
            self.say(minute, 50, "10.0.0.7 \"GET / HTTP/1.1\" 200");
        }
        if minute % 10 == 9 && minute < 40 {
            // It takes long, so its name is remembered; it is due again when the loop is dead.
            let name = format!("report:send {}", with(Field::JobName));
            self.job(minute, 1, &name, "2m 10s DONE");
        } else if fails {
            let error = format!(
                "\nIn PhpRedisConnector.php line 185:\n                      \n  Connection refused {}  \n                      \n\n",
                with(Field::ErrorBox)
            );
            self.say(minute, 3, &error);
            let record = format!(
                "[{at}] production.ERROR: Connection refused {{\"exception\":\"[object] \
                 (RedisException(code: 0): Connection refused at /app/PhpRedisConnector.php:185)\n\
                 [previous exception] [object] (RuntimeException(code: 0): {} at /app/b.php:7)\n\"}} ",
                with(Field::BehindTheError),
            );
            self.say(minute, 5, &record);
        } else if !dead && minute % 5 != 0 {
            self.say(minute, 2, idle);
        }
        let held = (205..225).contains(&minute);
        if held && minute % 5 == 0 {
            self.say(minute, 2, idle);
        } else if !dead && !fails && minute % 5 == 0 {
            let broken = (80..105).contains(&minute);
            let name = format!("mail:send {}", with(Field::FailingJob));
            let outcome = if broken { "90ms FAIL" } else { "90ms DONE" };
            self.job(minute, 3, &name, outcome);
            if broken {
                let line = format!("  {at} Running ['artisan' {name}] ............ 90ms DONE");
                let stream = self.second_stream();
                self.say_in(&stream, minute, 6, &line);
            }
        }
        if (85..95).contains(&minute) {
            for error in 0..8 {
                let text = with(Field::ErrorRecord);
                let frame = Field::StackFrame.word();
                let argument = secret(Field::StackFrame as usize, kind);
                let record = format!(
                    "[{at}] production.ERROR: {text} {{\"exception\":\"[object] \
                     (RuntimeException(code: 0): {text} at /app/c.php:7)\n[stacktrace]\n\
                     #0 /app/{frame}.php(70): PDO->__construct('{argument}')\n#1 {{main}}\n\"}} "
                );
                self.say(minute, 20 + error, &record);
            }
        }
        match minute {
            39 => {
                let line = format!(
                    "  {at} Running ['artisan' export:cut {}] ",
                    with(Field::JobThatWasCutOff)
                );
                self.say(minute, 30, &line);
            }
            204 => {
                let line = format!("jobs are held: {}", with(Field::LineThatHoldsJobs));
                self.say(minute, 30, &line);
            }
            _ => {}
        }
    }

    /// What ECS said, one look a line.
    fn service(&self) -> String {
        let deployment = json!({
            "id": "ecs-svc/1", "status": "PRIMARY", "rolloutState": "COMPLETED",
            "createdAt": time(-600), "failedTasks": 0,
        });
        let arn = |task: &str| format!("arn:aws:ecs:ap-northeast-1:123456789012:task/main/{task}");
        let running = |task: &str| {
            json!({
                "taskArn": arn(task), "startedBy": "ecs-svc/1", "lastStatus": "RUNNING",
                "startedAt": time(-600), "containers": [{"name": "app", "image": "app@sha256:0123"}],
            })
        };
        let service = |events: serde_json::Value| {
            json!({
                "status": "ACTIVE", "desiredCount": 2, "deploymentController": {"type": "ECS"},
                "deployments": [deployment], "events": events,
            })
        };
        let event = format!(
            "(service app) failed to launch a task: CannotPullContainerError {}",
            Field::ServiceEvent.with(self.kind)
        );
        let stopped = json!({
            "taskArn": arn(TASK), "startedBy": "ecs-svc/1", "lastStatus": "STOPPED",
            "startedAt": time(-600), "stoppedAt": time(170), "stopCode": "TaskFailedToStart",
            "stoppedReason": format!("CannotPullContainerError: {}", Field::StopReason.with(self.kind)),
            "containers": [{
                "name": "app", "image": "app@sha256:0123", "exitCode": 137,
                "reason": format!("OutOfMemoryError: {}", Field::ContainerReason.with(self.kind)),
            }],
        });
        let both = json!([running(TASK), running(SECOND_TASK)]);
        let looks = [
            (-600, service(json!([])), both.clone()),
            (170, service(json!([{"message": event}])), json!([stopped])),
            (200, service(json!([])), both),
        ];
        looks
            .iter()
            .fold(String::new(), |mut text, (minute, service, tasks)| {
                let look = json!({"at": time(*minute), "service": service, "tasks": tasks});
                let _ = writeln!(text, "{look}");
                text
            })
    }

    fn config(&self) -> String {
        // JSON's strings are TOML's.
        let quoted = |text: String| serde_json::Value::from(text).to_string();
        let reason = quoted(Field::WindowReason.with(self.kind));
        let name = |job: &str, field: Field| quoted(format!("{job} {}", field.with(self.kind)));
        format!(
            r#"
            [[scheduler]]
            name = "app"
            log_groups = ["/ecs/app"]
            log_stream_prefix = "app/"
            stale_after = "5m"
            [scheduler.ecs]
            cluster = "main"
            service = "app"
            container = "app"
            [scheduler.remediation]
            action = "force-new-deployment"
            [[scheduler.job]]
            name = {}
            cron = "*/5 * * * *"
            failure_tolerance = 1
            [[scheduler.job]]
            name = {}
            cron = "*/5 * * * *"
            active = [{{ until = "2026-11-24", between = "00:36-00:44" }}]
            [[scheduler.silence]]
            cron = "0 5 * * *"
            duration = "2h"
            reason = {reason}
            [[scheduler.pattern]]
            kind = "held"
            pattern = "^jobs are held"
            "#,
            name("mail:send", Field::FailingJob),
            name("export:cut", Field::JobThatWasCutOff),
        )
    }
}

/// The files of a day, and answers of AWS that quote what they were asked.
struct Stage {
    world: LocalWorld,
    config: Config,
    kind: usize,
    _directory: TempDir,
}

impl Stage {
    fn of(day: &Day) -> Faulty<Self> {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let config = Config::parse(&day.config(), "watchdog.toml").unwrap();
        let files = Files {
            logs: vec![write("log.jsonl", day.log.clone())],
            service: Some(write("service.jsonl", day.service())),
            state: None,
        };
        Faulty(Self {
            world: LocalWorld::read(&config, &files, &mut |note| panic!("{note}")).unwrap(),
            config,
            kind: day.kind,
            _directory: directory,
        })
    }

    /// Keys that are told by their shape alone are hidden where the answers of AWS are read; see
    /// the next test.
    fn fails(&self, field: Field) -> CallError {
        let by_shape = KINDS[self.kind].starts_with("wJalr");
        let said = field.with(if by_shape { 0 } else { self.kind });
        CallError::new(Obstacle::Refused, format!("AWS said: {said}"))
    }

    fn is_in(&self, span: &std::ops::Range<i64>) -> bool {
        (time(span.start)..time(span.end)).contains(&self.world.now())
    }
}

impl Faults for Stage {
    fn files(&self) -> &LocalWorld {
        &self.world
    }

    fn log(&self) -> Result<(), CallError> {
        match self.is_in(&BLIND) {
            true => Err(self.fails(Field::LogAnswer)),
            false => Ok(()),
        }
    }

    fn publish(&self, _: &Message) -> Result<(), CallError> {
        match self.is_in(&UNDELIVERED) {
            true => Err(self.fails(Field::PublishAnswer)),
            false => Ok(()),
        }
    }

    fn restart(&self, _: &Remediation) -> Result<Option<String>, CallError> {
        Err(self.fails(Field::RestartAnswer))
    }
}

/// What is written to the function's log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Hears everything that this thread writes for as long as the guard lives.
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }
}

/// The deployed watchdog through the day: everything that it writes.
async fn watch(stage: &Faulty<Stage>, outputs: &mut Outputs) {
    let memory = Memory::default();
    let (heard, mut metrics) = (Log::default(), String::new());
    let guard = heard.listen();
    for minute in (30..330).step_by(5) {
        stage.world.set_now(time(minute));
        if minute == 255 {
            let (reason, author) = (
                Field::SilenceReason.with(stage.kind),
                Field::SilenceAuthor.with(stage.kind),
            );
            let silence = OneOff::new(time(minute), time(minute + 60), &reason, &author, None);
            let schedulers = [&stage.config.schedulers[0]];
            operator::silence(stage, &schedulers, &silence.unwrap())
                .await
                .unwrap();
            let table = operator::silences(stage, &schedulers).await.unwrap();
            outputs.add("silence list", table);
        }
        let dry = Request {
            dry_run: true,
            ..Request::default()
        };
        let look = pass::run(stage, &stage.config, &dry).await;
        outputs.add("report as text", report::text(&look));
        outputs.add("plan", format!("{:?}", look.schedulers[0].plan));
        let event = json!({});
        let metric = |line: &serde_json::Value| {
            let _ = writeln!(metrics, "{line}");
        };
        let answer = lambda::handle(
            stage,
            Ok(&stage.config),
            &memory,
            &event,
            "watchdog",
            metric,
        )
        .await;
        outputs.add("report as JSON", answer.unwrap().to_string());
        let (state, _) = stage.load("app").await.unwrap();
        outputs.add("state", state.to_json());
        for message in stage.world.take_published() {
            for language in [Language::En, Language::Ja] {
                let context = Context {
                    scheduler: Some(&stage.config.schedulers[0]),
                    language,
                    hide_emails: false,
                    region: "ap-northeast-1",
                };
                let message = message::render(&message.notification, &context);
                outputs.add("subject", &message.subject);
                outputs.add("mail", &message.text);
                outputs.add("chat", message.chat.to_string());
                outputs.add("JSON for machines", message.machine.to_string());
            }
        }
    }
    drop(guard);
    outputs.add("metrics", metrics);
    outputs.add("log", heard.text());
}

/// Whoever follows a replay.
#[derive(Default)]
struct Follower(String);

impl Watcher for Follower {
    fn progress(&mut self, _: u64) {}

    fn note(&mut self, note: String) {
        self.0.push_str(&note);
    }
}

/// The same day on the command line.
async fn look_back(stage: &Stage, outputs: &mut Outputs) {
    for (what, format) in [
        ("replay as text", Format::Text),
        ("replay as JSON", Format::Json),
        ("replay as a page", Format::Html),
    ] {
        let stage = Stage::of(&Day::of(stage.kind));
        let options = Options {
            from: None,
            until: Some(time(330)),
            every: SignedDuration::from_mins(5),
            format,
            all: true,
        };
        let schedule = Schedule::new(&stage.world, &options).unwrap();
        let (mut out, mut follower) = (Vec::new(), Follower::default());
        let (config, world) = (&stage.config, &stage.world);
        let run = replay::run(config, world, &schedule, &options, &mut out, &mut follower);
        run.await.unwrap();
        outputs.add(what, String::from_utf8(out).unwrap());
        outputs.add("replay's notes", follower.0);
    }
    let stage = Stage::of(&Day::of(stage.kind));
    let (config, world) = (&stage.config, &stage.world);
    let look = check::once(config, world, &[], time(129), &mut |_, _| ()).await;
    outputs.add("check as text", look.text());
    outputs.add("check as JSON", look.json().to_string());
}

#[tokio::test]
async fn no_secret_of_others_reaches_what_the_watchdog_writes() {
    let mut leaks = String::new();
    let mut arrived: BTreeMap<Field, usize> = BTreeMap::new();
    for kind in 0..KINDS.len() {
        let stage = Stage::of(&Day::of(kind));
        let mut outputs = Outputs::default();
        watch(&stage, &mut outputs).await;
        look_back(&stage, &mut outputs).await;
        leaks.push_str(&outputs.leaks());
        for field in Field::ALL {
            *arrived.entry(field).or_default() += usize::from(outputs.hold(&field.word()));
        }
        for (what, text) in &outputs.0 {
            assert!(
                *what == "replay's notes" || text.len() > 100,
                "{what} is empty"
            );
        }
    }
    // Of each kind what stands around the secret is told, but for what is hidden whole.
    let silent: Vec<_> = (arrived.iter())
        .filter(|(_, kinds)| **kinds < KINDS.len())
        .collect();
    assert!(
        silent.is_empty() && leaks.is_empty(),
        "not told: {silent:?}\n{leaks}"
    );
}

/// What AWS says of calls that it refuses can quote them.
#[tokio::test]
async fn no_secret_in_what_aws_says_reaches_an_error() {
    let scheduler = &Config::parse(
        "[[scheduler]]\nname = \"app\"\nlog_groups = [\"/ecs/app\"]\n\
         [scheduler.ecs]\ncluster = \"main\"\nservice = \"app\"\n",
        "watchdog.toml",
    )
    .unwrap()
    .schedulers[0];
    let mut outputs = Outputs::default();
    for (kind, text) in KINDS.iter().enumerate() {
        let said = format!("around {}", secret(0, kind));
        for code in [
            "ValidationException",
            "AccessDeniedException",
            "ClientException",
        ] {
            let message = match code {
                "AccessDeniedException" => format!(
                    "User: arn:aws:sts::1:assumed-role/R/S is not authorized to perform: x:Y on resource: r because {said}"
                ),
                _ => said.clone(),
            };
            // Both protocols at once: each client reads its own.
            let json = json!({"__type": code, "message": message}).to_string();
            let text = message.replace('&', "&amp;").replace('<', "&lt;");
            let xml = format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{text}</Message></Error></ErrorResponse>"
            );
            for (body, sns) in [(json, false), (xml, true)] {
                let server = Server::says(400, None, body);
                let aws = server.aws();
                let world = aws.world(PassContext {
                    topic: Some("arn:aws:sns:ap-northeast-1:123456789012:alerts"),
                    table: Some("state"),
                    deadline: None,
                    limits: scheduler_watchdog::config::Limits {
                        running_queries: 20,
                        start_queries_per_second: 5,
                    },
                });
                if sns {
                    outputs.add("SNS", format!("{:?}", world.readers().await));
                    let notification = message_of_today();
                    outputs.add("SNS", format!("{:?}", world.publish(&notification).await));
                    continue;
                }
                outputs.add("DynamoDB", format!("{:?}", world.load("app").await));
                let save = world.save("app", &State::default(), 0).await;
                outputs.add("DynamoDB", format!("{save:?}"));
                let log = world.log(scheduler, time(0), time(5)).await;
                outputs.add("CloudWatch Logs", format!("{log:?}"));
                let ecs = scheduler.ecs.as_ref().unwrap();
                outputs.add("ECS", format!("{:?}", world.service(ecs).await));
                for cure in [CureKind::ForceNewDeployment, CureKind::StopTask] {
                    let remediation = Remediation {
                        incident: "i".to_owned(),
                        cure,
                        task: Some(TASK.to_owned()),
                        attempt: 1,
                        token: "watchdog-1-1".to_owned(),
                        blocked_by: Vec::new(),
                    };
                    let answer = world.restart(scheduler, &remediation).await;
                    outputs.add("ECS", format!("{answer:?}"));
                }
                outputs.add("SSM", format!("{:?}", aws.parameter("/watchdog").await));
            }
        }
        for (service, errors) in &outputs.0 {
            let arrived = errors.matches("around").count();
            assert!(
                arrived > kind,
                "{service} does not quote what AWS says of {text}: {errors}"
            );
        }
    }
    assert!(outputs.leaks().is_empty(), "{}", outputs.leaks());
}

fn message_of_today() -> Message {
    let mistakes = scheduler_watchdog::config::Mistakes::at("watchdog.toml:1:1", "nothing");
    let state = scheduler_watchdog::decide::configuration(
        "watchdog configuration",
        Some(&mistakes),
        &State::default(),
        time(0),
    );
    let context = Context {
        scheduler: None,
        language: Language::En,
        hide_emails: true,
        region: "ap-northeast-1",
    };
    message::render(&state.outbox[0], &context)
}

/// Servers of others answer with what they like, and their addresses are secrets themselves.
#[tokio::test]
async fn no_secret_of_an_address_or_an_answer_reaches_an_error() {
    let mut outputs = Outputs::default();
    let http = Http::default();
    let body = format!("{{\"status\":\"{}\"}}", core(1, 0));
    let elsewhere = format!("http://u:{}@127.0.0.1:9/{}", core(2, 0), core(2, 1));
    for (status, header) in [
        (200, None),
        (401, None),
        (404, None),
        (500, None),
        (503, None),
        (302, Some(("Location", elsewhere.clone()))),
        (302, Some(("Location", format!("ftp://{}/", core(2, 2))))),
        (302, Some(("Location", format!("http://[{}", core(2, 3))))),
    ] {
        let server = Server::says(status, header, body.clone());
        let url = format!(
            "http://watch:{}@{}/{}?key={}#{}",
            core(3, 0),
            server.address(),
            core(3, 1),
            core(3, 2),
            core(3, 3)
        );
        for allow_private in [true, false] {
            let endpoint = Endpoint::parse(&url, allow_private).unwrap();
            let health = http.health(&endpoint, &TimeZone::UTC).await;
            let told = health.unwrap_err().to_string();
            assert!(told.contains(&server.address()), "{told}");
            outputs.add("health", told);
            if !(allow_private && status == 200) {
                let told = http.ping(&endpoint).await.unwrap_err().to_string();
                assert!(told.contains(&server.address()), "{told}");
                outputs.add("ping", told);
            }
            outputs.add("endpoint", format!("{endpoint} {endpoint:?}"));
        }
    }
    assert!(outputs.leaks().is_empty(), "{}", outputs.leaks());
}

/// A configuration holds the secrets of its addresses; its mistakes do not.
#[test]
fn no_secret_of_the_configuration_reaches_its_mistakes() {
    let url = format!(
        "https://u:{}@app.example/{}?key={}",
        core(0, 0),
        core(0, 1),
        core(0, 2)
    );
    let bad = url.replace("https://", "htps:/ /");
    let mut outputs = Outputs::default();
    let scheduler = "[[scheduler]]\nname = \"app\"\nlog_groups = [\"/ecs/app\"]\n";
    let mut told = |text: &str| {
        let mistakes = Config::parse(text, "watchdog.toml").unwrap_err();
        outputs.add("mistakes", format!("{mistakes}\n{mistakes:?}"));
        mistakes.to_string()
    };
    for (value, near) in [
        (format!("\"{bad}\""), "ping_url"),
        (format!("[\"{url}\"]"), "expected"),
        (format!("{{ url = \"{url}\" }}"), "expected"),
        (format!("\"{url}"), "watchdog.toml:2"),
        (url.clone(), "watchdog.toml:2"),
        (format!("'{url}\\' x"), "watchdog.toml:2"),
        (format!("\"{url}\\q\""), "watchdog.toml:2"),
    ] {
        let mistakes = told(&format!("[alerts]\nping_url = {value}\n{scheduler}"));
        assert!(
            mistakes.contains(near) || mistakes.contains("watchdog.toml:2"),
            "{mistakes}"
        );
        let _ = told(&format!("{scheduler}health_url = {value}\n"));
        let _ = told(&format!("{scheduler}helth_url = {value}\n"));
        let _ = told(&format!(
            "[alerts]\nping_allow_private = {value}\n{scheduler}"
        ));
    }
    for name in ["WATCHDOG_PING_URL", "WATCHDOG_HEALTH_URL"] {
        let variables = [
            ("WATCHDOG_SCHEDULER", "app"),
            ("WATCHDOG_LOG_GROUPS", "/ecs/app"),
            (name, &bad),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = Environment::of(variables);
        let mistakes = load(&Origin::Variables, &environment).unwrap_err();
        assert!(mistakes.to_string().contains(name), "{mistakes}");
        outputs.add("mistakes", format!("{mistakes}\n{mistakes:?}"));
    }
    // Nor is what is right told by accident.
    let text = format!("[alerts]\nping_url = \"{url}\"\n{scheduler}health_url = \"{url}\"\n");
    let config = Config::parse(&text, "watchdog.toml").unwrap();
    outputs.add("configuration", format!("{config:?}"));
    assert!(format!("{config:?}").contains("https://app.example"));
    assert!(outputs.leaks().is_empty(), "{}", outputs.leaks());
}
