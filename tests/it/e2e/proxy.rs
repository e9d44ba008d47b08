//! A way to AWS on which a test sees every call, holds some up, and lets some fail.
//!
//! It speaks HTTP on plain sockets, because what is to go wrong goes wrong below HTTP: answers
//! that end early, connections that are reset, bytes that come one by one.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::aws::{Answer, Aws, agent, answer};

/// Forwards every call to the emulator, and remembers which were made.
pub struct Proxy {
    pub endpoint: String,
    shared: Arc<Shared>,
}

/// One attempt at a call, as it came.
#[derive(Clone, Debug)]
pub struct Call {
    /// `GetItem`.
    pub action: String,
    /// The same for all attempts of one call, and for no other.
    id: String,
    /// The emulator has answered.
    answered: bool,
    /// The emulator has carried it out.
    pub done: bool,
}

#[derive(Default)]
struct Shared {
    calls: Mutex<Vec<Call>>,
    meeting: Mutex<Option<Meeting>>,
    met: Condvar,
    trouble: Mutex<Option<Trouble>>,
    over: AtomicBool,
}

/// A call that goes wrong, with each of its attempts.
struct Trouble {
    spot: Spot,
    fate: Fate,
    /// The call, once it has come.
    id: Option<String>,
}

/// One call of a pass: the so-manieth of its action, from 0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    pub action: String,
    pub nth: usize,
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// AWS asks to slow down.
    Throttled,
    /// AWS itself has failed.
    ServerError,
    /// It is not allowed.
    Denied,
    /// It is carried out, and answered with something that is no answer.
    Malformed,
    /// It is carried out, and the connection ends in the middle of the answer.
    Truncated,
    /// The connection is reset before it arrives.
    Reset,
    /// It is carried out, and the connection is reset before the answer.
    AnswerReset,
    /// It never arrives, and is never answered.
    Lost,
    /// It is carried out, and never answered.
    AnswerLost,
    /// It is carried out, and answered a byte at a time, for longer than a client waits.
    Dripped,
}

/// The pause between two bytes of an answer that drips.
const DRIP: Duration = Duration::from_secs(1);

/// Calls of one action that wait for each other.
struct Meeting {
    action: String,
    expected: usize,
    here: usize,
}

/// A request of HTTP/1.1.
struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Proxy {
    pub fn start(aws: &Aws) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let shared: Arc<Shared> = Arc::default();
        let proxy = Self {
            endpoint: format!("http://{}", listener.local_addr().unwrap()),
            shared: Arc::clone(&shared),
        };
        let target = aws.endpoint.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.over.load(Ordering::Relaxed) {
                    return;
                }
                let (shared, target) = (Arc::clone(&shared), target.clone());
                thread::spawn(move || shared.serve(stream.unwrap(), &target));
            }
        });
        proxy
    }

    /// Every attempt at a call so far, in order.
    pub fn attempts(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// The actions called so far, in order, repeated attempts included.
    pub fn calls(&self) -> Vec<String> {
        (self.attempts().into_iter())
            .map(|call| call.action)
            .collect()
    }

    /// The calls so far, each once.
    pub fn spots(&self) -> Vec<Spot> {
        let mut known: Vec<(Spot, String)> = Vec::new();
        for call in self.attempts() {
            if known.iter().any(|(_, id)| *id == call.id) {
                continue;
            }
            let nth = (known.iter())
                .filter(|(spot, _)| spot.action == call.action)
                .count();
            let action = call.action;
            known.push((Spot { action, nth }, call.id));
        }
        known.into_iter().map(|(spot, _)| spot).collect()
    }

    /// Lets a call go wrong.
    pub fn trouble(&self, spot: Spot, fate: Fate) {
        let id = None;
        *self.shared.trouble.lock().unwrap() = Some(Trouble { spot, fate, id });
    }

    /// Whether the call that was to go wrong has done so: it has come, and, if its answer is what
    /// goes wrong, was carried out.
    pub fn had_trouble(&self) -> bool {
        let trouble = self.shared.trouble.lock().unwrap();
        let Some(Trouble {
            fate, id: Some(id), ..
        }) = trouble.as_ref()
        else {
            return false;
        };
        let calls = self.shared.calls.lock().unwrap();
        *fate != Fate::AnswerLost || calls.iter().any(|call| call.id == *id && call.answered)
    }

    /// From now on everything goes well.
    pub fn end_trouble(&self) {
        *self.shared.trouble.lock().unwrap() = None;
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
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the listener, which then ends.
        let _ = TcpStream::connect(self.endpoint.trim_start_matches("http://"));
    }
}

