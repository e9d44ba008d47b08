//! The deployed stack: the real template, the real role, the schedule.

use serde_json::{Value, json};

use super::aws::{ACCOUNT, Aws, CLOUDWATCH, REGION, SNS, SSM, texts};
use super::emulator::Emulator;
use super::inbox::Inbox;
use super::site::Site;
use super::stack::Stack;
use super::state::StateTable;
use super::tools::Tools;

const NAME: &str = "myteacher-production";
const PARAMETER: &str = "SchedulerName=myteacher-production";

/// Puts a configuration into the parameter store.
fn store(aws: &Aws, config: &str) {
    let parameter = json!({
        "Name": "/watchdog/config",
        "Type": "String",
        "Value": config,
    });
    aws.json(&SSM, "PutParameter", &parameter);
}

/// What a report says of the one scheduler.
fn of(report: &Value) -> &Value {
    &report["schedulers"][0]
}

/// The main story: the scheduler dies though its container lives; people are told once, the
/// service is deployed afresh, the new task's heartbeats prove that it helped, and people are
/// told once that it is over.
#[test]
fn deploys_and_tells() {
    let Some(tools) = Tools::find("deploys_and_tells") else {
        return;
    };
    // The schedule's five minutes take five seconds.
    let emulator = Emulator::start(&tools, 1);
    let site = Site::create(&emulator.aws, NAME);
    let more = [
        PARAMETER,
        "Action=force-new-deployment",
        "AlertEmail=ops@example.com",
    ];
    let stack = Stack::deploy(&tools, &emulator, &site, &more);
    let table = StateTable::of(&emulator.aws, stack.output("TableName"));
    // The schedule has begun, and the log is still empty. It pauses until somebody listens;
    // right after a pass, so that none is under way.
    stack.wait_for_passes(1);
    stack.stop_schedule();
    let inbox = Inbox::subscribe(&emulator.aws, stack.output("TopicArn"), "alerts");
    table.delete(NAME);

    let topic = [("TopicArn", stack.output("TopicArn"))];
    let subscriptions = (emulator.aws).query(&SNS, "ListSubscriptionsByTopic", &topic);
    assert!(subscriptions.contains("ops@example.com"), "{subscriptions}");

    // The scheduler falls silent. Woken by the schedule, the watchdog says so once.
    let task = site.task();
    let deployments = site.deployments();
    site.schedule_runs(&task, 40, 8);
    site.web_requests(&task);
    stack.resume_schedule();
    stack.wait_for_passes(3);
    stack.stop_schedule();
    assert_eq!(inbox.gists(), ["opened scheduler-silent"]);
    let (by_queue, by_http) = inbox.both();
    for alert in by_queue.iter().chain(&by_http) {
        let machine = alert.machine();
        assert_eq!(machine["version"], 1, "{machine}");
        assert_eq!(machine["scheduler"], NAME, "{machine}");
        assert_eq!(machine["reason"], "opened", "{machine}");
        assert_eq!(machine["condition"], "scheduler-silent", "{machine}");
        assert_eq!(alert.attribute("scheduler"), NAME);
        assert_eq!(alert.attribute("severity"), "critical");
        let subject = &alert.subject;
        assert!(subject.is_ascii() && subject.len() < 100, "{subject}");
        assert!(subject.contains(NAME), "{subject}");
    }
    assert_eq!(site.deployments(), deployments, "restarted too early");

    // The alarms on passes that do not come, and on messages that wait, look at these metrics of
    // this function.
    let log = stack.log();
    let counted = |line: &String| {
        serde_json::from_str::<Value>(line).is_ok_and(|line| {
            line["PassCompleted"] == 1
                && line["OldestUndeliveredMessage"] == 0
                && line["FunctionName"] == stack.output("FunctionName")
        })
    };
    assert!(log.iter().any(counted), "{log:#?}");

    // Five minutes later it is deployed afresh, once.
    table.pass_minutes(NAME, 6);
    let report = stack.wake();
    assert_eq!(of(&report)["restarted"], true, "{report}");
    let restarted = site.deployments();
    assert!(
        restarted.iter().all(|id| !deployments.contains(id)),
        "{restarted:?}"
    );
    let new_task = site.task();
    assert_ne!(new_task, task);
    table.pass_a_minute(NAME);
    let report = stack.wake();
    assert_eq!(of(&report)["restarted"], false, "{report}");
    assert_eq!(site.deployments(), restarted);
    assert_eq!(inbox.gists(), ["opened scheduler-silent"]);

    // The new task's scheduler runs: that proves the restart, and a minute later it is over.
    site.beat(&new_task);
    table.pass_a_minute(NAME);
    stack.wake();
    assert_eq!(
        inbox.gists(),
        ["opened scheduler-silent", "remediated scheduler-silent"]
    );
    site.beat(&new_task);
    table.pass_a_minute(NAME);
    let report = stack.wake();
    assert_eq!(of(&report)["verdict"], "healthy", "{report}");
    let story = [
        "opened scheduler-silent",
        "remediated scheduler-silent",
        "resolved scheduler-silent",
    ];
    assert_eq!(inbox.gists(), story);

    // And nothing more is said or done.
    for _ in 0..3 {
        site.beat(&new_task);
        table.pass_a_minute(NAME);
        let report = stack.wake();
        assert_eq!(of(&report)["verdict"], "healthy", "{report}");
    }
    assert_eq!(inbox.gists(), story);
    assert_eq!(site.deployments(), restarted);

    // Whatever goes wrong with the watchdog itself, an alarm tells the same people.
    let alarms = emulator.aws.query(&CLOUDWATCH, "DescribeAlarms", &[]);
    let mut watched = texts(&alarms, "MetricName");
    watched.sort();
    let metrics = [
        "ApproximateNumberOfMessagesVisible",
        "Errors",
        "OldestUndeliveredMessage",
        "PassCompleted",
        "SchedulerErrorCount",
    ];
    assert_eq!(watched, metrics);
    for name in texts(&alarms, "AlarmName") {
        for state in ["OK", "ALARM"] {
            let fields = [
                ("AlarmName", name.as_str()),
                ("StateValue", state),
                ("StateReason", "a test"),
            ];
            (emulator.aws).query(&CLOUDWATCH, "SetAlarmState", &fields);
        }
        let told = inbox.alarms();
        assert!(told.contains(&format!("ALARM {name}")), "{name}: {told:?}");
    }

    // A test alert arrives the same way, once, and says when the next one comes.
    let (_, schedule) = stack.schedule("test_alert");
    assert_eq!(schedule["State"], "ENABLED");
    assert_eq!(schedule["ScheduleExpression"], "cron(0 10 1 * ? *)");
    let event = serde_json::from_str(schedule["Target"]["Input"].as_str().unwrap()).unwrap();
    let delivered: Vec<Value> = [(); 2]
        .map(|()| stack.invoke(&event)["delivered"].take())
        .into();
    assert_eq!(delivered, [1, 0]);
    let alerts = inbox.alerts();
    let test = alerts.last().unwrap().machine();
    assert_eq!(
        (alerts.len(), &test["reason"]),
        (story.len() + 1, &json!("test"))
    );
    let fact = |name: &str| {
        let facts = test["facts"].as_array().unwrap();
        facts
            .iter()
            .find(|fact| fact["fact"] == name)
            .unwrap()
            .clone()
    };
    assert!(fact("next-test")["at"].is_string(), "{test}");
    assert!(fact("readers")["confirmed"].as_u64() >= Some(2), "{test}");
}

