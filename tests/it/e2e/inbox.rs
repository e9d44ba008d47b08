//! Subscribers of the alert topic: a queue and an HTTP endpoint. Both must get every message.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::aws::{ACCOUNT, Aws, REGION, SNS, SQS, texts};
use super::process::wait_for;

const DEADLINE: Duration = Duration::from_secs(30);

/// The subject of messages that only show that all earlier ones have arrived.
const MARK: &str = "mark";

/// A message as one subscriber got it.
#[derive(Clone, Debug)]
pub struct Alert {
    pub subject: String,
    /// The body for this kind of subscriber.
    pub body: String,
    attributes: Value,
}

impl Alert {
    fn of(envelope: &Value) -> Self {
        Self {
            subject: envelope["Subject"].as_str().unwrap_or_default().to_owned(),
            body: envelope["Message"].as_str().unwrap_or_default().to_owned(),
            attributes: envelope["MessageAttributes"].clone(),
        }
    }

    /// One of the attributes that subscribers filter by.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes[name]["Value"].as_str().unwrap_or_default()
    }

    /// What happened to what: `opened scheduler-silent`.
    pub fn gist(&self) -> String {
        format!(
            "{} {}",
            self.attribute("reason"),
            self.attribute("condition")
        )
    }

    /// The body for machines.
    pub fn machine(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// A message of the watchdog; the template's alarms write to the same topic.
    fn is_watchdogs(&self) -> bool {
        self.attributes.get("reason").is_some()
    }
}

/// Both subscribers of a topic.
pub struct Inbox<'a> {
    aws: &'a Aws,
    topic: String,
    queue: String,
    from_queue: Mutex<Vec<Alert>>,
    from_http: Arc<Mutex<Vec<Alert>>>,
    server: Arc<tiny_http::Server>,
    marks: AtomicU32,
}

