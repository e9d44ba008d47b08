//! What ECS says of a service or of tasks, and the three cures.
//!
//! | call | IAM action | on |
//! |---|---|---|
//! | look at a service | `ecs:DescribeServices` | the service |
//! | look at tasks | `ecs:ListTasks` | `*`, with `ecs:cluster` |
//! | | `ecs:DescribeTasks` | the cluster's tasks |
//! | force a new deployment | `ecs:UpdateService` | the service |
//! | stop a replica | `ecs:StopTask` | the cluster's tasks |
//! | run a task | `ecs:RunTask` | the task definition |
//! | | `iam:PassRole` | the roles that the definition names |

use std::error::Error;

use aws_sdk_ecs::config::http::HttpResponse;
use aws_sdk_ecs::config::retry::RetryConfig;
use aws_sdk_ecs::config::timeout::TimeoutConfig;
use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecs::primitives::DateTime;
use aws_sdk_ecs::types::{
    self, AssignPublicIp, AwsVpcConfiguration, ContainerOverride, DesiredStatus, Failure,
    LaunchType, NetworkConfiguration, TaskOverride,
};
use jiff::Timestamp;

use super::obstacle::{Call, bounded, cut};
use super::{Aws, SINGLE_SHOT_TIMEOUT};
use crate::config::{Ecs, EcsTarget, Scheduler};
use crate::plan::{CureKind, Remediation};
use crate::snapshot::{CallError, Container, Deployment, Obstacle, ServiceFacts, Task};

/// The most tasks that are looked at, of the running and of the stopped ones each. A scheduler has one
/// or a few; those of a schedule that end are some hundred an hour, and those that hang are as many
/// after half a day.
const MOST_TASKS: usize = 500;

/// How many tasks one DescribeTasks takes.
const DESCRIBED_AT_ONCE: usize = 100;

/// The newest service events that are kept; each says the same again every few minutes.
const MOST_EVENTS: usize = 5;

/// The longest text of ECS that is kept, in bytes.
const MOST_TEXT: usize = 500;

/// What the console shows as the reason of a stopped task.
const STOP_REASON: &str = "scheduler-watchdog: replica silent";

/// Asks ECS about the service, or about the tasks of a definition.
pub(super) async fn service(aws: &Aws, ecs: &Ecs) -> Result<ServiceFacts, CallError> {
    let place = Place { aws, ecs };
    match &ecs.target {
        EcsTarget::Service(name) => {
            let mut facts = place.describe_service(name).await?;
            // A deleted service is shown for a while, and has no tasks to ask for.
            if facts.status != "INACTIVE" {
                (facts.tasks, facts.truncated) = place.tasks(Of::Service(name)).await?;
            }
            Ok(facts)
        }
        EcsTarget::TaskDefinition { definition, .. } => {
            let (mut tasks, truncated) = place.tasks(Of::Family(family(definition))).await?;
            // A service may run the same definition, with another command.
            tasks.retain(|task| !task.is_of_service());
            Ok(ServiceFacts {
                status: "ACTIVE".to_owned(),
                controller: "ECS".to_owned(),
                desired: 1,
                tasks,
                truncated,
                ..ServiceFacts::default()
            })
        }
    }
}

/// Makes a restart. Returns what it started.
pub(super) async fn restart(
    aws: &Aws,
    scheduler: &Scheduler,
    remediation: &Remediation,
) -> Result<Option<String>, CallError> {
    let Some(ecs) = &scheduler.ecs else {
        return Err(unfit("there is no [scheduler.ecs] to restart"));
    };
    let place = Place { aws, ecs };
    match (remediation.cure, &ecs.target) {
        (CureKind::ForceNewDeployment, EcsTarget::Service(name)) => {
            place.force_new_deployment(name).await
        }
        (CureKind::ForceNewDeployment, EcsTarget::TaskDefinition { .. }) => {
            Err(unfit("force-new-deployment needs a `service`"))
        }
        (CureKind::StopTask, _) => {
            let Some(task) = &remediation.task else {
                return Err(unfit("stop-task was planned without a task"));
            };
            place.stop_task(task).await.map(|()| None)
        }
        (CureKind::RunTask, EcsTarget::TaskDefinition { .. }) => {
            let command = &scheduler.remediation.command;
            place.run_task(command, &remediation.token).await.map(Some)
        }
        (CureKind::RunTask, EcsTarget::Service(_)) => {
            Err(unfit("run-task needs a `task_definition`"))
        }
    }
}

