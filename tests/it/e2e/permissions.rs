//! Each statement of the function's policy is needed: without it something fails, and the
//! watchdog says what.

use std::fmt::Write as _;

use regex::Regex;
use serde_json::{Value, json};

use super::aws::{ACCOUNT, IAM, REGION, SSM};
use super::emulator::Emulator;
use super::inbox::{Alert, Inbox};
use super::site::Site;
use super::stack::Stack;
use super::state::StateTable;
use super::tools::Tools;

const PARAMETER: &str = "/watchdog/config";

/// What makes a statement matter.
#[derive(Clone, Copy)]
enum Scene {
    /// A look at this application, whose scheduler has just died; so many looks.
    Silent(usize, usize),
    /// The same, minutes later, when a restart is due.
    Restart(usize),
    /// One of two replicas of this application has died; minutes later its stop is due.
    Replica(usize),
    /// A test alert.
    TestAlert,
    /// A new process of the function.
    Start,
    /// The emulator cannot show it, for this reason.
    Unseen(&'static str),
}

/// The statements in the order of their scenes: a restart that is made would spoil later ones, so
/// first come those in which it is denied.
const SCENES: [(&str, Scene); 21] = [
    ("RestartService", Scene::Restart(0)),
    ("RestartMoreServices", Scene::Restart(1)),
    ("QueryLogs", Scene::Silent(0, 3)),
    ("QueryMoreLogs", Scene::Silent(1, 3)),
    ("KeepState", Scene::Silent(0, 1)),
    ("LookAtService", Scene::Silent(0, 3)),
    ("LookAtMoreServices", Scene::Silent(1, 3)),
    ("ListTasks", Scene::Silent(0, 3)),
    ("LookAtTasks", Scene::Silent(0, 3)),
    ("LookAtMoreTasks", Scene::Silent(1, 3)),
    ("SendAlerts", Scene::Silent(0, 1)),
    ("CountSubscriptions", Scene::TestAlert),
    ("StopOneReplica", Scene::Replica(0)),
    ("StopMoreReplicas", Scene::Replica(1)),
    ("ReadConfig", Scene::Start),
    (
        "RunOneTask",
        Scene::Unseen("no scheduler of this stack runs a task; that of the scheduled tasks does"),
    ),
    (
        "StopQueries",
        Scene::Unseen("the emulator's queries end at once; only one that runs too long is stopped"),
    ),
    (
        "EncryptAlerts",
        Scene::Unseen("the emulator's SNS asks no key"),
    ),
    (
        "WriteOwnLog",
        Scene::Unseen("the emulator writes the function's log itself"),
    ),
    (
        "WriteTraces",
        Scene::Unseen("the emulator has no X-Ray; Lambda traces as the role"),
    ),
    (
        "ReportFailedInvocations",
        Scene::Unseen("the emulator sends failed events itself, Lambda as the role"),
    ),
];

/// What somebody sees of a missing permission.
#[derive(Default)]
struct Seen {
    /// What the reports say, each sentence once.
    report: Vec<String>,
    /// The messages that people get.
    told: Vec<String>,
    /// Passes that were not completed, for which the alarm on missing passes counts.
    incomplete: bool,
}

impl Seen {
    fn note(&mut self, sentences: &Value, what: &str) {
        for sentence in sentences.as_array().into_iter().flatten() {
            let sentence = format!("{what}: {}", sentence.as_str().unwrap());
            if !self.report.contains(&sentence) {
                self.report.push(sentence);
            }
        }
    }

    fn look(&mut self, report: &Value) {
        self.incomplete |= report["completed"] == false;
        self.note(&report["problems"], "problem");
        for scheduler in report["schedulers"].as_array().into_iter().flatten() {
            self.note(&scheduler["unseen"], "not seen");
            self.note(&scheduler["problems"], "problem");
        }
    }

    /// Notes the alerts that came.
    fn hear(&mut self, alerts: &[Alert]) {
        for alert in alerts {
            let mut gist = alert.gist();
            if alert.body.contains("denied") {
                gist.push_str(", which names it");
            }
            self.told.push(gist);
        }
    }

    /// Writes it into the table.
    fn show(&self, stack: &Stack<'_>, rows: &mut String) {
        let task_id = Regex::new("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").unwrap();
        for sentence in &self.report {
            let sentence = stack.generic(sentence);
            let _ = writeln!(rows, "  {}", task_id.replace_all(&sentence, "{task}"));
        }
        let told = match self.told.as_slice() {
            [] => "nothing".to_owned(),
            told => told.join("; "),
        };
        let _ = writeln!(rows, "  people get: {told}");
        if self.incomplete {
            let _ = writeln!(
                rows,
                "  the pass is not completed; NoPassAlarm fires after three"
            );
        }
    }
}

/// The stack of two applications, and what is done with it.
struct Stage<'a> {
    stack: &'a Stack<'a>,
    table: &'a StateTable<'a>,
    inbox: &'a Inbox<'a>,
    sites: &'a [Site<'a>; 2],
}

