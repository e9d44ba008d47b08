//! What the watchdog tells and does in the outages that it is there for, from the log line to the
//! message that somebody gets.

use serde_json::{Value, json};

use super::aws::{ACCOUNT, Aws, REGION, SSM};
use super::bench::Bench;
use super::emulator::Emulator;
use super::inbox::{Alert, Inbox};
use super::proxy::Proxy;
use super::site::Site;
use super::stack::Stack;
use super::state::StateTable;
use super::tools::Tools;

/// Redis is down: jobs without a lock run, and the first with one ends the run.
const REDIS_DOWN: &str = include_str!(
    "../../samples/laravel-12.67.0/10_redis_phpredis_refused__onOneServer_cache_redis.stdout"
);

/// The loop's own redirection fails.
const DENIED: &str = "sh: 1: cannot create /var/log/scheduler.log: Permission denied";

/// An outage, and what is to become of it.
struct Outage {
    name: &'static str,
    prints: fn(&Site<'_>, &str),
    condition: &'static str,
    cause: &'static str,
    /// The line that proves the cause, or a part of it.
    evidence: Option<&'static str>,
    restarts: usize,
    /// What withholds a restart when it is first told.
    gates: &'static [&'static str],
}

const OUTAGES: [Outage; 3] = [
    Outage {
        name: "dead-loop",
        prints: |site, task| site.schedule_runs(task, 40, 8),
        condition: "scheduler-silent",
        cause: "unknown",
        evidence: None,
        restarts: 1,
        gates: &[],
    },
    Outage {
        name: "redis-down",
        prints: |site, task| {
            site.schedule_runs(task, 40, 10);
            site.runs_fail(task, REDIS_DOWN);
        },
        condition: "scheduler-failing",
        cause: "redis-unreachable",
        evidence: Some("PhpRedisConnector.php: Connection refused"),
        restarts: 0,
        gates: &["cause-not-restartable"],
    },
    Outage {
        name: "permission-denied",
        prints: |site, task| {
            site.schedule_runs(task, 40, 10);
            site.runs_fail(task, DENIED);
        },
        condition: "scheduler-failing",
        cause: "permission-denied",
        evidence: Some(DENIED),
        restarts: 0,
        // The one before is still down: two of three.
        gates: &["cause-not-restartable", "storm"],
    },
];

/// What a report says of the one scheduler that was asked for.
fn of(report: &Value) -> &Value {
    &report["schedulers"][0]
}

fn wake(name: &str) -> Value {
    json!({"schedulers": [name]})
}

/// What became of a scheduler, by one of the subscribers.
fn about(alerts: &[Alert], name: &str) -> Vec<Alert> {
    (alerts.iter())
        .filter(|alert| alert.attribute("scheduler") == name)
        .cloned()
        .collect()
}

fn gists(alerts: &[Alert]) -> Vec<String> {
    alerts.iter().map(Alert::gist).collect()
}

/// A scheduler's tables of a configuration.
fn table(site: &Site<'_>, remediation: &str) -> String {
    format!(
        "[[scheduler]]\nname = \"{}\"\nlog_groups = [\"{}\"]\nlog_stream_prefix = \"app/\"\nstale_after = \"5m\"\n\
         [scheduler.ecs]\ncluster = \"{}\"\nservice = \"{}\"\ncontainer = \"app\"\n\
         [scheduler.remediation]\n{remediation}\n",
        site.name, site.group, site.cluster, site.service
    )
}

