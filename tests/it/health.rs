//! A health endpoint over HTTP, asked in either world.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::aws::{Aws, PassContext};
use scheduler_watchdog::check;
use scheduler_watchdog::condition::Fact;
use scheduler_watchdog::config::{Config, Limits};
use scheduler_watchdog::health::{Health, Sign};
use scheduler_watchdog::local::{Files, LocalWorld};
use scheduler_watchdog::snapshot::{Observed, Obstacle};
use scheduler_watchdog::world::World as _;
use tiny_http::{Response, Server, StatusCode};

use crate::stage::at;

/// An endpoint that says of a scheduler that it last ran at 03:40.
struct Endpoint {
    server: Arc<Server>,
    thread: JoinHandle<usize>,
}

impl Endpoint {
    fn start() -> Self {
        let server = Arc::new(Server::http("127.0.0.1:0").unwrap());
        let served = Arc::clone(&server);
        let thread = thread::spawn(move || {
            let answer = |request: tiny_http::Request| {
                let body = r#"{"status":"unhealthy","last_run":"2026-11-24 03:40:00"}"#;
                let response = Response::from_string(body).with_status_code(StatusCode(503));
                let _ = request.respond(response);
            };
            served.incoming_requests().map(answer).count()
        });
        Self { server, thread }
    }

    fn config(&self) -> Config {
        let address = self.server.server_addr().to_ip().unwrap();
        let text = format!(
            "[[scheduler]]\nname = \"web\"\nlog_groups = [\"/ecs/web\"]\nstale_after = \"5m\"\n\
             health_url = \"http://{address}/health/scheduler\"\nhealth_allow_private = true\n"
        );
        Config::parse(&text, "test").unwrap()
    }

    /// Ends it, and tells how often it was asked.
    fn asked(self) -> usize {
        self.server.unblock();
        self.thread.join().unwrap()
    }
}

/// A log whose scheduler falls silent at 03:40, while the web server goes on.
fn world(config: &Config) -> LocalWorld {
    let mut log = String::new();
    for minute in 0..60 {
        let time = format!("2026-11-24T03:{minute:02}");
        if minute <= 40 {
            log += &format!(
                "{time}:00.000000+00:00 app/app/0123    INFO  No scheduled commands are ready to run.  \n"
            );
        }
        log += &format!("{time}:07.000000+00:00 app/app/0123 \"GET / HTTP/1.1\" 200\n");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), log).unwrap();
    let files = Files {
        logs: vec![file.path().to_owned()],
        ..Files::default()
    };
    LocalWorld::read(config, &files, &mut |_| ()).unwrap()
}

/// The looks before the one that is asked for are of the past: of that one alone the endpoint
/// can tell.
#[tokio::test]
async fn a_look_at_a_log_asks_in_the_present_only() {
    let endpoint = Endpoint::start();
    let config = endpoint.config();
    let look = async |now: &str, is_present: bool| {
        let now = at(now);
        let mut world = world(&config);
        if is_present {
            world.set_present(now);
        }
        check::once(&config, &world, &[], now, &mut |_, _| ()).await
    };
    // Six minutes of silence wait for a second look, unless somebody else knows of them.
    let alone = look("2026-11-24T03:46:00Z", false).await.messages;
    assert!(alone.is_empty(), "{alone:?}");
    let told = look("2026-11-24T03:46:00Z", true).await.messages;
    let said = Fact::Health {
        healthy: false,
        last_run: Some(at("2026-11-24T03:40:00Z")),
        sign: Sign::Dead,
    };
    assert!(told[0].notification.proof.contains(&said), "{told:?}");
    // Here the look before was suspicious, too.
    let _ = look("2026-11-24T03:57:00Z", true).await;
    assert_eq!(endpoint.asked(), 2);
}

#[tokio::test]
async fn the_world_of_aws_asks_while_there_is_time_for_looks() {
    let endpoint = Endpoint::start();
    let scheduler = endpoint.config().schedulers.remove(0);
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("ap-northeast-1"))
        .build();
    let aws = Aws::new(sdk).unwrap();
    let health = async |deadline| {
        let pass = PassContext {
            topic: None,
            table: None,
            deadline,
            limits: Limits::default(),
        };
        aws.world(pass).health(&scheduler).await
    };
    let expected = Health {
        healthy: false,
        last_run: Some(at("2026-11-24T03:40:00Z")),
    };
    assert_eq!(health(None).await, Some(Observed::Known(expected)));
    let late = health(Some(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1))).await;
    let error = late.unwrap().unknown().unwrap().clone();
    assert_eq!(error.kind, Obstacle::TimedOut);
    assert_eq!(endpoint.asked(), 1);
}
