//! Plain text whose lines carry their own time.

use std::io::{BufRead, Read as _};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::super::time::{self, Found, Zone};
use super::{Collect, Event, LONGEST_MESSAGE, LogError, MOST_UNTIMED, Source};

/// The collector's part of a line is looked for within this many bytes.
const LONGEST_PREFIX: usize = 1024;

/// Reads lines until the end of the input.
///
/// A line without a time takes that of the line before it, and its stream; lines before the
/// first time take that one.
pub fn read(
    source: Source<'_>,
    lines_before: usize,
    mut input: impl BufRead,
    collect: &mut Collect<'_>,
) -> Result<(), LogError> {
    let mut line = Vec::new();
    let mut number = lines_before;
    let mut previous: Option<(Timestamp, Option<Arc<str>>)> = None;
    let mut untimed: Vec<Vec<u8>> = Vec::new();
    // `docker compose logs` puts a name and a bar before every line, or before none.
    let mut compose = None;
    // What looks like the scheduler's own time may be the collector's, once a line shows it.
    let mut plain = false;
    while read_line(&mut input, &mut line).map_err(|error| LogError::io(source, error))? {
        number += 1;
        let start = &line[..line.len().min(LONGEST_PREFIX)];
        let text = match std::str::from_utf8(start) {
            Ok(text) => text,
            // What is not UTF-8 cannot be part of a time.
            Err(error) => std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or(""),
        };
        let compose = *compose.get_or_insert_with(|| service(text).is_some());
        plain |= is_before_a_message(text);
        let prefix = prefix(text, compose, plain, source.zone);
        let message = &line[prefix.len..];
        match (prefix.at, &previous) {
            (Some(at), _) => {
                let stream = prefix.stream.map(|name| collect.name(name.as_bytes()));
                for line in untimed.drain(..) {
                    push(collect, at, stream.clone(), &line);
                }
                push(collect, at, stream.clone(), message);
                previous = Some((at, stream));
            }
            (None, Some((at, stream))) => {
                let own = prefix.stream.map(|name| collect.name(name.as_bytes()));
                let stream = own.or_else(|| stream.clone());
                push(collect, *at, stream, message);
            }
            (None, None) if untimed.len() < MOST_UNTIMED => untimed.push(message.to_vec()),
            (None, None) => break,
        }
    }
    if untimed.is_empty() {
        return Ok(());
    }
    let problem = format!("none of the lines up to {number} carries a time");
    Err(LogError::format(source, lines_before + 1, problem))
}

fn push(collect: &mut Collect<'_>, at: Timestamp, stream: Option<Arc<str>>, message: &[u8]) {
    let event = Event {
        at,
        ingested: None,
        stream,
        id: None,
        message,
    };
    collect.push(event, false);
}

/// Reads one line without its end. A little more than the longest message is kept, so that
/// it is seen that the message is too long. False at the end of the input.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    let most = LONGEST_MESSAGE + LONGEST_PREFIX + 1;
    line.clear();
    let length = input.by_ref().take(most as u64).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if length == most {
        input.skip_until(b'\n')?;
    }
    Ok(length > 0)
}

/// What stands before the scheduler's own words, and the line's time.
#[derive(Debug, Default, PartialEq)]
struct Prefix<'t> {
    /// How many bytes the collector put before the line.
    len: usize,
    at: Option<Timestamp>,
    stream: Option<&'t str>,
}

