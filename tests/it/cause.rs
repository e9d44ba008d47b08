//! Causes, found in what was really printed.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::cause::{Cause, Clues, ErrorNote, find};
use scheduler_watchdog::condition::Condition;
use scheduler_watchdog::line::{Kind, LogEvent, Preset, read};
use scheduler_watchdog::snapshot::{Container, ServiceFacts, Task};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOW: &str = "2026-11-24T03:50:00Z";

fn note(text: &str, context: Option<&str>) -> ErrorNote {
    ErrorNote::new(at(NOW), text, context, &[], true)
}

/// The errors in a sample, as the line reader finds them.
fn errors(sample: &str) -> Vec<ErrorNote> {
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

fn clues(errors: &[ErrorNote], condition: Condition) -> Clues<'_> {
    Clues {
        condition,
        errors,
        service: None,
        booted_at: None,
        last_heartbeat: None,
        settled_tasks: Timestamp::MAX,
    }
}

fn ids(causes: &[Cause]) -> Vec<&str> {
    causes.iter().map(|cause| cause.id.as_str()).collect()
}

/// Every error sample, and the causes that it proves.
const SAMPLES: &[(&str, &[&str])] = &[
    (
        "laravel-12.67.0/07_fatal_memory_exhausted_in_closure.stdout",
        &["php-memory"],
    ),
    (
        "laravel-12.67.0/10_redis_phpredis_close__onOneServer_cache_redis.stdout",
        &["redis-unreachable"],
    ),
    (
        "laravel-12.67.0/10_redis_phpredis_noauth__onOneServer_cache_redis.stdout",
        &["redis-auth"],
    ),
    (
        "laravel-12.67.0/10_redis_phpredis_refused__onOneServer_cache_redis.stdout",
        &["redis-unreachable"],
    ),
    (
        "laravel-12.67.0/10_redis_predis_close__onOneServer_cache_redis.stdout",
        &["redis-unreachable"],
    ),
    (
        "laravel-12.67.0/10_redis_predis_noauth__onOneServer_cache_redis.stdout",
        &["redis-auth"],
    ),
    (
        "laravel-12.67.0/10_redis_predis_refused__onOneServer_cache_redis.stdout",
        &["redis-unreachable"],
    ),
    (
        "laravel-12.67.0/10_redis_predis_wrongpass__onOneServer_cache_redis.stdout",
        &["redis-auth"],
    ),
    (
        "laravel-12.67.0/11_redis_refused__overlap_filter.stdout",
        &["redis-unreachable"],
    ),
    (
        "laravel-12.67.0/11_redis_refused__plain_tasks_unaffected.stdout",
        &[],
    ),
    (
        "laravel-12.67.0/12_child_command_redis_down_LOG_stderr.stdout",
        &[],
    ),
    (
        "laravel-12.67.0/13_cache_database_mysql_badpassword.stdout",
        &["database-auth"],
    ),
    (
        "laravel-12.67.0/13_cache_database_mysql_nohost.stdout",
        &["database-unreachable"],
    ),
    (
        "laravel-12.67.0/13_cache_database_mysql_refused.stdout",
        &["database-unreachable"],
    ),
    (
        "laravel-12.67.0/13_cache_database_pgsql_badpassword.stdout",
        &["database-auth"],
    ),
    (
        "laravel-12.67.0/13_cache_database_pgsql_missing_table.stdout",
        &["database-schema"],
    ),
    (
        "laravel-12.67.0/13_cache_database_pgsql_nodb.stdout",
        &["database-schema"],
    ),
    (
        "laravel-12.67.0/13_cache_database_pgsql_refused.stdout",
        &["database-unreachable"],
    ),
    (
        "laravel-12.67.0/26_noCollision_command_not_found.stdout",
        &["code-missing"],
    ),
    ("laravel-12.67.0/26_noCollision_command_throws.stdout", &[]),
    (
        "errors-startup-permissions/artisan_not_found.txt",
        &["code-missing"],
    ),
    (
        "errors-startup-permissions/bootstrap_cache_not_writable.txt",
        &["permission-denied"],
    ),
    (
        "errors-startup-permissions/file_cache_not_writable_onOneServer.txt",
        &["permission-denied"],
    ),
    (
        "errors-startup-permissions/file_cache_not_writable_withoutOverlapping.txt",
        &["permission-denied"],
    ),
    (
        "errors-startup-permissions/parse_error_in_routes_console.txt",
        &["php-fatal"],
    ),
    (
        "errors-startup-permissions/php_fatal_display_vs_log_errors.txt",
        &["php-fatal"],
    ),
    (
        "errors-startup-permissions/sigkill_of_schedule_run.txt",
        &[],
    ),
    ("errors-startup-permissions/sigterm_during_run.txt", &[]),
    (
        "errors-startup-permissions/storage_logs_not_writable_closure_exception.txt",
        &["permission-denied"],
    ),
    (
        "errors-startup-permissions/su_as_non_root_user.txt",
        &["permission-denied"],
    ),
    (
        "errors-startup-permissions/su_www-data_dev_stdout.txt",
        &["permission-denied"],
    ),
    (
        "errors-startup-permissions/su_www-data_nologin_shell.txt",
        &["permission-denied"],
    ),
    (
        "errors-startup-permissions/su_www-data_sh_log_file_absent.txt",
        &["permission-denied"],
    ),
    (
        "errors-startup-permissions/su_www-data_sh_redirect_to_root_owned_file.txt",
        &["permission-denied"],
    ),
];

#[test]
fn every_error_sample_has_its_cause_or_none() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    let mut confusion: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut evidence = String::new();
    let mut wrong = Vec::new();
    for (file, expected) in SAMPLES {
        let sample = std::fs::read_to_string(folder.join(file)).unwrap();
        let errors = errors(&sample);
        assert!(
            !errors.is_empty() || expected.is_empty(),
            "nothing was read from {file}"
        );
        let causes = find(&clues(&errors, Condition::SchedulerFailing));
        for cause in &causes {
            evidence += &format!("{file}\n  {}\n", cause.id);
            for line in &cause.evidence {
                evidence += &format!("    {line}\n");
            }
        }
        let names = |ids: &[&str]| {
            if ids.is_empty() {
                "unknown".to_owned()
            } else {
                ids.join(", ")
            }
        };
        *confusion
            .entry((names(expected), names(&ids(&causes))))
            .or_default() += 1;
        if ids(&causes) != *expected {
            wrong.push((file, expected, causes));
        }
    }
    println!("{:<24}{:<24}samples", "expected", "found");
    for ((expected, found), count) in confusion {
        println!("{expected:<24}{found:<24}{count}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    insta::assert_snapshot!("evidence-of-samples", evidence);
}

#[test]
fn records_of_the_applications_log_explain_a_spike() {
    let path = "tests/samples/laravel-12.67.0/12_child_command_redis_down_LOG_single.laravel.log";
    let sample = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let causes = find(&clues(&errors(&sample), Condition::ErrorSpike));
    assert_eq!(ids(&causes), ["redis-unreachable"]);
    assert_eq!(
        causes[0].evidence,
        ["PhpRedisConnector.php: Connection refused"]
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
    after.last_heartbeat = Some(at(NOW) + SignedDuration::from_mins(5));
    assert!(find(&after).is_empty());
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
        [
            "task new runs since 2026-11-24T03:30:00Z; the newest line that says the scheduler was started is from 2026-11-24T01:00:05Z"
        ]
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
