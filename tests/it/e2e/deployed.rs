//! The deployed stack: the real template, the real role, the schedule.

use serde_json::Value;

use super::emulator::Emulator;
use super::inbox::Inbox;
use super::site::Site;
use super::stack::Stack;
use super::state::StateTable;
use super::tools::Tools;

const NAME: &str = "myteacher-production";
const PARAMETER: &str = "SchedulerName=myteacher-production";

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
    // The schedule has begun already. Nobody is told anything before somebody listens.
    stack.stop_schedule();
    let inbox = Inbox::subscribe(&emulator.aws, stack.output("TopicArn"), "alerts");
    table.delete(NAME);

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
