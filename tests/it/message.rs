//! What people and machines are sent.

use jiff::Timestamp;
use proptest::prelude::*;
use scheduler_watchdog::cause::{Cause, Evidence};
use scheduler_watchdog::condition::{Condition, Fact};
use scheduler_watchdog::config::{Config, Language, Scheduler};
use scheduler_watchdog::health::Sign;
use scheduler_watchdog::message::{Context, Message, render, safe};
use scheduler_watchdog::plan::{CureKind, Gate, Handling, Notification, Occasion};
use scheduler_watchdog::snapshot::Obstacle;
use serde_json::Value;

const CONFIG: &str = r#"
[[scheduler]]
name = "myteacher-production"
log_groups = ["/ecs/myteacher-production"]
log_stream_prefix = "app/"
timezone = "Asia/Tokyo"

[scheduler.ecs]
cluster = "myteacher-production-cluster"
service = "myteacher-production-app-service"
container = "app"
"#;

const TOPIC: &str = "arn:aws:sns:ap-northeast-1:123456789012:watchdog-alerts";

const TASK: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";

fn scheduler() -> Scheduler {
    Config::parse(CONFIG, "test").unwrap().schedulers.remove(0)
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cause(id: &str, evidence: &str) -> Cause {
    Cause {
        id: id.to_owned(),
        evidence: vec![evidence.into()],
    }
}

/// A notification as the decision makes it for each condition.
fn opened(condition: Condition) -> Notification {
    let (causes, proof, handling) = match condition {
        Condition::SchedulerSilent => (
            vec![],
            vec![
                Fact::LastHeartbeat {
                    at: Some(at("2026-11-24T03:40:09Z")),
                },
                Fact::Allowed { seconds: 300 },
                Fact::OtherLines {
                    newest: Some(at("2026-11-24T03:49:58Z")),
                },
                Fact::Tasks {
                    running: 1,
                    desired: 1,
                    newest: Some(TASK.to_owned()),
                },
            ],
            Handling::Withheld {
                cure: CureKind::ForceNewDeployment,
                blocked_by: vec![Gate::TooEarly, Gate::MutableImageTag],
            },
        ),
        Condition::ReplicaSilent => (
            vec![cause(
                "out-of-memory-kill",
                "task 0a1b2c3d4e5f60718293a4b5c6d7e8f9, container app: OutOfMemoryError: Container killed due to memory usage (exit code 137)",
            )],
            vec![
                Fact::LastHeartbeat {
                    at: Some(at("2026-11-24T03:40:09Z")),
                },
                Fact::Tasks {
                    running: 3,
                    desired: 3,
                    newest: Some(TASK.to_owned()),
                },
            ],
            Handling::Restarting {
                cure: CureKind::StopTask,
                attempt: 1,
            },
        ),
        Condition::SchedulerFailing => (
            vec![
                cause(
                    "redis-unreachable",
                    "PhpRedisConnector.php: Connection refused",
                ),
                cause(
                    "permission-denied",
                    "StreamHandler.php: The stream or file \"/var/www/html/storage/logs/laravel.log\" could not be opened in append mode: Failed to open stream: Permission denied",
                ),
            ],
            vec![
                Fact::Aborts { count: 9 },
                Fact::Tasks {
                    running: 1,
                    desired: 1,
                    newest: Some(TASK.to_owned()),
                },
            ],
            Handling::Withheld {
                cure: CureKind::ForceNewDeployment,
                blocked_by: vec![Gate::CauseNotRestartable],
            },
        ),
        Condition::JobOverdue => (
            vec![],
            vec![
                Fact::MissedRuns {
                    job: "payment:clean-old-histories".to_owned(),
                    count: 1,
                    first: at("2026-11-24T03:40:00Z"),
                    last: at("2026-11-24T03:40:00Z"),
                },
                Fact::LastRun {
                    at: Some(at("2026-10-01T03:40:01Z")),
                },
                Fact::LastHeartbeat {
                    at: Some(at("2026-11-24T03:50:01Z")),
                },
                Fact::NextRun {
                    at: at("2026-12-24T03:40:00Z"),
                },
            ],
            Handling::Watching,
        ),
        Condition::JobFailing => (
            vec![],
            vec![Fact::Failures {
                count: 3,
                tolerance: 3,
                exit_code: Some(137),
                at: at("2026-11-24T03:50:02Z"),
            }],
            Handling::Watching,
        ),
        Condition::JobOverrun => (
            vec![],
            vec![Fact::Runtime {
                seconds: 1_812,
                allowed: 600,
                running: false,
            }],
            Handling::Watching,
        ),
        Condition::DuplicateRuns => (
            vec![],
            vec![Fact::Twice {
                count: 2,
                at: at("2026-11-24T03:45:09Z"),
                streams: vec![format!("app/app/{TASK}"), "app/app/9f8e7d6c".to_owned()],
            }],
            Handling::Watching,
        ),
        Condition::ErrorSpike => (
            vec![],
            vec![Fact::Errors {
                count: 40,
                seconds: 300,
                threshold: 5,
                usual: Some(2),
                at_least: true,
            }],
            Handling::Watching,
        ),
        Condition::ServiceDown => (
            vec![cause(
                "image-pull",
                "task 0a1b2c3d4e5f60718293a4b5c6d7e8f9: CannotPullContainerError: manifest unknown",
            )],
            vec![
                Fact::Tasks {
                    running: 0,
                    desired: 2,
                    newest: None,
                },
                Fact::Stopped {
                    reasons: vec!["CannotPullContainerError: manifest unknown".to_owned()],
                },
            ],
            Handling::Watching,
        ),
        Condition::LogsSilent => (
            vec![],
            vec![
                Fact::OtherLines { newest: None },
                Fact::Tasks {
                    running: 1,
                    desired: 1,
                    newest: Some(TASK.to_owned()),
                },
            ],
            Handling::Watching,
        ),
        Condition::NeverSeen => (
            vec![cause(
                "output-to-file",
                "the scheduler was started at 2026-11-24T03:10:00Z, and not one line of its output followed",
            )],
            vec![
                Fact::LastHeartbeat { at: None },
                Fact::WatchedSince {
                    at: at("2026-11-24T03:10:00Z"),
                },
                Fact::EcsUnknown {
                    why: "denied: ecs:DescribeServices on service `myteacher-production-app-service` in cluster `myteacher-production-cluster` is denied (access denied): allow ecs:DescribeServices to the watchdog's role".to_owned(),
                    obstacle: Some(Obstacle::Denied),
                },
            ],
            Handling::Watching,
        ),
        Condition::DeploymentStuck => (
            vec![],
            vec![Fact::Deployment {
                id: "ecs-svc/1234567890123456789".to_owned(),
                since: at("2026-11-24T03:10:00Z"),
                failed_tasks: 4,
            }],
            Handling::Watching,
        ),
        Condition::WatchdogBlind => (
            vec![],
            vec![Fact::Blind {
                why: "denied: logs:StartQuery on log group `/ecs/myteacher-production` is denied (access denied): allow logs:StartQuery to the watchdog's role".to_owned(),
                obstacle: Some(Obstacle::Denied),
                passes: 3,
            }],
            Handling::Watching,
        ),
        Condition::Misconfigured => (
            vec![],
            vec![Fact::Mistakes {
                list: vec![
                    "watchdog.toml:3:1: unknown key `stale_atfer`; did you mean `stale_after`?"
                        .to_owned(),
                    "watchdog.toml:9:9: `cron` has six fields".to_owned(),
                ],
            }],
            Handling::Watching,
        ),
        Condition::TestAlert => (
            vec![],
            vec![
                Fact::Watched {
                    names: vec!["myteacher-production".to_owned()],
                    more: 0,
                },
                Fact::Readers {
                    topic: TOPIC.to_owned(),
                    confirmed: 2,
                    pending: 1,
                },
                Fact::NextTest {
                    at: Some(at("2026-12-01T01:00:00Z")),
                    schedule: Some("cron(0 10 1 * ? *)".to_owned()),
                    timezone: "Asia/Tokyo".to_owned(),
                },
            ],
            Handling::Watching,
        ),
    };
    Notification {
        id: "myteacher-production/loop/2026-11-24T03:50:00Z/opened".to_owned(),
        incident: "myteacher-production/loop/2026-11-24T03:50:00Z".to_owned(),
        at: at("2026-11-24T03:50:09Z"),
        scheduler: match condition {
            Condition::Misconfigured => "watchdog configuration".to_owned(),
            _ => "myteacher-production".to_owned(),
        },
        occasion: Occasion::Opened,
        condition,
        subject: match condition {
            Condition::ReplicaSilent => Some(TASK.to_owned()),
            Condition::WatchdogBlind => Some("logs".to_owned()),
            Condition::JobOverdue
            | Condition::JobFailing
            | Condition::JobOverrun
            | Condition::DuplicateRuns => Some("payment:clean-old-histories".to_owned()),
            _ => None,
        },
        severity: condition.severity(),
        since: at("2026-11-24T03:40:09Z"),
        again_since: None,
        until: None,
        causes,
        proof,
        handling,
    }
}

/// How a silence goes on.
fn silent(occasion: Occasion) -> Notification {
    let cure = CureKind::ForceNewDeployment;
    let made = at("2026-11-24T03:55:00Z");
    let (minutes, handling) = match occasion {
        Occasion::Opened => return opened(Condition::SchedulerSilent),
        Occasion::Test => return test_alert(),
        Occasion::Changed => (15, Handling::Restarting { cure, attempt: 1 }),
        Occasion::Reminder => (70, Handling::Proving { cure, at: made }),
        Occasion::Remediated => (
            20,
            Handling::Cured {
                cure,
                at: made,
                seconds: 252,
            },
        ),
        Occasion::RemediationFailed => (
            30,
            Handling::CureFailed {
                cure,
                at: made,
                error: None,
            },
        ),
        Occasion::LockedOut => (
            50,
            Handling::Withheld {
                cure,
                blocked_by: vec![Gate::AttemptsPerIncident, Gate::LockedOut],
            },
        ),
        Occasion::Flapping => (60, Handling::Watching),
        Occasion::Resolved => (
            25,
            Handling::Cured {
                cure,
                at: made,
                seconds: 252,
            },
        ),
    };
    let mut notification = opened(Condition::SchedulerSilent);
    let now = notification.since + jiff::SignedDuration::from_mins(minutes);
    notification.id = format!("{}/{}", notification.incident, occasion.id());
    notification.at = now;
    notification.occasion = occasion;
    notification.handling = handling;
    if matches!(occasion, Occasion::Remediated | Occasion::Resolved) {
        notification.until = Some(made + jiff::SignedDuration::from_secs(252));
    }
    if occasion == Occasion::Changed {
        notification.causes = vec![cause(
            "not-started",
            "task 0a1b2c3d4e5f60718293a4b5c6d7e8f9 runs since 2026-11-24T03:41:00Z; the newest line that says the scheduler was started is from 2026-11-23T22:00:00Z",
        )];
    }
    notification
}

/// A test alert, which is of no incident.
fn test_alert() -> Notification {
    let incident = "test-alert/2026-11-01T01:00:00Z";
    Notification {
        id: format!("{incident}/1"),
        incident: incident.to_owned(),
        at: at("2026-11-01T01:00:00Z"),
        since: at("2026-11-01T01:00:00Z"),
        again_since: None,
        occasion: Occasion::Test,
        ..opened(Condition::TestAlert)
    }
}

fn rendered(notification: &Notification, language: Language) -> Message {
    let scheduler = scheduler();
    let scheduler = (!matches!(
        notification.condition,
        Condition::Misconfigured | Condition::TestAlert
    ))
    .then_some(&scheduler);
    render(
        notification,
        &Context {
            scheduler,
            language,
            hide_emails: true,
            region: "ap-northeast-1",
        },
    )
}

const LANGUAGES: [(Language, &str); 2] = [(Language::En, "en"), (Language::Ja, "ja")];

#[test]
fn every_condition_as_mail() {
    for condition in Condition::ALL {
        for (language, code) in LANGUAGES {
            let message = rendered(&opened(condition), language);
            let mail = format!("Subject: {}\n\n{}", message.subject, message.text);
            insta::assert_snapshot!(format!("mail-{condition}-{code}"), mail);
        }
    }
}

#[test]
fn a_silence_from_beginning_to_end() {
    for occasion in Occasion::ALL {
        for (language, code) in LANGUAGES {
            let message = rendered(&silent(occasion), language);
            let mail = format!("Subject: {}\n\n{}", message.subject, message.text);
            let name = format!("silence-{}-{code}", occasion.id());
            insta::assert_snapshot!(format!("{name}-mail"), mail);
            insta::assert_json_snapshot!(format!("{name}-chat"), message.chat);
            if language == Language::En {
                insta::assert_json_snapshot!(
                    format!("silence-{}-machine", occasion.id()),
                    message.machine
                );
            }
        }
    }
}

/// Every reader can see that it is only a test, when the next one comes, and what to do if
/// somebody else did not get it.
#[test]
fn a_test_alert_for_every_reader() {
    for (language, code) in LANGUAGES {
        let message = rendered(&test_alert(), language);
        assert_sound(&message);
        assert_no_holes(&message);
        let mail = format!("Subject: {}\n\n{}", message.subject, message.text);
        insta::assert_snapshot!(format!("test-alert-{code}-mail"), mail);
        insta::assert_json_snapshot!(format!("test-alert-{code}-chat"), message.chat);
    }
    let message = rendered(&test_alert(), Language::En);
    insta::assert_json_snapshot!("test-alert-machine", message.machine);

    // What cannot be told is not made up.
    let mut notification = test_alert();
    notification.proof = vec![
        Fact::Watched {
            names: vec!["shop".to_owned(), "school".to_owned()],
            more: 3,
        },
        Fact::ReadersUnknown {
            why: "denied: SNS:GetTopicAttributes".to_owned(),
        },
        Fact::NextTest {
            at: None,
            schedule: None,
            timezone: "UTC".to_owned(),
        },
    ];
    for (language, code) in LANGUAGES {
        let message = rendered(&notification, language);
        assert_no_holes(&message);
        insta::assert_snapshot!(format!("test-alert-by-hand-{code}"), message.text);
    }
}

/// A chat message as people see it: links by their labels, and the steps as a list.
fn as_seen(chat: &Value) -> String {
    let content = &chat["content"];
    let text = |key: &str| content[key].as_str().unwrap().to_owned();
    let list = |key: &str| -> Vec<String> {
        serde_json::from_value(content[key].clone()).unwrap_or_default()
    };
    let steps: Vec<String> = list("nextSteps")
        .iter()
        .map(|step| format!("• {step}"))
        .collect();
    let seen = format!(
        "{}\n\n{}\n\nNext steps\n{}\n\nKeywords: {}\n",
        text("title"),
        text("description"),
        steps.join("\n"),
        list("keywords").join(", ")
    );
    let link = regex::Regex::new(r"<https://[^|>]+\|([^>]+)>").unwrap();
    let seen = link.replace_all(&seen, "[$1]");
    seen.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

#[test]
fn every_condition_in_chat() {
    for (language, code) in LANGUAGES {
        let seen: Vec<String> = (Condition::ALL.iter())
            .map(|condition| as_seen(&rendered(&opened(*condition), language).chat))
            .collect();
        insta::assert_snapshot!(
            format!("chat-of-conditions-{code}"),
            seen.join("\n----\n\n")
        );
    }
}

/// What machines read is of no language, whatever people read.
#[test]
fn machines_are_told_the_same_in_every_language() {
    let all = (Condition::ALL.map(opened).into_iter()).chain(Occasion::ALL.map(silent));
    for notification in all {
        let [english, japanese] = LANGUAGES.map(|(language, _)| rendered(&notification, language));
        assert_eq!(english.machine, japanese.machine);
        assert_eq!(english.subject, japanese.subject);
    }
}

/// The schema is strict, so that the tests that use it can fail.
#[test]
fn the_schema_of_chat_refuses_what_would_be_dropped() {
    let sound = rendered(&silent(Occasion::Opened), Language::En).chat;
    assert!(CHAT.is_valid(&sound));
    for (pointer, value) in [
        ("/version", Value::from("2.0")),
        ("/source", Value::from("aws")),
        ("/content/title", Value::from("x".repeat(251))),
        ("/content/description", Value::from("x".repeat(8_001))),
        ("/content/description", Value::from("")),
        ("/content/nextSteps", Value::from("one")),
        ("/content/textType", Value::from("markdown")),
        ("/metadata/threadId", Value::from("")),
        ("/metadata/additionalContext/since", Value::from(7)),
        ("/metadata", Value::from("x")),
    ] {
        let mut bad = sound.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert!(!CHAT.is_valid(&bad), "{pointer}");
    }
    let mut more = sound;
    more["text"] = Value::from("unknown");
    assert!(!CHAT.is_valid(&more));
}

/// One incident is one thread in chat; another incident is another.
#[test]
fn an_incident_is_one_thread() {
    let thread = |notification: &Notification| {
        rendered(notification, Language::En).chat["metadata"]["threadId"].clone()
    };
    let messages = Occasion::ALL.map(silent);
    let first = thread(&messages[0]);
    assert!(messages.iter().all(|message| thread(message) == first));
    let ids: std::collections::BTreeSet<String> = (messages.iter())
        .map(|message| rendered(message, Language::En).chat["id"].to_string())
        .collect();
    assert_eq!(ids.len(), messages.len());
    let mut next = messages[0].clone();
    next.incident = next.incident.replace("03:50", "09:15");
    assert_ne!(thread(&next), first);
}

/// The messages that the README shows are real ones, but for the links, which are cut.
#[test]
fn the_readme_shows_messages_as_they_are() {
    let mut silence = opened(Condition::SchedulerSilent);
    silence.handling = Handling::Watching;
    let mail = rendered(&silence, Language::En);
    let mail = format!("Subject: {}\n\n{}", mail.subject, mail.text);
    let link = regex::Regex::new(r"(https://\S{60})\S+").unwrap();
    let mail = link.replace_all(&mail, "$1…");
    let chat = as_seen(&rendered(&outage_over(), Language::En).chat);
    let readme = include_str!("../../README.md");
    let mut blocks = readme.split("```text\n").skip(1);
    let beginning = blocks.next().and_then(|rest| rest.split("\n```").next());
    assert!(mail.starts_with(beginning.unwrap()), "{beginning:?}");
    for (what, shown) in [("the mail", mail.as_ref()), ("the chat message", &chat)] {
        let block = format!("```text\n{}\n```", shown.trim_end());
        assert!(
            readme.contains(&block),
            "README.md does not show {what} as it is:\n{block}"
        );
    }
}

/// What the health endpoint has to say of a silence.
#[test]
fn a_silence_with_a_health_endpoint() {
    let asked = |sign, healthy, last_run: Option<&str>| Fact::Health {
        healthy,
        last_run: last_run.map(at),
        sign,
    };
    let cases = [
        ("alive", asked(Sign::Alive, true, Some("2026-11-24T03:49:30Z"))),
        ("dead", asked(Sign::Dead, false, Some("2026-11-24T03:40:02Z"))),
        ("stale", asked(Sign::Dead, true, Some("2026-11-24T03:40:02Z"))),
        ("unclear", asked(Sign::Unclear, true, None)),
        (
            "unknown",
            Fact::HealthUnknown {
                why: "failed: the health endpoint https://app.example gave no answer (Connection refused)".to_owned(),
            },
        ),
    ];
    for (language, code) in LANGUAGES {
        for (name, fact) in &cases {
            let mut notification = opened(Condition::SchedulerSilent);
            notification.proof.push(fact.clone());
            if *name == "alive" {
                notification.handling = Handling::Withheld {
                    cure: CureKind::ForceNewDeployment,
                    blocked_by: vec![Gate::HealthSaysAlive],
                };
            }
            let message = rendered(&notification, language);
            insta::assert_snapshot!(format!("health-{name}-{code}"), message.text);
        }
    }
}

/// Nobody is told to run Laravel's commands in an application of another kind.
#[test]
fn laravels_commands_are_for_laravel() {
    let celery = CONFIG.replacen("name =", "preset = \"celery-beat\"\nname =", 1);
    let celery = celery.replace("preset = \"laravel\"\n", "");
    let celery = Config::parse(&celery, "test").unwrap().schedulers.remove(0);
    for condition in Condition::ALL {
        for (language, _) in LANGUAGES {
            let context = Context {
                scheduler: Some(&celery),
                language,
                hide_emails: true,
                region: "ap-northeast-1",
            };
            let mut notification = opened(condition);
            notification.causes.clear();
            let text = render(&notification, &context).text;
            for word in ["artisan", "withoutOverlapping", "onOneServer"] {
                assert!(!text.contains(word), "{word} in {text}");
            }
        }
    }
}

/// The end of an outage that cost runs.
fn outage_over() -> Notification {
    let mut over = silent(Occasion::Resolved);
    let missed = |job: &str, count, first: &str, last: &str| Fact::MissedRuns {
        job: job.to_owned(),
        count,
        first: at(first),
        last: at(last),
    };
    over.proof.extend([
        missed(
            "notifications:delete-expired",
            1,
            "2026-11-24T03:45:00Z",
            "2026-11-24T03:45:00Z",
        ),
        missed(
            "redis:monitor",
            3,
            "2026-11-24T03:45:00Z",
            "2026-11-24T03:55:00Z",
        ),
        Fact::MoreMissed { jobs: 2 },
    ]);
    over
}

/// The end of a silence in which the loop was busy with one run.
fn busy_over() -> Notification {
    let mut over = silent(Occasion::Resolved);
    over.handling = Handling::CameBack;
    over.proof.push(Fact::WaitedFor {
        job: "orders:sync".to_owned(),
        from: at("2026-11-24T03:41:02Z"),
        until: at("2026-11-24T03:59:12Z"),
    });
    over
}

/// The end of a pause of all jobs.
fn held_back_over() -> Notification {
    let mut over = opened(Condition::JobOverdue);
    over.occasion = Occasion::Resolved;
    over.handling = Handling::CameBack;
    over.subject = None;
    over.until = Some(at("2026-11-24T04:55:02Z"));
    let missed = |job: &str, count, last: &str| Fact::MissedRuns {
        job: job.to_owned(),
        count,
        first: at("2026-11-24T03:45:00Z"),
        last: at(last),
    };
    over.proof = vec![
        missed("batch:generate-reports", 1, "2026-11-24T03:45:00Z"),
        missed("redis:monitor", 14, "2026-11-24T04:50:00Z"),
        Fact::NotSince {
            jobs: vec!["batch:generate-reports".to_owned()],
            more: 0,
            next: Some(at("2026-12-01T03:45:00Z")),
        },
    ];
    over
}

/// Several jobs at once are one incident without a subject; what an outage cost is told at its
/// end.
#[test]
fn several_jobs_and_what_an_outage_cost() {
    let mut several = opened(Condition::JobOverdue);
    several.subject = None;
    several.proof = vec![Fact::Jobs {
        names: vec!["redis:monitor".to_owned(), "orders:sync".to_owned()],
        more: 7,
    }];
    for (name, notification) in [
        ("several-jobs", several),
        ("held-back-over", held_back_over()),
        ("busy-over", busy_over()),
        ("outage-over", outage_over()),
    ] {
        for (language, code) in LANGUAGES {
            let message = rendered(&notification, language);
            let mail = format!("Subject: {}\n\n{}", message.subject, message.text);
            insta::assert_snapshot!(format!("{name}-{code}-mail"), mail);
            insta::assert_json_snapshot!(format!("{name}-{code}-chat"), message.chat);
        }
    }
}

/// It was gone in between: nobody is told of one long silence, and the commands show the newest.
#[test]
fn what_came_and_went_is_told_as_that() {
    for (name, occasion, minutes) in [
        ("again-reminder", Occasion::Reminder, 70),
        ("again-resolved", Occasion::Resolved, 100),
    ] {
        let mut notification = silent(occasion);
        notification.at = notification.since + jiff::SignedDuration::from_mins(minutes);
        notification.again_since =
            Some(notification.since + jiff::SignedDuration::from_mins(minutes - 7));
        notification.until =
            (notification.until).map(|_| notification.at - jiff::SignedDuration::from_mins(2));
        for (language, code) in LANGUAGES {
            let message = rendered(&notification, language);
            let mail = format!("Subject: {}\n\n{}", message.subject, message.text);
            insta::assert_snapshot!(format!("{name}-{code}"), mail);
        }
    }
}

#[test]
fn the_first_200_characters_tell_what_where_since_when_and_whether_it_is_handled() {
    let mut all: Vec<Notification> = Condition::ALL.map(opened).into();
    all.extend(Occasion::ALL.map(silent));
    for mut notification in all {
        notification.scheduler = format!("{}-in-the-far-north", notification.scheduler);
        for (language, _) in LANGUAGES {
            let text = rendered(&notification, language).text;
            let start: String = text.chars().take(200).collect();
            assert!(start.contains(&notification.scheduler), "{start}");
            assert!(
                start.contains("2026-11-24 1") || start.contains("(UTC)"),
                "{start}"
            );
            let lines: Vec<&str> = text.lines().take(3).collect();
            assert!(lines.join("\n").chars().count() <= 200, "{start}");
            assert!(lines.iter().all(|line| !line.is_empty()), "{start}");
        }
    }
}

/// One fact of each kind; the match makes sure that a new kind is added here.
fn facts() -> Vec<Fact> {
    let then = at("2026-11-24T03:40:09Z");
    let facts = vec![
        Fact::LastHeartbeat { at: Some(then) },
        Fact::LastHeartbeat { at: None },
        Fact::Allowed { seconds: 300 },
        Fact::OtherLines { newest: Some(then) },
        Fact::OtherLines { newest: None },
        Fact::Tasks {
            running: 1,
            desired: 2,
            newest: Some(TASK.to_owned()),
        },
        Fact::Runs {
            since: then,
            started: 0,
            failed: 0,
            running: 1,
            newest: Some(then),
            by: Some("chronos-schedule/every-minute".to_owned()),
            at_least: false,
        },
        Fact::Runs {
            since: then,
            started: 2,
            failed: 1,
            running: 0,
            newest: None,
            by: None,
            at_least: false,
        },
        Fact::Runs {
            since: then,
            started: 40,
            failed: 0,
            running: 500,
            newest: Some(then),
            by: Some("chronos-schedule/every-minute".to_owned()),
            at_least: true,
        },
        Fact::Runs {
            since: then,
            started: 0,
            failed: 0,
            running: 500,
            newest: None,
            by: None,
            at_least: true,
        },
        Fact::EcsUnknown {
            why: "x".to_owned(),
            obstacle: Some(Obstacle::TimedOut),
        },
        Fact::Health {
            healthy: true,
            last_run: Some(then),
            sign: Sign::Alive,
        },
        Fact::Health {
            healthy: false,
            last_run: Some(then),
            sign: Sign::Dead,
        },
        Fact::Health {
            healthy: true,
            last_run: None,
            sign: Sign::Unclear,
        },
        Fact::HealthUnknown {
            why: "x".to_owned(),
        },
        Fact::MayBeRunning {
            jobs: vec!["a".to_owned(), "b".to_owned()],
        },
        Fact::Aborts { count: 1 },
        Fact::LastErrors {
            lines: vec!["x".to_owned()],
        },
        Fact::Errors {
            count: 1,
            seconds: 60,
            threshold: 5,
            usual: None,
            at_least: false,
        },
        Fact::Stopped {
            reasons: vec!["x".to_owned()],
        },
        Fact::Deployment {
            id: "x".to_owned(),
            since: then,
            failed_tasks: 0,
        },
        Fact::Blind {
            why: "x".to_owned(),
            obstacle: None,
            passes: 1,
        },
        Fact::WatchedSince { at: then },
        Fact::MissedRuns {
            job: "x".to_owned(),
            count: 3,
            first: then,
            last: then,
        },
        Fact::NotSince {
            jobs: vec!["x".to_owned()],
            more: 0,
            next: None,
        },
        Fact::MoreMissed { jobs: 1 },
        Fact::WaitedFor {
            job: "x".to_owned(),
            from: then,
            until: then,
        },
        Fact::LastRun { at: None },
        Fact::Paused {
            from: then,
            until: then,
        },
        Fact::NextRun { at: then },
        Fact::Failures {
            count: 1,
            tolerance: 1,
            exit_code: None,
            at: then,
        },
        Fact::Runtime {
            seconds: 61,
            allowed: 60,
            running: true,
        },
        Fact::Twice {
            count: 1,
            at: then,
            streams: Vec::new(),
        },
        Fact::Jobs {
            names: vec!["x".to_owned()],
            more: 2,
        },
        Fact::Mistakes {
            list: vec!["x".to_owned()],
        },
        Fact::Watched {
            names: vec!["x".to_owned()],
            more: 1,
        },
        Fact::Readers {
            topic: "x".to_owned(),
            confirmed: 1,
            pending: 0,
        },
        Fact::ReadersUnknown {
            why: "x".to_owned(),
        },
        Fact::NextTest {
            at: None,
            schedule: Some("rate(30 days)".to_owned()),
            timezone: "UTC".to_owned(),
        },
    ];
    for fact in facts.iter().chain(&facts_of_causes()) {
        match fact {
            Fact::LastHeartbeat { .. }
            | Fact::Allowed { .. }
            | Fact::OtherLines { .. }
            | Fact::Tasks { .. }
            | Fact::Runs { .. }
            | Fact::EcsUnknown { .. }
            | Fact::Health { .. }
            | Fact::HealthUnknown { .. }
            | Fact::MayBeRunning { .. }
            | Fact::Aborts { .. }
            | Fact::LastErrors { .. }
            | Fact::Errors { .. }
            | Fact::Stopped { .. }
            | Fact::Deployment { .. }
            | Fact::Blind { .. }
            | Fact::WatchedSince { .. }
            | Fact::MissedRuns { .. }
            | Fact::NotSince { .. }
            | Fact::MoreMissed { .. }
            | Fact::WaitedFor { .. }
            | Fact::LastRun { .. }
            | Fact::Paused { .. }
            | Fact::NextRun { .. }
            | Fact::Failures { .. }
            | Fact::Runtime { .. }
            | Fact::Twice { .. }
            | Fact::Jobs { .. }
            | Fact::Mistakes { .. }
            | Fact::TaskEnded { .. }
            | Fact::Unhealthy { .. }
            | Fact::NotStarted { .. }
            | Fact::NothingSinceStart { .. }
            | Fact::CutOff { .. }
            | Fact::AllStopped { .. }
            | Fact::StoppedAtEdge { .. }
            | Fact::Watched { .. }
            | Fact::Readers { .. }
            | Fact::ReadersUnknown { .. }
            | Fact::NextTest { .. } => {}
        }
    }
    facts
}

/// What the watchdog words itself as evidence of a cause.
fn facts_of_causes() -> Vec<Fact> {
    let then = at("2026-11-24T03:40:09Z");
    let later = at("2026-11-24T03:45:00Z");
    let ended = |container: Option<&str>, reason: &str, exit_code| Fact::TaskEnded {
        task: TASK.to_owned(),
        container: container.map(str::to_owned),
        reason: reason.to_owned(),
        exit_code,
    };
    let cut_off = |killed| Fact::CutOff {
        job: "orders:sync".to_owned(),
        start: then,
        killed,
        line: "2026-11-24 12:40:09 Running ['artisan' orders:sync]".to_owned(),
    };
    vec![
        ended(
            Some("app"),
            "OutOfMemoryError: Container killed due to memory usage",
            Some(137),
        ),
        ended(Some("app"), "", Some(139)),
        ended(None, "Task failed container health checks", None),
        Fact::Unhealthy {
            task: TASK.to_owned(),
        },
        Fact::NotStarted {
            task: TASK.to_owned(),
            running_since: later,
            booted_at: then,
        },
        Fact::NothingSinceStart { booted_at: then },
        cut_off(true),
        cut_off(false),
        Fact::AllStopped {
            last: then,
            since: later,
            jobs: 4,
        },
        Fact::StoppedAtEdge {
            job: "auth:monitor-dual-auth --alert".to_owned(),
            last: then,
            edge: later,
        },
    ]
}

/// The same words in the mail of each language, and in English for machines.
#[test]
fn evidence_is_said_in_the_readers_language() {
    let mut said = String::new();
    for fact in facts_of_causes() {
        let mut notification = opened(Condition::SchedulerSilent);
        notification.causes = vec![Cause::new("not-started", Evidence::Fact(fact.clone()))];
        notification.proof = vec![fact];
        for (language, code) in LANGUAGES {
            let message = rendered(&notification, language);
            assert_no_holes(&message);
            let label = if code == "en" {
                "Evidence: "
            } else {
                "根拠: "
            };
            let lines: Vec<&str> = (message.text.lines())
                .filter_map(|line| line.strip_prefix(label))
                .collect();
            assert_eq!(lines.len(), 1, "{}", message.text);
            said += &format!("{code}       {}\n", lines[0]);
            // What is evidence is not said twice.
            assert_eq!(message.text.matches(lines[0]).count(), 1);
            let machine = message.machine["evidence"][0].as_str().unwrap();
            assert_eq!(message.machine["causes"][0]["evidence"][0], machine);
            if language == Language::Ja {
                said += &format!("machine  {machine}\n\n");
            }
        }
    }
    insta::assert_snapshot!(said);
}

fn handlings() -> Vec<Handling> {
    let then = at("2026-11-24T03:40:09Z");
    let cures = [
        CureKind::ForceNewDeployment,
        CureKind::StopTask,
        CureKind::RunTask,
    ];
    let mut all = vec![
        Handling::Watching,
        Handling::CameBack,
        Handling::ScaledToZero,
        Handling::NotDueAnyMore,
    ];
    for cure in cures {
        all.extend([
            Handling::Restarting { cure, attempt: 2 },
            Handling::Withheld {
                cure,
                blocked_by: Gate::ALL.to_vec(),
            },
            Handling::Proving { cure, at: then },
            Handling::Cured {
                cure,
                at: then,
                seconds: 252,
            },
            Handling::CureFailed {
                cure,
                at: then,
                error: None,
            },
            Handling::CureFailed {
                cure,
                at: then,
                error: Some("denied".to_owned()),
            },
        ]);
    }
    all
}

/// A phrase that is missing shows as its own path; a value that is missing as a hole.
fn assert_no_holes(message: &Message) {
    let hole = regex::Regex::new(
        r"\b(?:condition|occasion|fact|handling|gate|label|head|place|cure)\.[a-z]|\bundefined\b|[:(] ?none\b|\{\{|\}\}|\{%|  |。。",
    )
    .unwrap();
    let commands = ["aws ", "https", "watchdog "];
    for line in message.text.lines() {
        let is_command = commands.iter().any(|start| line.starts_with(start));
        assert!(is_command || !hole.is_match(line), "{line}");
    }
}

#[test]
fn everything_has_words_in_every_language() {
    let said = |condition, occasion, handling: &Handling| {
        let mut notification = opened(condition);
        notification.occasion = occasion;
        notification.handling = handling.clone();
        notification.until = Some(notification.at);
        notification.proof = facts();
        for (language, _) in LANGUAGES {
            assert_no_holes(&rendered(&notification, language));
        }
    };
    for condition in Condition::ALL {
        for occasion in Occasion::ALL {
            said(condition, occasion, &Handling::Watching);
        }
    }
    for handling in handlings() {
        for occasion in [Occasion::Opened, Occasion::Resolved] {
            said(Condition::SchedulerSilent, occasion, &handling);
        }
    }
}

#[test]
fn a_restart_by_hand_is_only_advised_where_it_can_help() {
    let advises = |notification: &Notification| {
        rendered(notification, Language::En)
            .text
            .contains("--force-new-deployment")
    };
    let mut notification = opened(Condition::SchedulerSilent);
    notification.handling = Handling::Watching;
    assert!(advises(&notification));
    notification.causes = vec![cause("not-started", "x")];
    assert!(advises(&notification));
    notification.causes = vec![cause("redis-unreachable", "x")];
    assert!(!advises(&notification));
    notification.causes.clear();
    for against in [
        Fact::MayBeRunning {
            jobs: vec!["report".to_owned()],
        },
        Fact::Health {
            healthy: true,
            last_run: Some(notification.at),
            sign: Sign::Alive,
        },
        // One is under way already, and does not come to its end.
        Fact::Deployment {
            id: "ecs-svc/2".to_owned(),
            since: notification.since,
            failed_tasks: 0,
        },
    ] {
        notification.proof.push(against);
        assert!(!advises(&notification), "{:?}", notification.proof);
        notification.proof.pop();
    }
    assert!(advises(&notification));
    for (gate, advised) in [
        (Gate::AttemptsPerDay, true),
        (Gate::JobMayBeRunning, false),
        (Gate::HealthSaysAlive, false),
        (Gate::DeploymentInProgress, false),
        (Gate::CauseNotRestartable, false),
    ] {
        notification.handling = Handling::Withheld {
            cure: CureKind::ForceNewDeployment,
            blocked_by: vec![gate],
        };
        assert_eq!(advises(&notification), advised, "{gate:?}");
    }
    // Its own restart is under way: a second one would only stack.
    notification.handling = Handling::Restarting {
        cure: CureKind::ForceNewDeployment,
        attempt: 1,
    };
    assert!(!advises(&notification));
    let mut failing = opened(Condition::SchedulerFailing);
    failing.handling = Handling::Watching;
    failing.causes.clear();
    assert!(
        !advises(&failing),
        "without a proven cause nothing says that it helps"
    );
}

/// Addresses of people are hidden in every message, unless the configuration shows them.
#[test]
fn addresses_are_hidden_unless_they_are_wanted() {
    const ADDRESS: &str = "alice@example.com";
    let mut notification = opened(Condition::ServiceDown);
    let text = format!("mail to {ADDRESS} failed");
    notification.causes = vec![cause("image-pull", &text)];
    notification.proof = vec![Fact::Stopped {
        reasons: vec![text.clone()],
    }];
    notification.handling = Handling::CureFailed {
        cure: CureKind::ForceNewDeployment,
        at: notification.at,
        error: Some(text),
    };
    let scheduler = scheduler();
    for hide_emails in [true, false] {
        let message = render(
            &notification,
            &Context {
                scheduler: Some(&scheduler),
                language: Language::En,
                hide_emails,
                region: "",
            },
        );
        let times = message.text.matches(ADDRESS).count();
        assert_eq!(times, if hide_emails { 0 } else { 3 }, "{}", message.text);
        for readers in [&message.chat, &message.machine] {
            assert_eq!(readers.to_string().contains(ADDRESS), !hide_emails);
        }
    }
}

#[test]
fn names_are_quoted_for_the_shell() {
    let config = CONFIG.replace("myteacher-production-cluster", "a b$(reboot)'c");
    let scheduler = Config::parse(&config, "test").unwrap().schedulers.remove(0);
    let message = render(
        &opened(Condition::SchedulerSilent),
        &Context {
            scheduler: Some(&scheduler),
            language: Language::En,
            hide_emails: true,
            region: "eu-west-1",
        },
    );
    assert!(
        message.text.contains(r"--cluster 'a b$(reboot)'\''c' "),
        "{}",
        message.text
    );
}

#[test]
fn without_ecs_and_region_only_what_is_known_is_said() {
    let config = &CONFIG[..CONFIG.find("[scheduler.ecs]").unwrap()];
    let scheduler = Config::parse(config, "test").unwrap().schedulers.remove(0);
    let message = render(
        &opened(Condition::SchedulerSilent),
        &Context {
            scheduler: Some(&scheduler),
            language: Language::En,
            hide_emails: true,
            region: "",
        },
    );
    insta::assert_snapshot!("mail-without-ecs", message.text);
}

#[test]
fn tasks_without_a_service_have_their_own_commands() {
    let config = CONFIG.replace(
        "service = \"myteacher-production-app-service\"",
        "task_definition = \"arn:aws:ecs:ap-northeast-1:123456789012:task-definition/scheduler:7\"\nsubnets = [\"subnet-1\"]\nsecurity_groups = [\"sg-1\"]",
    );
    let scheduler = Config::parse(&config, "test").unwrap().schedulers.remove(0);
    let mut notification = opened(Condition::SchedulerSilent);
    notification.handling = Handling::Watching;
    let message = render(
        &notification,
        &Context {
            scheduler: Some(&scheduler),
            language: Language::En,
            hide_emails: true,
            region: "ap-northeast-1",
        },
    );
    insta::assert_snapshot!("mail-task-definition", message.text);
}

/// What can be named is named in the schema.
#[test]
fn the_schema_knows_every_name() {
    let schema: Value =
        serde_json::from_str(include_str!("../../schema/notification.schema.json")).unwrap();
    let names = |pointer: &str| -> Vec<String> {
        serde_json::from_value(schema.pointer(pointer).unwrap().clone()).unwrap()
    };
    let ids = |ids: &mut dyn Iterator<Item = &'static str>| -> Vec<String> {
        ids.map(str::to_owned).collect()
    };
    assert_eq!(
        names("/properties/condition/enum"),
        ids(&mut (Condition::ALL.iter().map(|c| c.id())).chain([Condition::TestAlert.id()]))
    );
    assert_eq!(
        names("/properties/reason/enum"),
        ids(&mut (Occasion::ALL.iter().map(|o| o.id())).chain([Occasion::Test.id()]))
    );
    assert_eq!(
        names("/properties/handling/properties/blocked_by/items/enum"),
        ids(&mut Gate::ALL.iter().map(|gate| gate.id()))
    );
}

fn schema(text: &str) -> jsonschema::Validator {
    jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap()
}

/// Whether everything that is sent keeps its rules.
fn assert_sound(message: &Message) {
    let subject = &message.subject;
    assert!((1..=99).contains(&subject.len()), "{subject}");
    assert!(
        subject.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
        "{subject:?}"
    );
    assert!(!subject.starts_with(' '), "{subject:?}");

    assert!(
        message.text.len() <= 16 * 1024,
        "{} bytes",
        message.text.len()
    );
    let fine = |char: char| {
        char == '\n'
            || !(char.is_control()
                || ('\u{202a}'..='\u{202e}').contains(&char)
                || ('\u{2066}'..='\u{2069}').contains(&char))
    };
    assert!(message.text.chars().all(fine), "{:?}", message.text);

    let errors: Vec<String> = (CHAT.iter_errors(&message.chat))
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    each_text(&message.chat, &mut |text| {
        assert!(text.chars().all(fine), "{text:?}");
        let mut rest = text;
        // Only links that this program made, and the three entities.
        while let Some(start) = rest.find(['<', '>', '&']) {
            let (special, after) = rest[start..].split_at(1);
            rest = after;
            match special {
                "&" => assert!(
                    ["amp;", "lt;", "gt;"].iter().any(|e| after.starts_with(e)),
                    "{text}"
                ),
                "<" => {
                    assert!(
                        after.starts_with("https://ap-northeast-1.console.aws.amazon.com/"),
                        "{text}"
                    );
                    let end = after.find('>').unwrap();
                    assert!(!after[..end].contains(['<', '\n']), "{text}");
                    rest = &after[end + 1..];
                }
                _ => panic!("unescaped > in {text}"),
            }
        }
    });

    let errors: Vec<String> = (MACHINE.iter_errors(&message.machine))
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    let whole =
        message.text.len() + message.chat.to_string().len() + 4 * message.machine.to_string().len();
    assert!(whole <= 256 * 1024, "{whole} bytes");
}

static CHAT: std::sync::LazyLock<jsonschema::Validator> = std::sync::LazyLock::new(|| {
    schema(include_str!("../../schema/custom-notification.schema.json"))
});
static MACHINE: std::sync::LazyLock<jsonschema::Validator> =
    std::sync::LazyLock::new(|| schema(include_str!("../../schema/notification.schema.json")));

fn each_text(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(list) => list.iter().for_each(|value| each_text(value, visit)),
        Value::Object(map) => map.values().for_each(|value| each_text(value, visit)),
        _ => {}
    }
}