/// A permission that is missing is told by its name, once, until it is there again.
#[test]
fn a_denied_permission_is_told_by_name() {
    let Some(tools) = Tools::find("a_denied_permission_is_told_by_name") else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let site = Site::create(&emulator.aws, NAME);
    let stack = Stack::deploy(&tools, &emulator, &site, &[PARAMETER]);
    let table = StateTable::of(&emulator.aws, stack.output("TableName"));
    let inbox = Inbox::subscribe(&emulator.aws, stack.output("TopicArn"), "alerts");
    let task = site.task();
    site.schedule_runs(&task, 28, 0);
    let look = || {
        let report = stack.wake();
        table.pass_a_minute(NAME);
        report
    };
    assert_eq!(of(&look())["verdict"], "healthy");

    let policy = stack.deny("logs:StartQuery");
    for _ in 0..2 {
        let report = look();
        assert_eq!(of(&report)["verdict"], "unknown", "{report}");
        let reason = of(&report)["reason"].as_str().unwrap();
        assert!(reason.contains("logs:StartQuery"), "{reason}");
    }
    assert!(inbox.gists().is_empty());
    for _ in 0..3 {
        look();
    }
    let alerts = inbox.alerts();
    assert_eq!(inbox.gists(), ["opened watchdog-blind"]);
    assert!(
        alerts[0].body.contains("logs:StartQuery"),
        "{}",
        alerts[0].body
    );
    assert!(alerts[0].body.contains(&site.group), "{}", alerts[0].body);

    stack.set_policy(&policy);
    for _ in 0..3 {
        site.beat(&task);
        look();
    }
    assert_eq!(
        inbox.gists(),
        ["opened watchdog-blind", "resolved watchdog-blind"]
    );
}