/// Each outage is told once, to each subscriber in its own format, with its cause and the line that
/// proves it. Only the dead loop is restarted, and people are told that this helped.
#[test]
fn each_outage_is_told_and_only_a_dead_loop_is_restarted() {
    let Some(tools) = Tools::find("each_outage_is_told_and_only_a_dead_loop_is_restarted") else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let bench = Bench::set_up(&tools, &emulator);
    let proxy = Proxy::start(bench.aws);
    let sites = OUTAGES.each_ref().map(|outage| {
        let site = Site::create(bench.aws, outage.name);
        let task = site.task();
        (outage.prints)(&site, &task);
        site.web_requests(&task);
        site
    });
    let config: Vec<String> = (sites.iter())
        .map(|site| table(site, "action = \"force-new-deployment\"\nafter = \"0s\""))
        .collect();
    let config = config.join("\n");
    let function = bench.function_with(&proxy.endpoint, &[("WATCHDOG_CONFIG", &config)]);
    for (outage, site) in OUTAGES.iter().zip(&sites) {
        let before = proxy.calls().len();
        let look = || {
            let report = function.invoke(&wake(outage.name));
            bench.table.pass_a_minute(outage.name);
            report
        };
        let report = look();
        assert_eq!(of(&report)["restarted"], outage.restarts == 1, "{report}");
        tells(&bench, outage, site);

        let mut story = vec![format!("opened {}", outage.condition)];
        if outage.restarts == 1 {
            let new_task = site.task();
            site.beat(&new_task);
            look();
            site.beat(&new_task);
            let report = look();
            assert_eq!(of(&report)["verdict"], "healthy", "{report}");
            story.extend(["remediated", "resolved"].map(|it| format!("{it} {}", outage.condition)));
        } else {
            (outage.prints)(site, &site.task());
            look();
            look();
        }
        let alerts = about(&bench.inbox.alerts(), outage.name);
        assert_eq!(gists(&alerts), story);
        for alert in &alerts[1..] {
            let machine = alert.machine();
            assert_eq!(machine["handling"]["handling"], "cured", "{machine}");
            assert_eq!(machine["handling"]["cure"], "force-new-deployment");
            assert!(machine["until"].is_string(), "{machine}");
        }
        let calls = &proxy.calls()[before..];
        let restarts = calls.iter().filter(|call| *call == "UpdateService").count();
        assert_eq!(restarts, outage.restarts, "{}: {calls:?}", outage.name);
    }
    function.stop();
}

/// The first message about an outage, as the queue and HTTP got it.
fn tells(bench: &Bench<'_>, outage: &Outage, site: &Site<'_>) {
    let schema = include_str!("../../../schema/notification.schema.json");
    let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    let (by_queue, by_http) = bench.inbox.both();
    let got = [about(&by_queue, outage.name), about(&by_http, outage.name)];
    for alerts in &got {
        assert_eq!(gists(alerts), [format!("opened {}", outage.condition)]);
        let (alert, machine) = (&alerts[0], alerts[0].machine());
        if let Err(error) = schema.validate(&machine) {
            panic!("{error}: {machine}");
        }
        assert_eq!(machine["scheduler"], outage.name);
        assert_eq!(machine["condition"], outage.condition);
        assert_eq!(machine["cause"], outage.cause, "{machine}");
        assert_eq!(machine["where"]["service"], site.service);
        let evidence = machine["evidence"].as_array().unwrap();
        match outage.evidence {
            Some(line) => assert!(
                (evidence.iter()).any(|said| said.as_str().unwrap().contains(line)),
                "{machine}"
            ),
            None => assert!(evidence.is_empty(), "{machine}"),
        }
        let subject = &alert.subject;
        let start = format!("[CRITICAL] {}: scheduler ", outage.name);
        assert!(subject.starts_with(&start), "{subject}");
        assert!(subject.is_ascii() && subject.len() < 100, "{subject}");
        assert_eq!(machine["title"], *subject);
        assert_eq!(alert.attribute("severity"), "critical");
        let handling = &machine["handling"];
        if outage.restarts == 1 {
            assert_eq!(handling["handling"], "restarting", "{machine}");
        } else {
            assert_eq!(handling["blocked_by"], json!(outage.gates));
        }
    }
    assert_eq!(got[0][0].body, got[1][0].body);
}

