//! The world of AWS against the emulator, without the function around it.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_cloudwatchlogs::types::InputLogEvent;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_ecs::types::ContainerDefinition;
use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::aws::{Aws, PassContext};
use scheduler_watchdog::condition::{Condition, Severity};
use scheduler_watchdog::config::{Config, Ecs, EcsTarget, Limits, Scheduler};
use scheduler_watchdog::message::Message;
use scheduler_watchdog::plan::{CureKind, Handling, Notification, Occasion, Remediation};
use scheduler_watchdog::snapshot::{Observed, Obstacle};
use scheduler_watchdog::state::State;
use scheduler_watchdog::world::{StoreError, World};
use serde_json::json;

use crate::e2e::aws::REGION;
use crate::e2e::emulator::Emulator;
use crate::e2e::tools::Tools;

const LIMITS: Limits = Limits {
    running_queries: 20,
    start_queries_per_second: 5,
};

fn pass<'a>(topic: Option<&'a str>, table: Option<&'a str>) -> PassContext<'a> {
    PassContext {
        topic,
        table,
        deadline: Some(now() + SignedDuration::from_secs(60)),
        limits: LIMITS,
    }
}

#[expect(clippy::disallowed_methods, reason = "the emulator has a real clock")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Root's access to the emulator.
async fn sdk(endpoint: &str) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .load()
        .await
}

/// One emulator serves them all; they use names of their own.
#[tokio::test]
async fn the_world_of_aws_works_as_it_is_meant() {
    let Some(tools) = Tools::find("aws::the_world_of_aws_works_as_it_is_meant") else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let config = sdk(&emulator.aws.endpoint).await;
    futures::join!(
        lines_are_read_and_missing_groups_are_named(&config),
        the_first_of_two_writers_wins(&config),
        a_message_is_published_or_the_topic_named(&config),
        a_service_is_seen_and_restarted(&config),
        a_parameter_is_read(&config),
    );
}

/// A name of its own for each run, because the emulator remembers.
fn unique(name: &str) -> String {
    format!("{name}-{}", now().as_nanosecond())
}

#[expect(clippy::unwrap_used, reason = "a test's own configuration")]
fn scheduler(group: &str) -> Scheduler {
    let text = format!("[[scheduler]]\nname = \"app\"\nlog_groups = [\"{group}\"]\n");
    let mut scheduler = Config::parse(&text, "watchdog.toml")
        .unwrap()
        .schedulers
        .remove(0);
    scheduler.log_stream_prefix = "app/".to_owned();
    scheduler
}

async fn lines_are_read_and_missing_groups_are_named(config: &SdkConfig) {
    let logs = aws_sdk_cloudwatchlogs::Client::new(config);
    let group = unique("/ecs/app");
    logs.create_log_group()
        .log_group_name(&group)
        .send()
        .await
        .unwrap();
    let until = now();
    for (stream, message) in [
        ("app/app/0123", "No scheduled commands are ready to run."),
        ("web/app/4567", "No scheduled commands are ready to run."),
        ("app/app/0123", "GET /health 200"),
    ] {
        // The second event's stream is there already.
        let create = logs
            .create_log_stream()
            .log_group_name(&group)
            .log_stream_name(stream);
        let _ = create.send().await;
        let event = InputLogEvent::builder()
            .timestamp(until.as_millisecond() - 5_000)
            .message(message)
            .build()
            .unwrap();
        let put = logs
            .put_log_events()
            .log_group_name(&group)
            .log_stream_name(stream);
        put.log_events(event).send().await.unwrap();
    }
    let aws = Aws::new(config.clone()).unwrap();
    let world = aws.world(pass(None, None));
    let from = until - SignedDuration::from_mins(5);
    let Observed::Known(window) = world.log(&scheduler(&group), from, until).await else {
        panic!("the log is there");
    };
    assert!(!window.lines.is_empty());
    assert!(
        window
            .lines
            .iter()
            .all(|line| &*line.stream == "app/app/0123")
    );
    assert!(window.scanned_bytes.is_some_and(|bytes| bytes > 0));
    let Observed::Known(probe) = world.probe(&scheduler(&group), from, until).await else {
        panic!("the log is there");
    };
    assert_eq!(probe.newest.keys().collect::<Vec<_>>(), ["app/app/0123"]);

    let Observed::Unknown(error) = world.log(&scheduler("/ecs/nope"), from, until).await else {
        panic!("there is no such group");
    };
    assert_eq!(error.kind, Obstacle::Missing);
    assert!(
        error
            .detail
            .starts_with("log group `/ecs/nope` does not exist in "),
        "{error}"
    );
}