/// A restart that the role does not allow is told by the permission's name, and not tried again.
#[test]
fn a_denied_restart_is_told_by_name() {
    let Some(tools) = Tools::find("a_denied_restart_is_told_by_name") else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let site = Site::create(&emulator.aws, NAME);
    let more = [PARAMETER, "Action=force-new-deployment"];
    let stack = Stack::deploy(&tools, &emulator, &site, &more);
    let table = StateTable::of(&emulator.aws, stack.output("TableName"));
    let inbox = Inbox::subscribe(&emulator.aws, stack.output("TopicArn"), "alerts");
    stack.deny("ecs:UpdateService");
    let task = site.task();
    let deployments = site.deployments();
    site.schedule_runs(&task, 40, 8);
    site.web_requests(&task);
    stack.wake();
    table.pass_minutes(NAME, 6);
    let report = stack.wake();
    let problems = of(&report)["problems"].to_string();
    assert!(problems.contains("ecs:UpdateService"), "{report}");
    for _ in 0..3 {
        table.pass_a_minute(NAME);
        let report = stack.wake();
        assert_eq!(of(&report)["restarted"], false, "{report}");
    }
    assert_eq!(site.deployments(), deployments);
    let story = [
        "opened scheduler-silent",
        "remediation-failed scheduler-silent",
    ];
    assert_eq!(inbox.gists(), story);
    let alerts = inbox.alerts();
    assert!(
        alerts[1].body.contains("ecs:UpdateService"),
        "{}",
        alerts[1].body
    );
}