fn unfit(why: &str) -> CallError {
    CallError::new(
        Obstacle::Refused,
        format!("{why}: check [scheduler.ecs] and [scheduler.remediation]"),
    )
}

/// `family` of `family`, `family:revision` or a task definition's ARN.
fn family(definition: &str) -> &str {
    let name = definition.rsplit('/').next().unwrap_or(definition);
    name.split(':').next().unwrap_or(name)
}

/// The last part of an ARN.
fn last_part(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// Whose tasks.
#[derive(Clone, Copy)]
enum Of<'a> {
    Service(&'a str),
    Family(&'a str),
}

/// Where calls go, and what they are about.
struct Place<'a> {
    aws: &'a Aws,
    ecs: &'a Ecs,
}

impl Place<'_> {
    async fn describe_service(&self, name: &str) -> Result<ServiceFacts, CallError> {
        let action = "ecs:DescribeServices";
        let answer = (self.aws.ecs().describe_services())
            .cluster(&self.ecs.cluster)
            .services(name)
            .send()
            .await
            .map_err(|error| self.error(action, None, &error))?;
        match answer.services().first() {
            Some(service) => Ok(facts(service)),
            None => Err(self.failed(action, answer.failures())),
        }
    }

    /// The tasks, and whether there are more.
    async fn tasks(&self, of: Of<'_>) -> Result<(Vec<Task>, bool), CallError> {
        let (running, stopped) = futures::join!(
            self.list(of, DesiredStatus::Running),
            self.list(of, DesiredStatus::Stopped),
        );
        let (mut arns, more_running) = running?;
        let (stopped, more_stopped) = stopped?;
        arns.extend(stopped);
        let mut tasks = Vec::with_capacity(arns.len());
        for arns in arns.chunks(DESCRIBED_AT_ONCE) {
            let answer = (self.aws.ecs().describe_tasks())
                .cluster(&self.ecs.cluster)
                .set_tasks(Some(arns.to_vec()))
                .send()
                .await
                .map_err(|error| self.error("ecs:DescribeTasks", None, &error))?;
            // A task that is gone since it was listed is a failure here, and no news.
            tasks.extend(answer.tasks().iter().map(task));
        }
        Ok((tasks, more_running || more_stopped))
    }

    /// The ARNs of the tasks, and whether there are more.
    async fn list(
        &self,
        of: Of<'_>,
        status: DesiredStatus,
    ) -> Result<(Vec<String>, bool), CallError> {
        let list = (self.aws.ecs().list_tasks())
            .cluster(&self.ecs.cluster)
            .desired_status(status);
        let list = match of {
            Of::Service(name) => list.service_name(name),
            Of::Family(name) => list.family(name),
        };
        let mut pages = list.into_paginator().items().send();
        let mut arns = Vec::new();
        while let Some(arn) = pages.next().await {
            let arn = arn.map_err(|error| self.error("ecs:ListTasks", None, &error))?;
            if arns.len() == MOST_TASKS {
                return Ok((arns, true));
            }
            arns.push(arn);
        }
        Ok((arns, false))
    }

    async fn force_new_deployment(&self, name: &str) -> Result<Option<String>, CallError> {
        let answer = (self.aws.ecs().update_service())
            .cluster(&self.ecs.cluster)
            .service(name)
            .force_new_deployment(true)
            .customize()
            .config_override(single_shot())
            .send()
            .await
            .map_err(|error| unsure(self.error("ecs:UpdateService", None, &error)))?;
        let deployments = answer.service().map(types::Service::deployments);
        let primary = (deployments.unwrap_or_default().iter())
            .find(|deployment| deployment.status() == Some("PRIMARY"));
        Ok(primary.and_then(|deployment| deployment.id.clone()))
    }

    async fn stop_task(&self, task: &str) -> Result<(), CallError> {
        (self.aws.ecs().stop_task())
            .cluster(&self.ecs.cluster)
            .task(task)
            .reason(STOP_REASON)
            .customize()
            .config_override(single_shot())
            .send()
            .await
            .map(|_| ())
            .map_err(|error| unsure(self.error("ecs:StopTask", Some(task), &error)))
    }

    /// May be retried freely: ECS answers a repeated `clientToken` with the task it started.
    async fn run_task(&self, command: &[String], token: &str) -> Result<String, CallError> {
        let EcsTarget::TaskDefinition {
            definition,
            subnets,
            security_groups,
            assign_public_ip,
        } = &self.ecs.target
        else {
            return Err(unfit("run-task needs a `task_definition`"));
        };
        let mut run = (self.aws.ecs().run_task())
            .cluster(&self.ecs.cluster)
            .task_definition(definition)
            .count(1)
            .client_token(token)
            // The state keeps the token; so the task is found again if the answer is lost.
            .started_by(token);
        if !command.is_empty() {
            let Some(container) = &self.ecs.container else {
                return Err(unfit(
                    "run-task needs the `container` that runs the command",
                ));
            };
            let container = ContainerOverride::builder()
                .name(container)
                .set_command(Some(command.to_vec()))
                .build();
            let overrides = TaskOverride::builder().container_overrides(container);
            run = run.overrides(overrides.build());
        }
        if !subnets.is_empty() {
            let public = if *assign_public_ip {
                AssignPublicIp::Enabled
            } else {
                AssignPublicIp::Disabled
            };
            let vpc = AwsVpcConfiguration::builder()
                .set_subnets(Some(subnets.clone()))
                .set_security_groups((!security_groups.is_empty()).then(|| security_groups.clone()))
                .assign_public_ip(public)
                .build()
                .map_err(|error| unfit(&format!("the subnets cannot be used ({error})")))?;
            let network = NetworkConfiguration::builder().awsvpc_configuration(vpc);
            run = run
                .launch_type(LaunchType::Fargate)
                .network_configuration(network.build());
        }
        let answer = (run.send().await).map_err(|error| self.error("ecs:RunTask", None, &error))?;
        match answer.tasks().first().and_then(|task| task.task_arn()) {
            Some(arn) => Ok(last_part(arn).to_owned()),
            None => Err(self.failed("ecs:RunTask", answer.failures())),
        }
    }

    /// `failures[]` of an answer that lacks what was asked for.
    fn failed(&self, action: &str, failures: &[Failure]) -> CallError {
        let thing = self.thing(None);
        let call = self.call(action, &thing);
        let Some(failure) = failures.first() else {
            let why = format!("{action} on {thing} answered nothing: the next pass tries again");
            return CallError::new(Obstacle::Failed, bounded(&why));
        };
        if failure.reason() == Some("MISSING") {
            return call.because(Obstacle::Missing, "does not exist");
        }
        let said: Vec<&str> = [failure.reason(), failure.detail()]
            .into_iter()
            .flatten()
            .collect();
        // Such as RESOURCE:MEMORY: no room at present.
        let why = format!(
            "{action} on {thing} failed ({}): the next pass tries again",
            said.join(": ")
        );
        CallError::new(Obstacle::Failed, bounded(&why))
    }

    fn error<E>(
        &self,
        action: &str,
        task: Option<&str>,
        error: &SdkError<E, HttpResponse>,
    ) -> CallError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let code = error.code();
        let said = error.message().unwrap_or_default();
        if code == Some("ClusterNotFoundException") {
            let thing = format!("cluster `{}`", self.ecs.cluster);
            return self.call(action, &thing).error(error);
        }
        let thing = self.thing(task);
        let call = self.call(action, &thing);
        match code {
            Some("ServiceNotActiveException") => call.because(Obstacle::Refused, "is not ACTIVE"),
            // ECS has no code of their own for these two.
            Some("InvalidParameterException") if said.contains("task was not found") => {
                call.because(Obstacle::Missing, "does not exist any more")
            }
            Some("ClientException") if said.contains("TaskDefinition not found") => {
                call.because(Obstacle::Missing, "does not exist")
            }
            // A run-time fault in a client error's clothes: Fargate is full for the moment.
            Some("ClientException") if said.contains("Capacity is unavailable") => CallError::new(
                Obstacle::Failed,
                format!("{action} on {thing} failed (no capacity): the next pass tries again"),
            ),
            _ => call.error(error),
        }
    }

    fn thing(&self, task: Option<&str>) -> String {
        let cluster = &self.ecs.cluster;
        match (task, &self.ecs.target) {
            (Some(task), _) => format!("task `{task}` in cluster `{cluster}`"),
            (None, EcsTarget::Service(name)) => format!("service `{name}` in cluster `{cluster}`"),
            (None, EcsTarget::TaskDefinition { definition, .. }) => {
                format!("task definition `{definition}` in cluster `{cluster}`")
            }
        }
    }

    fn call<'a>(&'a self, action: &'a str, thing: &'a str) -> Call<'a> {
        Call {
            action,
            thing,
            remedy: "check [scheduler.ecs]",
            region: self.aws.region(),
        }
    }
}