#[test]
fn every_message_is_sound() {
    for (language, _) in LANGUAGES {
        for condition in Condition::ALL {
            assert_sound(&rendered(&opened(condition), language));
        }
        for occasion in Occasion::ALL {
            assert_sound(&rendered(&silent(occasion), language));
        }
        for handling in handlings() {
            let mut notification = opened(Condition::SchedulerSilent);
            notification.handling = handling;
            notification.proof = facts();
            assert_sound(&rendered(&notification, language));
        }
    }
}

/// A text such as a log could hold in order to do harm.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<String>(),
        Just("<!channel>".to_owned()),
        Just("<@U012345>".to_owned()),
        Just("<https://evil.example|click>".to_owned()),
        Just("\u{1b}[31m\u{1b}]0;x\u{7}".to_owned()),
        Just("\u{202e}\u{2066}\u{200b}".to_owned()),
        Just("\r\n\r\nSubject: forged\n".to_owned()),
        Just("*_~`&amp;&".to_owned()),
        Just("{{ 7 * 7 }}{% raw %}".to_owned()),
        Just("日本語のログ".repeat(40)),
        Just("&".repeat(500)),
        "[ -~]{0,300}",
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// Ways in which a secret stands in a log. None of them may be told from the outside.
fn planted() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("password=§".to_owned()),
        Just("DB_PASSWORD: '§'".to_owned()),
        Just("\"api_key\":\"§\"".to_owned()),
        Just("{\\\"token\\\":\\\"§\\\"}".to_owned()),
        Just("redis://user:§@host:6379".to_owned()),
        Just("https://§@host/path".to_owned()),
        Just("Authorization: Bearer §".to_owned()),
        Just("bearer §".to_owned()),
        Just("Cookie: session=§; a=b".to_owned()),
        Just("'secret' => '§'".to_owned()),
        Just("--password §".to_owned()),
        Just("(Connection: mysql, SQL: select * from users where pin = §)".to_owned()),
        Just("-----BEGIN RSA PRIVATE KEY-----\n§\n-----END RSA PRIVATE KEY-----".to_owned()),
        Just("aws_secret_access_key = §".to_owned()),
        Just("pass\u{200b}word=§".to_owned()),
    ]
}

