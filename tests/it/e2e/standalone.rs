//! The bootstrap alone, under the runtime interface emulator: what it answers, prints and calls.

use std::path::Path;
use std::thread;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::bench::{Bench, SCHEDULER};
use super::emulator::Emulator;
use super::process::now;
use super::proxy::Proxy;
use super::rie::{FUNCTION, Rie};
use super::tools::Tools;

fn wake_up() -> Value {
    json!({"source": "scheduler-watchdog.schedule"})
}

/// What a report says of the one scheduler.
fn of(report: &Value) -> &Value {
    &report["schedulers"][0]
}

/// Everything that went wrong by a report's word.
fn problems(report: &Value) -> String {
    of(report)["problems"].to_string()
}

/// Every file in events/ is answered with a report of the pass, and its figures are printed for
/// CloudWatch.
#[test]
fn the_bootstrap_answers_every_event() {
    let Some(tools) = Tools::find("the_bootstrap_answers_every_event") else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let bench = Bench::set_up(&tools, &emulator);
    bench.healthy();
    let function = bench.function();
    let events = Path::new(env!("CARGO_MANIFEST_DIR")).join("events");
    let mut answered = 0;
    for file in events.read_dir().unwrap() {
        let file = file.unwrap().path();
        let event: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let report = function.invoke(&event);
        answered += 1;
        if event["test_alert"] == true {
            assert_eq!(report["delivered"], 1, "{report}");
            assert_eq!(bench.inbox.gists(), ["test test-alert"]);
            continue;
        }
        let scheduler = of(&report);
        assert_eq!(
            scheduler["scheduler"],
            SCHEDULER,
            "{}: {report}",
            file.display()
        );
        assert_eq!(
            scheduler["verdict"],
            "healthy",
            "{}: {report}",
            file.display()
        );
        assert_eq!(
            scheduler["problems"],
            json!([]),
            "{}: {report}",
            file.display()
        );
    }
    assert_eq!(answered, 4, "a new kind of event wants a look here");

    let lines = function.json_lines();
    let metrics: Vec<&Value> = lines
        .iter()
        .filter(|line| line.get("_aws").is_some())
        .collect();
    check_metrics(&metrics);
    function.stop();
}

/// Log records as Lambda reads them: each has its level, and a time without which it would
/// pass for INFO.
fn check_records(lines: &[Value]) {
    let records: Vec<&Value> = (lines.iter())
        .filter(|line| line.get("_aws").is_none())
        .collect();
    assert!(!records.is_empty(), "nothing was logged");
    for record in records {
        let time = record["timestamp"].as_str().unwrap_or_default();
        assert!(time.parse::<Timestamp>().is_ok(), "{record}");
        assert!(record["level"].is_string(), "{record}");
        assert!(record["message"].is_string(), "{record}");
    }
}

/// Metrics as CloudWatch reads them from the log: every named metric has its value, every
/// dimension its name. A pass that was done is counted for the template's alarm.
fn check_metrics(lines: &[&Value]) {
    let mut seen = Vec::new();
    for line in lines {
        assert!(line["_aws"]["Timestamp"].is_i64(), "{line}");
        for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
            assert_eq!(directive["Namespace"], "SchedulerWatchdog");
            for dimension in directive["Dimensions"].as_array().unwrap() {
                for name in dimension.as_array().unwrap() {
                    assert!(line[name.as_str().unwrap()].is_string(), "{line}");
                }
            }
            for metric in directive["Metrics"].as_array().unwrap() {
                let name = metric["Name"].as_str().unwrap();
                assert!(line[name].is_number(), "{name}: {line}");
                seen.push(name.to_owned());
            }
        }
    }
    let expected = [
        "SecondsSinceHeartbeat",
        "Errors",
        "OpenIncidents",
        "BytesScanned",
        "PassCompleted",
        "OldestUndeliveredMessage",
    ];
    for name in expected {
        assert!(
            seen.iter().any(|known| known == name),
            "{name} is not among {seen:?}"
        );
    }
    // Two of the four events ask for a real pass; a dry run counts for nothing.
    let completed: Vec<_> = lines
        .iter()
        .filter(|line| line.get("PassCompleted").is_some())
        .collect();
    assert_eq!(completed.len(), 2, "{completed:?}");
    for line in completed {
        assert_eq!(line["PassCompleted"], 1);
        let dimensions = &line["_aws"]["CloudWatchMetrics"][0]["Dimensions"];
        assert_eq!(
            *dimensions,
            json!([["FunctionName"]]),
            "the alarm NoPassAlarm looks there"
        );
        assert_eq!(line["FunctionName"], FUNCTION);
    }
}

