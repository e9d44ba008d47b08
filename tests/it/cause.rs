//! Causes, found in what was really printed.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::cause::{Cause, Clues, ErrorNote, Evidence, find};
use scheduler_watchdog::condition::{Condition, Fact};
use scheduler_watchdog::line::{Kind, LogEvent, Preset, read};
use scheduler_watchdog::snapshot::{Container, Deployment, ServiceFacts, Task};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOW: &str = "2026-11-24T03:50:00Z";

fn note(text: &str, context: Option<&str>) -> ErrorNote {
    ErrorNote::new(at(NOW), text, context, &[], true)
}

/// The errors in a sample, as the line reader finds them.
pub fn errors(sample: &str) -> Vec<ErrorNote> {
    let events: Vec<LogEvent> = (sample.lines())
        .map(|line| LogEvent {
            at: at(NOW),
            ingested: None,
            stream: "app/app/1".into(),
            id: None,
            message: line.to_owned(),
        })
        .collect();
    let preset = Preset::named("laravel").unwrap();
    (read(&preset, &events).iter())
        .filter_map(|line| match &line.kind {
            Kind::Error {
                aborts,
                context,
                trace,
            } => Some(ErrorNote::new(
                line.at,
                &line.text,
                context.as_deref(),
                trace,
                *aborts,
            )),
            _ => None,
        })
        .collect()
}

pub fn clues(errors: &[ErrorNote], condition: Condition) -> Clues<'_> {
    Clues {
        condition,
        task: None,
        errors,
        service: None,
        booted_at: None,
        last_heartbeat: None,
        heard: &[],
        settled_tasks: Timestamp::MAX,
    }
}

pub fn ids(causes: &[Cause]) -> Vec<&str> {
    causes.iter().map(|cause| cause.id.as_str()).collect()
}

#[test]
fn records_of_the_applications_log_explain_a_spike() {
    let path = "tests/samples/laravel-12.67.0/12_child_command_redis_down_LOG_single.laravel.log";
    let sample = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let causes = find(&clues(&errors(&sample), Condition::ErrorSpike));
    assert_eq!(ids(&causes), ["redis-unreachable"]);
    assert_eq!(
        causes[0].evidence,
        [Evidence::from("PhpRedisConnector.php: Connection refused")]
    );
}

#[test]
fn a_log_that_cannot_be_written_does_not_hide_the_real_error() {
    let behind = |real: &str| {
        let text = format!(
            "The stream or file \"/var/www/html/storage/logs/laravel.log\" could not be opened in append mode: Failed to open stream: Permission denied\nThe exception occurred while attempting to log: {real}\nContext: {{\"exception\":{{}}}}"
        );
        let errors = [note(&text, Some("StreamHandler.php"))];
        let causes = find(&clues(&errors, Condition::SchedulerFailing));
        ids(&causes).join(" ")
    };
    assert_eq!(
        behind("SQLSTATE[HY000] [2002] Connection refused"),
        "database-unreachable permission-denied"
    );
    assert_eq!(
        behind("Connection refused [tcp://127.0.0.1:6399]"),
        "redis-unreachable permission-denied"
    );
    assert_eq!(behind("Connection refused"), "permission-denied");
    assert_eq!(behind("boom in closure"), "permission-denied");
}

#[test]
fn the_trace_decides_what_a_bare_text_means() {
    let frame = |file: &str| {
        vec![format!(
            "#0 /var/www/html/vendor/laravel/framework/src/Illuminate/{file}(112): x()"
        )]
    };
    for (trace, expected) in [
        (
            frame("Redis/Connectors/PhpRedisConnector.php"),
            vec!["redis-unreachable"],
        ),
        (
            frame("Database/Connectors/Connector.php"),
            vec!["database-unreachable"],
        ),
        (frame("Mail/Mailer.php"), vec![]),
    ] {
        let errors = [ErrorNote::new(
            at(NOW),
            "Connection refused",
            None,
            &trace,
            true,
        )];
        let causes = find(&clues(&errors, Condition::SchedulerFailing));
        assert_eq!(ids(&causes), expected);
    }
}

