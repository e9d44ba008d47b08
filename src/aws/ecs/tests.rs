//! ECS through mocked answers.

use aws_sdk_ecs::Client;
use aws_sdk_ecs::operation::describe_services::DescribeServicesOutput;
use aws_sdk_ecs::operation::describe_tasks::DescribeTasksOutput;
use aws_sdk_ecs::operation::list_tasks::ListTasksOutput;
use aws_sdk_ecs::operation::run_task::RunTaskOutput;
use aws_sdk_ecs::operation::stop_task::StopTaskOutput;
use aws_sdk_ecs::operation::update_service::UpdateServiceOutput;
use aws_sdk_ecs::types::{
    DeploymentController, DeploymentControllerType, DeploymentRolloutState, HealthStatus, Service,
    ServiceEvent, TaskStopCode,
};
use aws_smithy_http_client::test_util::NeverClient;
use aws_smithy_mocks::{Rule, mock};
use tokio::time::Instant;

use super::*;
use crate::aws::testing::{self, json_error};
use crate::config::Config;

fn aws(rules: &[&Rule]) -> Aws {
    let aws = testing::aws();
    aws.ecs.set(testing::ecs(rules)).unwrap();
    aws
}

fn at_service() -> Ecs {
    Ecs {
        cluster: "main".to_owned(),
        target: EcsTarget::Service("app".to_owned()),
        container: Some("app".to_owned()),
    }
}

fn at_definition(subnets: &[&str]) -> Ecs {
    Ecs {
        target: EcsTarget::TaskDefinition {
            definition: "arn:aws:ecs:ap-northeast-1:123456789012:task-definition/sched:7"
                .to_owned(),
            subnets: subnets.iter().map(|&s| s.to_owned()).collect(),
            security_groups: vec!["sg-1".to_owned()],
            assign_public_ip: false,
        },
        ..at_service()
    }
}

fn scheduler(ecs: Option<Ecs>) -> Scheduler {
    let text = "[[scheduler]]\nname = \"app\"\nlog_groups = [\"/ecs/app\"]\n";
    let mut scheduler = Config::parse(text, "watchdog.toml")
        .unwrap()
        .schedulers
        .remove(0);
    scheduler.ecs = ecs;
    scheduler.remediation.command = vec!["php".to_owned(), "artisan".to_owned()];
    scheduler
}

fn remediation(cure: CureKind) -> Remediation {
    Remediation {
        incident: "i".to_owned(),
        cure,
        task: Some("0123abcd".to_owned()),
        attempt: 1,
        token: "watchdog-1-1".to_owned(),
        blocked_by: Vec::new(),
    }
}

fn arn(task: &str) -> String {
    format!("arn:aws:ecs:ap-northeast-1:123456789012:task/main/{task}")
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// ListTasks with this desired status answers these tasks.
fn listed(status: DesiredStatus, tasks: &'static [&'static str]) -> Rule {
    mock!(Client::list_tasks)
        .match_requests(move |list| list.desired_status() == Some(&status))
        .then_output(|| {
            let arns = tasks.iter().map(|task| arn(task)).collect();
            ListTasksOutput::builder().set_task_arns(Some(arns)).build()
        })
}

/// DescribeTasks answers whatever it is asked for; a service runs those that are named `web`.
fn described() -> Rule {
    mock!(Client::describe_tasks).then_compute_output(|ask| {
        let tasks = ask.tasks().iter();
        let tasks = tasks.map(|arn| {
            types::Task::builder()
                .task_arn(arn)
                .last_status("RUNNING")
                .set_started_by(arn.ends_with("/web").then(|| "ecs-svc/1".to_owned()))
                .build()
        });
        DescribeTasksOutput::builder()
            .set_tasks(Some(tasks.collect()))
            .build()
    })
}

