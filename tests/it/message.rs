//! What people and machines are sent.

use jiff::Timestamp;
use proptest::prelude::*;
use scheduler_watchdog::cause::Cause;
use scheduler_watchdog::condition::{Condition, Fact, Severity};
use scheduler_watchdog::config::{Config, Language, Scheduler};
use scheduler_watchdog::message::{Context, Message, render, safe};
use scheduler_watchdog::plan::{CureKind, Gate, Handling, Notification, Occasion};
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
        evidence: vec![evidence.to_owned()],
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
            vec![Fact::Aborts { count: 9 }],
            Handling::Withheld {
                cure: CureKind::ForceNewDeployment,
                blocked_by: vec![Gate::CauseNotRestartable],
            },
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
                    why: "denied: the role may not call ecs:DescribeServices".to_owned(),
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
                why: "denied: the role may not call logs:StartQuery on /ecs/myteacher-production"
                    .to_owned(),
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
    };
    Notification {
        id: "myteacher-production/loop/2026-11-24T03:50:00Z/opened".to_owned(),
        incident: "myteacher-production/loop/2026-11-24T03:50:00Z".to_owned(),
        at: at("2026-11-24T03:50:09Z"),
        scheduler: "myteacher-production".to_owned(),
        occasion: Occasion::Opened,
        condition,
        subject: match condition {
            Condition::ReplicaSilent => Some(TASK.to_owned()),
            Condition::WatchdogBlind => Some("log".to_owned()),
            _ => None,
        },
        severity: condition.severity(),
        since: at("2026-11-24T03:40:09Z"),
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

fn rendered(notification: &Notification, language: Language) -> Message {
    let scheduler = scheduler();
    let scheduler = (notification.condition != Condition::Misconfigured).then_some(&scheduler);
    render(
        notification,
        &Context {
            scheduler,
            language,
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
