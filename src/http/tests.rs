//! Against real servers on this machine, most of which misbehave.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::*;

/// A server that says of every request what `answer` does. It ends with the test.
struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    /// The connection that is being answered.
    current: Arc<Mutex<Option<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (is_over, current) = (Arc::default(), Arc::default());
        let heard = Arc::clone(&requests);
        let over: Arc<AtomicBool> = Arc::clone(&is_over);
        let at_work: Arc<Mutex<Option<TcpStream>>> = Arc::clone(&current);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                *at_work.lock().unwrap() = stream.try_clone().ok();
                // Only now: whoever ends the server shuts down the stream that he finds.
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let head = head(&mut stream);
                heard.lock().unwrap().push(head.clone());
                answer(&head, &mut stream);
                *at_work.lock().unwrap() = None;
            }
        });
        Self {
            port,
            requests,
            is_over,
            current,
            thread: Some(thread),
        }
    }

    /// A server that always gives one answer, with its `Content-Length`.
    fn says(status: u16, headers: &str, body: &str) -> Self {
        let answer = response(status, headers, body);
        Self::start(move |_, stream| drop(stream.write_all(answer.as_bytes())))
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        if let Some(stream) = &*self.current.lock().unwrap() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn response(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

/// The head of a request, until its empty line or its end.
fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Waits until the client goes away.
fn wait_for_end(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0]);
}

const HEALTHY: &str = r#"{"status":"healthy","last_run":"2026-11-24T03:40:09Z"}"#;

/// A client that waits for as long as a slow machine may need.
fn patient() -> Http {
    Http {
        timeout: Duration::from_secs(60),
        ..Http::default()
    }
}

/// A client that soon gives up, for servers that never end.
fn hasty() -> Http {
    Http {
        timeout: Duration::from_millis(300),
        ..Http::default()
    }
}

fn allowed(url: &str) -> Endpoint {
    Endpoint::parse(url, true).unwrap()
}

async fn ask(http: &Http, endpoint: &Endpoint) -> Result<Health, CallError> {
    http.health(endpoint, &TimeZone::UTC).await
}

/// What is told of an endpoint that gives no answer of use, without what differs in each run.
async fn told(http: &Http, server: &Server, path: &str) -> (Obstacle, String) {
    let error = ask(http, &allowed(&server.url(path))).await.unwrap_err();
    let detail = error.detail.replace(&server.port.to_string(), "PORT");
    (error.kind, detail)
}

#[tokio::test]
async fn an_answer_is_read_and_asked_for_politely() {
    let server = Server::says(200, "", HEALTHY);
    let endpoint = allowed(&server.url("/health/scheduler?key=1"));
    let health = ask(&patient(), &endpoint).await.unwrap();
    assert!(health.healthy && health.last_run.is_some());
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert!(
        requests[0].starts_with("GET /health/scheduler?key=1 HTTP/1.1\r\n"),
        "{requests:?}"
    );
    assert!(requests[0].contains("user-agent: scheduler-watchdog/"));
    assert!(!requests[0].contains("authorization"), "{requests:?}");
}

#[tokio::test]
async fn an_unhealthy_answer_is_one_too() {
    let body = r#"{"status":"unhealthy","last_run":null}"#;
    let server = Server::says(503, "", body);
    let health = ask(&patient(), &allowed(&server.url("/"))).await.unwrap();
    assert_eq!((health.healthy, health.last_run), (false, None));
}

#[tokio::test]
async fn private_addresses_are_refused_unless_allowed() {
    let server = Server::says(200, "", HEALTHY);
    let port = server.port;
    let http = patient();
    // By address in all its spellings, and by a name that leads there.
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
    ] {
        let url = format!("http://{host}:{port}/");
        let refused = ask(&http, &Endpoint::parse(&url, false).unwrap()).await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind, Obstacle::Refused, "{host}: {error}");
        assert!(
            error.detail.contains("`health_allow_private = true`"),
            "{error}"
        );
    }
    for url in [
        "http://169.254.169.254/",
        "http://10.0.0.1/",
        "http://[fd00::1]/",
    ] {
        let refused = ask(&http, &Endpoint::parse(url, false).unwrap()).await;
        assert_eq!(refused.unwrap_err().kind, Obstacle::Refused, "{url}");
    }
    assert_eq!(server.requests(), [""; 0]);
    let by_name = allowed(&format!("http://localhost:{port}/"));
    assert!(ask(&http, &by_name).await.is_ok());
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_host() {
    let server = Server::start(|head, stream| {
        let answer = if head.starts_with("GET /new ") {
            response(200, "", HEALTHY)
        } else {
            response(301, "location: /new\r\n", "")
        };
        let _ = stream.write_all(answer.as_bytes());
    });
    let url = format!("http://watch:s3cr%40t@127.0.0.1:{}/old", server.port);
    assert!(ask(&patient(), &allowed(&url)).await.is_ok());
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    let credentials = "authorization: Basic d2F0Y2g6czNjckB0";
    assert!(
        requests.iter().all(|request| request.contains(credentials)),
        "{requests:?}"
    );
}