#[tokio::test]
async fn a_service_is_told_with_its_deployments_events_and_tasks() {
    let describe = mock!(Client::describe_services)
        .match_requests(|ask| ask.cluster() == Some("main") && ask.services() == ["app"])
        .then_output(|| {
            let deployment = |id: &str, status: &str, created: i64| {
                types::Deployment::builder()
                    .id(id)
                    .status(status)
                    .rollout_state(DeploymentRolloutState::InProgress)
                    .created_at(DateTime::from_secs(created))
                    .failed_tasks(2)
                    .build()
            };
            let events = (0..9).map(|n| {
                ServiceEvent::builder()
                    .created_at(DateTime::from_secs(n))
                    .message(format!("event {n}"))
                    .build()
            });
            let service = Service::builder()
                .status("ACTIVE")
                .desired_count(2)
                .deployment_controller(
                    DeploymentController::builder()
                        .r#type(DeploymentControllerType::CodeDeploy)
                        .build()
                        .unwrap(),
                )
                .deployments(deployment("ecs-svc/1", "ACTIVE", 100))
                .deployments(deployment("ecs-svc/2", "PRIMARY", 200))
                .set_events(Some(events.collect()))
                .build();
            DescribeServicesOutput::builder().services(service).build()
        });
    let tasks = mock!(Client::describe_tasks)
        .match_requests(|ask| ask.tasks() == [arn("r"), arn("s")])
        .then_output(|| {
            let running = types::Task::builder()
                .task_arn(arn("r"))
                .started_by("ecs-svc/2")
                .last_status("RUNNING")
                .health_status(HealthStatus::Unhealthy)
                .started_at(DateTime::from_secs(210))
                .containers(
                    types::Container::builder()
                        .name("app")
                        .image("r/app:latest")
                        .image_digest("sha256:aa")
                        .build(),
                );
            let stopped = types::Task::builder()
                .task_arn(arn("s"))
                .last_status("STOPPED")
                .stopped_at(DateTime::from_secs(205))
                .stop_code(TaskStopCode::EssentialContainerExited)
                .stopped_reason("Essential container in task exited")
                .containers(
                    types::Container::builder()
                        .name("app")
                        .image("r/app@sha256:bb")
                        .exit_code(137)
                        .reason("OutOfMemoryError: Container killed due to memory usage")
                        .build(),
                );
            DescribeTasksOutput::builder()
                .tasks(running.build())
                .tasks(stopped.build())
                .build()
        });
    let aws = aws(&[
        &describe,
        &listed(DesiredStatus::Running, &["r"]),
        &listed(DesiredStatus::Stopped, &["s"]),
        &tasks,
    ]);
    let facts = service(&aws, &at_service()).await.unwrap();
    assert_eq!(
        (
            facts.status.as_str(),
            facts.controller.as_str(),
            facts.desired
        ),
        ("ACTIVE", "CODE_DEPLOY", 2)
    );
    assert_eq!(
        facts.deployments[0],
        Deployment {
            id: "ecs-svc/2".to_owned(),
            status: "PRIMARY".to_owned(),
            rollout: "IN_PROGRESS".to_owned(),
            created_at: second(200),
            failed_tasks: 2,
        }
    );
    assert_eq!(facts.deployments.len(), 2);
    assert_eq!(
        facts.events,
        ["event 8", "event 7", "event 6", "event 5", "event 4"]
    );
    assert_eq!(
        facts.tasks,
        [
            Task {
                id: "r".to_owned(),
                started_by: "ecs-svc/2".to_owned(),
                last_status: "RUNNING".to_owned(),
                started_at: Some(second(210)),
                stopped_at: None,
                stop_code: String::new(),
                stopped_reason: String::new(),
                health: "UNHEALTHY".to_owned(),
                containers: vec![Container {
                    name: "app".to_owned(),
                    image: "r/app:latest".to_owned(),
                    ..Container::default()
                }],
            },
            Task {
                id: "s".to_owned(),
                started_by: String::new(),
                last_status: "STOPPED".to_owned(),
                started_at: None,
                stopped_at: Some(second(205)),
                stop_code: "EssentialContainerExited".to_owned(),
                stopped_reason: "Essential container in task exited".to_owned(),
                health: String::new(),
                containers: vec![Container {
                    name: "app".to_owned(),
                    image: "r/app@sha256:bb".to_owned(),
                    exit_code: Some(137),
                    reason: "OutOfMemoryError: Container killed due to memory usage".to_owned(),
                }],
            },
        ]
    );
}

