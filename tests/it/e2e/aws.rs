//! Calls to the emulator as root, in AWS's own protocols, so that the tests need no client
//! library for each of the ten services that they look at.

use std::fmt::Write as _;
use std::time::Duration;

use regex::Regex;
use serde_json::Value;

pub const REGION: &str = "ap-northeast-1";
pub const ACCOUNT: &str = "123456789012";

/// A service with a JSON protocol: its name in signatures, the prefix of its targets, and the
/// version of the protocol.
pub struct JsonService(&'static str, &'static str, &'static str);

pub const LOGS: JsonService = JsonService("logs", "Logs_20140328", "1.1");
pub const ECS: JsonService = JsonService("ecs", "AmazonEC2ContainerServiceV20141113", "1.1");
pub const DYNAMODB: JsonService = JsonService("dynamodb", "DynamoDB_20120810", "1.0");
pub const SSM: JsonService = JsonService("ssm", "AmazonSSM", "1.1");
pub const SQS: JsonService = JsonService("sqs", "AmazonSQS", "1.0");

/// A service with the query protocol: its name in signatures, and its version.
pub struct QueryService(&'static str, &'static str);

pub const SNS: QueryService = QueryService("sns", "2010-03-31");
pub const IAM: QueryService = QueryService("iam", "2010-05-08");
pub const CLOUDWATCH: QueryService = QueryService("monitoring", "2010-08-01");
pub const CLOUDFORMATION: QueryService = QueryService("cloudformation", "2010-05-15");

/// Root's access to the emulator.
#[derive(Clone)]
pub struct Aws {
    pub endpoint: String,
    agent: ureq::Agent,
}

/// An HTTP answer.
pub struct Answer {
    pub status: u16,
    pub body: String,
    headers: Vec<(String, String)>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        (self.headers.iter())
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Aws {
    pub fn new(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            agent: agent(),
        }
    }

    /// A call that must succeed, in a JSON protocol.
    pub fn json(&self, service: &JsonService, action: &str, body: &Value) -> Value {
        let JsonService(name, prefix, version) = service;
        let headers = [
            ("X-Amz-Target", format!("{prefix}.{action}")),
            ("Content-Type", format!("application/x-amz-json-{version}")),
        ];
        let answer = self.send("POST", "/", name, &headers, body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{action} {body}: {}", answer.body);
        if answer.body.is_empty() {
            return Value::Null;
        }
        answer.json()
    }

    /// A call that must succeed, in the query protocol. Returns XML.
    pub fn query(&self, service: &QueryService, action: &str, fields: &[(&str, &str)]) -> String {
        let QueryService(name, version) = service;
        let mut form = format!("Action={action}&Version={version}");
        for (key, value) in fields {
            let _ = write!(form, "&{}={}", percent(key), percent(value));
        }
        let headers = [(
            "Content-Type",
            "application/x-www-form-urlencoded".to_owned(),
        )];
        let answer = self.send("POST", "/", name, &headers, form.as_bytes());
        assert_eq!(answer.status, 200, "{action} {fields:?}: {}", answer.body);
        answer.body
    }

    /// A call of a REST protocol that must succeed.
    pub fn rest(&self, service: &str, method: &str, path: &str, body: &str) -> Answer {
        let headers = [("Content-Type", "application/json".to_owned())];
        let answer = self.send(method, path, service, &headers, body.as_bytes());
        let fine = (200..300).contains(&answer.status);
        assert!(fine, "{method} {path}: {} {}", answer.status, answer.body);
        answer
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        service: &str,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> Answer {
        // Root's key; the emulator does not check signatures.
        let credential = format!("test/20260101/{REGION}/{service}/aws4_request");
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint))
            .header(
                "Authorization",
                format!(
                    "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0"
                ),
            );
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        answer(&self.agent, request.body(body.to_vec()).unwrap())
            .unwrap_or_else(|error| panic!("{method} {path} ({service}): {error}"))
    }
}

/// A client that takes every status for an answer.
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .timeout_global(Some(Duration::from_secs(150)))
        .proxy(None)
        .build()
        .into()
}

/// Sends a request.
pub fn answer(
    agent: &ureq::Agent,
    request: ureq::http::Request<Vec<u8>>,
) -> Result<Answer, ureq::Error> {
    let mut answer = agent.run(request)?;
    let headers = (answer.headers().iter())
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect();
    Ok(Answer {
        status: answer.status().as_u16(),
        headers,
        body: answer.body_mut().read_to_string()?,
    })
}

impl Answer {
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }
}

/// The texts of all elements with this name.
pub fn texts(xml: &str, element: &str) -> Vec<String> {
    let pattern = Regex::new(&format!("(?s)<{element}>(.*?)</{element}>")).unwrap();
    (pattern.captures_iter(xml))
        .map(|found| {
            (found[1].replace("&lt;", "<").replace("&gt;", ">"))
                .replace("&quot;", "\"")
                .replace("&amp;", "&")
        })
        .collect()
}

fn percent(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// Undoes URL encoding, which IAM applies to the documents that it returns.
pub fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().unwrap(), rest.next().unwrap()];
        let digits = std::str::from_utf8(&digits).unwrap();
        bytes.push(u8::from_str_radix(digits, 16).unwrap());
    }
    String::from_utf8(bytes).unwrap()
}