/// `plain` tells that the collector prints whole seconds after a space.
fn prefix<'t>(text: &'t str, compose: bool, plain: bool, zone: &TimeZone) -> Prefix<'t> {
    if compose && let Some((name, len)) = service(text) {
        let rest = prefix(&text[len..], false, plain, zone);
        return Prefix {
            len: len + rest.len,
            at: rest.at,
            stream: rest.stream.or(Some(name)),
        };
    }
    if let Some(found) = time::at_start(text)
        && is_collectors(&found)
    {
        let mut len = past_space(text, found.len);
        let mut stream = None;
        // `aws logs tail` names the stream where it prints microseconds with an offset.
        if found.fraction == 6
            && matches!(found.zone, Zone::Offset(_))
            && let Some((name, _)) = text[len..].split_once(' ')
        {
            stream = Some(name).filter(|name| !name.is_empty());
            len = past_space(text, len + name.len());
        }
        return Prefix {
            len,
            at: found.at(&TimeZone::UTC),
            stream,
        };
    }
    if let Some(prefix) = awslogs(text).or_else(|| epoch(text)) {
        return prefix;
    }
    if let Some(found) = time::at_start(text).filter(|_| plain) {
        return Prefix {
            len: past_space(text, found.len),
            at: found.at(zone),
            stream: None,
        };
    }
    let own = own_time(text);
    Prefix {
        at: own.and_then(|found| found.at(zone)),
        ..Prefix::default()
    }
}

/// `1764000000000 …`: the epoch's milliseconds, as CloudWatch keeps them.
fn epoch(text: &str) -> Option<Prefix<'_>> {
    let (digits, _) = text.split_once([' ', '\t'])?;
    // Thirteen digits are the years 2001 to 2286; fewer could be any number.
    let plain = digits.len() == 13 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let at = Timestamp::from_millisecond(digits.parse().ok().filter(|_| plain)?).ok()?;
    Some(Prefix {
        len: digits.len() + 1,
        at: Some(at),
        stream: None,
    })
}

/// A collector prints `T` between date and time, or at least a fraction of a second; a
/// scheduler prints whole seconds after a space, or sets its time in brackets.
fn is_collectors(found: &Found) -> bool {
    found.separator == b'T' || found.fraction > 0
}

/// A scheduler prints its words one space after its own time. More spaces, or another time, belong to
/// the message that a collector put its time before.
fn is_before_a_message(text: &str) -> bool {
    let found = time::at_start(text).filter(|found| !is_collectors(found));
    let rest = found.and_then(|found| text[found.len..].strip_prefix(' '));
    rest.is_some_and(|rest| rest.starts_with(' ') || own_time(rest).is_some())
}

/// One space, if there is one.
fn past_space(text: &str, at: usize) -> usize {
    at + usize::from(text.as_bytes().get(at) == Some(&b' '))
}

/// `app-1  | `: the name and the length of the whole.
fn service(text: &str) -> Option<(&str, usize)> {
    let (before, _) = text.split_once("| ")?;
    let name = before.strip_suffix(' ')?.trim_end();
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
    (!name.is_empty() && name.chars().all(plain)).then_some((name, before.len() + 2))
}

/// `group stream 2026-11-24T03:36:09.123Z …`, as the tool of that name prints it.
fn awslogs(text: &str) -> Option<Prefix<'_>> {
    let (group, rest) = text.split_once(' ')?;
    let (stream, rest) = rest.split_once(' ')?;
    if !group.starts_with('/') || stream.is_empty() {
        return None;
    }
    let found = time::at_start(rest).filter(is_collectors)?;
    let start = group.len() + stream.len() + 2;
    Some(Prefix {
        len: past_space(text, start + found.len),
        at: found.at(&TimeZone::UTC),
        stream: Some(stream),
    })
}