/// Nothing starts the tasks any more. With the role that the template gives it, the watchdog runs
/// the scheduler once; that it went well is told, and that the schedule is still broken.
#[test]
fn a_broken_schedule_is_run_by_hand() {
    let Some(tools) = Tools::find("a_broken_schedule_is_run_by_hand") else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let name = "nightly";
    let site = Site::of_tasks(&emulator.aws, name);
    let family = format!("RunTaskDefinitionFamily={name}");
    let more = [
        "SchedulerName=nightly",
        "Action=run-task",
        family.as_str(),
        "RunTaskSubnets=subnet-1",
        "RunTaskSecurityGroups=sg-1",
    ];
    let stack = Stack::deploy(&tools, &emulator, &site, &more);
    let table = StateTable::of(&emulator.aws, stack.output("TableName"));
    let inbox = Inbox::subscribe(&emulator.aws, stack.output("TopicArn"), "alerts");
    // Each minute's run has a stream of its own. ECS knows the newest.
    for ago in 9..20 {
        site.schedule_runs(&format!("run-{ago}"), ago, ago);
    }
    site.schedule_runs(&site.scheduled_task(), 8, 8);

    let report = stack.invoke(&wake(name));
    assert_eq!(of(&report)["verdict"], "firing", "{report}");
    assert_eq!(of(&report)["restarted"], false, "{report}");
    assert_eq!(inbox.gists(), ["opened service-down"]);
    assert!(site.tasks().is_empty());

    table.pass_minutes(name, 6);
    let report = stack.invoke(&wake(name));
    assert_eq!(of(&report)["restarted"], true, "{report}");
    let task = site.task();
    let run = site.describe(&task);
    assert_eq!(
        run["overrides"]["containerOverrides"],
        json!([{"name": "app", "command": ["php", "artisan", "schedule:run"]}])
    );
    assert!(
        run["startedBy"].as_str().unwrap().starts_with("nightly-"),
        "{run}"
    );

    // It runs, so that no other is started; then its heartbeat is seen, and it ends.
    table.pass_a_minute(name);
    let report = stack.invoke(&wake(name));
    assert_eq!(of(&report)["restarted"], false, "{report}");
    assert_eq!(site.task(), task);
    site.beat(&task);
    site.end(&task);
    table.pass_a_minute(name);
    let report = stack.invoke(&wake(name));
    assert_eq!(of(&report)["verdict"], "firing", "{report}");
    let story = ["opened service-down", "remediated service-down"];
    assert_eq!(inbox.gists(), story);
    let told = inbox.alerts()[1].machine();
    assert_eq!(told["handling"]["cure"], "run-task", "{told}");
    assert_eq!(told["until"], Value::Null, "{told}");
    let title = told["title"].as_str().unwrap();
    assert!(title.contains("still no task started"), "{title}");

    // Somebody mends the schedule.
    for minute in 1..=2 {
        site.beat(&format!("mended-{minute}"));
        table.pass_a_minute(name);
        stack.invoke(&wake(name));
    }
    let story = [story[0], story[1], "resolved service-down"];
    assert_eq!(inbox.gists(), story);
    let over = inbox.alerts()[2].machine();
    assert_eq!(over["handling"]["handling"], "came-back", "{over}");
    assert!(site.tasks().is_empty());
}

/// Two services of one function, with the role that the template gives it: of one the silent
/// replica alone is stopped; of the other no restart helps, and after the last one that is allowed
/// no more are made until a person says so.
#[test]
fn a_silent_replica_is_stopped_and_a_hopeless_service_is_given_up() {
    let story = "a_silent_replica_is_stopped_and_a_hopeless_service_is_given_up";
    let Some(tools) = Tools::find(story) else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let aws = &emulator.aws;
    let shop = Site::with_replicas(aws, "shop", 2);
    let school = Site::create(aws, "school");
    let config = [
        table(&shop, "replica_action = \"stop-task\"\nafter = \"0s\""),
        table(
            &school,
            "action = \"force-new-deployment\"\nafter = \"0s\"\nattempts_per_incident = 1\nprove_within = \"3m\"",
        ),
    ];
    let stack = deploy_both(&tools, &emulator, &shop, &school, &config.join("\n"));
    let table = StateTable::of(aws, stack.output("TableName"));
    let inbox = Inbox::subscribe(aws, stack.output("TopicArn"), "alerts");

    stops_the_silent_replica(&shop, &stack, &table, &inbox);
    gives_up(&school, &stack, &table, &inbox);
}