impl<'a> Inbox<'a> {
    /// Subscribes to a topic.
    pub fn subscribe(aws: &'a Aws, topic: &str, name: &str) -> Self {
        let queue_arn = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}");
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": queue_arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
            }],
        });
        let create = json!({
            "QueueName": name,
            "Attributes": {"Policy": policy.to_string(), "VisibilityTimeout": "600"},
        });
        let created = aws.json(&SQS, "CreateQueue", &create);
        let inbox = Self {
            aws,
            topic: topic.to_owned(),
            queue: created["QueueUrl"].as_str().unwrap().to_owned(),
            from_queue: Mutex::default(),
            from_http: Arc::default(),
            server: Arc::new(tiny_http::Server::http("127.0.0.1:0").unwrap()),
            marks: AtomicU32::new(0),
        };
        inbox.subscribe_to("sqs", &queue_arn);
        inbox.listen();
        inbox
    }

    fn subscribe_to(&self, protocol: &str, endpoint: &str) {
        let fields = [
            ("TopicArn", self.topic.as_str()),
            ("Protocol", protocol),
            ("Endpoint", endpoint),
        ];
        self.aws.query(&SNS, "Subscribe", &fields);
    }

    /// Listens by HTTP, and confirms the subscription as SNS wants it.
    fn listen(&self) {
        let (server, alerts) = (Arc::clone(&self.server), Arc::clone(&self.from_http));
        let confirmed = Arc::new(Mutex::new(false));
        let (aws, topic, done) = (self.aws.clone(), self.topic.clone(), Arc::clone(&confirmed));
        thread::spawn(move || {
            for mut request in server.incoming_requests() {
                let mut body = String::new();
                let _ = request.as_reader().read_to_string(&mut body);
                let _ = request.respond(tiny_http::Response::empty(200));
                let Ok(envelope) = serde_json::from_str::<Value>(&body) else {
                    continue;
                };
                match envelope["Type"].as_str() {
                    Some("SubscriptionConfirmation") => {
                        let token = envelope["Token"].as_str().unwrap_or_default();
                        let fields = [("TopicArn", topic.as_str()), ("Token", token)];
                        aws.query(&SNS, "ConfirmSubscription", &fields);
                        *done.lock().unwrap() = true;
                    }
                    _ => alerts.lock().unwrap().push(Alert::of(&envelope)),
                }
            }
        });
        let address = self.server.server_addr();
        self.subscribe_to("http", &format!("http://{address}/alerts"));
        wait_for("the HTTP subscription is confirmed", DEADLINE, || {
            confirmed.lock().unwrap().then_some(())
        });
    }

    /// What the watchdog has sent to the queue so far, oldest first. HTTP got the same.
    pub fn alerts(&self) -> Vec<Alert> {
        let (by_queue, by_http) = self.both();
        let gists = |alerts: &[Alert]| {
            let mut gists: Vec<String> = alerts.iter().map(Alert::gist).collect();
            gists.sort();
            gists
        };
        assert_eq!(gists(&by_queue), gists(&by_http), "queue and HTTP differ");
        by_queue
    }

    /// What the watchdog has sent so far: to the queue, and by HTTP. Nothing is under way any
    /// more: a mark that is published now has arrived at both.
    pub fn both(&self) -> (Vec<Alert>, Vec<Alert>) {
        let mark = format!("{MARK} {}", self.marks.fetch_add(1, Ordering::Relaxed));
        let fields = [
            ("TopicArn", self.topic.as_str()),
            ("Subject", MARK),
            ("Message", mark.as_str()),
        ];
        self.aws.query(&SNS, "Publish", &fields);
        let is_here = |alerts: &[Alert]| alerts.iter().any(|alert| alert.body == mark);
        wait_for("both subscribers get a mark", DEADLINE, || {
            let mut by_queue = self.from_queue.lock().unwrap();
            by_queue.extend(self.receive());
            let by_http = self.from_http.lock().unwrap();
            (is_here(&by_queue) && is_here(&by_http)).then(|| {
                let sent = |alerts: &[Alert]| -> Vec<Alert> {
                    (alerts.iter().filter(|alert| alert.is_watchdogs()))
                        .cloned()
                        .collect()
                };
                (sent(&by_queue), sent(&by_http))
            })
        })
    }

    /// What the template's alarms have sent, in order: `ALARM` and the name.
    pub fn alarms(&self) -> Vec<String> {
        let _ = self.both();
        let by_queue = self.from_queue.lock().unwrap();
        (by_queue.iter())
            .filter_map(|alert| serde_json::from_str::<Value>(&alert.body).ok())
            .filter_map(|body| {
                let text = |name: &str| body[name].as_str();
                Some(format!("{} {}", text("NewStateValue")?, text("AlarmName")?))
            })
            .collect()
    }

    fn receive(&self) -> Vec<Alert> {
        let ask = json!({"QueueUrl": self.queue, "MaxNumberOfMessages": 10});
        let answer = self.aws.json(&SQS, "ReceiveMessage", &ask);
        let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        for message in &messages {
            let delete = json!({
                "QueueUrl": self.queue,
                "ReceiptHandle": message["ReceiptHandle"],
            });
            self.aws.json(&SQS, "DeleteMessage", &delete);
        }
        (messages.iter())
            .map(|message| {
                let body = message["Body"].as_str().unwrap();
                Alert::of(&serde_json::from_str(body).unwrap())
            })
            .collect()
    }

    /// What happened to what, in order: `["opened scheduler-silent", …]`.
    pub fn gists(&self) -> Vec<String> {
        self.alerts().iter().map(Alert::gist).collect()
    }
}

impl Drop for Inbox<'_> {
    fn drop(&mut self) {
        self.server.unblock();
    }
}

/// Creates a topic, for tests without a stack.
pub fn create_topic(aws: &Aws, name: &str) -> String {
    let answer = aws.query(&SNS, "CreateTopic", &[("Name", name)]);
    texts(&answer, "TopicArn").remove(0)
}