/// A configuration that cannot be used: every wake-up is answered with all its mistakes, and
/// people are told once.
#[test]
fn a_broken_configuration_is_told_once() {
    let Some(tools) = Tools::find("a_broken_configuration_is_told_once") else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let bench = Bench::set_up(&tools, &emulator);
    let config = "[[scheduler]]\nname = \"a\"\nlog_groups = []\nstale_afer = \"5m\"\ntimezone = \"Asia/Tokio\"\n";
    let function = bench.function_with(&bench.aws.endpoint, &[("WATCHDOG_CONFIG", config)]);
    for _ in 0..2 {
        let answer = function.invoke(&wake_up());
        let error = answer["errorMessage"].as_str().unwrap_or_default();
        assert!(
            !answer["errorType"].as_str().unwrap_or_default().is_empty(),
            "{answer}"
        );
        for mistake in ["log_groups", "stale_afer", "stale_after", "Asia/Tokio"] {
            assert!(error.contains(mistake), "{mistake}: {answer}");
        }
    }
    let alerts = bench.inbox.alerts();
    assert_eq!(bench.inbox.gists(), ["opened misconfigured"]);
    for mistake in ["log_groups", "stale_afer", "Asia/Tokio"] {
        assert!(alerts[0].body.contains(mistake), "{}", alerts[0].body);
    }
    check_records(&function.json_lines());
    function.stop();
}

/// Whatever is missing is named in the report, with what to do.
#[test]
fn what_is_missing_is_named() {
    let Some(tools) = Tools::find("what_is_missing_is_named") else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let bench = Bench::set_up(&tools, &emulator);
    bench.silent();
    let look = |changes: &[(&str, &str)]| {
        let function: Rie = bench.function_with(&bench.aws.endpoint, changes);
        let report = function.invoke(&wake_up());
        function.stop();
        report
    };

    // Each has a scheduler of its own, so that none hides another.
    let report = look(&[
        ("WATCHDOG_SCHEDULER", "a"),
        ("WATCHDOG_LOG_GROUPS", "/ecs/nowhere"),
    ]);
    assert_eq!(of(&report)["verdict"], "unknown", "{report}");
    let reason = of(&report)["reason"].as_str().unwrap();
    assert!(reason.contains("/ecs/nowhere"), "{reason}");

    let table = "no-such-table";
    let report = look(&[("WATCHDOG_SCHEDULER", "b"), ("WATCHDOG_TABLE", table)]);
    assert_eq!(of(&report)["verdict"], Value::Null, "{report}");
    assert!(problems(&report).contains(table), "{report}");

    let topic = "arn:aws:sns:ap-northeast-1:123456789012:no-such-topic";
    let report = look(&[("WATCHDOG_SCHEDULER", "d"), ("WATCHDOG_TOPIC_ARN", topic)]);
    assert_eq!(of(&report)["verdict"], "firing", "{report}");
    assert_eq!(of(&report)["undelivered"], 1, "{report}");
    assert!(problems(&report).contains(topic), "{report}");
    assert!(bench.inbox.gists().is_empty());

    // The message has waited, and goes out once the topic is there.
    look(&[("WATCHDOG_SCHEDULER", "d")]);
    assert_eq!(bench.inbox.gists(), ["opened scheduler-silent"]);
    look(&[("WATCHDOG_SCHEDULER", "d")]);
    assert_eq!(bench.inbox.gists(), ["opened scheduler-silent"]);

    // A silence is told all the same, though ECS knows no such service; it takes a second look.
    let service = "no-such-service";
    let changes = [
        ("WATCHDOG_SCHEDULER", "c"),
        ("WATCHDOG_ECS_SERVICE", service),
    ];
    let report = look(&changes);
    assert_eq!(of(&report)["verdict"], "pending", "{report}");
    let unseen = of(&report)["unseen"].to_string();
    assert!(unseen.contains(service), "{report}");
    bench.table.pass_a_minute("c");
    let report = look(&changes);
    assert_eq!(of(&report)["verdict"], "firing", "{report}");
    let alerts = bench.inbox.alerts();
    assert_eq!(alerts.len(), 2);
    assert!(alerts[1].body.contains(service), "{}", alerts[1].body);
}

