//! What an application's own health endpoint says of its scheduler.
//!
//! A scheduled callback writes down the time of its run every minute, and the endpoint tells it:
//! status 200 and `{"status": "healthy", "last_run": …}`, or 503 and `"unhealthy"` once that
//! time is more than five minutes ago.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::snapshot::{CallError, Obstacle};

/// Numbers beyond this are milliseconds: as seconds they would lie in the year 5138.
const MOST_SECONDS: f64 = 1e11;

/// What the endpoint answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Its own judgement.
    pub healthy: bool,
    /// The last run that it knows of; none where it names none that can be read.
    pub last_run: Option<Timestamp>,
}

/// What the answer is worth, next to a log that shows no heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sign {
    /// The scheduler ran a moment ago, after the last heartbeat of the log: its lines may be
    /// lost on their way.
    Alive,
    /// It does not run: a second witness.
    Dead,
    /// It tells neither.
    Unclear,
}

impl Health {
    /// Reads an answer. `who` names the endpoint in errors; a time without an offset is in
    /// `zone`.
    ///
    /// # Errors
    /// It is another answer than this endpoint's: of a proxy in front of it, or of a framework
    /// in maintenance mode, say.
    pub fn read(who: &str, status: u16, body: &[u8], zone: &TimeZone) -> Result<Self, CallError> {
        let odd = |kind, what: &str| Err(CallError::new(kind, format!("{who} {what}")));
        if !matches!(status, 200 | 503) {
            let kind = match status {
                401 | 403 => Obstacle::Denied,
                404 | 410 => Obstacle::Missing,
                429 => Obstacle::Throttled,
                _ => Obstacle::Failed,
            };
            return odd(kind, &format!("answered with {status}: check `health_url`"));
        }
        let Ok(Value::Object(document)) = serde_json::from_slice(body) else {
            let what = format!("answered with {status}, but no JSON object: check `health_url`");
            return odd(Obstacle::Failed, &what);
        };
        let word = document.get("status").and_then(Value::as_str);
        let last_run = document.get("last_run");
        if last_run.is_none() && !matches!(word, Some("healthy" | "unhealthy")) {
            let what = format!(
                "answered with {status}, but neither `last_run` nor a `status` of healthy or \
                 unhealthy: check `health_url`"
            );
            return odd(Obstacle::Failed, &what);
        }
        Ok(Self {
            healthy: status == 200 && word != Some("unhealthy"),
            last_run: last_run.and_then(|value| time(value, zone)),
        })
    }
}

/// A time as an application may write it: ISO 8601 with an offset, `YYYY-MM-DD HH:MM:SS` in
/// `zone`, or seconds or milliseconds of the epoch.
fn time(value: &Value, zone: &TimeZone) -> Option<Timestamp> {
    let text = match value {
        Value::Number(number) => return epoch(number.as_f64()?),
        Value::String(text) => text.trim(),
        _ => return None,
    };
    if let Ok(number) = text.parse() {
        return epoch(number);
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    // A date alone would pass for midnight.
    let civil: DateTime = text.parse().ok().filter(|_| text.contains(':'))?;
    Some(civil.to_zoned_datetime(zone.clone()).ok()?.timestamp())
}

fn epoch(number: f64) -> Option<Timestamp> {
    let seconds = if number.abs() > MOST_SECONDS {
        number / 1000.0
    } else {
        number
    };
    let since = SignedDuration::try_from_secs_f64(seconds).ok()?;
    Timestamp::from_duration(since).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(status: u16, body: &str) -> Result<Health, CallError> {
        let zone = TimeZone::get("Asia/Tokyo").unwrap();
        Health::read("the endpoint", status, body.as_bytes(), &zone)
    }

    #[test]
    fn times_are_read_as_applications_write_them() {
        let at: Timestamp = "2026-11-24T03:40:09Z".parse().unwrap();
        for last_run in [
            json!("2026-11-24T03:40:09Z"),
            json!("2026-11-24T12:40:09+09:00"),
            json!("2026-11-24T03:40:09.000000Z"),
            json!("2026-11-24 12:40:09"),
            json!("2026-11-24T12:40:09"),
            json!(at.as_second()),
            json!(at.as_millisecond()),
            json!(at.as_second().to_string()),
            json!(at.as_second() as f64),
        ] {
            let body = json!({"status": "healthy", "last_run": last_run}).to_string();
            let health = read(200, &body).unwrap();
            let expected = Health {
                healthy: true,
                last_run: Some(at),
            };
            assert_eq!(health, expected, "{body}");
        }
    }

    #[test]
    fn a_time_that_cannot_be_read_is_none() {
        for last_run in [
            json!(null),
            json!(""),
            json!("never"),
            json!("2026-11-24"),
            json!("12:40:09"),
            json!("2026-11-31 12:40:09"),
            json!(true),
            json!(1e300),
            json!("NaN"),
            json!({"date": "2026-11-24 12:40:09"}),
        ] {
            let body = json!({"status": "healthy", "last_run": last_run}).to_string();
            let health = read(200, &body).unwrap();
            assert_eq!(health.last_run, None, "{body}");
        }
    }

    #[test]
    fn unhealthy_is_what_the_status_or_the_document_says() {
        let healthy = |status, body| read(status, body).unwrap().healthy;
        assert!(healthy(200, r#"{"status":"healthy"}"#));
        assert!(healthy(200, r#"{"last_run":null}"#));
        assert!(!healthy(200, r#"{"status":"unhealthy","last_run":null}"#));
        assert!(!healthy(503, r#"{"status":"unhealthy"}"#));
        assert!(!healthy(503, r#"{"last_run":1764000000}"#));
    }

    #[test]
    fn answers_of_others_are_unknown_and_named() {
        let told: Vec<String> = [
            // Laravel in maintenance mode, a problem document, a load balancer.
            (503, r#"{"message":"Service Unavailable"}"#),
            (503, r#"{"status":503,"title":"down"}"#),
            (503, "<html>503 Service Temporarily Unavailable</html>"),
            (200, r#"["healthy"]"#),
            (200, ""),
            (401, ""),
            (404, r#"{"status":"healthy"}"#),
            (429, ""),
            (500, r#"{"status":"unhealthy","last_run":null}"#),
            (302, ""),
        ]
        .map(|(status, body)| read(status, body).unwrap_err().to_string())
        .into();
        insta::assert_snapshot!(told.join("\n"));
    }

    proptest! {
        #[test]
        fn no_answer_breaks_the_reader(status in 100u16..600, body: Vec<u8>, last_run: f64) {
            let zone = TimeZone::UTC;
            let _ = Health::read("x", status, &body, &zone);
            let body = json!({"last_run": last_run}).to_string();
            let _ = Health::read("x", 200, body.as_bytes(), &zone);
        }
    }
}