async fn the_first_of_two_writers_wins(config: &SdkConfig) {
    let dynamodb = aws_sdk_dynamodb::Client::new(config);
    let table = unique("state");
    let key = KeySchemaElement::builder()
        .attribute_name("scheduler")
        .key_type(KeyType::Hash);
    let attribute = AttributeDefinition::builder()
        .attribute_name("scheduler")
        .attribute_type(ScalarAttributeType::S);
    (dynamodb.create_table())
        .table_name(&table)
        .key_schema(key.build().unwrap())
        .attribute_definitions(attribute.build().unwrap())
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await
        .unwrap();
    let aws = Aws::new(config.clone()).unwrap();
    let world = aws.world(pass(None, Some(&table)));
    assert_eq!(world.load("app").await, Ok((State::default(), 0)));
    let state = State {
        lags_ms: vec![1_500],
        ..State::default()
    };
    for version in [0, 1] {
        assert_eq!(world.save("app", &state, version).await, Ok(version + 1));
        // The same write again, by another.
        assert_eq!(
            world.save("app", &state, version).await,
            Err(StoreError::Conflict)
        );
    }
    let (loaded, version) = world.load("app").await.unwrap();
    assert_eq!((loaded.lags_ms, version), (state.lags_ms, 2));

    let nowhere = aws.world(pass(None, Some("nope")));
    let Err(StoreError::Call(error)) = nowhere.load("app").await else {
        panic!("there is no such table");
    };
    assert_eq!(error.kind, Obstacle::Missing, "{error}");
}

fn message() -> Message {
    Message {
        notification: Notification {
            id: "app/1".to_owned(),
            incident: "app".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            scheduler: "app".to_owned(),
            occasion: Occasion::Opened,
            condition: Condition::SchedulerSilent,
            subject: None,
            severity: Severity::Critical,
            since: Timestamp::UNIX_EPOCH,
            again_since: None,
            until: None,
            causes: Vec::new(),
            proof: Vec::new(),
            handling: Handling::Watching,
        },
        subject: "app is silent".to_owned(),
        text: "It is silent.".to_owned(),
        chat: json!({ "version": "1.0", "source": "custom" }),
        machine: json!({ "version": 1 }),
    }
}

async fn a_message_is_published_or_the_topic_named(config: &SdkConfig) {
    let sns = aws_sdk_sns::Client::new(config);
    let topic = sns
        .create_topic()
        .name(unique("alerts"))
        .send()
        .await
        .unwrap();
    let topic = topic.topic_arn().unwrap();
    let aws = Aws::new(config.clone()).unwrap();
    assert_eq!(
        aws.world(pass(Some(topic), None)).publish(&message()).await,
        Ok(())
    );
    let nowhere = format!("{topic}-nope");
    let error = aws
        .world(pass(Some(&nowhere), None))
        .publish(&message())
        .await
        .unwrap_err();
    assert_eq!(error.kind, Obstacle::Missing, "{error}");
    assert!(error.detail.contains(&nowhere), "{error}");
}