#[test]
fn an_error_that_ended_no_run_is_no_cause_of_a_silence() {
    let mut errors = vec![note("NOAUTH Authentication required.", None)];
    assert_eq!(
        ids(&find(&clues(&errors, Condition::SchedulerSilent))),
        ["redis-auth"]
    );
    errors[0].aborts = false;
    assert!(find(&clues(&errors, Condition::SchedulerSilent)).is_empty());
    // Nor one that the loop outlived.
    errors[0].aborts = true;
    let mut after = clues(&errors, Condition::SchedulerSilent);
    for (seconds, is_cause) in [(0, true), (120, true), (121, false), (300, false)] {
        after.last_heartbeat = Some(at(NOW) + SignedDuration::from_secs(seconds));
        assert_eq!(!find(&after).is_empty(), is_cause, "{seconds} s");
    }
}

#[test]
fn the_cause_of_a_spike_explains_at_least_half_of_it() {
    let redis = || {
        note(
            "READONLY You can't write against a read only replica.",
            None,
        )
    };
    let other = || note("Undefined array key 3", None);
    let found = |errors: &[ErrorNote]| ids(&find(&clues(errors, Condition::ErrorSpike))).join(" ");
    assert_eq!(
        found(&[redis(), other(), redis(), other()]),
        "redis-readonly"
    );
    assert_eq!(found(&[redis(), other(), other()]), "");
}

#[test]
fn a_proof_far_into_a_long_text_is_shown() {
    let text = format!(
        "{}Connection refused [tcp://127.0.0.1:6399]",
        "x ".repeat(250)
    );
    let errors = [note(&text, None)];
    let causes = find(&clues(&errors, Condition::SchedulerFailing));
    assert_eq!(ids(&causes), ["redis-unreachable"]);
    let shown = format!("{:?}", causes[0].evidence);
    assert!(shown.contains("Connection refused"), "{shown}");
}

#[test]
fn two_lines_prove_a_cause_the_newest_first() {
    let errors: Vec<ErrorNote> = (1..=3)
        .map(|n| note(&format!("NOAUTH Authentication required {n}."), None))
        .collect();
    let causes = find(&clues(&errors, Condition::SchedulerFailing));
    let lines = [3, 2].map(|n| Evidence::Line(format!("NOAUTH Authentication required {n}.")));
    assert_eq!(causes[0].evidence, lines);
}

fn task(id: &str, started_at: &str) -> Task {
    Task {
        id: id.to_owned(),
        started_by: "ecs-svc/1".to_owned(),
        last_status: "RUNNING".to_owned(),
        started_at: Some(at(started_at)),
        stopped_at: None,
        stop_code: String::new(),
        stopped_reason: String::new(),
        health: "UNKNOWN".to_owned(),
        containers: vec![Container {
            name: "app".to_owned(),
            ..Container::default()
        }],
    }
}

fn service(tasks: Vec<Task>) -> ServiceFacts {
    ServiceFacts {
        status: "ACTIVE".to_owned(),
        desired: 1,
        tasks,
        ..ServiceFacts::default()
    }
}