#[tokio::test]
async fn an_unknown_service_or_cluster_is_missing() {
    let unknown_service = mock!(Client::describe_services).then_output(|| {
        let failure = Failure::builder().reason("MISSING").build();
        DescribeServicesOutput::builder().failures(failure).build()
    });
    let error = service(&aws(&[&unknown_service]), &at_service())
        .await
        .unwrap_err();
    insta::assert_snapshot!(error, @"missing: service `app` in cluster `main` does not exist in ap-northeast-1: check [scheduler.ecs]");

    let unknown_cluster = mock!(Client::describe_services)
        .sequence()
        .http_status(
            400,
            json_error("ClusterNotFoundException", "Cluster not found."),
        )
        .build();
    let error = service(&aws(&[&unknown_cluster]), &at_service())
        .await
        .unwrap_err();
    insta::assert_snapshot!(error, @"missing: cluster `main` does not exist in ap-northeast-1: check [scheduler.ecs]");

    let nothing =
        mock!(Client::describe_services).then_output(|| DescribeServicesOutput::builder().build());
    let error = service(&aws(&[&nothing]), &at_service()).await.unwrap_err();
    assert_eq!(error.kind, Obstacle::Failed);
}

#[tokio::test]
async fn a_deleted_service_has_no_tasks_to_ask_for() {
    let describe = mock!(Client::describe_services).then_output(|| {
        let service = Service::builder().status("INACTIVE").build();
        DescribeServicesOutput::builder().services(service).build()
    });
    let facts = service(&aws(&[&describe]), &at_service()).await.unwrap();
    assert_eq!(
        (
            facts.status.as_str(),
            facts.controller.as_str(),
            facts.tasks.len()
        ),
        ("INACTIVE", "ECS", 0)
    );
}

#[tokio::test]
async fn a_definition_has_the_tasks_of_its_family() {
    for definition in [
        "sched",
        "sched:7",
        "arn:aws:ecs:r:1:task-definition/sched:7",
    ] {
        assert_eq!(family(definition), "sched");
    }
    let list = mock!(Client::list_tasks)
        .match_requests(|list| list.family() == Some("sched") && list.service_name().is_none())
        .then_output(|| {
            let list = ListTasksOutput::builder().task_arns(arn("a"));
            list.task_arns(arn("web")).build()
        });
    let none = listed(DesiredStatus::Stopped, &[]);
    let facts = service(&aws(&[&none, &list, &described()]), &at_definition(&[]))
        .await
        .unwrap();
    assert_eq!(
        (
            facts.status.as_str(),
            facts.controller.as_str(),
            facts.desired
        ),
        ("ACTIVE", "ECS", 1)
    );
    let tasks: Vec<&str> = facts.tasks.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(
        tasks,
        ["a"],
        "a service runs the other with the same definition"
    );
}

/// Pages are followed, but not for ever: 500 tasks of each kind, asked for 100 at a time. That there are
/// more is known.
#[tokio::test]
async fn many_tasks_are_read_in_pages_and_bounded() {
    for (pages, tasks, truncated) in [(1, 200, false), (5, 1_000, false), (6, 1_000, true)] {
        let list = mock!(Client::list_tasks).then_compute_output(move |list| {
            let page: usize = list.next_token().map_or(1, |token| token.parse().unwrap());
            let status = list.desired_status().map_or("", DesiredStatus::as_str);
            let arns = (0..100)
                .map(|n| arn(&format!("{status}-{page}-{n}")))
                .collect();
            ListTasksOutput::builder()
                .set_task_arns(Some(arns))
                .set_next_token((page < pages).then(|| (page + 1).to_string()))
                .build()
        });
        let describe = described();
        let aws = aws(&[&list, &describe]);
        let facts = service(&aws, &at_definition(&[])).await.unwrap();
        assert_eq!((facts.tasks.len(), facts.truncated), (tasks, truncated));
        assert_eq!(
            (list.num_calls(), describe.num_calls()),
            (2 * pages, tasks / 100)
        );
    }
}

