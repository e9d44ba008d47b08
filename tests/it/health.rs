//! A health endpoint over HTTP, asked in either world.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use scheduler_watchdog::aws::{Aws, PassContext};
use scheduler_watchdog::check;
use scheduler_watchdog::condition::Fact;
use scheduler_watchdog::config::{Config, Limits};
use scheduler_watchdog::health::{Health, Sign};
use scheduler_watchdog::local::{Files, LocalWorld};
use scheduler_watchdog::snapshot::{Observed, Obstacle};
use scheduler_watchdog::world::World as _;
use tiny_http::{Response, Server, StatusCode};

use crate::cli::Desk;
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

fn certified() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

/// The same over TLS, for one call: its port, and what came of the call.
fn over_tls(made: &CertifiedKey<KeyPair>) -> (u16, JoinHandle<io::Result<()>>) {
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        let connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let stream = rustls::StreamOwned::new(connection, listener.accept()?.0);
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let body = r#"{"status":"unhealthy","last_run":"2026-11-24 03:40:00"}"#;
        let head = format!(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: {}",
            body.len()
        );
        let stream = stream.get_mut();
        write!(stream, "{head}\r\nConnection: close\r\n\r\n{body}")?;
        stream.conn.send_close_notify();
        stream.flush()
    });
    (port, thread)
}

/// A log whose scheduler falls silent at 03:40, while the web server goes on.
fn log() -> String {
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
    log
}

fn world(config: &Config) -> LocalWorld {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), log()).unwrap();
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

/// The certificates that the system trusts decide, and a server that they do not vouch for is not
/// believed.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "an endpoint tells of the present only"
)]
fn an_endpoint_over_tls_is_asked_if_its_certificate_is_trusted() {
    // Silent since seven minutes ago, so that the look of the present is the first to tell.
    let now = Timestamp::now();
    let dead: String = (0..60)
        .map(|minute| {
            let at = now - SignedDuration::from_mins(60 - minute);
            let text = match minute {
                0..=53 => "   INFO  No scheduled commands are ready to run.  ",
                _ => "\"GET / HTTP/1.1\" 200",
            };
            let at = at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00");
            format!("{at} app/app/0123 {text}\n")
        })
        .collect();
    let look = |trusted: bool| {
        let (own, other) = (certified(), certified());
        let (port, served) = over_tls(&own);
        let known = if trusted { own } else { other };
        let desk = Desk::new();
        let config = format!(
            "[[scheduler]]\nname = \"web\"\nlog_groups = [\"/ecs/web\"]\nstale_after = \"5m\"\n\
             health_url = \"https://localhost:{port}/health\"\nhealth_allow_private = true\n"
        );
        desk.file("watchdog.toml", &config)
            .file("dead.log", &dead)
            .file("trusted.pem", &known.cert.pem());
        let run = desk.watchdog_with(
            &[("SSL_CERT_FILE", "trusted.pem")],
            &[
                "check",
                "--config",
                "watchdog.toml",
                "--log-file",
                "dead.log",
                "--now",
                "now",
            ],
        );
        // A server that was not asked waits no longer.
        let _ = TcpStream::connect(("127.0.0.1", port));
        (run.stdout + &run.stderr, served.join().unwrap())
    };
    let (said, served) = look(true);
    assert!(served.is_ok(), "{served:?} {said}");
    assert!(
        said.contains("The health endpoint says unhealthy"),
        "{said}"
    );
    let (said, served) = look(false);
    assert!(served.is_err(), "{said}");
    assert!(said.contains("certificate"), "{said}");
}
