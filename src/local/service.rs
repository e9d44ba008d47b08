//! What ECS said, from a file: `describe-services` and `describe-tasks` with the time of each
//! look, one a line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::Value;

use super::time;
use crate::config::{Ecs, EcsTarget};
use crate::snapshot::{Container, Deployment, ServiceFacts, Task};

/// The newest service events that are kept.
const MOST_EVENTS: usize = 10;

/// What ECS said over time.
#[derive(Debug, Default)]
pub struct ServiceHistory {
    /// Oldest first.
    looks: Vec<Look>,
}

#[derive(Debug)]
struct Look {
    at: Timestamp,
    /// The service's name, where the line holds it.
    service: Option<String>,
    /// The line holds a service, and a list of tasks; what it leaves out is not known.
    of_service: bool,
    of_tasks: bool,
    facts: ServiceFacts,
}

/// A `--service` file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It cannot be opened or read.
    #[error("{file}: cannot be read: {error}")]
    Io {
        /// The file.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// A line is not what it should be.
    #[error(
        "{file}:{line}: {problem}; expected one object a line: {{\"at\": time, \"service\": \
         services[0] of `aws ecs describe-services`, \"tasks\": [tasks of `aws ecs describe-tasks`]}}"
    )]
    Format {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

impl ServiceHistory {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or a line is not what it should be.
    pub fn read_file(path: &Path) -> Result<Self, ServiceError> {
        let name = path.display().to_string();
        let io = |error| ServiceError::Io {
            file: name.clone(),
            error,
        };
        let file = File::open(path).map_err(io)?;
        Self::read(BufReader::new(file), &name)
    }

    /// Reads lines; `file` names their source in mistakes.
    ///
    /// # Errors
    /// It cannot be read, or a line is not what it should be.
    pub fn read(input: impl BufRead, file: &str) -> Result<Self, ServiceError> {
        let mut looks = Vec::new();
        for (index, line) in input.split(b'\n').enumerate() {
            let line = line.map_err(|error| ServiceError::Io {
                file: file.to_owned(),
                error,
            })?;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let look: LookLine =
                serde_json::from_slice(&line).map_err(|error| ServiceError::Format {
                    file: file.to_owned(),
                    line: index + 1,
                    problem: error.to_string(),
                })?;
            looks.push(look.into());
        }
        looks.sort_by_key(|look: &Look| look.at);
        Ok(Self { looks })
    }

    /// What was known of a service at `now`: the newest line about it; nothing before the first, nor
    /// where that line leaves out the service or its tasks.
    /// In a file that names the service nowhere, every line is about it.
    pub fn at(&self, ecs: &Ecs, now: Timestamp) -> Option<ServiceFacts> {
        let end = self.looks.partition_point(|look| look.at <= now);
        let is_about = self.about(ecs);
        (self.looks[..end].iter().rev())
            .find(|look| is_about(look))
            .filter(|look| {
                let is_whole = look.of_service || !matches!(ecs.target, EcsTarget::Service(_));
                is_whole && look.of_tasks
            })
            .map(|look| {
                let mut facts = look.facts.clone();
                if matches!(ecs.target, EcsTarget::TaskDefinition { .. }) {
                    facts.tasks.retain(|task| !task.is_of_service());
                }
                facts
            })
    }

    /// Every deployment of a service that a line tells of, as the newest line tells it, oldest
    /// first.
    pub fn deployments(&self, ecs: &Ecs) -> Vec<Deployment> {
        let is_about = self.about(ecs);
        let mut newest = BTreeMap::new();
        for look in self.looks.iter().filter(|look| is_about(look)) {
            let deployments = look.facts.deployments.iter();
            newest.extend(deployments.map(|d| ((d.created_at, d.id.clone()), d.clone())));
        }
        newest.into_values().collect()
    }

    /// Tells which lines are about a service. In a file that names it nowhere, all are.
    fn about(&self, ecs: &Ecs) -> impl Fn(&Look) -> bool {
        let wanted = match &ecs.target {
            EcsTarget::Service(name) => Some(name.clone()),
            EcsTarget::TaskDefinition { .. } => None,
        };
        let any_named = wanted.is_some() && self.looks.iter().any(|look| look.service == wanted);
        move |look| !any_named || look.service.is_none() || look.service == wanted
    }
}

/// A line of the file.
#[derive(Deserialize)]
struct LookLine {
    at: Moment,
    #[serde(default)]
    service: Option<ServiceJson>,
    #[serde(default)]
    tasks: Option<Vec<TaskJson>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceJson {
    #[serde(default)]
    service_name: Option<String>,
    #[serde(default = "active")]
    status: String,
    #[serde(default = "one")]
    desired_count: u32,
    #[serde(default)]
    deployment_controller: Option<ControllerJson>,
    #[serde(default)]
    deployments: Vec<DeploymentJson>,
    #[serde(default)]
    events: Vec<EventJson>,
}

/// What tasks without a service have by definition.
fn active() -> String {
    "ACTIVE".to_owned()
}

fn one() -> u32 {
    1
}

#[derive(Deserialize)]
struct ControllerJson {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeploymentJson {
    id: String,
    #[serde(default)]
    status: String,
    /// Absent for other controllers than ECS.
    #[serde(default)]
    rollout_state: Option<String>,
    created_at: Moment,
    #[serde(default)]
    failed_tasks: u32,
}

#[derive(Deserialize)]
struct EventJson {
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskJson {
    task_arn: String,
    #[serde(default)]
    started_by: Option<String>,
    #[serde(default)]
    last_status: String,
    #[serde(default)]
    started_at: Option<Moment>,
    #[serde(default)]
    stopped_at: Option<Moment>,
    #[serde(default)]
    stop_code: Option<String>,
    #[serde(default)]
    stopped_reason: Option<String>,
    #[serde(default)]
    health_status: Option<String>,
    #[serde(default)]
    containers: Vec<ContainerJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerJson {
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    exit_code: Option<i32>,
    #[serde(default)]
    reason: Option<String>,
}

/// A time as the AWS CLI prints it: a text, or seconds since the epoch with a fraction.
struct Moment(Timestamp);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let at = match &value {
            Value::Number(seconds) => seconds.as_f64().and_then(time::from_seconds),
            Value::String(text) => time::parse(text, &TimeZone::UTC),
            _ => None,
        };
        at.map(Self)
            .ok_or_else(|| D::Error::custom(format!("{value} is no time")))
    }
}

impl From<LookLine> for Look {
    fn from(line: LookLine) -> Self {
        let (of_service, of_tasks) = (line.service.is_some(), line.tasks.is_some());
        let mut facts = ServiceFacts {
            status: active(),
            controller: "ECS".to_owned(),
            desired: one(),
            tasks: (line.tasks.into_iter().flatten()).map(Task::from).collect(),
            ..ServiceFacts::default()
        };
        let mut name = None;
        if let Some(service) = line.service {
            name = service.service_name;
            facts.status = service.status;
            facts.desired = service.desired_count;
            if let Some(controller) = service.deployment_controller {
                facts.controller = controller.kind;
            }
            facts.deployments = (service.deployments.into_iter())
                .map(Deployment::from)
                .collect();
            facts.events = (service.events.into_iter())
                .take(MOST_EVENTS)
                .map(|event| event.message)
                .collect();
        }
        Self {
            at: line.at.0,
            service: name,
            of_service,
            of_tasks,
            facts,
        }
    }
}

impl From<DeploymentJson> for Deployment {
    fn from(json: DeploymentJson) -> Self {
        Self {
            id: json.id,
            status: json.status,
            rollout: json.rollout_state.unwrap_or_default(),
            created_at: json.created_at.0,
            failed_tasks: json.failed_tasks,
        }
    }
}

impl From<TaskJson> for Task {
    fn from(json: TaskJson) -> Self {
        let id = json.task_arn.rsplit('/').next().unwrap_or_default();
        Self {
            id: id.to_owned(),
            started_by: json.started_by.unwrap_or_default(),
            last_status: json.last_status,
            started_at: json.started_at.map(|at| at.0),
            stopped_at: json.stopped_at.map(|at| at.0),
            stop_code: json.stop_code.unwrap_or_default(),
            stopped_reason: json.stopped_reason.unwrap_or_default(),
            health: json.health_status.unwrap_or_default(),
            containers: json.containers.into_iter().map(Container::from).collect(),
        }
    }
}

impl From<ContainerJson> for Container {
    fn from(json: ContainerJson) -> Self {
        Self {
            name: json.name,
            image: json.image.unwrap_or_default(),
            exit_code: json.exit_code,
            reason: json.reason.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"
{"at": "2026-11-24T04:00:00Z", "service": {"serviceName": "web", "status": "ACTIVE", "desiredCount": 2, "runningCount": 1, "deploymentController": {"type": "CODE_DEPLOY"}, "deployments": [{"id": "ecs-svc/1", "status": "PRIMARY", "rolloutState": "COMPLETED", "createdAt": 1795491369.5, "failedTasks": 3}], "events": [{"id": "x", "createdAt": 1.0, "message": "(service web) has reached a steady state."}]}, "tasks": [{"taskArn": "arn:aws:ecs:eu-west-1:123456789012:task/main/0123abcd", "startedBy": "ecs-svc/1", "lastStatus": "STOPPED", "startedAt": "2026-11-24T03:00:00.500000+09:00", "stoppedAt": "2026-11-24T03:30:00Z", "stopCode": "EssentialContainerExited", "stoppedReason": "Essential container in task exited", "healthStatus": "UNKNOWN", "containers": [{"name": "app", "image": "x@sha256:1", "exitCode": 137, "reason": "OutOfMemoryError"}]}]}

{"at": "2026-11-24T03:00:00Z", "service": {}, "tasks": []}
"#;

    fn ecs(name: &str) -> Ecs {
        Ecs {
            cluster: "main".to_owned(),
            target: EcsTarget::Service(name.to_owned()),
            container: None,
        }
    }

    #[test]
    fn the_newest_look_so_far_holds() {
        let history = ServiceHistory::read(LINES.as_bytes(), "ecs.jsonl").unwrap();
        let at = |time: &str| history.at(&ecs("web"), time.parse().unwrap());
        assert_eq!(at("2026-11-24T02:59:59Z"), None);
        let bare = at("2026-11-24T03:59:59Z").unwrap();
        assert_eq!((bare.status.as_str(), bare.desired), ("ACTIVE", 1));
        let full = at("2026-11-24T04:00:00Z").unwrap();
        insta::assert_debug_snapshot!(full);
    }

    #[test]
    fn what_a_line_leaves_out_is_not_known() {
        for (line, of_service, of_tasks) in [
            (r#""service": {}, "tasks": []"#, true, true),
            (r#""service": null, "tasks": []"#, false, true),
            (r#""tasks": []"#, false, true),
            (r#""service": {}, "tasks": null"#, false, false),
            (r#""service": {}"#, false, false),
        ] {
            let now = Timestamp::UNIX_EPOCH;
            let line = format!(r#"{{"at": 0, {line}}}"#);
            let history = ServiceHistory::read(line.as_bytes(), "ecs.jsonl").unwrap();
            assert_eq!(history.at(&ecs("web"), now).is_some(), of_service, "{line}");
            let scheduled = Ecs {
                target: EcsTarget::TaskDefinition {
                    definition: "app".to_owned(),
                    subnets: Vec::new(),
                    security_groups: Vec::new(),
                    assign_public_ip: false,
                },
                ..ecs("web")
            };
            assert_eq!(history.at(&scheduled, now).is_some(), of_tasks, "{line}");
        }
    }

    #[test]
    fn another_services_lines_are_not_ours() {
        let worker = LINES
            .replace("04:00:00Z", "04:30:00Z")
            .replace("\"web\"", "\"worker\"");
        let both = format!(
            "{LINES}{}",
            worker.replace("\"desiredCount\": 2", "\"desiredCount\": 7")
        );
        let history = ServiceHistory::read(both.as_bytes(), "ecs.jsonl").unwrap();
        let desired = |name: &str| {
            let facts = history.at(&ecs(name), "2026-11-24T05:00:00Z".parse().unwrap());
            facts.unwrap().desired
        };
        assert_eq!((desired("web"), desired("worker")), (2, 7));
        assert_eq!(
            desired("unnamed"),
            7,
            "a file that never names it is all about it"
        );
    }

    #[test]
    fn a_services_tasks_are_no_scheduled_ones() {
        let scheduled = LINES.replace(
            "\"startedBy\": \"ecs-svc/1\"",
            "\"startedBy\": \"events-rule/x\"",
        );
        let tasks = Ecs {
            target: EcsTarget::TaskDefinition {
                definition: "app".to_owned(),
                subnets: Vec::new(),
                security_groups: Vec::new(),
                assign_public_ip: false,
            },
            ..ecs("")
        };
        for (lines, ecs, expected) in [
            (LINES, ecs("web"), 1),
            (LINES, tasks.clone(), 0),
            (scheduled.as_str(), tasks, 1),
        ] {
            let history = ServiceHistory::read(lines.as_bytes(), "ecs.jsonl").unwrap();
            let facts = history.at(&ecs, "2026-11-24T05:00:00Z".parse().unwrap());
            assert_eq!(facts.unwrap().tasks.len(), expected, "{ecs:?}");
        }
    }

    #[test]
    fn mistakes_name_the_line() {
        let read = |text: &str| ServiceHistory::read(text.as_bytes(), "ecs.jsonl").unwrap_err();
        let error = read("\n{\"at\": \"then\"}\n").to_string();
        assert!(
            error.starts_with("ecs.jsonl:2: \"then\" is no time"),
            "{error}"
        );
        let error =
            read("{\"at\": 1, \"service\": {\"deployments\": [{\"id\": \"x\"}]}}").to_string();
        assert!(error.contains("missing field `createdAt`"), "{error}");
        let error = read("nonsense").to_string();
        assert!(error.starts_with("ecs.jsonl:1: "), "{error}");
    }
}