#[test]
fn a_task_that_never_started_its_scheduler() {
    let facts = service(vec![
        task("old", "2026-11-24T01:00:00Z"),
        task("new", "2026-11-24T03:30:00Z"),
    ]);
    let mut silent = clues(&[], Condition::SchedulerSilent);
    silent.service = Some(&facts);
    silent.booted_at = Some(at("2026-11-24T01:00:05Z"));
    silent.last_heartbeat = Some(at("2026-11-24T03:29:00Z"));
    let causes = find(&silent);
    assert_eq!(ids(&causes), ["not-started"]);
    assert_eq!(
        causes[0].evidence,
        [Evidence::Fact(Fact::NotStarted {
            task: "new".to_owned(),
            running_since: at("2026-11-24T03:30:00Z"),
            booted_at: at("2026-11-24T01:00:05Z"),
        })]
    );
    // It printed its first line: the loop was started, and died later.
    let started = Clues {
        booted_at: Some(at("2026-11-24T03:30:04Z")),
        ..silent
    };
    assert!(find(&started).is_empty());
    // This application may never print such a line.
    assert!(
        find(&Clues {
            booted_at: None,
            ..silent
        })
        .is_empty()
    );
    // It did run in that task.
    let ran = Clues {
        last_heartbeat: Some(at("2026-11-24T03:35:00Z")),
        ..silent
    };
    assert!(find(&ran).is_empty());
    // The old task went on beside it for a while.
    let beside = Clues {
        heard: &["old"],
        last_heartbeat: Some(at("2026-11-24T03:35:00Z")),
        ..silent
    };
    assert_eq!(ids(&find(&beside)), ["not-started"]);
    let ran = Clues {
        heard: &["old", "new"],
        ..silent
    };
    assert!(find(&ran).is_empty());
    // What else is wrong proves nothing of the kind.
    let stuck = Clues {
        condition: Condition::DeploymentStuck,
        ..silent
    };
    assert!(find(&stuck).is_empty());
    // One of several replicas.
    for (replica, expected) in [("new", &["not-started"][..]), ("old", &[])] {
        let one = Clues {
            condition: Condition::ReplicaSilent,
            task: Some(replica),
            heard: &["another"],
            ..silent
        };
        assert_eq!(ids(&find(&one)), expected, "{replica}");
    }
    // Half a minute before ECS says that the task runs, its first line may have come.
    for (booted_at, last_heartbeat, settled, proven) in [
        ("03:29:29", "03:29:59", "03:30:00", true),
        ("03:29:30", "03:29:59", "03:30:00", false),
        ("03:29:29", "03:30:00", "03:30:00", false),
        ("03:29:29", "03:29:59", "03:29:59", false),
    ] {
        let time = |time: &str| at(&format!("2026-11-24T{time}Z"));
        let edge = Clues {
            booted_at: Some(time(booted_at)),
            last_heartbeat: Some(time(last_heartbeat)),
            settled_tasks: time(settled),
            ..silent
        };
        assert_eq!(!find(&edge).is_empty(), proven, "{edge:?}");
    }
    // An error of a run proves that runs were started.
    let errors = [note("something else", None)];
    let failed = Clues {
        errors: &errors,
        last_heartbeat: Some(at("2026-11-24T03:29:00Z")),
        ..silent
    };
    assert!(find(&failed).is_empty());
}

#[test]
fn a_scheduler_that_only_ever_printed_its_start() {
    let mut never = clues(&[], Condition::NeverSeen);
    never.booted_at = Some(at("2026-11-24T01:00:05Z"));
    assert_eq!(ids(&find(&never)), ["output-to-file"]);
    let facts = service(vec![task("t", "2026-11-24T01:00:00Z")]);
    never.service = Some(&facts);
    assert_eq!(ids(&find(&never)), ["output-to-file"]);
    never.booted_at = None;
    assert!(find(&never).is_empty());
}

#[test]
fn a_kill_for_memory_counts_where_the_loop_is_gone() {
    let killed = |status: &str, stopped_at: Option<&str>| {
        let mut task = task("t", "2026-11-24T01:00:00Z");
        task.last_status = status.to_owned();
        task.stopped_at = stopped_at.map(at);
        task.containers[0].exit_code = Some(137);
        task.containers[0].reason =
            "OutOfMemoryError: Container killed due to memory usage".to_owned();
        service(vec![task])
    };
    let found = |facts: &ServiceFacts, condition| {
        let mut clues = clues(&[], condition);
        clues.service = Some(facts);
        clues.last_heartbeat = Some(at("2026-11-24T03:40:00Z"));
        ids(&find(&clues)).join(" ")
    };
    let side = killed("RUNNING", None);
    let just_now = killed("STOPPED", Some("2026-11-24T03:40:30Z"));
    let long_ago = killed("STOPPED", Some("2026-11-24T03:10:00Z"));
    assert_eq!(
        found(&side, Condition::SchedulerSilent),
        "out-of-memory-kill"
    );
    assert_eq!(
        found(&just_now, Condition::SchedulerSilent),
        "out-of-memory-kill"
    );
    assert_eq!(found(&long_ago, Condition::SchedulerSilent), "");
    assert_eq!(
        found(&long_ago, Condition::ServiceDown),
        "out-of-memory-kill"
    );
    assert_eq!(found(&just_now, Condition::ErrorSpike), "");
}