/// One function watches several schedulers by a configuration in the parameter store, with the
/// permissions that the template's parameters list.
#[test]
fn a_configuration_in_the_parameter_store_serves_several_schedulers() {
    let name = "a_configuration_in_the_parameter_store_serves_several_schedulers";
    let Some(tools) = Tools::find(name) else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let sites = ["shop", "school"].map(|name| Site::create(&emulator.aws, name));
    let config: Vec<String> = (sites.iter())
        .map(|site| {
            format!(
                "[[scheduler]]\nname = \"{}\"\nlog_groups = [\"{}\"]\nlog_stream_prefix = \"app/\"\n\
                 [scheduler.ecs]\ncluster = \"{}\"\nservice = \"{}\"\ncontainer = \"app\"\n",
                site.name, site.group, site.cluster, site.service
            )
        })
        .collect();
    store(&emulator.aws, &config.join("\n"));
    let arn = |service: &str, rest: &str| format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}");
    let [first, second] = &sites;
    let group = arn("logs", &format!("log-group:{}", second.group));
    let service = arn(
        "ecs",
        &format!("service/{}/{}", second.cluster, second.service),
    );
    let cluster = arn("ecs", &format!("cluster/{}", second.cluster));
    let more = [
        "ConfigParameterName=/watchdog/config".to_owned(),
        format!("MoreLogGroupArns={group},{group}:*"),
        format!("MoreEcsServiceArns={service}"),
        format!("MoreEcsClusterArns={cluster}"),
    ];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let stack = Stack::deploy(&tools, &emulator, first, &more);
    let inbox = Inbox::subscribe(&emulator.aws, stack.output("TopicArn"), "alerts");

    // One lives and the other does not; each is judged by itself, and ECS is asked of both.
    first.schedule_runs(&first.task(), 28, 0);
    second.schedule_runs(&second.task(), 40, 8);
    second.web_requests(&second.task());
    let report = stack.wake();
    assert_eq!(report["completed"], true, "{report}");
    let of = |index: usize| &report["schedulers"][index];
    assert_eq!(
        (&of(0)["scheduler"], &of(0)["verdict"]),
        (&json!("shop"), &json!("healthy"))
    );
    assert_eq!(
        (&of(1)["scheduler"], &of(1)["verdict"]),
        (&json!("school"), &json!("firing"))
    );
    assert_eq!(of(1)["unseen"], json!([]), "{report}");
    assert_eq!(inbox.gists(), ["opened scheduler-silent"]);
    assert_eq!(inbox.alerts()[0].attribute("scheduler"), "school");
}

/// With two shards there are two schedules, and each wakes the function for schedulers of its own:
/// together for all of them, and an alarm waits for each.
#[test]
fn of_two_shards_each_watches_its_own() {
    let Some(tools) = Tools::find("of_two_shards_each_watches_its_own") else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let site = Site::create(&emulator.aws, "fleet");
    let names: Vec<String> = (0..8).map(|number| format!("app-{number}")).collect();
    let config: Vec<String> = (names.iter())
        .map(|name| {
            format!(
                "[[scheduler]]\nname = \"{name}\"\nlog_groups = [\"{}\"]\nlog_stream_prefix = \"app/\"\n",
                site.group
            )
        })
        .collect();
    store(&emulator.aws, &config.join("\n"));
    let more = ["ConfigParameterName=/watchdog/config", "Shards=2"];
    let stack = Stack::deploy(&tools, &emulator, &site, &more);
    let _inbox = Inbox::subscribe(&emulator.aws, stack.output("TopicArn"), "alerts");
    site.schedule_runs(&site.task(), 28, 0);

    let mut watched = Vec::new();
    for shard in ["\"shard\":0", "\"shard\":1"] {
        let (_, schedule) = stack.schedule(shard);
        let input = schedule["Target"]["Input"].as_str().unwrap();
        let report = stack.invoke(&serde_json::from_str(input).unwrap());
        assert_eq!(report["completed"], true, "{report}");
        let schedulers = report["schedulers"].as_array().unwrap();
        assert!(!schedulers.is_empty(), "{shard}");
        for scheduler in schedulers {
            assert_eq!(scheduler["verdict"], "healthy", "{report}");
            watched.push(scheduler["scheduler"].as_str().unwrap().to_owned());
        }
    }
    watched.sort();
    assert_eq!(watched, names);
    let alarms = emulator.aws.query(&CLOUDWATCH, "DescribeAlarms", &[]);
    let metrics = texts(&alarms, "MetricName");
    let waiting = metrics.iter().filter(|metric| *metric == "PassCompleted");
    assert_eq!(waiting.count(), 2, "{metrics:?}");
}