/// A state that cannot be read is reported and left alone.
#[test]
fn an_unreadable_state_is_never_overwritten() {
    let Some(tools) = Tools::find("an_unreadable_state_is_never_overwritten") else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let bench = Bench::set_up(&tools, &emulator);
    bench.silent();
    let function = bench.function();
    let states = [
        ("{ not json", "cannot be read"),
        (r#"{"schema":1,"incidents":"none"}"#, "cannot be read"),
        (r#"{"schema":99,"incidents":[]}"#, "99"),
    ];
    for (state, said) in states {
        let item = json!({
            "scheduler": {"S": SCHEDULER},
            "version": {"N": "7"},
            "state": {"S": state},
        });
        bench.table.put(&item);
        let report = function.invoke(&wake_up());
        assert!(problems(&report).contains(said), "{state}: {report}");
        assert_eq!(bench.table.item(SCHEDULER), Some(item), "{state}");
    }
    // Nobody but the report's reader learns of it from the watchdog: nothing can be claimed.
    function.stop();
}

/// Several invocations at once: one of them tells and restarts, the others do nothing.
#[test]
fn of_several_invocations_one_acts() {
    let Some(tools) = Tools::find("of_several_invocations_one_acts") else {
        return;
    };
    const INVOCATIONS: usize = 10;
    let emulator = Emulator::start(&tools, 60);
    let bench = Bench::set_up(&tools, &emulator);
    bench.silent();
    let deployments = bench.site.deployments();
    let proxy = Proxy::start(bench.aws);
    let restart = [
        ("WATCHDOG_ACTION", "force-new-deployment"),
        ("WATCHDOG_REMEDIATE_AFTER", "0s"),
    ];
    let functions: Vec<Rie> = (0..INVOCATIONS)
        .map(|_| bench.function_with(&proxy.endpoint, &restart))
        .collect();
    // All of them have read the same state before any of them writes.
    proxy.let_meet("PutItem", INVOCATIONS);
    let reports: Vec<Value> = thread::scope(|scope| {
        let calls: Vec<_> = (functions.iter())
            .map(|function| scope.spawn(|| function.invoke(&wake_up())))
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let restarted = reports
        .iter()
        .filter(|report| of(report)["restarted"] == true)
        .count();
    assert_eq!(restarted, 1, "{reports:?}");
    assert_eq!(bench.inbox.gists(), ["opened scheduler-silent"]);
    let count = |action: &str| proxy.calls().iter().filter(|call| *call == action).count();
    assert_eq!(
        (count("UpdateService"), count("Publish")),
        (1, 1),
        "{:?}",
        proxy.calls()
    );
    // Nor do the others report figures of what they did not do.
    let figures = (functions.iter().flat_map(Rie::json_lines))
        .filter(|line| line.get("OpenIncidents").is_some())
        .count();
    assert_eq!(figures, 1);
    let after = bench.site.deployments();
    assert!(
        after.iter().all(|id| !deployments.contains(id)),
        "{after:?}"
    );
    functions.into_iter().for_each(Rie::stop);
}

/// As long as nothing is wrong, a pass costs one read and one write of its state and one query
/// of the log. A process's first one also looks who is subscribed, and whether somebody waits for the
/// all-clear of a configuration.
#[test]
fn a_healthy_pass_calls_dynamodb_and_logs_only() {
    let Some(tools) = Tools::find("a_healthy_pass_calls_dynamodb_and_logs_only") else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let bench = Bench::set_up(&tools, &emulator);
    bench.healthy();
    let proxy = Proxy::start(bench.aws);
    let function = bench.function_with(&proxy.endpoint, &[]);
    let mut before = 0;
    for is_first in [true, false] {
        let report = function.invoke(&wake_up());
        assert_eq!(of(&report)["verdict"], "healthy", "{report}");
        let all = proxy.calls();
        let mut calls = all[before..].to_vec();
        before = all.len();
        let looked = calls.iter().any(|call| call == "GetTopicAttributes");
        assert_eq!(looked, is_first, "{calls:?}");
        calls.retain(|call| call != "GetTopicAttributes");
        if is_first {
            let last_read = calls.iter().rposition(|call| call == "GetItem");
            calls.remove(last_read.unwrap());
        }
        calls.dedup_by(|a, b| a == b && a == "GetQueryResults");
        assert_eq!(
            calls,
            ["GetItem", "StartQuery", "GetQueryResults", "PutItem"]
        );
    }
    function.stop();
}

/// A silence that a person adds by the command line is in the table that the function reads: it
/// sees the dead scheduler, says so in its report, and tells nobody until the silence is removed.
#[test]
fn a_silence_of_the_command_line_reaches_the_function() {
    let Some(tools) = Tools::find("a_silence_of_the_command_line_reaches_the_function") else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let bench = Bench::set_up(&tools, &emulator);
    bench.silent();
    let added = bench.watchdog(&["silence", "add", "--for", "30m", "--reason", "moving house"]);
    let id = added.split(' ').nth(1).unwrap();
    let function = bench.function();
    let report = function.invoke(&wake_up());
    let scheduler = of(&report);
    assert_eq!(scheduler["verdict"], "suspended", "{report}");
    assert_eq!(scheduler["conditions"], json!(["scheduler-silent"]));
    assert_eq!(scheduler["notifications"], json!([]));
    let why = scheduler["withheld"][0]["why"].as_str().unwrap();
    assert!(why.contains("moving house"), "{report}");
    assert!(bench.watchdog(&["silence", "list"]).contains(id));
    let listed = bench.watchdog(&["jobs", "list"]);
    assert_eq!(listed, format!("{SCHEDULER}: no jobs are configured\n"));

    bench.watchdog(&["silence", "remove", id]);
    let report = function.invoke(&wake_up());
    assert_eq!(
        of(&report)["notifications"][0]["reason"],
        "opened",
        "{report}"
    );
    assert_eq!(bench.inbox.gists(), ["opened scheduler-silent"]);
    function.stop();
}

/// What a month costs is estimated from the bytes that are really in the log group.
#[test]
fn the_cost_of_a_month_follows_the_log_group() {
    let Some(tools) = Tools::find("the_cost_of_a_month_follows_the_log_group") else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let bench = Bench::set_up(&tools, &emulator);
    let bytes = || {
        let month = bench.watchdog(&["cost", "--over", "1h", "--format", "json"]);
        let month: Value = serde_json::from_str(&month).unwrap();
        (month["log_gigabytes"].as_f64().unwrap() * 1e9 / (30.0 * 24.0)).round()
    };
    assert_eq!(bytes(), 0.0);
    let task = bench.site.task();
    let line = "x".repeat(1000);
    bench.site.print(&task, &[(now(), line.clone())]);
    assert_eq!(bytes(), 1000.0);
    bench.site.print(&task, &[(now(), line)]);
    assert_eq!(bytes(), 2000.0);
}