/// What a task's end proves where ECS asked it to end, and where it ended by itself.
#[test]
fn a_kill_at_the_end_of_an_orderly_stop_is_no_cause() {
    let found = |stop_code: &str, reason: &str| {
        let mut task = task("t", "2026-11-24T01:00:00Z");
        task.last_status = "STOPPED".to_owned();
        task.stopped_at = Some(at("2026-11-24T03:40:30Z"));
        task.stop_code = stop_code.to_owned();
        task.stopped_reason = reason.to_owned();
        task.containers[0].exit_code = Some(137);
        let facts = service(vec![task]);
        let mut clues = clues(&[], Condition::SchedulerSilent);
        clues.service = Some(&facts);
        clues.last_heartbeat = Some(at("2026-11-24T03:40:00Z"));
        ids(&find(&clues)).join(" ")
    };
    let by_itself = found(
        "EssentialContainerExited",
        "Essential container in task exited",
    );
    assert_eq!(by_itself, "process-killed");
    let deployed = "Scaling activity initiated by (deployment ecs-svc/2)";
    assert_eq!(found("ServiceSchedulerInitiated", deployed), "");
    assert_eq!(found("UserInitiated", "Task stopped by user"), "");
    let unhealthy = found(
        "ServiceSchedulerInitiated",
        "Task failed container health checks",
    );
    assert_eq!(unhealthy, "health-check-failed");
    assert_eq!(
        found("SpotInterruption", "Your Spot Task was interrupted."),
        "spot-interruption"
    );
}

#[test]
fn what_ended_one_replica_says_nothing_of_another() {
    let mut gone = task("gone", "2026-11-24T01:00:00Z");
    gone.last_status = "STOPPED".to_owned();
    gone.stopped_at = Some(at("2026-11-24T03:40:10Z"));
    gone.containers[0].reason = "OutOfMemoryError: Container killed".to_owned();
    let facts = service(vec![gone, task("silent", "2026-11-24T01:00:00Z")]);
    let mut clues = clues(&[], Condition::ReplicaSilent);
    clues.service = Some(&facts);
    clues.last_heartbeat = Some(at("2026-11-24T03:40:00Z"));
    clues.task = Some("silent");
    assert!(find(&clues).is_empty());
    clues.task = Some("gone");
    assert_eq!(ids(&find(&clues)), ["out-of-memory-kill"]);
}

#[test]
fn the_newest_ends_explain_why_nothing_runs() {
    let ended = |id: &str, stopped_at: &str, reason: &str| {
        let mut task = task(id, "2026-11-24T01:00:00Z");
        task.last_status = "STOPPED".to_owned();
        task.stopped_at = Some(at(stopped_at));
        task.stopped_reason = reason.to_owned();
        task
    };
    let mut facts = service(vec![
        ended(
            "old",
            "2026-11-24T03:10:00Z",
            "OutOfMemoryError: Container killed",
        ),
        ended(
            "new",
            "2026-11-24T03:41:00Z",
            "CannotPullContainerError: not found",
        ),
    ]);
    // Newest first; what happened before it was well is another story.
    facts.events = vec![
        "(service web) is unable to consistently start tasks successfully.".to_owned(),
        "(service web) has reached a steady state.".to_owned(),
        "(service web) was unable to place a task.".to_owned(),
    ];
    let mut clues = clues(&[], Condition::ServiceDown);
    clues.service = Some(&facts);
    clues.last_heartbeat = Some(at("2026-11-24T03:40:00Z"));
    assert_eq!(ids(&find(&clues)), ["image-pull", "crash-loop"]);
}