impl Stage<'_> {
    fn play(&self, scene: Scene) -> Seen {
        let mut seen = Seen::default();
        for name in ["shop", "school", "watchdog configuration"] {
            self.table.delete(name);
        }
        let told = self.inbox.alerts().len();
        let wake =
            |site: usize| (self.stack).invoke(&json!({"schedulers": [self.sites[site].name]}));
        match scene {
            Scene::Silent(site, looks) => {
                for look in 0..looks {
                    if look > 0 {
                        self.table.pass_a_minute(&self.sites[site].name);
                    }
                    seen.look(&wake(site));
                }
            }
            Scene::Restart(site) | Scene::Replica(site) => {
                seen.look(&wake(site));
                self.table.pass_minutes(&self.sites[site].name, 6);
                seen.look(&wake(site));
                // The next pass tells that it could not be made.
                self.table.pass_a_minute(&self.sites[site].name);
                seen.look(&wake(site));
            }
            Scene::TestAlert => seen.look(&self.stack.invoke(&json!({"test_alert": true}))),
            Scene::Start => {
                self.stack.start_afresh();
                let error = self.stack.invoke_in_vain(&json!({}));
                let said = error["errorMessage"].as_str().unwrap();
                (seen.report).push(format!("error: {}", said.lines().last().unwrap()));
                seen.incomplete = true;
            }
            Scene::Unseen(_) => unreachable!("not played"),
        }
        seen.hear(&self.inbox.alerts()[told..]);
        seen
    }
}

/// Takes each statement of the deployed policy away in turn: without it something fails, but for
/// those that an emulator cannot show. With all of them nothing fails. The two statements of the
/// action `run-task`, which excludes the action here, have the next test.
#[test]
fn each_permission_is_needed_and_missed_by_name() {
    let Some(tools) = Tools::find("each_permission_is_needed_and_missed_by_name") else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let aws = &emulator.aws;
    let sites = ["shop", "school"].map(|name| Site::create(aws, name));
    let config: Vec<String> = (sites.iter())
        .map(|site| {
            format!(
                "[[scheduler]]\nname = \"{}\"\nlog_groups = [\"{}\"]\nlog_stream_prefix = \"app/\"\n\
                 stale_after = \"5m\"\n\
                 [scheduler.ecs]\ncluster = \"{}\"\nservice = \"{}\"\ncontainer = \"app\"\n\
                 [scheduler.remediation]\n\
                 action = \"force-new-deployment\"\nreplica_action = \"stop-task\"\n",
                site.name, site.group, site.cluster, site.service
            )
        })
        .collect();
    let parameter = json!({"Name": PARAMETER, "Type": "String", "Value": config.join("\n")});
    aws.json(&SSM, "PutParameter", &parameter);
    let [shop, school] = &sites;
    let arn = |service: &str, rest: &str| format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}");
    let group = arn("logs", &format!("log-group:{}", school.group));
    let service = format!("service/{}/{}", school.cluster, school.service);
    let more = [
        "Action=force-new-deployment".to_owned(),
        "ReplicaAction=stop-task".to_owned(),
        "EncryptAlerts=true".to_owned(),
        // A file may use one action for this scheduler, and another one for that.
        "RunTaskDefinitionFamily=nightly".to_owned(),
        format!("ConfigParameterName={PARAMETER}"),
        format!("MoreLogGroupArns={group},{group}:*"),
        format!("MoreEcsServiceArns={}", arn("ecs", &service)),
        format!(
            "MoreEcsClusterArns={}",
            arn("ecs", &format!("cluster/{}", school.cluster))
        ),
    ];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let stack = Stack::deploy(&tools, &emulator, shop, &more);
    let table = StateTable::of(aws, stack.output("TableName"));
    let inbox = Inbox::subscribe(aws, stack.output("TopicArn"), "alerts");
    let stage = Stage {
        stack: &stack,
        table: &table,
        inbox: &inbox,
        sites: &sites,
    };
    for site in &sites {
        let task = site.task();
        site.schedule_runs(&task, 40, 8);
        site.web_requests(&task);
    }

    // With every statement nothing fails.
    let all = stage.play(Scene::Silent(0, 1));
    assert!(all.report.is_empty() && !all.incomplete, "{:?}", all.report);
    assert_eq!(all.told, ["opened scheduler-silent"]);
    assert!(stage.play(Scene::Silent(1, 1)).report.is_empty());
    assert!(stage.play(Scene::TestAlert).report.is_empty());

    let policy = stack.policy();
    let document: Value = serde_json::from_str(&policy).unwrap();
    let mut deployed: Vec<&str> = (document["Statement"].as_array().unwrap().iter())
        .map(|statement| statement["Sid"].as_str().unwrap())
        .collect();
    let mut known = SCENES.map(|(sid, _)| sid).to_vec();
    deployed.sort_unstable();
    known.sort_unstable();
    assert_eq!(deployed, known, "a new statement wants a scene here");

    let mut rows = String::new();
    for (sid, scene) in SCENES {
        let (actions, without) = without(&document, sid);
        let _ = writeln!(rows, "{sid}: {actions}");
        if let Scene::Unseen(why) = scene {
            let _ = writeln!(rows, "  not checked here: {why}");
            continue;
        }
        if let Scene::Replica(site) = scene {
            replica_dies(&sites[site]);
        }
        stack.set_policy(&without.to_string());
        let seen = stage.play(scene);
        stack.set_policy(&policy);
        assert!(
            !seen.report.is_empty() || !seen.told.is_empty(),
            "{sid} is not missed"
        );
        seen.show(&stack, &mut rows);
    }
    println!("{rows}");
    insta::assert_snapshot!(rows);
}