fn deploy_both<'a>(
    tools: &Tools,
    emulator: &'a Emulator,
    first: &Site<'_>,
    second: &Site<'_>,
    config: &str,
) -> Stack<'a> {
    put_parameter(&emulator.aws, config);
    let arn = |service: &str, rest: &str| format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}");
    let group = arn("logs", &format!("log-group:{}", second.group));
    let service = format!("service/{}/{}", second.cluster, second.service);
    let more = [
        "ConfigParameterName=/watchdog/config".to_owned(),
        "Action=force-new-deployment".to_owned(),
        "ReplicaAction=stop-task".to_owned(),
        format!("MoreLogGroupArns={group},{group}:*"),
        format!("MoreEcsServiceArns={}", arn("ecs", &service)),
        format!(
            "MoreEcsClusterArns={}",
            arn("ecs", &format!("cluster/{}", second.cluster))
        ),
    ];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    Stack::deploy(tools, emulator, first, &more)
}

fn put_parameter(aws: &Aws, config: &str) {
    let parameter = json!({"Name": "/watchdog/config", "Type": "String", "Value": config});
    aws.json(&SSM, "PutParameter", &parameter);
}

fn stops_the_silent_replica(
    site: &Site<'_>,
    stack: &Stack<'_>,
    table: &StateTable<'_>,
    inbox: &Inbox<'_>,
) {
    let name = &site.name;
    let [living, silent] = site.tasks().try_into().unwrap();
    site.schedule_runs(&living, 28, 0);
    site.schedule_runs(&silent, 28, 8);
    let report = stack.invoke(&wake(name));
    assert_eq!(of(&report)["restarted"], true, "{report}");
    assert_eq!(inbox.gists(), ["opened replica-silent"]);
    let stopped = site.describe(&silent);
    assert_eq!(stopped["lastStatus"], "STOPPED", "{stopped}");
    let why = stopped["stoppedReason"].as_str().unwrap();
    assert!(why.contains("scheduler-watchdog"), "{why}");
    let tasks = site.tasks();
    assert!(tasks.len() == 2 && tasks.contains(&living), "{tasks:?}");
    let new_task = tasks.iter().find(|task| **task != living).unwrap();

    for _ in 0..2 {
        site.beat(&living);
        site.beat(new_task);
        table.pass_a_minute(name);
        let report = stack.invoke(&wake(name));
        assert_eq!(of(&report)["restarted"], false, "{report}");
    }
    let told = ["opened", "remediated", "resolved"].map(|it| format!("{it} replica-silent"));
    assert_eq!(inbox.gists(), told);
    let cured = inbox.alerts()[1].machine();
    assert_eq!(cured["handling"]["cure"], "stop-task", "{cured}");
    assert_eq!(cured["subject"], silent, "{cured}");
    assert_eq!(site.tasks(), tasks);
}

fn gives_up(site: &Site<'_>, stack: &Stack<'_>, table: &StateTable<'_>, inbox: &Inbox<'_>) {
    let name = &site.name;
    let task = site.task();
    site.schedule_runs(&task, 40, 8);
    site.web_requests(&task);
    let before = site.deployments();
    let report = stack.invoke(&wake(name));
    assert_eq!(of(&report)["restarted"], true, "{report}");
    let restarted = site.deployments();
    assert_ne!(restarted, before);

    // The new task is as silent as the one before.
    table.pass_minutes(name, 4);
    for _ in 0..3 {
        let report = stack.invoke(&wake(name));
        assert_eq!(of(&report)["restarted"], false, "{report}");
        table.pass_a_minute(name);
    }
    let story = ["opened scheduler-silent", "locked-out scheduler-silent"];
    let told = || gists(&about(&inbox.alerts(), name));
    assert_eq!(told(), story);
    assert_eq!(site.deployments(), restarted);
    let locked_out = || table.state(name)["restarts"]["locked_out_at"].is_string();
    assert!(locked_out());

    // It comes back by another's hand; the lock stays until a person clears it.
    for _ in 0..2 {
        site.beat(&site.task());
        stack.invoke(&wake(name));
        table.pass_a_minute(name);
    }
    assert_eq!(told().last().unwrap(), "resolved scheduler-silent");
    assert!(locked_out());
    stack.invoke(&json!({"schedulers": [name], "clear_lockout": true}));
    assert!(!locked_out());
    assert_eq!(site.deployments(), restarted);
}