#[test]
fn a_deployment_is_stuck_over_its_own_tasks() {
    let mut old = task("old", "2026-11-24T01:00:00Z");
    old.health = "UNHEALTHY".to_owned();
    let mut new = task("new", "2026-11-24T03:30:00Z");
    new.started_by = "ecs-svc/2".to_owned();
    let mut facts = service(vec![old, new]);
    facts.deployments = vec![Deployment {
        id: "ecs-svc/2".to_owned(),
        status: "PRIMARY".to_owned(),
        rollout: "IN_PROGRESS".to_owned(),
        created_at: at("2026-11-24T03:00:00Z"),
        failed_tasks: 0,
    }];
    let found = |facts: &ServiceFacts, errors: &[ErrorNote]| {
        let mut clues = clues(errors, Condition::DeploymentStuck);
        clues.service = Some(facts);
        find(&clues)
    };
    let error_of = |task: &str| ErrorNote {
        stream: format!("app/app/{task}"),
        ..note("Class \"App\\Jobs\\Prune\" not found", None)
    };
    assert!(found(&facts, &[error_of("old")]).is_empty());
    let causes = found(&facts, &[error_of("new")]);
    assert_eq!(ids(&causes), ["code-missing"]);
    facts.tasks[1].health = "UNHEALTHY".to_owned();
    let causes = found(&facts, &[]);
    assert_eq!(ids(&causes), ["health-check-failed"]);
    let unhealthy = Fact::Unhealthy {
        task: "new".to_owned(),
    };
    assert_eq!(causes[0].evidence, [Evidence::Fact(unhealthy)]);
}

#[test]
fn a_connection_that_broke_under_a_silent_loop_takes_a_restart() {
    let helps = |text: &str, condition| {
        let errors = [note(text, Some("PhpRedisConnector.php"))];
        let causes = find(&clues(&errors, condition));
        assert_eq!(causes.len(), 1, "{causes:?}");
        causes[0].restart_helps(condition)
    };
    for text in [
        "read error on connection to redis:6379",
        "Redis server redis:6379 went away",
        "Connection reset by peer",
        "SQLSTATE[HY000]: General error: 2006 MySQL server has gone away",
        "SQLSTATE[57P01]: Admin shutdown: 7 FATAL:  terminating connection due to administrator command",
    ] {
        assert_eq!(
            helps(text, Condition::SchedulerSilent),
            Some(true),
            "{text}"
        );
        // Each run connects anew, and fails anew.
        assert_eq!(
            helps(text, Condition::SchedulerFailing),
            Some(false),
            "{text}"
        );
    }
    for text in [
        "Connection refused",
        "NOAUTH Authentication required.",
        "SQLSTATE[HY000] [2002] Connection refused",
    ] {
        assert_eq!(
            helps(text, Condition::SchedulerSilent),
            Some(false),
            "{text}"
        );
    }
}

#[test]
fn evidence_in_an_older_document_is_still_read() {
    let old = r#"{"id":"redis-auth","evidence":["NOAUTH Authentication required."]}"#;
    let cause: Cause = serde_json::from_str(old).unwrap();
    assert_eq!(
        cause,
        Cause::new("redis-auth", "NOAUTH Authentication required.")
    );
    let booted_at = at("2026-11-24T01:00:05Z");
    let fact = Evidence::Fact(Fact::NothingSinceStart { booted_at });
    let new = Cause::new("output-to-file", fact);
    let text = serde_json::to_string(&new).unwrap();
    assert_eq!(serde_json::from_str::<Cause>(&text).unwrap(), new);
}