#[tokio::test]
async fn redirects_lead_neither_astray_nor_on_for_ever() {
    let http = patient();
    let end = Server::says(200, "", HEALTHY);
    let mut said = Vec::new();
    for to in [
        "/again".to_owned(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        // Another host, although its address is the allowed one's.
        format!("http://localhost:{}/", end.port),
        format!("http://127.0.0.2:{}/", end.port),
        "file:///etc/passwd".to_owned(),
        "http://".to_owned(),
    ] {
        let server = Server::says(302, &format!("location: {to}\r\n"), "");
        said.push(told(&http, &server, "/").await);
    }
    assert_eq!(end.requests(), [""; 0]);
    insta::assert_debug_snapshot!(said);
}

#[tokio::test]
async fn a_redirect_loop_ends_after_three() {
    let server = Server::says(302, "location: /again\r\n", "");
    let _ = told(&patient(), &server, "/").await;
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_redirect_without_a_place_is_the_answer() {
    let server = Server::says(302, "", "");
    let (kind, detail) = told(&patient(), &server, "/").await;
    assert_eq!(kind, Obstacle::Failed);
    assert!(detail.contains("answered with 302"), "{detail}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let server = Server::start(|_, stream| wait_for_end(stream));
    let (kind, detail) = told(&hasty(), &server, "/").await;
    assert_eq!(kind, Obstacle::TimedOut);
    assert!(detail.contains("no answer in time"), "{detail}");
}

#[tokio::test]
async fn a_server_that_answers_drop_by_drop_is_given_up() {
    let server = Server::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n");
        // A client that is still there says nothing for ten milliseconds.
        let pause = Some(Duration::from_millis(10));
        stream.set_read_timeout(pause).unwrap();
        while stream.read(&mut [0]).is_err() && stream.write_all(b" ").is_ok() {}
    });
    let (kind, _) = told(&hasty(), &server, "/").await;
    assert_eq!(kind, Obstacle::TimedOut);
}

#[tokio::test]
async fn an_answer_of_any_length_is_cut_short() {
    let server = Server::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b' '; 4096]).is_ok() {}
    });
    let (kind, detail) = told(&patient(), &server, "/").await;
    assert_eq!(kind, Obstacle::Failed);
    assert!(detail.contains("more than 64 KiB"), "{detail}");
    // The longest that is read.
    let body = " ".repeat(MOST_BYTES - HEALTHY.len()) + HEALTHY;
    let server = Server::says(200, "", &body);
    assert!(ask(&patient(), &allowed(&server.url("/"))).await.is_ok());
    let server = Server::says(200, "", &format!("{body} "));
    assert_eq!(told(&patient(), &server, "/").await.0, Obstacle::Failed);
}

#[tokio::test]
async fn answers_that_break_off_are_none() {
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\ncontent-le",
        "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"status\":\"healthy\"}",
        "this is no HTTP\r\n\r\n",
    ] {
        let server = Server::start(move |_, stream| drop(stream.write_all(answer.as_bytes())));
        let (kind, detail) = told(&patient(), &server, "/").await;
        assert_eq!(kind, Obstacle::Failed, "{answer:?}: {detail}");
        assert!(detail.contains("gave no answer ("), "{detail}");
    }
}

#[tokio::test]
async fn who_is_not_there_is_named_without_secrets() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let secret = "s3cret";
    let url = format!("http://{secret}:{secret}@127.0.0.1:{port}/{secret}?key={secret}");
    let http = patient();
    let health = ask(&http, &allowed(&url)).await.unwrap_err();
    let ping = http.ping(&allowed(&url)).await.unwrap_err();
    for error in [health, ping] {
        assert_eq!(error.kind, Obstacle::Failed);
        let shown = format!("{error} {error:?}");
        assert!(
            shown.contains(&format!("http://127.0.0.1:{port}")),
            "{shown}"
        );
        assert!(shown.contains("refused"), "{shown}");
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn a_switch_is_told_once() {
    let server = Server::says(200, "", "OK");
    patient()
        .ping(&allowed(&server.url("/uuid")))
        .await
        .unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert!(
        requests[0].starts_with("GET /uuid HTTP/1.1"),
        "{requests:?}"
    );
}

#[tokio::test]
async fn a_switch_that_does_not_take_it_was_not_told() {
    let server = Server::says(404, "", "not found");
    let error = patient()
        .ping(&allowed(&server.url("/uuid")))
        .await
        .unwrap_err();
    assert!(
        error
            .detail
            .ends_with("answered with 404: check `ping_url`"),
        "{error}"
    );
    assert!(!error.detail.contains("uuid"), "{error}");
    let private = Endpoint::parse(&server.url("/uuid"), false).unwrap();
    let error = patient().ping(&private).await.unwrap_err();
    assert_eq!(error.kind, Obstacle::Refused);
    assert!(
        error.detail.contains("`ping_allow_private = true`"),
        "{error}"
    );
    assert_eq!(server.requests().len(), 1);
}