#[tokio::test]
async fn a_forced_deployment_returns_the_new_one() {
    let update = mock!(Client::update_service)
        .match_requests(|ask| {
            ask.cluster() == Some("main")
                && ask.service() == Some("app")
                && ask.force_new_deployment() == Some(true)
                // Everything else stays as it is.
                && ask.desired_count().is_none()
                && ask.task_definition().is_none()
        })
        .then_output(|| {
            let deployment =
                |id: &str, status: &str| types::Deployment::builder().id(id).status(status).build();
            let service = Service::builder()
                .deployments(deployment("ecs-svc/1", "ACTIVE"))
                .deployments(deployment("ecs-svc/2", "PRIMARY"))
                .build();
            UpdateServiceOutput::builder().service(service).build()
        });
    let started = restart(
        &aws(&[&update]),
        &scheduler(Some(at_service())),
        &remediation(CureKind::ForceNewDeployment),
    )
    .await;
    assert_eq!(started, Ok(Some("ecs-svc/2".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn changes_without_an_answer_are_not_sent_twice() {
    for cure in [CureKind::ForceNewDeployment, CureKind::StopTask] {
        let http = NeverClient::new();
        let aws = testing::aws_over(http.clone());
        let start = Instant::now();
        let error = restart(&aws, &scheduler(Some(at_service())), &remediation(cure))
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind, http.num_calls()),
            (Obstacle::TimedOut, 1),
            "{error}"
        );
        assert!(
            error
                .detail
                .starts_with("it may have been done all the same: "),
            "{error}"
        );
        assert_eq!(start.elapsed().as_secs(), SINGLE_SHOT_TIMEOUT.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_is_no_reason_to_force_twice() {
    let update = mock!(Client::update_service)
        .sequence()
        .http_status(500, json_error("ServerException", "oops"))
        .times(3)
        .build();
    let aws = aws(&[&update]);
    let error = restart(
        &aws,
        &scheduler(Some(at_service())),
        &remediation(CureKind::ForceNewDeployment),
    )
    .await;
    assert_eq!(error.map_err(|e| e.kind), Err(Obstacle::Failed));
    assert_eq!(update.num_calls(), 1);
}

/// A look may be sent again; three attempts of five seconds are its limit.
#[tokio::test(start_paused = true)]
async fn a_look_without_an_answer_is_given_up() {
    let http = NeverClient::new();
    let start = Instant::now();
    let error = service(&testing::aws_over(http.clone()), &at_service())
        .await
        .unwrap_err();
    assert_eq!(error.kind, Obstacle::TimedOut, "{error}");
    assert_eq!(http.num_calls(), 3);
    assert_eq!(start.elapsed().as_secs(), 15);
}

#[tokio::test]
async fn one_replica_is_stopped_with_a_reason() {
    let stop = mock!(Client::stop_task)
        .match_requests(|ask| {
            ask.cluster() == Some("main")
                && ask.task() == Some("0123abcd")
                && ask.reason() == Some("scheduler-watchdog: replica silent")
        })
        .then_output(|| StopTaskOutput::builder().build());
    let stopped = restart(
        &aws(&[&stop]),
        &scheduler(Some(at_service())),
        &remediation(CureKind::StopTask),
    )
    .await;
    assert_eq!(stopped, Ok(None));

    let gone = mock!(Client::stop_task)
        .sequence()
        .http_status(
            400,
            json_error(
                "InvalidParameterException",
                "The referenced task was not found.",
            ),
        )
        .build();
    let error = restart(
        &aws(&[&gone]),
        &scheduler(Some(at_service())),
        &remediation(CureKind::StopTask),
    )
    .await
    .unwrap_err();
    insta::assert_snapshot!(error, @"missing: task `0123abcd` in cluster `main` does not exist any more in ap-northeast-1: check [scheduler.ecs]");
}

#[tokio::test]
async fn a_task_is_run_once_with_its_command() {
    let run = mock!(Client::run_task)
        .match_requests(|ask| {
            let vpc = ask
                .network_configuration()
                .and_then(|n| n.awsvpc_configuration())
                .unwrap();
            let container = &ask.overrides().unwrap().container_overrides()[0];
            ask.cluster() == Some("main")
                && ask.task_definition()
                    == Some("arn:aws:ecs:ap-northeast-1:123456789012:task-definition/sched:7")
                && ask.client_token() == Some("watchdog-1-1")
                && ask.started_by() == Some("watchdog-1-1")
                && ask.launch_type() == Some(&LaunchType::Fargate)
                && vpc.subnets() == ["subnet-1"]
                && vpc.security_groups() == ["sg-1"]
                && vpc.assign_public_ip() == Some(&AssignPublicIp::Disabled)
                && container.name() == Some("app")
                && container.command() == ["php", "artisan"]
        })
        .then_output(|| {
            let task = types::Task::builder().task_arn(arn("new")).build();
            RunTaskOutput::builder().tasks(task).build()
        });
    let place = scheduler(Some(at_definition(&["subnet-1"])));
    let started = restart(&aws(&[&run]), &place, &remediation(CureKind::RunTask)).await;
    assert_eq!(started, Ok(Some("new".to_owned())));

    let on_ec2 = mock!(Client::run_task)
        .match_requests(|ask| ask.launch_type().is_none() && ask.network_configuration().is_none())
        .then_output(|| {
            let task = types::Task::builder().task_arn(arn("new")).build();
            RunTaskOutput::builder().tasks(task).build()
        });
    let place = scheduler(Some(at_definition(&[])));
    let started = restart(&aws(&[&on_ec2]), &place, &remediation(CureKind::RunTask)).await;
    assert_eq!(started, Ok(Some("new".to_owned())));
}

#[tokio::test]
async fn a_task_that_could_not_be_run_is_an_error() {
    let full = mock!(Client::run_task).then_output(|| {
        let failure = Failure::builder().reason("RESOURCE:MEMORY").build();
        RunTaskOutput::builder().failures(failure).build()
    });
    let place = scheduler(Some(at_definition(&[])));
    let run = |rule: Rule| {
        let place = place.clone();
        async move {
            restart(&aws(&[&rule]), &place, &remediation(CureKind::RunTask))
                .await
                .unwrap_err()
        }
    };
    let error = run(full).await;
    assert!(
        error.retry_helps() && error.detail.contains("RESOURCE:MEMORY"),
        "{error}"
    );
    let said = |code: &str, text: &str| {
        mock!(Client::run_task)
            .sequence()
            .http_status(400, json_error(code, text))
            .build()
    };
    let error = run(said("ClientException", "Capacity is unavailable at this time. Please try again later or in a different availability zone")).await;
    assert!(error.retry_helps(), "{error}");
    let error = run(said("ClientException", "TaskDefinition not found.")).await;
    assert_eq!(error.kind, Obstacle::Missing, "{error}");
    let error = run(said("PlatformUnknownException", "unknown")).await;
    assert_eq!(error.kind, Obstacle::Refused, "{error}");
}

#[tokio::test]
async fn a_cure_that_does_not_fit_calls_nobody() {
    use CureKind::*;
    let mut without_task = remediation(StopTask);
    without_task.task = None;
    let mut without_container = at_definition(&[]);
    without_container.container = None;
    for (ecs, remediation) in [
        (None, remediation(ForceNewDeployment)),
        (Some(at_definition(&[])), remediation(ForceNewDeployment)),
        (Some(at_service()), remediation(RunTask)),
        (Some(at_service()), without_task),
        (Some(without_container), remediation(RunTask)),
    ] {
        let error = restart(&testing::aws(), &scheduler(ecs), &remediation)
            .await
            .unwrap_err();
        assert_eq!(error.kind, Obstacle::Refused, "{error}");
        assert!(
            error
                .detail
                .ends_with("check [scheduler.ecs] and [scheduler.remediation]"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_service_that_is_not_active_or_not_rolling_cannot_be_forced() {
    for (code, said) in [
        ("ServiceNotActiveException", "Service was not ACTIVE."),
        (
            "InvalidParameterException",
            "Cannot force a new deployment on services with a CODE_DEPLOY deployment controller.",
        ),
    ] {
        let update = mock!(Client::update_service)
            .sequence()
            .http_status(400, json_error(code, said))
            .build();
        let error = restart(
            &aws(&[&update]),
            &scheduler(Some(at_service())),
            &remediation(CureKind::ForceNewDeployment),
        )
        .await
        .unwrap_err();
        assert_eq!(error.kind, Obstacle::Refused, "{error}");
    }
}