/// The time that the scheduler itself printed: after spaces, terminal colours and a bracket.
fn own_time(text: &str) -> Option<Found> {
    let mut rest = text.trim_start();
    while let Some(escape) = rest.strip_prefix("\x1b[") {
        let end = escape.find(|char: char| char.is_ascii_alphabetic())?;
        rest = escape[end + 1..].trim_start();
    }
    time::at_start(rest.strip_prefix('[').unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(line: &str, compose: bool) -> (Option<String>, Option<&str>, &str) {
        let tokyo = TimeZone::get("Asia/Tokyo").unwrap();
        let prefix = prefix(line, compose, is_before_a_message(line), &tokyo);
        let at = prefix.at.map(|at| at.to_string());
        (at, prefix.stream, &line[prefix.len..])
    }

    #[test]
    fn milliseconds_of_the_epoch_are_a_time() {
        let (at, stream, rest) = seen("1795491369123 No scheduled commands", false);
        assert_eq!(at.as_deref(), Some("2026-11-24T03:36:09.123Z"));
        assert_eq!((stream, rest), (None, "No scheduled commands"));
        assert_eq!(seen("1795491369 No scheduled commands", false).0, None);
    }

    #[test]
    fn the_collectors_part_goes_and_the_schedulers_stays() {
        let task = "  2026-11-24 03:37:49 Running ['artisan' redis:monitor] 1s DONE";
        for (line, at, stream, message) in [
            (
                format!("2026-11-24T03:36:09.123000+00:00 app/app/0123 {task}"),
                "2026-11-24T03:36:09.123Z",
                Some("app/app/0123"),
                task,
            ),
            (
                format!("2026-11-24T03:36:09 {task}"),
                "2026-11-24T03:36:09Z",
                None,
                task,
            ),
            (
                format!("2026-11-24T03:36:09.123456789Z {task}"),
                "2026-11-24T03:36:09.123456789Z",
                None,
                task,
            ),
            (
                format!("2026-11-24 03:36:09.123 {task}"),
                "2026-11-24T03:36:09.123Z",
                None,
                task,
            ),
            (
                format!("/ecs/app app/app/0123 2026-11-24T03:36:09.123Z {task}"),
                "2026-11-24T03:36:09.123Z",
                Some("app/app/0123"),
                task,
            ),
            (
                format!("2026-11-24 03:36:09 {task}"),
                "2026-11-23T18:36:09Z",
                None,
                task,
            ),
            (
                "2026-11-24 03:36:09 [2026-11-24 03:36:09] production.ERROR: x".to_owned(),
                "2026-11-23T18:36:09Z",
                None,
                "[2026-11-24 03:36:09] production.ERROR: x",
            ),
            (
                "2026-11-24 03:36:09 UTC   INFO  x".to_owned(),
                "2026-11-24T03:36:09Z",
                None,
                "  INFO  x",
            ),
            (
                "2026-11-24 03:37:49 Running x".to_owned(),
                "2026-11-23T18:37:49Z",
                None,
                "2026-11-24 03:37:49 Running x",
            ),
            // The scheduler's own time is in its own zone.
            (task.to_owned(), "2026-11-23T18:37:49Z", None, task),
            (
                "[2026-11-24 03:39:09] production.ERROR: x".to_owned(),
                "2026-11-23T18:39:09Z",
                None,
                "[2026-11-24 03:39:09] production.ERROR: x",
            ),
            (
                "\x1b[32m[2026-11-24T03:46:55+00:00] Running\x1b[39m x".to_owned(),
                "2026-11-24T03:46:55Z",
                None,
                "\x1b[32m[2026-11-24T03:46:55+00:00] Running\x1b[39m x",
            ),
            (
                "[24-Nov-2026 03:37:49 UTC] PHP Fatal error: x".to_owned(),
                "2026-11-24T03:37:49Z",
                None,
                "[24-Nov-2026 03:37:49 UTC] PHP Fatal error: x",
            ),
        ] {
            let expected = (Some(at.to_owned()), stream, message);
            assert_eq!(seen(&line, false), expected, "{line}");
        }
        assert_eq!(seen("   INFO  No …", false), (None, None, "   INFO  No …"));
    }

    #[test]
    fn docker_compose_names_the_service() {
        assert_eq!(
            seen("app-1  | 2026-11-24T03:36:09.5Z   INFO  x", true),
            (
                Some("2026-11-24T03:36:09.5Z".to_owned()),
                Some("app-1"),
                "  INFO  x"
            )
        );
        assert_eq!(
            seen("app-1  |   INFO", true),
            (None, Some("app-1"), "  INFO")
        );
        assert_eq!(seen("a | b", false), (None, None, "a | b"));
    }
}