/// The same for a scheduler without a service, whose tasks nothing starts any more: the watchdog
/// may run one, which hands its roles over to it.
#[test]
fn each_permission_to_run_a_task_is_needed_and_missed_by_name() {
    let test = "each_permission_to_run_a_task_is_needed_and_missed_by_name";
    let Some(tools) = Tools::find(test) else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let aws = &emulator.aws;
    let name = "nightly";
    let site = Site::of_tasks(aws, name);
    let roles = ["nightly-execution", "nightly-task"].map(|role| {
        let trust = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow", "Action": "sts:AssumeRole",
                "Principal": {"Service": "ecs-tasks.amazonaws.com"},
            }],
        });
        let trust = trust.to_string();
        let fields = [("RoleName", role), ("AssumeRolePolicyDocument", &trust)];
        aws.query(&IAM, "CreateRole", &fields);
        format!("arn:aws:iam::{ACCOUNT}:role/{role}")
    });
    site.define(&json!({"executionRoleArn": roles[0], "taskRoleArn": roles[1]}));
    let more = [
        "SchedulerName=nightly".to_owned(),
        "Action=run-task".to_owned(),
        format!("RunTaskDefinitionFamily={name}"),
        format!("RunTaskRoleArns={}", roles.join(",")),
        "RunTaskSubnets=subnet-1".to_owned(),
        "RunTaskSecurityGroups=sg-1".to_owned(),
    ];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let stack = Stack::deploy(&tools, &emulator, &site, &more);
    let table = StateTable::of(aws, stack.output("TableName"));
    let inbox = Inbox::subscribe(aws, stack.output("TopicArn"), "alerts");
    for ago in 9..20 {
        site.schedule_runs(&format!("run-{ago}"), ago, ago);
    }
    site.schedule_runs(&site.scheduled_task(), 8, 8);
    let play = || {
        let (mut seen, told) = (Seen::default(), inbox.alerts().len());
        table.delete(name);
        for minutes in [6, 1, 0] {
            seen.look(&stack.invoke(&json!({"schedulers": [name]})));
            if minutes > 0 {
                table.pass_minutes(name, minutes);
            }
        }
        seen.hear(&inbox.alerts()[told..]);
        seen
    };

    let policy = stack.policy();
    let document: Value = serde_json::from_str(&policy).unwrap();
    let mut rows = String::new();
    for sid in ["RunOneTask", "PassTaskRoles"] {
        let (actions, without) = without(&document, sid);
        let _ = writeln!(rows, "{sid}: {actions}");
        stack.set_policy(&without.to_string());
        let seen = play();
        stack.set_policy(&policy);
        assert!(!seen.report.is_empty(), "{sid} is not missed");
        assert!(site.tasks().is_empty(), "{sid} is not needed");
        seen.show(&stack, &mut rows);
    }
    // With both it is run, and nothing fails.
    let all = play();
    assert!(all.report.is_empty() && !all.incomplete, "{:?}", all.report);
    assert_eq!(site.tasks().len(), 1);
    println!("{rows}");
    insta::assert_snapshot!(rows);
}

/// The policy without a statement, and what that allowed.
fn without(policy: &Value, sid: &str) -> (String, Value) {
    let mut policy = policy.clone();
    let statements = policy["Statement"].as_array_mut().unwrap();
    let index = (statements.iter())
        .position(|known| known["Sid"] == sid)
        .unwrap();
    let actions = match statements.remove(index)["Action"].take() {
        Value::Array(actions) => actions,
        one => vec![one],
    };
    let actions: Vec<&str> = actions
        .iter()
        .map(|action| action.as_str().unwrap())
        .collect();
    (actions.join(", "), policy)
}

/// A second replica has run all the time, and does so still; the first one is silent.
fn replica_dies(site: &Site<'_>) {
    let first = site.task();
    site.scale(2);
    let second = site
        .tasks()
        .into_iter()
        .find(|task| *task != first)
        .unwrap();
    site.schedule_runs(&second, 40, 0);
    site.web_requests(&first);
}
