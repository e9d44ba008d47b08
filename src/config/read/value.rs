//! Single values that are written as text.

use jiff::SignedDuration;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use toml_span::de_helpers::expected;
use toml_span::value::ValueInner;
use toml_span::{DeserError, Deserialize, Value};

use super::{closest, custom, hours, minutes, nearest};
use crate::config::{Cure, Endpoint, Language, ReplicaCure, StaleAfter};
use crate::cron::Cron;
use crate::line::{PatternKind, Preset};

/// Names are keys of the state table, parts of metric dimensions and of mail subjects.
const LONGEST_NAME: usize = 100;

/// A value that is written as text and parsed.
pub(super) trait FromText: Sized {
    /// What is told to have been expected where there is no text.
    const WANTED: &'static str = "a string";

    fn from_text(text: &str) -> Result<Self, String>;
}

pub(super) struct Text<T>(pub T);

impl<'de, T: FromText> Deserialize<'de> for Text<T> {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let span = value.span;
        let text = value.take_string(Some(T::WANTED))?;
        let parsed = T::from_text(&text).map_err(|message| custom(span, message))?;
        Ok(Self(parsed))
    }
}

/// A number with or without a fraction.
pub(super) struct Number(pub f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        match value.take() {
            ValueInner::Float(number) => Ok(Self(number)),
            // Beyond what fits exactly no bound is near.
            #[expect(clippy::cast_precision_loss, reason = "see above")]
            ValueInner::Integer(number) => Ok(Self(number as f64)),
            other => Err(expected("a number", other, value.span).into()),
        }
    }
}

pub(super) struct NonEmpty(pub String);
pub(super) struct Name(pub String);
pub(super) struct LogGroup(pub String);
pub(super) struct TopicArn(pub String);

impl FromText for NonEmpty {
    fn from_text(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" => Err("must not be empty".to_owned()),
            text => Ok(Self(text.to_owned())),
        }
    }
}

impl FromText for Name {
    fn from_text(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if text.is_empty() || text.len() > LONGEST_NAME || !text.chars().all(plain) {
            return Err(format!(
                "`{text}`: a scheduler's name has 1 to {LONGEST_NAME} ASCII letters, digits or `-`, `_`, `.`, `/`"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromText for LogGroup {
    /// Names as CreateLogGroup allows them, or ARNs; without the `:*` that the console copies.
    fn from_text(text: &str) -> Result<Self, String> {
        let text = text.trim_end_matches(":*");
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./#:".contains(c);
        if text.is_empty() || text.len() > 2048 || !text.chars().all(plain) {
            return Err(format!("`{text}` is no name or ARN of a log group"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromText for TopicArn {
    fn from_text(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            ["arn", _, "sns", region, account, topic]
                if !region.is_empty() && account.len() == 12 && !topic.is_empty() =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(format!(
                "`{text}` is no SNS topic ARN (arn:aws:sns:REGION:ACCOUNT:NAME)"
            )),
        }
    }
}

impl FromText for Endpoint {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text, false)
    }
}

/// A bare number does not say of what.
const DURATION: &str = "a duration in quotes, such as \"5m\"";

impl FromText for SignedDuration {
    const WANTED: &'static str = DURATION;

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("`{text}` is no duration (such as 90s, 5m, 1h 30m)"))
    }
}

impl FromText for StaleAfter {
    const WANTED: &'static str = DURATION;

    fn from_text(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let fixed: SignedDuration =
            FromText::from_text(text).map_err(|error| format!("{error}, nor \"auto\""))?;
        if fixed < minutes(1) || fixed > hours(24) {
            return Err("`stale_after` must lie between 1m and 24h".to_owned());
        }
        Ok(Self::Fixed(fixed))
    }
}

impl FromText for TimeZone {
    fn from_text(text: &str) -> Result<Self, String> {
        TimeZone::get(text).map_err(|_| {
            let remedy = zone_near(text).map_or_else(
                || "; name one, such as `Asia/Tokyo`".to_owned(),
                |zone| format!("; nearest valid name: `{zone}`"),
            );
            format!("`{text}` is no time zone of the IANA database{remedy}")
        })
    }
}

/// The name of a place that was misspelt. Abbreviations and offsets that differ by one letter are
/// hours apart, so for them nothing is near.
fn zone_near(text: &str) -> Option<String> {
    if !text.contains('/') {
        return None;
    }
    let known: Vec<String> = jiff::tz::db()
        .available()
        .map(|name| name.to_string())
        .collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    closest(text, &known).map(str::to_owned)
}

impl FromText for Date {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("`{text}` is no date (YYYY-MM-DD)"))
    }
}

impl FromText for Cron {
    fn from_text(text: &str) -> Result<Self, String> {
        Cron::parse(text)
    }
}

impl FromText for Preset {
    fn from_text(text: &str) -> Result<Self, String> {
        Preset::named(text).ok_or_else(|| {
            format!(
                "no preset is named `{text}`{}",
                nearest(text, Preset::names())
            )
        })
    }
}

/// One of several words.
pub(super) fn word<T: Copy>(what: &str, text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let known: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    (words.iter())
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("unknown {what} `{text}`{}", nearest(text, &known)))
}

impl FromText for Language {
    fn from_text(text: &str) -> Result<Self, String> {
        word(
            "language",
            text,
            &[Self::En, Self::Ja].map(|l| (l.code(), l)),
        )
    }
}

impl FromText for Cure {
    fn from_text(text: &str) -> Result<Self, String> {
        let words = [
            ("none", Self::None),
            ("force-new-deployment", Self::ForceNewDeployment),
            ("run-task", Self::RunTask),
        ];
        word("action", text, &words)
    }
}

impl FromText for ReplicaCure {
    fn from_text(text: &str) -> Result<Self, String> {
        let words = [("none", Self::None), ("stop-task", Self::StopTask)];
        word("replica_action", text, &words)
    }
}

impl FromText for PatternKind {
    fn from_text(text: &str) -> Result<Self, String> {
        let words = [
            ("heartbeat", Self::Banner),
            ("idle", Self::Idle),
            ("started", Self::Started),
            ("ended", Self::Ended),
            ("succeeded", Self::Succeeded),
            ("failed", Self::Failed),
            ("skipped", Self::Skipped),
            ("boot", Self::Boot),
            ("held", Self::Held),
            ("released", Self::Released),
            ("error", Self::Error),
            ("other", Self::Other),
        ];
        word("kind", text, &words)
    }
}
