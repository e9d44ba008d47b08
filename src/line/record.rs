//! Wrapped text → the text itself: what a log router put into an envelope, and what the
//! application's logger wrote as a JSON record, which is turned into the same logger's usual
//! lines. So each format has one set of patterns.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Keys that log routers put beside `log`: FireLens (Fluent Bit, Fluentd) and Docker's own
/// `json-file`. An application's record may well have a `log` of its own.
const ENVELOPE: [&str; 5] = [
    "container_name",
    "container_id",
    "ecs_task_arn",
    "source",
    "stream",
];

/// Exceptions behind each other that are told.
const MOST_EXCEPTIONS: usize = 5;

/// The text within an envelope, and a JSON record as lines; any other message as it is.
pub(super) fn unwrap(message: &str) -> Cow<'_, str> {
    let Some(object) = object(message) else {
        return Cow::Borrowed(message);
    };
    match object.get("log").and_then(Value::as_str) {
        Some(log) if ENVELOPE.iter().any(|key| object.contains_key(*key)) => {
            let inner = self::object(log).and_then(|object| record(&object));
            Cow::Owned(inner.unwrap_or_else(|| log.to_owned()))
        }
        _ => record(&object).map_or(Cow::Borrowed(message), Cow::Owned),
    }
}

/// A message that may be one of the two, parsed.
fn object(message: &str) -> Option<Map<String, Value>> {
    let message = message.trim();
    // Most lines are neither, and to see that is quicker than to parse them.
    let promising = message.starts_with('{')
        && (message.contains("\"log\"") || message.contains("\"level_name\""));
    promising.then(|| serde_json::from_str(message).ok())?
}

/// A record of Monolog's JSON formatter as its line formatter writes it.
fn record(record: &Map<String, Value>) -> Option<String> {
    let text = |key: &str| record.get(key).and_then(Value::as_str);
    // Monolog 1 writes an object here.
    let time = text("datetime").or_else(|| record.get("datetime")?.get("date")?.as_str())?;
    let mut lines = format!(
        "[{time}] {}.{}: {}",
        text("channel")?,
        text("level_name")?,
        one_line(text("message")?)
    );
    let exception = record
        .get("context")
        .and_then(|context| context.get("exception"));
    match exception {
        Some(Value::String(told)) => {
            let _ = write!(lines, " {{\"exception\":\"{}\"}}", one_line(told));
        }
        Some(Value::Object(first)) => {
            let chain = std::iter::successors(Some(first), |exception| {
                exception.get("previous").and_then(Value::as_object)
            });
            for (index, exception) in chain.take(MOST_EXCEPTIONS).enumerate() {
                lines.push_str(match index {
                    0 => " {\"exception\":\"",
                    _ => "\n[previous exception] ",
                });
                push_exception(&mut lines, exception);
            }
        }
        _ => {}
    }
    Some(lines)
}

/// `[object] (Class(code: 0): text at /file.php:1)`.
fn push_exception(lines: &mut String, exception: &Map<String, Value>) {
    let text = |key: &str| exception.get(key).and_then(Value::as_str).map(one_line);
    let _ = write!(
        lines,
        "[object] ({}(code: {}): {} at {})",
        text("class").unwrap_or_default(),
        exception.get("code").and_then(Value::as_i64).unwrap_or(0),
        text("message").unwrap_or_default(),
        text("file").unwrap_or_default(),
    );
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn envelopes_give_up_what_is_in_them() {
        for (message, text) in [
            (
                r#"{"source":"stdout","log":"   INFO  No scheduled commands are ready to run.  ","container_id":"0a1b-1","container_name":"app","ecs_cluster":"main"}"#,
                "   INFO  No scheduled commands are ready to run.  ",
            ),
            (
                r#"{"log":"\u001b[32mRunning\u001b[39m\n","stream":"stdout","time":"2026-11-24T03:35:13Z"}"#,
                "\u{1b}[32mRunning\u{1b}[39m\n",
            ),
            // No envelope: an application's own record.
            (
                r#"{"log":"x","level":"info"}"#,
                r#"{"log":"x","level":"info"}"#,
            ),
            (
                r#"{"log":7,"stream":"stdout"}"#,
                r#"{"log":7,"stream":"stdout"}"#,
            ),
            // Cut off by the log driver.
            (r#"{"log":"x","stream":"std"#, r#"{"log":"x","stream":"std"#),
        ] {
            assert_eq!(unwrap(message), text);
        }
    }

    #[test]
    fn records_become_the_lines_that_the_logger_usually_writes() {
        let record = r#"{"message":"Lost\nit","context":{"userId":7,"exception":{"class":"App\\Lost","message":"Lost\nit","code":0,"file":"/srv/app/Pay.php:9","previous":{"class":"RedisException","message":"Connection refused","code":111,"file":"/srv/vendor/PhpRedisConnector.php:185"}}},"level":400,"level_name":"ERROR","channel":"production","datetime":"2026-11-24T03:39:09.531210+00:00","extra":{}}"#;
        let lines = "[2026-11-24T03:39:09.531210+00:00] production.ERROR: Lost it {\"exception\":\"[object] (App\\Lost(code: 0): Lost it at /srv/app/Pay.php:9)\n[previous exception] [object] (RedisException(code: 111): Connection refused at /srv/vendor/PhpRedisConnector.php:185)";
        assert_eq!(unwrap(record), lines);
        let told = r#"{"message":"x","context":{"exception":"RedisException:\nConnection refused"},"level_name":"ERROR","channel":"local","datetime":"2026-11-24 03:39:09"}"#;
        assert_eq!(
            unwrap(told),
            "[2026-11-24 03:39:09] local.ERROR: x {\"exception\":\"RedisException: Connection refused\"}"
        );
        let wrapped = serde_json::json!({ "log": record, "container_name": "app" });
        assert_eq!(unwrap(&wrapped.to_string()), lines);
        let old = r#"{"message":"x","context":[],"level":400,"level_name":"ERROR","channel":"local","datetime":{"date":"2019-11-24 03:39:09.531210","timezone_type":3,"timezone":"UTC"},"extra":[]}"#;
        assert_eq!(unwrap(old), "[2019-11-24 03:39:09.531210] local.ERROR: x");
    }

    proptest! {
        #[test]
        fn anything_that_is_wrapped_comes_out_whole(text in any::<String>()) {
            let wrapped = serde_json::json!({ "log": text, "container_name": "app" }).to_string();
            if object(&text).is_none() {
                prop_assert_eq!(unwrap(&wrapped), text.as_str());
            }
            let _ = unwrap(&text);
        }
    }
}