async fn a_service_is_seen_and_restarted(config: &SdkConfig) {
    let ecs = aws_sdk_ecs::Client::new(config);
    let cluster = unique("main");
    ecs.create_cluster()
        .cluster_name(&cluster)
        .send()
        .await
        .unwrap();
    let container = ContainerDefinition::builder()
        .name("app")
        .image("app:latest")
        .build();
    (ecs.register_task_definition())
        .family("app")
        .container_definitions(container)
        .send()
        .await
        .unwrap();
    let create = ecs.create_service().cluster(&cluster).service_name("app");
    create
        .task_definition("app")
        .desired_count(1)
        .send()
        .await
        .unwrap();

    let aws = Aws::new(config.clone()).unwrap();
    let world = aws.world(pass(None, None));
    let at = |cluster: &str, service: &str| Ecs {
        cluster: cluster.to_owned(),
        target: EcsTarget::Service(service.to_owned()),
        container: Some("app".to_owned()),
    };
    let look = async || match world.service(&at(&cluster, "app")).await.unwrap() {
        Observed::Known(facts) => facts,
        Observed::Unknown(error) => panic!("{error}"),
    };
    let facts = look().await;
    assert_eq!(
        (
            facts.status.as_str(),
            facts.controller.as_str(),
            facts.desired
        ),
        ("ACTIVE", "ECS", 1)
    );
    assert_eq!(facts.running().count(), 1);
    assert_eq!(facts.tasks[0].containers[0].image, "app:latest");

    let mut scheduler = scheduler("/ecs/app");
    scheduler.ecs = Some(at(&cluster, "app"));
    let mut remediation = Remediation {
        incident: "i".to_owned(),
        cure: CureKind::ForceNewDeployment,
        task: None,
        attempt: 1,
        token: "watchdog-1-1".to_owned(),
        blocked_by: Vec::new(),
    };
    let started = world.restart(&scheduler, &remediation).await.unwrap();
    let facts = look().await;
    assert_eq!(
        started.as_ref(),
        facts.newest_deployment().map(|deployment| &deployment.id)
    );

    remediation.cure = CureKind::StopTask;
    remediation.task = facts.running().next().map(|task| task.id.clone());
    assert_eq!(world.restart(&scheduler, &remediation).await, Ok(None));
    let stopped = remediation.task.as_ref();
    assert!(look().await.running().all(|task| Some(&task.id) != stopped));

    scheduler.ecs = Some(Ecs {
        target: EcsTarget::TaskDefinition {
            definition: "app".to_owned(),
            subnets: Vec::new(),
            security_groups: Vec::new(),
            assign_public_ip: false,
        },
        ..at(&cluster, "")
    });
    remediation.cure = CureKind::RunTask;
    let run = world.restart(&scheduler, &remediation).await.unwrap();
    let Observed::Known(facts) = world
        .service(scheduler.ecs.as_ref().unwrap())
        .await
        .unwrap()
    else {
        panic!("the family is there");
    };
    let task = facts
        .tasks
        .iter()
        .find(|task| Some(&task.id) == run.as_ref());
    assert_eq!(
        task.map(|task| task.started_by.as_str()),
        Some("watchdog-1-1")
    );

    for (cluster, service) in [(cluster.as_str(), "nope"), ("nope", "app")] {
        let Observed::Unknown(error) = world.service(&at(cluster, service)).await.unwrap() else {
            panic!("there is no such thing");
        };
        assert_eq!(error.kind, Obstacle::Missing, "{error}");
        assert!(error.detail.contains("nope"), "{error}");
    }
}

async fn a_parameter_is_read(config: &SdkConfig) {
    let ssm = aws_sdk_ssm::Client::new(config);
    let name = unique("/watchdog/config");
    let put = ssm.put_parameter().name(&name).value("[[scheduler]]");
    put.r#type("SecureString".into()).send().await.unwrap();
    let aws = Aws::new(config.clone()).unwrap();
    assert_eq!(aws.parameter(&name).await, Ok("[[scheduler]]".to_owned()));
    let error = aws.parameter("/nope").await.unwrap_err();
    assert_eq!(error.kind, Obstacle::Missing, "{error}");
}
