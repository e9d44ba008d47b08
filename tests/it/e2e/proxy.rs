//! A way to AWS on which a test sees every call, holds some up, and lets some fail.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::aws::{Aws, agent, answer};

/// Forwards every call to the emulator, and remembers which were made.
pub struct Proxy {
    pub endpoint: String,
    server: Arc<tiny_http::Server>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    calls: Mutex<Vec<String>>,
    meeting: Mutex<Option<Meeting>>,
    met: Condvar,
    trouble: Mutex<Option<Trouble>>,
    held: Mutex<Vec<tiny_http::Request>>,
}

/// A call that goes wrong.
struct Trouble {
    /// Calls until then.
    after: usize,
    fate: Fate,
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is refused, in a way that no client retries.
    Refused,
    /// It never arrives, and is never answered.
    Lost,
    /// It is carried out, and never answered.
    AnswerLost,
}

/// Calls of one action that wait for each other.
struct Meeting {
    action: String,
    expected: usize,
    here: usize,
}

impl Proxy {
    pub fn start(aws: &Aws) -> Self {
        let server = Arc::new(tiny_http::Server::http("127.0.0.1:0").unwrap());
        let proxy = Self {
            endpoint: format!("http://{}", server.server_addr()),
            server: Arc::clone(&server),
            shared: Arc::default(),
        };
        let (shared, target) = (Arc::clone(&proxy.shared), aws.endpoint.clone());
        thread::spawn(move || {
            for request in server.incoming_requests() {
                let (shared, target) = (Arc::clone(&shared), target.clone());
                thread::spawn(move || shared.forward(request, &target));
            }
        });
        proxy
    }

    /// The actions called so far, in order.
    pub fn calls(&self) -> Vec<String> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// Lets the call go wrong that comes after so many others.
    pub fn trouble(&self, after: usize, fate: Fate) {
        *self.shared.trouble.lock().unwrap() = Some(Trouble { after, fate });
    }

    /// Whether the call that was to go wrong has done so.
    pub fn had_trouble(&self) -> bool {
        self.shared.trouble.lock().unwrap().is_none()
    }

    /// Forgets the calls so far.
    pub fn forget(&self) {
        self.shared.calls.lock().unwrap().clear();
    }

    /// Holds up calls of an action until so many have come, so that they see the same.
    pub fn let_meet(&self, action: &str, expected: usize) {
        *self.shared.meeting.lock().unwrap() = Some(Meeting {
            action: action.to_owned(),
            expected,
            here: 0,
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.unblock();
    }
}

impl Shared {
    fn forward(&self, mut request: tiny_http::Request, target: &str) {
        let mut body = Vec::new();
        let _ = request.as_reader().read_to_end(&mut body);
        let action = action(&request, &body);
        let fate = self.fate();
        if fate == Some(Fate::Lost) {
            self.hold(request);
            return;
        }
        if fate == Some(Fate::Refused) {
            self.calls.lock().unwrap().push(action);
            let refusal = tiny_http::Response::from_string(r#"{"__type":"RefusedByTheTest"}"#);
            let _ = request.respond(refusal.with_status_code(400));
            return;
        }
        self.calls.lock().unwrap().push(action.clone());
        self.meet(&action);
        let mut onward = ureq::http::Request::builder()
            .method(request.method().as_str())
            .uri(format!("{target}{}", request.url()));
        for header in request.headers() {
            let name = header.field.as_str().as_str();
            let own = ["host", "connection", "content-length", "transfer-encoding"];
            if !own.contains(&name.to_ascii_lowercase().as_str()) {
                onward = onward.header(name, header.value.as_str());
            }
        }
        let answer = answer(&agent(), onward.body(body).unwrap()).unwrap();
        if fate == Some(Fate::AnswerLost) {
            self.hold(request);
            return;
        }
        let mut back =
            tiny_http::Response::from_string(answer.body.clone()).with_status_code(answer.status);
        for (name, value) in answer.headers() {
            let own = ["connection", "content-length", "transfer-encoding", "date"];
            if !own.contains(&name.to_ascii_lowercase().as_str()) {
                let header = tiny_http::Header::from_bytes(name.as_bytes(), value.as_bytes());
                back = back.with_header(header.unwrap());
            }
        }
        let _ = request.respond(back);
    }

    fn fate(&self) -> Option<Fate> {
        let mut trouble = self.trouble.lock().unwrap();
        let next = trouble.as_mut()?;
        if next.after > 0 {
            next.after -= 1;
            return None;
        }
        let fate = next.fate;
        // The others have happened once they are held.
        if fate == Fate::Refused {
            *trouble = None;
        }
        Some(fate)
    }

    /// Keeps a call without an answer; a request that is dropped is answered with an error.
    fn hold(&self, request: tiny_http::Request) {
        self.held.lock().unwrap().push(request);
        *self.trouble.lock().unwrap() = None;
    }

    fn meet(&self, action: &str) {
        let mut meeting = self.meeting.lock().unwrap();
        match meeting.as_mut() {
            Some(meeting) if meeting.action == action && meeting.here < meeting.expected => {
                meeting.here += 1;
            }
            _ => return,
        }
        self.met.notify_all();
        let incomplete = |meeting: &mut Option<Meeting>| {
            (meeting.as_ref()).is_some_and(|meeting| meeting.here < meeting.expected)
        };
        // Shorter than a client's patience with one attempt.
        let patience = Duration::from_secs(4);
        drop((self.met).wait_timeout_while(meeting, patience, incomplete));
    }
}

/// The action that a request asks for: `GetItem`.
fn action(request: &tiny_http::Request, body: &[u8]) -> String {
    let target = (request.headers().iter())
        .find(|header| header.field.equiv("x-amz-target"))
        .and_then(|header| header.value.as_str().rsplit('.').next().map(str::to_owned));
    target
        .or_else(|| {
            let body = String::from_utf8_lossy(body);
            let action = body
                .split('&')
                .find_map(|field| field.strip_prefix("Action="));
            action.map(str::to_owned)
        })
        .unwrap_or_else(|| format!("{} {}", request.method(), request.url()))
}
