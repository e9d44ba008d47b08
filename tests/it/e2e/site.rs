//! The application that is watched: an ECS service whose container prints a Laravel scheduler's
//! output to a log group.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::aws::{Aws, ECS, LOGS};
use super::process::now;

/// What Laravel 12.67 prints for a minute without due tasks, and for one with some.
const IDLE: &str = include_str!("../../samples/laravel-12.67.0/03_no_tasks_defined.stdout");
const BUSY: &str =
    include_str!("../../samples/laravel-12.67.0/22_schedule_work_150s_production.stdout");

/// What nginx prints beside it, whether the scheduler lives or not.
const WEB: &str = r#"10.0.1.17 - - "GET /up HTTP/1.1" 200 15 "-" "ELB-HealthChecker/2.0""#;

pub struct Site<'a> {
    aws: &'a Aws,
    pub name: String,
    pub cluster: String,
    pub service: String,
    pub group: String,
}

impl<'a> Site<'a> {
    /// A service that runs one task, and an empty log group.
    pub fn create(aws: &'a Aws, name: &str) -> Self {
        Self::with_replicas(aws, name, 1)
    }

    /// The same with several tasks.
    pub fn with_replicas(aws: &'a Aws, name: &str, tasks: u32) -> Self {
        let site = Self {
            service: format!("{name}-app-service"),
            ..Self::of_tasks(aws, name)
        };
        let service = json!({
            "cluster": site.cluster,
            "serviceName": site.service,
            "taskDefinition": name,
            "desiredCount": tasks,
            "launchType": "FARGATE",
        });
        aws.json(&ECS, "CreateService", &service);
        site
    }

    /// No service: a definition of tasks that something is to start, and an empty log group. The
    /// image is pinned, so that a restart cannot bring another one.
    pub fn of_tasks(aws: &'a Aws, name: &str) -> Self {
        let site = Self {
            aws,
            name: name.to_owned(),
            cluster: format!("{name}-cluster"),
            service: String::new(),
            group: format!("/ecs/{name}"),
        };
        aws.json(
            &LOGS,
            "CreateLogGroup",
            &json!({"logGroupName": site.group}),
        );
        aws.json(&ECS, "CreateCluster", &json!({"clusterName": site.cluster}));
        site.define(&json!({}));
        site
    }

    /// Registers a revision of the definition of its tasks, with these fields in addition.
    pub fn define(&self, more: &Value) {
        let name = &self.name;
        let digest = "a".repeat(64);
        let mut definition = json!({
            "family": name,
            "networkMode": "awsvpc",
            "requiresCompatibilities": ["FARGATE"],
            "cpu": "256",
            "memory": "512",
            "containerDefinitions": [{
                "name": "app",
                "image": format!("123456789012.dkr.ecr.ap-northeast-1.amazonaws.com/{name}@sha256:{digest}"),
                "essential": true,
            }],
        });
        for (field, value) in more.as_object().unwrap() {
            definition[field] = value.clone();
        }
        (self.aws).json(&ECS, "RegisterTaskDefinition", &definition);
    }

    /// The one task that runs.
    pub fn task(&self) -> String {
        let mut tasks = self.tasks();
        assert_eq!(tasks.len(), 1, "{tasks:?}");
        tasks.remove(0)
    }

    /// The tasks that run.
    pub fn tasks(&self) -> Vec<String> {
        let list = json!({"cluster": self.cluster, "family": self.name});
        let answer = self.aws.json(&ECS, "ListTasks", &list);
        let tasks = answer["taskArns"].as_array().unwrap();
        tasks.iter().map(last_part).collect()
    }

    /// What ECS says of a task.
    pub fn describe(&self, task: &str) -> Value {
        let which = json!({"cluster": self.cluster, "tasks": [task]});
        self.aws.json(&ECS, "DescribeTasks", &which)["tasks"][0].take()
    }

    /// EventBridge Scheduler starts a task, which runs the scheduler and ends.
    pub fn scheduled_task(&self) -> String {
        let run = json!({
            "cluster": self.cluster,
            "taskDefinition": self.name,
            "startedBy": "chronos-schedule/every-minute",
        });
        let task = last_part(&self.aws.json(&ECS, "RunTask", &run)["tasks"][0]["taskArn"]);
        self.end(&task);
        task
    }