/// Nothing that the surrounding text could contain by chance.
const SECRET: &str = "Zq7Xv9Kw3Jp5Lm1Nb";

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_text_breaks_no_rule(
        texts in proptest::collection::vec(hostile(), 8),
        occasion in proptest::sample::select(Occasion::ALL.to_vec()),
        condition in proptest::sample::select(Condition::ALL.to_vec()),
        long in 1..60usize,
    ) {
        let mut notification = opened(condition);
        let text = |index: usize| texts[index].clone();
        notification.occasion = occasion;
        notification.scheduler = text(0);
        notification.subject = Some(text(1));
        notification.causes = vec![
            Cause { id: "redis-unreachable".to_owned(), evidence: vec![text(2).into(); long] },
            Cause { id: text(3), evidence: vec![text(4).into()] },
        ];
        notification.proof = vec![
            Fact::Stopped { reasons: vec![text(5); long] },
            Fact::Mistakes { list: vec![text(6); long] },
            Fact::Blind { why: text(7), obstacle: None, passes: 3 },
            Fact::MayBeRunning { jobs: vec![text(5); long] },
        ];
        notification.handling = Handling::CureFailed {
            cure: CureKind::ForceNewDeployment,
            at: notification.at,
            error: Some(text(6)),
        };
        for (language, _) in LANGUAGES {
            assert_sound(&rendered(&notification, language));
        }
    }

    #[test]
    fn secrets_stay_hidden(before in hostile(), planted in planted(), after in hostile()) {
        let text = format!("{before} {} {after}", planted.replace('§', SECRET));
        let shown = safe::evidence(&text);
        prop_assert!(!shown.contains(SECRET), "{shown}");
        prop_assert!(!safe::evidence(&shown).contains(SECRET));
        prop_assert!(shown.len() <= safe::MAX_EVIDENCE);

        let mut notification = opened(Condition::ServiceDown);
        notification.causes = vec![cause("image-pull", &text)];
        notification.proof = vec![
            Fact::Stopped { reasons: vec![text.clone()] },
            Fact::EcsUnknown { why: text.clone(), obstacle: None },
            Fact::HealthUnknown { why: text.clone() },
            Fact::Mistakes { list: vec![text.clone()] },
            Fact::MayBeRunning { jobs: vec![text.clone()] },
        ];
        notification.handling = Handling::CureFailed {
            cure: CureKind::ForceNewDeployment,
            at: notification.at,
            error: Some(text),
        };
        let message = rendered(&notification, Language::En);
        prop_assert!(!message.text.contains(SECRET));
        prop_assert!(!message.chat.to_string().contains(SECRET));
        prop_assert!(!message.machine.to_string().contains(SECRET));
    }
}