/// UpdateService and StopTask are not idempotent: a retry after an answer that was lost would
/// force a second deployment on top of the first, or stop the task's replacement's peer. They
/// are sent once; whether they were done shows in the next pass's look at ECS.
fn single_shot() -> aws_sdk_ecs::config::Builder {
    aws_sdk_ecs::config::Builder::new()
        .retry_config(RetryConfig::disabled())
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(super::CONNECT_TIMEOUT)
                .operation_attempt_timeout(SINGLE_SHOT_TIMEOUT)
                .operation_timeout(SINGLE_SHOT_TIMEOUT)
                .build(),
        )
}

/// Says of a change without an answer that it may have been made.
fn unsure(mut error: CallError) -> CallError {
    if error.kind == Obstacle::TimedOut {
        error.detail = bounded(&format!(
            "it may have been done all the same: {}",
            error.detail
        ));
    }
    error
}

fn facts(service: &types::Service) -> ServiceFacts {
    let mut deployments: Vec<Deployment> = service.deployments().iter().map(deployment).collect();
    deployments.sort_by_key(|deployment| std::cmp::Reverse(deployment.created_at));
    let mut events: Vec<_> = service.events().iter().collect();
    events.sort_by_key(|event| std::cmp::Reverse(event.created_at().and_then(timestamp)));
    let controller = service.deployment_controller().map(|c| c.r#type().as_str());
    ServiceFacts {
        status: text(service.status()),
        // A service that names none has the rolling one.
        controller: controller.unwrap_or("ECS").to_owned(),
        desired: u32::try_from(service.desired_count()).unwrap_or(0),
        deployments,
        tasks: Vec::new(),
        truncated: false,
        events: (events.into_iter())
            .filter_map(|event| event.message())
            .take(MOST_EVENTS)
            .map(|message| cut(message, MOST_TEXT))
            .collect(),
    }
}

fn deployment(deployment: &types::Deployment) -> Deployment {
    Deployment {
        id: text(deployment.id()),
        status: text(deployment.status()),
        rollout: text(
            deployment
                .rollout_state()
                .map(types::DeploymentRolloutState::as_str),
        ),
        created_at: (deployment.created_at().and_then(timestamp)).unwrap_or(Timestamp::UNIX_EPOCH),
        failed_tasks: u32::try_from(deployment.failed_tasks()).unwrap_or(0),
    }
}

fn task(task: &types::Task) -> Task {
    Task {
        id: last_part(task.task_arn().unwrap_or_default()).to_owned(),
        started_by: text(task.started_by()),
        last_status: text(task.last_status()),
        started_at: task.started_at().and_then(timestamp),
        stopped_at: task.stopped_at().and_then(timestamp),
        stop_code: text(task.stop_code().map(types::TaskStopCode::as_str)),
        stopped_reason: text(task.stopped_reason()),
        health: text(task.health_status().map(types::HealthStatus::as_str)),
        containers: task.containers().iter().map(container).collect(),
    }
}

fn container(container: &types::Container) -> Container {
    Container {
        name: text(container.name()),
        // As the task definition spells it, not `imageDigest`: only a digest in the definition
        // keeps a new deployment from pulling another image.
        image: text(container.image()),
        exit_code: container.exit_code(),
        reason: text(container.reason()),
    }
}

fn text(text: Option<&str>) -> String {
    cut(text.unwrap_or_default(), MOST_TEXT)
}

fn timestamp(at: &DateTime) -> Option<Timestamp> {
    Timestamp::new(at.secs(), i32::try_from(at.subsec_nanos()).ok()?).ok()
}

#[cfg(test)]
mod tests;
