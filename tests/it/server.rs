//! A server on this machine that answers as a test wants it, for as long as it lives.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tiny_http::{Header, Response};

/// What is answered: the status, a header if one matters, and the body.
pub type Answer = (u16, Option<(&'static str, String)>, String);

pub struct Server {
    server: Arc<tiny_http::Server>,
    thread: Option<JoinHandle<()>>,
    heard: Arc<Mutex<Vec<(String, String)>>>,
}

impl Server {
    /// `answer` gets the target of the call, as AWS's JSON protocols name it, and the body.
    pub fn start(answer: impl Fn(&str, &str) -> Answer + Send + 'static) -> Self {
        let server = Arc::new(tiny_http::Server::http("127.0.0.1:0").unwrap());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (answering, hearing) = (server.clone(), heard.clone());
        let thread = thread::spawn(move || {
            for mut request in answering.incoming_requests() {
                let mut body = String::new();
                request.as_reader().read_to_string(&mut body).unwrap();
                let target = (request.headers().iter())
                    .find(|header| header.field.equiv("X-Amz-Target"))
                    .map_or(String::new(), |header| header.value.to_string());
                let (status, header, text) = answer(&target, &body);
                hearing.lock().unwrap().push((target, body));
                let mut response = Response::from_string(text).with_status_code(status);
                if let Some((name, value)) = header {
                    let header = Header::from_bytes(name.as_bytes(), value.as_bytes());
                    response.add_header(header.unwrap());
                }
                let _ = request.respond(response);
            }
        });
        Self {
            server,
            thread: Some(thread),
            heard,
        }
    }

    /// The same answer to all.
    pub fn says(status: u16, header: Option<(&'static str, String)>, body: String) -> Self {
        Self::start(move |_, _| (status, header.clone(), body.clone()))
    }

    /// Host and port.
    pub fn address(&self) -> String {
        self.server.server_addr().to_string()
    }

    /// The calls so far, targets and bodies.
    pub fn heard(&self) -> Vec<(String, String)> {
        self.heard.lock().unwrap().clone()
    }

    /// Access to it in place of AWS.
    pub fn aws(&self) -> scheduler_watchdog::aws::Aws {
        let credentials =
            aws_credential_types::Credentials::new("id", "secret", None, None, "tests");
        let config = aws_config::SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new("ap-northeast-1"))
            .endpoint_url(format!("http://{}", self.address()))
            .credentials_provider(
                aws_credential_types::provider::SharedCredentialsProvider::new(credentials),
            )
            .build();
        scheduler_watchdog::aws::Aws::new(config).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