impl Shared {
    /// One connection of a client, request by request.
    fn serve(&self, stream: TcpStream, target: &str) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = Request::read(&mut reader) {
            if !self.carry_out(&stream, &request, target) {
                return;
            }
        }
    }

    /// Whether the connection can be used again.
    fn carry_out(&self, mut stream: &TcpStream, request: &Request, target: &str) -> bool {
        let action = request.action();
        let id = request.header("amz-sdk-invocation-id").unwrap_or_default();
        let fate = self.fate(&action, id);
        let index = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(Call {
                action: action.clone(),
                id: id.to_owned(),
                answered: false,
                done: false,
            });
            calls.len() - 1
        };
        match fate {
            Some(Fate::Reset) => return reset(stream),
            Some(Fate::Lost) => return hang(stream),
            Some(fate) if fate.error().is_some() => {
                let (status, code) = fate.error().unwrap_or_default();
                let body = refusal(request, code);
                return stream.write_all(&whole(status, &[], &body)).is_ok();
            }
            _ => {}
        }
        self.meet(&action);
        let answer = request.forward(target);
        if let Some(call) = self.calls.lock().unwrap().get_mut(index) {
            (call.answered, call.done) = (true, answer.status < 300);
        }
        let bytes = whole(answer.status, answer.headers(), &answer.body);
        match fate {
            Some(Fate::AnswerReset) => reset(stream),
            Some(Fate::AnswerLost) => hang(stream),
            Some(Fate::Malformed) => {
                let garbled = format!("<{{{}", "\u{fffd}\0]".repeat(20));
                let bytes = whole(answer.status, answer.headers(), &garbled);
                stream.write_all(&bytes).is_ok()
            }
            Some(Fate::Truncated) => {
                // All of the head, and the first half of the body. Where there is none, the head
                // promises one.
                let body = format!("{}    ", answer.body);
                let bytes = whole(answer.status, answer.headers(), &body);
                let _ = stream.write_all(&bytes[..bytes.len() - body.len() / 2 - 1]);
                false
            }
            Some(Fate::Dripped) => {
                drip(stream, &bytes);
                false
            }
            _ => stream.write_all(&bytes).is_ok(),
        }
    }

    /// How this attempt at a call goes wrong, if it does.
    fn fate(&self, action: &str, id: &str) -> Option<Fate> {
        let mut trouble = self.trouble.lock().unwrap();
        let trouble = trouble.as_mut()?;
        if let Some(known) = &trouble.id {
            return (known == id).then_some(trouble.fate);
        }
        if trouble.spot.action != action {
            return None;
        }
        let calls = self.calls.lock().unwrap();
        let mut earlier: Vec<&str> = (calls.iter())
            .filter(|call| call.action == action && call.id != id)
            .map(|call| call.id.as_str())
            .collect();
        earlier.dedup();
        if earlier.len() != trouble.spot.nth {
            return None;
        }
        trouble.id = Some(id.to_owned());
        Some(trouble.fate)
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

impl Fate {
    /// The status and the code of an error that AWS answers with.
    fn error(self) -> Option<(u16, &'static str)> {
        Some(match self {
            Self::Throttled => (400, "ThrottlingException"),
            Self::ServerError => (500, "InternalFailure"),
            Self::Denied => (403, "AccessDeniedException"),
            _ => return None,
        })
    }
}

impl Request {
    /// The next one on a connection; none when the client has closed it.
    fn read(reader: &mut BufReader<TcpStream>) -> Option<Self> {
        let mut line = || {
            let mut line = String::new();
            let read = reader.read_line(&mut line).ok()?;
            (read > 0).then(|| line.trim_end().to_owned())
        };
        let first = line()?;
        let mut words = first.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = Vec::new();
        while let Some((name, value)) = line()?.split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self {
            method,
            path,
            headers,
            body: Vec::new(),
        };
        let length = request.header("content-length").unwrap_or("0");
        request.body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut request.body).ok()?;
        Some(request)
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// What it asks for: `GetItem`.
    fn action(&self) -> String {
        let target = (self.header("x-amz-target")).and_then(|target| target.rsplit('.').next());
        let body = String::from_utf8_lossy(&self.body);
        let asked = || body.split('&').find_map(|f| f.strip_prefix("Action="));
        (target.or_else(asked))
            .map_or_else(|| format!("{} {}", self.method, self.path), str::to_owned)
    }

    fn forward(&self, target: &str) -> Answer {
        let mut onward = ureq::http::Request::builder()
            .method(self.method.as_str())
            .uri(format!("{target}{}", self.path));
        for (name, value) in &self.headers {
            if !OWN.contains(&name.as_str()) {
                onward = onward.header(name, value);
            }
        }
        answer(&agent(), onward.body(self.body.clone()).unwrap()).unwrap()
    }
}

/// Headers that belong to one connection and not to what is sent over it.
const OWN: [&str; 5] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "date",
];

/// An answer's bytes.
fn whole(status: u16, headers: &[(String, String)], body: &str) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        if !OWN.contains(&name.to_ascii_lowercase().as_str()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    format!("{head}\r\n{body}").into_bytes()
}

/// An error in the protocol that the request speaks.
fn refusal(request: &Request, code: &str) -> String {
    if request.header("x-amz-target").is_some() {
        return format!(r#"{{"__type":"{code}","message":"as the test has it"}}"#);
    }
    let error =
        format!("<Type>Sender</Type><Code>{code}</Code><Message>as the test has it</Message>");
    format!("<ErrorResponse><Error>{error}</Error><RequestId>0</RequestId></ErrorResponse>")
}

/// Ends a connection without a good-bye: what is on its way is lost.
fn reset(stream: &TcpStream) -> bool {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
    false
}

/// Says nothing until the client has had enough.
fn hang(mut stream: &TcpStream) -> bool {
    let _ = stream.read(&mut [0]);
    false
}

/// Sends byte by byte until the client has had enough. It closes the connection then, which the
/// pause between two bytes notices.
fn drip(mut stream: &TcpStream, bytes: &[u8]) {
    let _ = stream.set_read_timeout(Some(DRIP));
    for byte in bytes {
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
        if stream.read(&mut [0]).is_ok() {
            return;
        }
    }
}