    /// A task comes to its end.
    pub fn end(&self, task: &str) {
        let stop = json!({"cluster": self.cluster, "task": task});
        self.aws.json(&ECS, "StopTask", &stop);
    }

    /// Changes how many tasks are to run.
    pub fn scale(&self, tasks: u32) {
        let update = json!({
            "cluster": self.cluster,
            "service": self.service,
            "desiredCount": tasks,
        });
        self.aws.json(&ECS, "UpdateService", &update);
        assert_eq!(self.tasks().len(), tasks as usize);
    }

    /// The ids of the service's deployments.
    pub fn deployments(&self) -> Vec<String> {
        let which = json!({"cluster": self.cluster, "services": [self.service]});
        let answer = self.aws.json(&ECS, "DescribeServices", &which);
        let deployments = answer["services"][0]["deployments"].as_array().unwrap();
        (deployments.iter())
            .map(|deployment| deployment["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The stream that ECS's log driver writes for a task.
    pub fn stream(task: &str) -> String {
        format!("app/app/{task}")
    }

    /// A task's scheduler runs every minute, from so many minutes ago until so many minutes ago;
    /// every fifth minute it has something to do.
    pub fn schedule_runs(&self, task: &str, from_ago: i64, until_ago: i64) {
        let now = now();
        let mut events = Vec::new();
        for ago in (until_ago..=from_ago).rev() {
            let at = now - SignedDuration::from_mins(ago);
            events.extend(if ago % 5 == 0 { busy(at) } else { idle(at) });
        }
        self.print(task, &events);
    }

    /// A task's loop goes on, but every run of the last ten minutes prints this and no more.
    pub fn runs_fail(&self, task: &str, run: &str) {
        let printed = |ago| events(now() - SignedDuration::from_mins(ago), run.lines());
        let events: Vec<_> = (0..10).rev().flat_map(printed).collect();
        self.print(task, &events);
    }

    /// A task's scheduler finds nothing to do, at this very moment.
    pub fn beat(&self, task: &str) {
        self.print(task, &idle(now()));
    }

    /// The web server of the same task answers health checks until now.
    pub fn web_requests(&self, task: &str) {
        let events: Vec<_> = (0..10)
            .rev()
            .map(|ago| (now() - SignedDuration::from_mins(ago), WEB.to_owned()))
            .collect();
        self.print(task, &events);
    }

    /// Writes lines to a task's stream.
    pub fn print(&self, task: &str, events: &[(Timestamp, String)]) {
        let stream = Self::stream(task);
        let streams = self.aws.json(
            &LOGS,
            "DescribeLogStreams",
            &json!({"logGroupName": self.group, "logStreamNamePrefix": stream}),
        );
        if streams["logStreams"].as_array().is_none_or(Vec::is_empty) {
            self.aws.json(
                &LOGS,
                "CreateLogStream",
                &json!({"logGroupName": self.group, "logStreamName": stream}),
            );
        }
        let events: Vec<Value> = (events.iter())
            .map(|(at, line)| json!({"timestamp": at.as_millisecond(), "message": line}))
            .collect();
        let put = json!({
            "logGroupName": self.group,
            "logStreamName": stream,
            "logEvents": events,
        });
        self.aws.json(&LOGS, "PutLogEvents", &put);
    }
}

fn last_part(arn: &Value) -> String {
    let arn = arn.as_str().unwrap();
    arn.rsplit('/').next().unwrap().to_owned()
}

fn idle(at: Timestamp) -> Vec<(Timestamp, String)> {
    events(at, IDLE.lines())
}

/// The sample's first run, which ends with an empty line.
fn busy(at: Timestamp) -> Vec<(Timestamp, String)> {
    let run = BUSY.trim_start_matches('\n');
    let end = run.find("\n\n").unwrap();
    events(at, run[..end].lines())
}

/// Lines as they were printed, at another time.
fn events<'l>(at: Timestamp, lines: impl Iterator<Item = &'l str>) -> Vec<(Timestamp, String)> {
    let printed = at.strftime("%Y-%m-%d %H:%M:%S").to_string();
    lines
        .filter(|line| !line.is_empty())
        .map(|line| match line.split_once("Running [") {
            Some((_, rest)) => (at, format!("  {printed} Running [{rest}")),
            None => (at, line.to_owned()),
        })
        .collect()
}
